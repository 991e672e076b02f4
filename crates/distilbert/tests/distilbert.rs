//! The network against what `transformers` computes for the same checkpoint, and checkpoints that must be refused.
//!
//! `tests/data` is made by `scripts/parity/generate.py`.
#![expect(clippy::unwrap_used, reason = "helpers of tests, where a failure is to panic")]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use tch::{Kind, Tensor, nn};
use tempfile::TempDir;
use understudy_distilbert::{
    Autocast, Checkpoint, Classifier, Config, Device, Precision, choose_precision, init_process,
    mkl_override_is_active,
    network::{self, Network},
};

/// fp32 against `transformers`, in logits.
const FP32_TOLERANCE: f32 = 1e-5;
/// bf16 has 8 bits of mantissa, and these logits reach 5.
const BF16_TOLERANCE: f32 = 0.15;
/// 8 bits for weights and activations of a network only 32 wide.
const INT8_TOLERANCE: f32 = 0.5;

struct Case {
    text: String,
    ids: Vec<u32>,
    cased_ids: Vec<u32>,
    truncated: bool,
    logits: Vec<f32>,
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn tiny() -> Checkpoint {
    init_process();
    Checkpoint::open(&data().join("tiny")).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| u32::try_from(v.as_u64().unwrap()).unwrap())
        .collect()
}

