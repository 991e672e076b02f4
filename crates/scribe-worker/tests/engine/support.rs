//! A small model with random weights, and an engine that is turned by hand.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use tempfile::TempDir;
use understudy_gguf::{TensorType, Writer};
use understudy_scribe::{
    backend::{Backend, Place},
    engine::{Engine as _, EngineError, Event, Finish, Gauges, Generation, Input, Sampling, Stream},
    job::Job,
    loader::{Loaded, ScribeLoader},
    memory::Sizes,
    model::Model,
    options::{Device, EngineOptions},
    runner::{Runner, Setup},
    spare::Clients,
};

const LAYERS: u32 = 2;
const WIDTH: u32 = 64;
const INNER: u32 = 128;
const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const HEAD: u32 = 16;
pub(crate) const CONTEXT: u32 = 8192;

const SPECIAL: [&str; 5] = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
];
pub(crate) const BEGIN: u32 = 256;

/// Llama 3's.
const TEMPLATE: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = \
    '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if \
    loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if \
    add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";

/// A model file in a folder of its own. Tokens are bytes; it writes printable ASCII if `printable`, and any byte else.
pub(crate) fn file(printable: bool) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    write(&path, printable);
    (folder, path)
}

fn write(path: &Path, printable: bool) {
    let mut random = Random(1);
    let vocabulary = BEGIN + 5;
    let mut writer = Writer::new();
    writer
        .metadata("general.architecture", "llama")
        .metadata("general.name", "tiny")
        .metadata("general.file_type", 0u32)
        .metadata("general.quantization_version", 2u32)
        .metadata("llama.context_length", CONTEXT)
        .metadata("llama.embedding_length", WIDTH)
        .metadata("llama.block_count", LAYERS)
        .metadata("llama.feed_forward_length", INNER)
        .metadata("llama.attention.head_count", HEADS)
        .metadata("llama.attention.head_count_kv", KV_HEADS)
        .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5f32)
        .metadata("llama.rope.dimension_count", HEAD)
        .metadata("llama.rope.freq_base", 10_000.0f32)
        .metadata("llama.vocab_size", vocabulary);
    let tokens: Vec<String> = (0..=255)
        .map(|byte| letter(byte).to_string())
        .chain(SPECIAL.map(str::to_owned))
        .collect();
    let types: Vec<i32> = (0..256).map(|_| 1).chain(SPECIAL.map(|_| 3)).collect();
    writer
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "llama-bpe")
        .metadata("tokenizer.ggml.tokens", tokens)
        .metadata("tokenizer.ggml.token_type", types)
        .metadata("tokenizer.ggml.merges", Vec::<String>::new())
        .metadata("tokenizer.ggml.bos_token_id", BEGIN)
        .metadata("tokenizer.ggml.eos_token_id", BEGIN + 1)
        .metadata("tokenizer.ggml.eot_token_id", BEGIN + 4)
        .metadata("tokenizer.ggml.add_bos_token", true)
        .metadata("tokenizer.chat_template", TEMPLATE);

    let (kv, queries) = (KV_HEADS * HEAD, HEADS * HEAD);
    writer.tensor(
        "token_embd.weight",
        &sizes([WIDTH, vocabulary]),
        TensorType::F32,
        random.bytes(WIDTH * vocabulary, 1.0),
    );
    for layer in 0..LAYERS {
        for (part, row, rows) in [
            ("attn_q", WIDTH, queries),
            ("attn_k", WIDTH, kv),
            ("attn_v", WIDTH, kv),
            ("attn_output", queries, WIDTH),
            ("ffn_gate", WIDTH, INNER),
            ("ffn_up", WIDTH, INNER),
            ("ffn_down", INNER, WIDTH),
        ] {
            let data = random.bytes(row * rows, 0.3);
            writer.tensor(
                format!("blk.{layer}.{part}.weight"),
                &sizes([row, rows]),
                TensorType::F32,
                data,
            );
        }
        for norm in ["attn_norm", "ffn_norm"] {
            writer.tensor(
                format!("blk.{layer}.{norm}.weight"),
                &sizes([WIDTH]),
                TensorType::F32,
                ones(),
            );
        }
    }
    writer.tensor("output_norm.weight", &sizes([WIDTH]), TensorType::F32, ones());
    // A row of zeros has logit 0, which is never the highest.
    let output: Vec<u8> = (0..vocabulary)
        .flat_map(|token| {
            let row = random.bytes(WIDTH, 1.0);
            let wanted = if printable {
                (32..127).contains(&token)
            } else {
                token < 256
            };
            if wanted { row } else { vec![0; row.len()] }
        })
        .collect();
    writer.tensor("output.weight", &sizes([WIDTH, vocabulary]), TensorType::F32, output);
    writer.write(path).unwrap();
}

fn sizes<const N: usize>(sizes: [u32; N]) -> [u64; N] {
    sizes.map(u64::from)
}

fn ones() -> Vec<u8> {
    (0..WIDTH).flat_map(|_| 1.0f32.to_le_bytes()).collect()
}

/// GPT-2's printable stand-in for a byte.
fn letter(byte: u8) -> char {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(&byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|byte| !printable(byte)).count();
    char::from_u32(256 + u32::try_from(rank).unwrap()).unwrap()
}

struct Random(u64);

