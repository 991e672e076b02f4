//! Texts per second of processor time of a network with random weights, on one thread, by precision and length.
//!
//! ```text
//! cargo run --release -p understudy-distilbert --example throughput -- [dim layers heads hidden_dim]
//! ```

use std::{error::Error, path::Path};

use tch::nn::VarStore;
use understudy_distilbert::{
    Checkpoint, Classifier, Config, Device, Precision, Processor, init_engine_thread, init_process,
    network::{self, Network},
};

/// Each figure is the best of this many tries, each at least this long.
const TRIES: usize = 3;
const SECONDS: f64 = 1.0;

fn main() -> Result<(), Box<dyn Error>> {
    init_process();
    init_engine_thread(1);
    let shape: Vec<usize> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()?;
    let mut config = Config::default();
    if let [dim, n_layers, n_heads, hidden_dim] = shape[..] {
        config = Config {
            dim,
            n_layers,
            n_heads,
            hidden_dim,
            ..config
        };
    }
    let folder = std::env::temp_dir().join(format!("understudy-throughput-{}", std::process::id()));
    let tokenizer =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny/tokenizer.json"))?;
    {
        let store = VarStore::new(tch::Device::Cpu);
        Network::new(&store.root(), &config)?;
        network::save_checkpoint(&folder, &config, &store, &tokenizer)?;
    }
    let measured = measure(&folder);
    std::fs::remove_dir_all(&folder)?;
    measured
}

fn measure(folder: &Path) -> Result<(), Box<dyn Error>> {
    let checkpoint = Checkpoint::open(folder)?;
    let config = checkpoint.config();
    println!(
        "{}: dim {}, {} layers; texts per second of processor time, one thread",
        Processor::detect().name,
        config.dim,
        config.n_layers
    );
    println!("precision  1x16  1x128  8x128  1x512  4x512  1 of any length  32 of any length");
    for precision in [Precision::Fp32, Precision::Bf16, Precision::Int8] {
        let classifier = Classifier::load(&checkpoint, Device::Cpu, precision)?;
        print!("{precision:9}");
        for (texts, length) in [(1, 16), (1, 128), (8, 128), (1, 512), (4, 512)] {
            print!("  {:5.1}", rate(&classifier, |_| vec![length; texts])?);
        }
        // 16 to 255 tokens, mean 135: each batch has a shape of its own.
        print!("  {:5.1}", rate(&classifier, |draw| vec![16 + (draw * 97) % 240])?);
        println!(
            "  {:5.1}",
            rate(&classifier, |draw| (0..32)
                .map(|i| 16 + (draw * 97 + i * i * 31) % 240)
                .collect())?
        );
    }
    Ok(())
}

/// What this thread has used of a processor, so that busy neighbours disturb less.
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = statistics.split_whitespace().next().unwrap_or("").parse()?;
    Ok(nanoseconds / 1e9)
}

fn rate(classifier: &Classifier, lengths: impl Fn(usize) -> Vec<usize>) -> Result<f64, Box<dyn Error>> {
    let mut best: f64 = 0.0;
    let mut draw = 0;
    for _ in 0..TRIES {
        let start = processor_seconds()?;
        let mut texts = 0;
        let mut spent = 0.0;
        while spent < SECONDS {
            draw += 1;
            let batch: Vec<Vec<u32>> = lengths(draw).into_iter().map(|length| vec![7; length]).collect();
            let batch: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
            texts += classifier.logits(&batch)?.len();
            spent = processor_seconds()? - start;
        }
        best = best.max(texts as f64 / spent);
    }
    Ok(best)
}