fn batches() -> Vec<Vec<Case>> {
    let all: Value = serde_json::from_slice(&fs::read(data().join("tiny-cases.json")).unwrap()).unwrap();
    let case = |case: &Value| Case {
        text: case["text"].as_str().unwrap().to_owned(),
        ids: numbers(&case["ids"]),
        cased_ids: numbers(&case["cased_ids"]),
        truncated: case["truncated"].as_bool().unwrap(),
        #[expect(clippy::cast_possible_truncation, reason = "written from f32")]
        logits: case["logits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap() as f32)
            .collect(),
    };
    all.as_array()
        .unwrap()
        .iter()
        .map(|batch| batch.as_array().unwrap().iter().map(case).collect())
        .collect()
}

/// The largest difference from what `transformers` gave.
fn distance(cases: &[&Case], got: &[Vec<f32>]) -> f32 {
    assert_eq!(cases.len(), got.len());
    let mut most = 0.0;
    for (case, got) in cases.iter().zip(got) {
        assert_eq!(case.logits.len(), got.len());
        for (a, b) in case.logits.iter().zip(got) {
            assert!(b.is_finite(), "{}", case.text);
            most = f32::max(most, (a - b).abs());
        }
    }
    most
}

fn classify(classifier: &Classifier, cases: &[&Case]) -> Vec<Vec<f32>> {
    let ids: Vec<&[u32]> = cases.iter().map(|case| case.ids.as_slice()).collect();
    classifier.logits(&ids).unwrap()
}

/// One batch as padded ids and mask.
fn padded(cases: &[&Case]) -> (Tensor, Tensor) {
    let length = cases.iter().map(|case| case.ids.len()).max().unwrap();
    let pad = |of: &dyn Fn(u32) -> i64| {
        let rows: Vec<i64> = cases
            .iter()
            .flat_map(|case| (0..length).map(|i| case.ids.get(i).map_or(0, |&id| of(id))))
            .collect();
        Tensor::from_slice(&rows).view([cases.len() as i64, length as i64])
    };
    (pad(&i64::from), pad(&|_| 1))
}

fn rows(logits: &Tensor) -> Vec<Vec<f32>> {
    Vec::<Vec<f32>>::try_from(logits.to_kind(Kind::Float)).unwrap()
}

/// A copy of the tiny checkpoint with changes.
fn altered(change: impl FnOnce(&Path)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(data().join("tiny")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    change(folder.path());
    folder
}

fn alter_json(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

type Stored = HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn alter_weights(folder: &Path, change: impl FnOnce(&mut Stored)) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let mut stored: Stored = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut stored);
    let views = stored
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn token_ids_are_those_of_transformers() {
    let checkpoint = tiny();
    let from_vocab = altered(|folder| fs::remove_file(folder.join("tokenizer.json")).unwrap());
    let from_vocab = Checkpoint::open(from_vocab.path()).unwrap();
    let cased = altered(|folder| {
        fs::remove_file(folder.join("tokenizer.json")).unwrap();
        alter_json(folder, "tokenizer_config.json", |config| {
            config["do_lower_case"] = json!(false)
        });
    });
    let cased = Checkpoint::open(cased.path()).unwrap();
    for case in batches().iter().flatten() {
        for tokenizer in [checkpoint.tokenizer(), from_vocab.tokenizer()] {
            let encoding = tokenizer.encode(&case.text).unwrap();
            assert_eq!(
                (&encoding.ids, encoding.truncated),
                (&case.ids, case.truncated),
                "{:?}",
                case.text
            );
        }
        assert_eq!(
            cased.tokenizer().encode(&case.text).unwrap().ids,
            case.cased_ids,
            "{:?}",
            case.text
        );
    }
}

#[test]
fn the_tokenizers_own_limit_counts() {
    let short = altered(|folder| {
        alter_json(folder, "tokenizer_config.json", |config| {
            config["model_max_length"] = json!(16)
        });
        // A file's own settings for cutting and padding are not ours.
        alter_json(folder, "tokenizer.json", |tokenizer| {
            tokenizer["truncation"] =
                json!({"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0});
            tokenizer["padding"] = json!({"strategy": {"Fixed": 32}, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
        });
    });
    let checkpoint = Checkpoint::open(short.path()).unwrap();
    let encoding = checkpoint.tokenizer().encode(&"good ".repeat(100)).unwrap();
    assert_eq!((encoding.ids.len(), encoding.truncated), (16, true));
    assert_eq!(checkpoint.tokenizer().encode("good").unwrap().ids.len(), 3);
    let endless = altered(|folder| {
        alter_json(folder, "tokenizer_config.json", |config| {
            config["model_max_length"] = json!(1e30)
        });
    });
    assert_eq!(Checkpoint::open(endless.path()).unwrap().tokenizer().max_tokens(), 512);
}

#[test]
fn the_trainable_network_agrees_with_transformers() {
    let checkpoint = tiny();
    let store = nn::VarStore::new(tch::Device::Cpu);
    let network = Network::new(&store.root(), checkpoint.config()).unwrap();
    assert!(network::load(&store, &checkpoint).unwrap());
    for batch in &batches() {
        let cases: Vec<&Case> = batch.iter().collect();
        let (ids, mask) = padded(&cases);
        let far = distance(&cases, &rows(&network.forward(&ids, &mask, false).unwrap()));
        assert!(far <= FP32_TOLERANCE, "{far} {:?}", cases[0].text);
    }
}

#[test]
fn the_classifier_agrees_with_transformers() {
    let checkpoint = tiny();
    let all = batches();
    let every: Vec<&Case> = all.iter().flatten().collect();
    for (precision, tolerance) in [
        (Precision::Fp32, FP32_TOLERANCE),
        (Precision::Bf16, BF16_TOLERANCE),
        (Precision::Int8, INT8_TOLERANCE),
    ] {
        let classifier = Classifier::load(&checkpoint, Device::Cpu, precision).unwrap();
        let mut far: f32 = 0.0;
        for batch in &all {
            let cases: Vec<&Case> = batch.iter().collect();
            far = far.max(distance(&cases, &classify(&classifier, &cases)));
        }
        // All lengths in one batch, and each text alone.
        far = far.max(distance(&every, &classify(&classifier, &every)));
        for case in &every {
            far = far.max(distance(&[case], &classify(&classifier, &[case])));
        }
        println!("{precision}: largest difference of a logit {far}");
        assert!(far <= tolerance, "{precision}: {far}");
        // A precision that is not used at all would pass as well.
        assert_eq!(far > FP32_TOLERANCE, precision != Precision::Fp32, "{precision}: {far}");
    }
}

#[test]
fn threads_share_a_classifier() {
    let checkpoint = tiny();
    let classifier = Classifier::load(&checkpoint, Device::Cpu, Precision::Fp32).unwrap();
    let all = batches();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                understudy_distilbert::init_engine_thread(1);
                for batch in all.iter().cycle().take(40) {
                    let cases: Vec<&Case> = batch.iter().collect();
                    assert!(distance(&cases, &classify(&classifier, &cases)) <= FP32_TOLERANCE);
                }
            });
        }
    });
}

#[test]
fn a_bad_batch_is_refused_before_the_engine() {
    let classifier = Classifier::load(&tiny(), Device::Cpu, Precision::Fp32).unwrap();
    let long = vec![5; 513];
    for (ids, says) in [
        (&[][..], "0 tokens"),
        (&long[..], "513 tokens"),
        (&[2, 188, 3][..], "token id 188"),
    ] {
        let error = classifier.logits(&[&[2, 3], ids]).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("text 1"), "{error}");
    }
    assert!(classifier.logits(&[]).unwrap().is_empty());
    assert!(Classifier::load(&tiny(), Device::Cpu, Precision::Fp16).is_err());
    let error = Classifier::load(&tiny(), Device::Cuda(99), Precision::Fp32)
        .unwrap_err()
        .to_string();
    assert!(error.contains("no CUDA device 99"), "{error}");
}

