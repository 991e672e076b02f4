//! Masked-language modelling against what `transformers` computes for the same checkpoint.
//!
//! `tests/data/tiny-masked` is made by `scripts/parity/generate_masked.py`.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a failure is to panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use tch::{Tensor, nn};
use understudy_distilbert::network::{MaskedLm, load_masked, save_masked};
use understudy_distilbert::{Checkpoint, Device, init_process};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-masked")
}

fn numbers(value: &Value) -> Tensor {
    let rows: Vec<Vec<i64>> = serde_json::from_value(value.clone()).unwrap();
    Tensor::from_slice2(&rows)
}

/// The largest difference from what `transformers` gave.
fn distance(checkpoint: &Checkpoint) -> f32 {
    let cases: Value = serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap();
    let store = nn::VarStore::new(Device::Cpu.into());
    let network = MaskedLm::new(&store.root(), checkpoint.config()).unwrap();
    assert!(load_masked(&store, checkpoint).unwrap(), "the head came along");
    let places: Vec<i64> = serde_json::from_value(cases["places"].clone()).unwrap();
    let places = Tensor::from_slice(&places);
    let logits =
        tch::no_grad(|| network.forward(&numbers(&cases["ids"]), &numbers(&cases["mask"]), &places, false)).unwrap();
    let expected: Vec<Vec<f32>> = serde_json::from_value(cases["logits"].clone()).unwrap();
    let expected = Tensor::from_slice2(&expected);
    assert_eq!(logits.size(), [4, checkpoint.config().vocab_size as i64]);
    let got = logits.narrow(1, 0, expected.size()[1]);
    f32::try_from((got - expected).abs().max()).unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.names().iter().map(|name| name.to_string()).collect()
}

#[test]
fn predicts_what_transformers_predicts_and_writes_what_it_writes() {
    init_process();
    let checkpoint = Checkpoint::open_backbone(&folder()).unwrap();
    let most = distance(&checkpoint);
    assert!(most < 1e-5, "{most}");

    let store = nn::VarStore::new(Device::Cpu.into());
    let _network = MaskedLm::new(&store.root(), checkpoint.config()).unwrap();
    load_masked(&store, &checkpoint).unwrap();
    let written = tempfile::tempdir().unwrap();
    let tokenizer = checkpoint.tokenizer().to_json().unwrap();
    save_masked(written.path(), checkpoint.config(), &store, &tokenizer).unwrap();
    assert_eq!(names(written.path()), names(&folder()), "the tied matrix once");
    assert!(distance(&Checkpoint::open_backbone(written.path()).unwrap()) < 1e-5);
    assert!(Checkpoint::open(written.path()).is_err(), "it has no classifier");
}

#[test]
fn a_classifier_lends_its_backbone_only() {
    init_process();
    let tiny = Checkpoint::open(&folder().with_file_name("tiny")).unwrap();
    let store = nn::VarStore::new(Device::Cpu.into());
    let _network = MaskedLm::new(&store.root(), tiny.config()).unwrap();
    assert!(!load_masked(&store, &tiny).unwrap());
}