impl Random {
    fn bytes(&mut self, count: u32, scale: f32) -> Vec<u8> {
        let mut next = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            scale * ((self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5)
        };
        (0..count).flat_map(|_| next().to_le_bytes()).collect()
    }
}

/// A model in memory.
pub(crate) fn model(path: &Path, slots: u32) -> Model {
    let backend = Backend::get().unwrap();
    let file = understudy_gguf::check(path).unwrap();
    let sizes = Sizes {
        context_tokens: CONTEXT,
        slots,
        slot_cells: CONTEXT,
    };
    Model::load(backend, &Place::Cpu, path, &file, sizes).unwrap()
}

/// An engine whose turns are made by the test, so that they can be counted.
pub(crate) struct Hand<'a> {
    pub(crate) runner: Runner<'a>,
    pub(crate) model: &'a Model,
    pub(crate) gauges: Arc<Gauges>,
    clients: Clients,
}

impl<'a> Hand<'a> {
    pub(crate) fn new(model: &'a Model, slots: usize) -> Self {
        // One thread: tests run beside each other, and OpenMP's threads spin while they wait.
        Self::with(model, slots, 1)
    }

    pub(crate) fn with(model: &'a Model, slots: usize, threads: u32) -> Self {
        Self::build(model, slots, threads, Clients::default())
    }

    /// Another engine of the same process.
    pub(crate) fn beside(other: &Self, slots: usize) -> Self {
        Self::build(other.model, slots, 1, other.clients.clone())
    }

    fn build(model: &'a Model, slots: usize, threads: u32, clients: Clients) -> Self {
        let gauges = Arc::<Gauges>::default();
        let setup = Setup {
            place: Place::Cpu,
            slots,
            slot_cells: CONTEXT,
            batch_tokens: 512,
            threads,
            clients: clients.clone(),
        };
        let runner = Runner::new(Backend::get().unwrap(), model, &setup, Arc::clone(&gauges)).unwrap();
        Self {
            runner,
            model,
            gauges,
            clients,
        }
    }

    pub(crate) fn start(&mut self, generation: Generation) -> Stream {
        let (job, stream) = Job::new(self.model, generation, Instant::now()).unwrap();
        self.runner.add(job);
        stream
    }

    pub(crate) fn turn(&mut self) {
        self.runner.turn(Instant::now());
    }

    /// Turns until nothing is left, and tells how often.
    pub(crate) fn finish(&mut self) -> usize {
        let mut turns = 0;
        while !self.runner.idle() {
            self.turn();
            turns += 1;
            assert!(turns < 20_000, "it does not end");
        }
        turns
    }

    pub(crate) fn run(&mut self, generation: Generation) -> (String, Result<Finish, EngineError>) {
        let mut stream = self.start(generation);
        self.finish();
        all(&mut stream)
    }

    pub(crate) fn busy(&self) -> u64 {
        self.gauges.slots_busy.load(Ordering::Relaxed)
    }
}

/// What has come so far.
pub(crate) fn ready(stream: &mut Stream) -> Vec<Event> {
    std::iter::from_fn(|| stream.try_recv().ok()).collect()
}

/// The text and the end of a stream that has ended.
pub(crate) fn all(stream: &mut Stream) -> (String, Result<Finish, EngineError>) {
    let mut text = String::new();
    for event in ready(stream) {
        match event {
            Event::Text(piece) => text += &piece,
            Event::Finished(finish) => return (text, Ok(finish)),
            Event::Failed(error) => return (text, Err(error)),
        }
    }
    panic!("the stream has no end: {text:?}");
}

pub(crate) fn prompt(text: &str, max_tokens: u32) -> Generation {
    Generation {
        input: Input::Prompt(text.to_owned()),
        sampling: Sampling {
            temperature: 0.0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            top_k: 0,
            seed: 1,
        },
        constraint: None,
        max_tokens: Some(max_tokens),
        stop: Vec::new(),
        deadline: None,
        shadow: false,
    }
}

pub(crate) fn options(slots: u32) -> EngineOptions {
    let number = |number| NonZeroU32::new(number).unwrap();
    EngineOptions {
        device: Device::Cpu,
        slots: number(slots),
        context_tokens: Some(number(2048)),
        kv_tokens: None,
        batch_tokens: number(512),
        queue_depth_max: number(4),
        threads: Some(number(1)),
    }
}

pub(crate) fn loader(slots: u32) -> ScribeLoader {
    ScribeLoader::new(options(slots), env!("CARGO_BIN_EXE_understudy-scribe").into()).unwrap()
}

pub(crate) fn loaded(path: &Path, slots: u32) -> Loaded {
    loader(slots).load_file(path, "tiny").unwrap()
}

/// Waits for a stream's end.
pub(crate) fn wait(mut stream: Stream) -> (String, Result<Finish, EngineError>) {
    let mut text = String::new();
    while let Some(event) = stream.blocking_recv() {
        match event {
            Event::Text(piece) => text += &piece,
            Event::Finished(finish) => return (text, Ok(finish)),
            Event::Failed(error) => return (text, Err(error)),
        }
    }
    panic!("the stream has no end: {text:?}");
}

pub(crate) fn run(loaded: &Loaded, generation: Generation) -> (String, Result<Finish, EngineError>) {
    match loaded.start(generation) {
        Ok(stream) => wait(stream),
        Err(error) => (String::new(), Err(error)),
    }
}