#[test]
fn a_saved_network_reads_back_the_same() {
    let checkpoint = tiny();
    let store = nn::VarStore::new(tch::Device::Cpu);
    let config = Config {
        labels: ["c", "b", "a"].map(String::from).to_vec(),
        ..checkpoint.config().clone()
    };
    Network::new(&store.root(), &config).unwrap();
    network::load(&store, &checkpoint).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("new");
    network::save_checkpoint(&folder, &config, &store, &checkpoint.tokenizer().to_json().unwrap()).unwrap();
    let read = Checkpoint::open(&folder).unwrap();
    assert_eq!(read.labels(), ["c", "b", "a"]);
    assert_eq!(read.config().extra["qa_dropout"], json!(0.1), "an unknown key is kept");
    let classifier = Classifier::load(&read, Device::Cpu, Precision::Fp32).unwrap();
    let all = batches();
    let cases: Vec<&Case> = all[2].iter().collect();
    assert!(distance(&cases, &classify(&classifier, &cases)) <= FP32_TOLERANCE);
    assert_eq!(read.tokenizer().encode(&cases[0].text).unwrap().ids, cases[0].ids);
}

#[test]
fn training_moves_the_network_and_autocast_ends() {
    let checkpoint = tiny();
    tch::manual_seed(7);
    let store = nn::VarStore::new(tch::Device::Cpu);
    let network = Network::new(&store.root(), checkpoint.config()).unwrap();
    let mut optimizer = nn::OptimizerConfig::build(nn::Adam::default(), &store, 5e-3).unwrap();
    let all = batches();
    let cases: Vec<&Case> = all[0].iter().collect();
    let (ids, mask) = padded(&cases);
    let targets = Tensor::from_slice(&[0_i64, 1, 2]);
    let mut losses = Vec::new();
    for _ in 0..40 {
        let logits = {
            let _autocast = Autocast::bf16(tch::Device::Cpu).unwrap();
            network.forward(&ids, &mask, true).unwrap()
        };
        assert_eq!(logits.kind(), Kind::BFloat16, "autocast does nothing");
        let loss = logits.to_kind(Kind::Float).cross_entropy_for_logits(&targets);
        optimizer.backward_step(&loss);
        losses.push(f64::try_from(loss).unwrap());
    }
    assert!(losses[39] < 0.5 * losses[0], "{losses:?}");
    assert_eq!(network.forward(&ids, &mask, false).unwrap().kind(), Kind::Float);
    assert!(network.forward(&ids, &mask.slice(1, 0, 2, 1), false).is_err());
}

#[test]
fn a_backbone_loads_for_training_only() {
    // As `DistilBertModel` saves it: without the classifier and without the prefix.
    let bare = altered(|folder| {
        alter_weights(folder, |stored| {
            *stored = stored
                .drain()
                .filter_map(|(name, tensor)| Some((name.strip_prefix("distilbert.")?.to_owned(), tensor)))
                .collect();
        });
    });
    let error = Checkpoint::open(bare.path()).unwrap_err().to_string();
    assert!(
        error.contains("pre_classifier.weight") && error.contains("fine-tune"),
        "{error}"
    );
    let checkpoint = Checkpoint::open_backbone(bare.path()).unwrap();
    let store = nn::VarStore::new(tch::Device::Cpu);
    Network::new(&store.root(), checkpoint.config()).unwrap();
    assert!(!network::load(&store, &checkpoint).unwrap());
    let name = "distilbert.transformer.layer.1.ffn.lin2.weight";
    let with_head = nn::VarStore::new(tch::Device::Cpu);
    Network::new(&with_head.root(), checkpoint.config()).unwrap();
    network::load(&with_head, &tiny()).unwrap();
    assert_eq!(store.variables()[name], with_head.variables()[name]);
    network::set(&store, name, &Tensor::zeros([32, 64], (Kind::Float, tch::Device::Cpu))).unwrap();
    assert_eq!(
        f64::try_from(store.variables()[name].abs().sum(Kind::Float)).unwrap(),
        0.0
    );
}

