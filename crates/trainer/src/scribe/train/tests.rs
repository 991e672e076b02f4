use clap::Parser;

use super::*;
use crate::scribe::export::{ExportOptions, export};
use crate::scribe::lessons::tests::reviews;
use crate::scribe::tokenizer;
use crate::train::tests::alone;

#[derive(Parser)]
struct Training {
    #[command(flatten)]
    options: TrainOptions,
}

#[derive(Parser)]
struct Exporting {
    #[command(flatten)]
    options: ExportOptions,
}

const RECIPE_TEXT: &str = "seed = 1
steps = 6
step-tokens = [600, 600]
batch-tokens = 600
learning-rate = 0.01
embedding-learning-rate = 0.01
weight-decay = 0.05
clip = 1.0
warm-up = 0.01
cool-down = 0.5
round-from = 0.6
evaluate-every = 4
[shape]
vocabulary = 1000
width = 32
layers = 2
heads = 2
kv-heads = 1
hidden = 32
context = 4096
rope-base = 10000.0
epsilon = 1e-5
";

#[test]
fn a_small_run_stops_goes_on_and_is_exported() {
    let _turn = alone();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let rows: Vec<String> = reviews()
        .iter()
        .enumerate()
        .map(|(n, text)| format!("\"{text}\",{}\n", n % 2))
        .collect();
    std::fs::write(at("reviews.csv"), format!("text,label\n{}", rows.concat())).unwrap();
    std::fs::write(at("recipe.toml"), RECIPE_TEXT).unwrap();
    let school: Vec<String> = reviews().into_iter().take(400).collect();
    let material = Material::from_reviews(&reviews()).unwrap();
    let sheets = (0..50).map(|n| {
        super::super::grammar::example(&material, &mut super::super::random(1, n))
            .unwrap()
            .answer
    });
    let json = tokenizer::train(&school.into_iter().chain(sheets).collect::<Vec<_>>(), 1000).unwrap();
    std::fs::write(at("tokenizer.json"), json).unwrap();

    let (data, recipe, tokenizer, output) = (at("reviews.csv"), at("recipe.toml"), at("tokenizer.json"), at("run"));
    let arguments = [
        "",
        "--data",
        &data,
        "--recipe",
        &recipe,
        "--tokenizer",
        &tokenizer,
        "--output",
        &output,
        "--fp32",
    ];
    let options = Training::parse_from(arguments).options;
    let stopped = Stop::default();
    stopped.set();
    assert!(!train(&options, &stopped).unwrap());
    let refused = train(&options, &Stop::default()).unwrap_err().to_string();
    assert!(refused.contains("--resume"), "{refused}");
    let (state, _) = load(&options.output).unwrap();
    assert_eq!(state.step, 1);

    let options = Training::parse_from(arguments.into_iter().chain(["--resume"])).options;
    assert!(train(&options, &Stop::default()).unwrap());
    let (state, tensors) = load(&options.output).unwrap();
    assert_eq!(state.step, 6);
    assert!(
        tensors
            .values()
            .all(|tensor| tensor.isfinite().all().int64_value(&[]) == 1)
    );

    let file = at("scribe.gguf");
    export(&Exporting::parse_from(["", &output, "--output", &file]).options).unwrap();
    let model = understudy_gguf::check(Path::new(&file)).unwrap();
    assert_eq!(
        (
            model.vocabulary,
            model.layers,
            model.heads,
            model.kv_heads,
            model.context_length
        ),
        (1000, 2, 2, 1, 4096)
    );
    assert_eq!(
        (model.bos, model.eos, model.eot, model.add_bos),
        (Some(0), Some(1), Some(4), true)
    );
    assert!(model.chat_template.unwrap().contains("<|start_header_id|>"));
}
