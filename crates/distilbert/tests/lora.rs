//! Adapters against what PEFT wrote and computed. `tests/data/tiny-adapter` is made by `scripts/parity/generate_adapter.py`.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a failure is to panic")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use tch::{Kind, Tensor, nn::VarStore};
use understudy_distilbert::lora::{self, Lora};
use understudy_distilbert::network::{self, Network};
use understudy_distilbert::{Checkpoint, Classifier, Device, Precision, init_process};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Token ids and the logits that PEFT gave.
fn cases() -> Vec<(Vec<u32>, Vec<f32>)> {
    let case = |case: &Value| {
        (
            serde_json::from_value(case["ids"].clone()).unwrap(),
            serde_json::from_value(case["logits"].clone()).unwrap(),
        )
    };
    json(&data("tiny-adapter/cases.json"))
        .as_array()
        .unwrap()
        .iter()
        .map(case)
        .collect()
}

fn tensors(path: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter()
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec()))
        .collect()
}

/// The tiny network with adapters that change what it answers.
fn adapted() -> (VarStore, Network, Lora) {
    init_process();
    let checkpoint = Checkpoint::open(&data("tiny")).unwrap();
    let store = VarStore::new(tch::Device::Cpu);
    let mut network = Network::new(&store.root(), checkpoint.config()).unwrap();
    network::load(&store, &checkpoint).unwrap();
    let lora = Lora {
        rank: 4,
        alpha: 16.0,
        dropout: 0.1,
        targets: ["q_lin", "v_lin", "lin1", "word_embeddings"]
            .map(str::to_owned)
            .to_vec(),
    };
    network.adapt(&store.root(), &lora).unwrap();
    for (name, variable) in store.variables() {
        if name.ends_with("lora_B.weight") || name.ends_with("lora_embedding_A") {
            let drawn = Tensor::rand(variable.size(), (Kind::Float, tch::Device::Cpu)) - 0.5;
            network::set(&store, &name, &drawn).unwrap();
        }
    }
    (store, network, lora)
}

fn row(logits: &Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(logits.view([-1])).unwrap()
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5)
}

#[test]
fn merging_an_adapter_of_peft_gives_what_peft_computes() {
    init_process();
    let folder = tempfile::tempdir().unwrap();
    let config = lora::merge(&data("tiny"), &data("tiny-adapter"), folder.path()).unwrap();
    assert_eq!(config.labels, ["negative", "neutral", "positive"]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let classifier = Classifier::load(&checkpoint, Device::Cpu, Precision::Fp32).unwrap();
    let plain = Classifier::load(&Checkpoint::open(&data("tiny")).unwrap(), Device::Cpu, Precision::Fp32).unwrap();
    for (ids, expected) in cases() {
        let got = classifier.logits(&[&ids]).unwrap().remove(0);
        assert!(near(&got, &expected), "{got:?} instead of {expected:?}");
        assert!(!near(&plain.logits(&[&ids]).unwrap()[0], &expected));
    }
}

#[test]
fn an_adapter_is_saved_as_peft_saves_it() {
    let (store, network, lora) = adapted();
    let folder = tempfile::tempdir().unwrap();
    lora::save(
        folder.path(),
        &lora,
        network.config(),
        &data("tiny"),
        &store.variables(),
    )
    .unwrap();
    let weights = "adapter_model.safetensors";
    assert_eq!(
        tensors(&folder.path().join(weights)),
        tensors(&data("tiny-adapter").join(weights))
    );
    let ours = json(&folder.path().join("adapter_config.json"));
    let theirs = json(&data("tiny-adapter/adapter_config.json"));
    for (key, value) in ours.as_object().unwrap() {
        let known = theirs.get(key).unwrap_or_else(|| panic!("PEFT knows no {key}"));
        match key.as_str() {
            "base_model_name_or_path" | "modules_to_save" | "target_modules" => {}
            "lora_alpha" => assert_eq!(value.as_f64(), known.as_f64()),
            _ => assert_eq!(value, known, "{key}"),
        }
    }
}

#[test]
fn adapted_merged_and_saved_networks_are_one() {
    let (store, network, lora) = adapted();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    lora::save(
        &at("adapter"),
        &lora,
        network.config(),
        &data("tiny"),
        &store.variables(),
    )
    .unwrap();
    lora::merge(&data("tiny"), &at("adapter"), &at("merged")).unwrap();
    let merged = Classifier::load(&Checkpoint::open(&at("merged")).unwrap(), Device::Cpu, Precision::Fp32).unwrap();
    for (ids, _) in cases() {
        let long: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let ids_tensor = Tensor::from_slice(&long).view([1, -1]);
        let told = network.forward(&ids_tensor, &ids_tensor.ones_like(), false).unwrap();
        assert!(near(&row(&told), &merged.logits(&[&ids]).unwrap()[0]));
    }
}

#[test]
fn what_cannot_be_merged_is_refused_with_a_reason() {
    init_process();
    let refused = |change: &dyn Fn(&mut Value)| {
        let folder = tempfile::tempdir().unwrap();
        let adapter = folder.path().join("adapter");
        std::fs::create_dir(&adapter).unwrap();
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            std::fs::copy(data("tiny-adapter").join(file), adapter.join(file)).unwrap();
        }
        let mut config = json(&adapter.join("adapter_config.json"));
        change(&mut config);
        std::fs::write(adapter.join("adapter_config.json"), config.to_string()).unwrap();
        let output = folder.path().join("out");
        let error = lora::merge(&data("tiny"), &adapter, &output).unwrap_err().to_string();
        assert!(!output.exists());
        error
    };
    assert!(refused(&|config| config["use_dora"] = true.into()).contains("use_dora is true"));
    assert!(refused(&|config| config["rank_pattern"] = serde_json::json!({"q_lin": 2})).contains("rank_pattern"));
    assert!(refused(&|config| config["peft_type"] = "IA3".into()).contains("only LORA"));
    assert!(refused(&|config| config["r"] = Value::Null).contains("r and lora_alpha"));
    let lora = |rank, targets: &[&str]| Lora {
        rank,
        alpha: 1.0,
        dropout: 0.0,
        targets: targets.iter().map(|&name| name.to_owned()).collect(),
    };
    assert!(lora(0, &["q_lin"]).validate().is_err());
    let unknown = lora(1, &["query"]).validate().unwrap_err().to_string();
    assert!(unknown.contains("\"query\"") && unknown.contains("q_lin"), "{unknown}");
}