#[test]
fn half_precision_files_load() {
    let all = batches();
    let cases: Vec<&Case> = all[0].iter().collect();
    for (dtype, kind, tolerance) in [
        (Dtype::F16, Kind::Half, 0.01),
        (Dtype::BF16, Kind::BFloat16, BF16_TOLERANCE),
    ] {
        let folder = altered(|folder| {
            alter_weights(folder, |stored| {
                for (stored_as, shape, data) in stored.values_mut() {
                    let values = Tensor::from_data_size(data, &[shape.iter().product::<usize>() as i64], Kind::Float);
                    let mut halves = vec![0; data.len() / 2];
                    values.to_kind(kind).copy_data_u8(&mut halves, data.len() / 4);
                    (*stored_as, *data) = (dtype, halves);
                }
            });
        });
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let classifier = Classifier::load(&checkpoint, Device::Cpu, Precision::Fp32).unwrap();
        let far = distance(&cases, &classify(&classifier, &cases));
        assert!(far > 0.0 && far < tolerance, "{dtype:?} {far}");
    }
}

#[test]
fn broken_checkpoints_are_refused() {
    let cut = |folder: &Path, keep: usize| {
        let path = folder.join("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..keep]).unwrap();
    };
    type Change = Box<dyn FnOnce(&Path)>;
    let cases: Vec<(&str, &str, Change)> = vec![
        (
            "no config",
            "no config.json",
            Box::new(|f| fs::remove_file(f.join("config.json")).unwrap()),
        ),
        (
            "config not JSON",
            "not JSON",
            Box::new(|f| fs::write(f.join("config.json"), "{").unwrap()),
        ),
        (
            "no weights",
            "no model.safetensors",
            Box::new(|f| fs::remove_file(f.join("model.safetensors")).unwrap()),
        ),
        (
            "a pickle",
            "python3 -c 'from transformers",
            Box::new(|f| fs::rename(f.join("model.safetensors"), f.join("pytorch_model.bin")).unwrap()),
        ),
        (
            "sharded",
            "split into several",
            Box::new(|f| {
                fs::rename(f.join("model.safetensors"), f.join("model.safetensors.index.json")).unwrap();
            }),
        ),
        ("empty weights", "only 0 bytes", Box::new(move |f| cut(f, 0))),
        ("header cut off", "half written", Box::new(move |f| cut(f, 100))),
        ("data cut off", "half written", Box::new(move |f| cut(f, 150_000))),
        (
            "not safetensors",
            "not a safetensors file",
            Box::new(|f| fs::write(f.join("model.safetensors"), vec![b'x'; 4096]).unwrap()),
        ),
        (
            "of another network",
            "not a DistilBERT checkpoint",
            Box::new(|f| {
                alter_weights(f, |s| {
                    *s = s
                        .drain()
                        .map(|(name, tensor)| (name.replace("distilbert", "bert"), tensor))
                        .collect();
                });
            }),
        ),
        (
            "a tensor missing",
            "no tensor distilbert.transformer.layer.1.ffn.lin1.bias",
            Box::new(|f| alter_weights(f, |s| drop(s.remove("distilbert.transformer.layer.1.ffn.lin1.bias")))),
        ),
        (
            "a wrong shape",
            "has the shape [32, 188]",
            Box::new(|f| {
                alter_weights(f, |s| {
                    s.get_mut("distilbert.embeddings.word_embeddings.weight").unwrap().1 = vec![32, 188];
                });
            }),
        ),
        (
            "a wrong type",
            "I32",
            Box::new(|f| alter_weights(f, |s| s.get_mut("classifier.bias").unwrap().0 = Dtype::I32)),
        ),
        (
            "too few labels",
            "classifier.weight has 3 rows, but config.json names 2 labels",
            Box::new(|f| alter_json(f, "config.json", |c| c["id2label"] = json!({"0": "a", "1": "b"}))),
        ),
        (
            "a regression",
            "problem_type",
            Box::new(|f| alter_json(f, "config.json", |c| c["problem_type"] = json!("regression"))),
        ),
        (
            "no tokenizer",
            "neither tokenizer.json nor vocab.txt",
            Box::new(|f| {
                fs::remove_file(f.join("tokenizer.json")).unwrap();
                fs::remove_file(f.join("vocab.txt")).unwrap();
            }),
        ),
        (
            "a tokenizer that is not one",
            "tokenizer.json: tokeniser",
            Box::new(|f| fs::write(f.join("tokenizer.json"), r#"{"model": 1}"#).unwrap()),
        ),
        (
            "a tokenizer of another model",
            "of another model",
            Box::new(|f| {
                fs::remove_file(f.join("tokenizer.json")).unwrap();
                let vocab = fs::read_to_string(f.join("vocab.txt")).unwrap();
                fs::write(f.join("vocab.txt"), vocab + "onemore\n").unwrap();
            }),
        ),
        (
            "no [CLS]",
            "[CLS] and [SEP]",
            Box::new(|f| alter_json(f, "tokenizer.json", |t| t["post_processor"] = Value::Null)),
        ),
        (
            "a vocabulary without [SEP]",
            "no token [SEP]",
            Box::new(|f| {
                fs::remove_file(f.join("tokenizer.json")).unwrap();
                fs::write(f.join("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n").unwrap();
            }),
        ),
        (
            "a vocabulary that is not text",
            "vocab.txt",
            Box::new(|f| {
                fs::remove_file(f.join("tokenizer.json")).unwrap();
                fs::write(f.join("vocab.txt"), [0xff, 0xfe, b'\n']).unwrap();
            }),
        ),
    ];
    for (what, says, change) in cases {
        let folder = altered(change);
        let error = Checkpoint::open(folder.path()).map(|_| ()).expect_err(what).to_string();
        assert!(error.contains(says), "{what}: {error}");
    }
    assert!(
        Checkpoint::open(Path::new("/nonexistent"))
            .unwrap_err()
            .to_string()
            .contains("no config.json")
    );
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let name = "distilbert.transformer.layer.0.attention.v_lin.bias";
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        let folder = altered(|folder| {
            alter_weights(folder, |stored| {
                stored.get_mut(name).unwrap().2[8..12].copy_from_slice(&bad.to_le_bytes())
            });
        });
        let checkpoint = Checkpoint::open(folder.path()).unwrap();
        let error = Classifier::load(&checkpoint, Device::Cpu, Precision::Fp32)
            .unwrap_err()
            .to_string();
        assert!(error.contains(name) && error.contains("NaN"), "{error}");
        let store = nn::VarStore::new(tch::Device::Cpu);
        Network::new(&store.root(), checkpoint.config()).unwrap();
        assert!(network::load(&store, &checkpoint).is_err());
    }
}

#[test]
fn the_precision_is_checked_or_forced() {
    let checkpoint = tiny();
    let golden = ["This movie was great!", "Dull."];
    let forced = choose_precision(&checkpoint, Device::Cpu, Some(Precision::Int8), &golden).unwrap();
    assert_eq!(
        (forced.classifier.precision(), forced.reason.as_str()),
        (Precision::Int8, "set by the operator")
    );
    let chosen = choose_precision(&checkpoint, Device::Cpu, None, &golden).unwrap();
    match chosen.classifier.precision() {
        Precision::Fp32 => assert!(chosen.reason.starts_with("fp32"), "{}", chosen.reason),
        precision => assert!(
            chosen.reason.starts_with(&format!("{precision}: within 0.")),
            "{}",
            chosen.reason
        ),
    }
    let unchecked = choose_precision(&checkpoint, Device::Cpu, None, &[""; 0]).unwrap();
    assert_ne!(unchecked.classifier.precision(), Precision::Int8);
}

#[test]
fn mkl_asks_this_executable() {
    init_process();
    assert!(mkl_override_is_active());
}
