//! Low-rank adapters (Hu et al. 2021, LoRA) in the layout of Hugging Face's PEFT.
//!
//! A linear layer `y = Wx + b` becomes `y = Wx + b + α/r · B A dropout(x)`, with `W` and `b` frozen, `A` drawn and `B` 0. A word's
//! vector `e` becomes `e + α/r · B a`, where `a` is the word's column of `A`; there `A` is 0 and `B` drawn. A folder holds
//!
//! ```text
//! adapter_config.json         what is adapted and how
//! adapter_model.safetensors   base_model.model.<layer>.lora_A.weight [r, in], ….lora_B.weight [out, r],
//!                             ….word_embeddings.lora_embedding_A [r, words], ….lora_embedding_B [dim, r], and the classifier's tensors whole
//! config.json                 the network's, for the names of the classes
//! ```
//!
//! PEFT's `modules_to_save = ["classifier"]` matches every module whose name ends so, for DistilBERT `pre_classifier` too. Both are
//! saved, whether or not both were trained.
//!
//! Deliberately absent: adapters of positions, trained biases, DoRA, ranks that differ between layers.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tch::{Kind, Tensor, no_grad};

use crate::checkpoint::{self, Checkpoint};
use crate::config::Config;
use crate::error::Error;
use crate::weights::{self, Storage};
use crate::{layout, network};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// What stands before a module's name in PEFT's files.
const PREFIX: &str = "base_model.model.";

/// What the two matrices of an adapter are called behind the name of what they adapt.
struct Names {
    a: &'static str,
    b: &'static str,
    /// Whether the weight is `[in, out]`, as a table of vectors is, and not `[out, in]`.
    table: bool,
}

const KINDS: [Names; 2] = [
    Names {
        a: ".lora_A.weight",
        b: ".lora_B.weight",
        table: false,
    },
    Names {
        a: ".lora_embedding_A",
        b: ".lora_embedding_B",
        table: true,
    },
];

/// The target that is the table of words' vectors.
pub(crate) const WORDS: &str = "word_embeddings";

/// What can be adapted: the linear layers of every block, and the words' vectors.
pub const TARGETS: [&str; 7] = ["q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2", WORDS];

/// Which layers are adapted, and how strongly.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// Width of the adapters.
    pub rank: usize,
    /// The adapters' outputs are multiplied by `alpha / rank`.
    pub alpha: f64,
    /// Dropout of the adapters' inputs, in training.
    pub dropout: f64,
    /// Names among [`TARGETS`].
    pub targets: Vec<String>,
}

impl Lora {
    /// Refuses what no network can follow.
    pub fn validate(&self) -> Result<(), Error> {
        if self.rank == 0 {
            return Err(Error::Input("the rank of LoRA must be at least 1".to_owned()));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0 && (0.0..1.0).contains(&self.dropout)) {
            return Err(Error::Input(
                "LoRA's alpha must be positive, its dropout at least 0 and below 1".to_owned(),
            ));
        }
        if self.targets.is_empty() {
            return Err(Error::Input(format!("LoRA needs a target: {}", TARGETS.join(", "))));
        }
        match self.targets.iter().find(|name| !TARGETS.contains(&name.as_str())) {
            None => Ok(()),
            Some(unknown) => Err(Error::Input(format!(
                "DistilBERT has no {unknown:?} to adapt; known are: {}",
                TARGETS.join(", ")
            ))),
        }
    }

    /// What the adapters' outputs are multiplied by.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// Whether a variable of an adapted network belongs to an adapter.
#[must_use]
pub fn is_adapter(name: &str) -> bool {
    KINDS
        .iter()
        .any(|names| name.ends_with(names.a) || name.ends_with(names.b))
}

/// Adds each adapter to the weight it adapts and takes it away, so that what is left is a plain network's tensors.
pub fn merge_into(tensors: &mut HashMap<String, Tensor>, scale: f64) -> Result<(), Error> {
    for names in &KINDS {
        let adapted: Vec<String> = tensors
            .keys()
            .filter_map(|name| name.strip_suffix(names.a))
            .map(str::to_owned)
            .collect();
        for layer in adapted {
            let mut take = |name: String| {
                tensors
                    .remove(&name)
                    .ok_or_else(|| Error::Input(format!("the adapter of {layer} has no tensor {name}")))
            };
            let (a, b, weight) = (
                take(format!("{layer}{}", names.a))?,
                take(format!("{layer}{}", names.b))?,
                take(format!("{layer}.weight"))?,
            );
            let merged = no_grad(|| -> Result<Tensor, Error> {
                let change = b.f_to_kind(Kind::Float)?.f_matmul(&a.f_to_kind(Kind::Float)?)?;
                let change = if names.table { change.f_tr()? } else { change }.f_mul_scalar(scale)?;
                if change.size() != weight.size() {
                    return Err(Error::Input(format!(
                        "the adapter of {layer} has the shape {:?}, its weight {:?}: it is of another model",
                        change.size(),
                        weight.size()
                    )));
                }
                Ok(weight.f_to_kind(Kind::Float)?.f_add(&change)?)
            })?;
            tensors.insert(format!("{layer}.weight"), merged);
        }
    }
    match tensors.keys().find(|name| is_adapter(name)) {
        None => Ok(()),
        Some(left) => Err(Error::Input(format!("the tensor {left} has no counterpart"))),
    }
}

/// Writes an adapter's folder from the variables of an adapted network. `base` is what PEFT is told to load first.
pub fn save(
    folder: &Path,
    lora: &Lora,
    config: &Config,
    base: &Path,
    variables: &HashMap<String, Tensor>,
) -> Result<(), Error> {
    let saved: HashMap<String, Tensor> = variables
        .iter()
        .filter(|(name, _)| is_adapter(name) || layout::is_head(name))
        .map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor.shallow_clone()))
        .collect();
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    weights::write_whole(&folder.join(WEIGHTS), &weights::to_safetensors(&saved, Storage::Fp32)?)?;
    let network = format!("{:#}\n", config.to_json(Storage::Fp32));
    weights::write_whole(&folder.join(checkpoint::CONFIG), network.as_bytes())?;
    let described = json!({
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": base.display().to_string(),
        "inference_mode": true,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": lora.targets,
        "modules_to_save": ["classifier"],
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "use_rslora": false,
    });
    weights::write_whole(&folder.join(CONFIG), format!("{described:#}\n").as_bytes())
}

/// Merges an adapter, ours or PEFT's, with the checkpoint that it adapts, and writes the full checkpoint into `output`.
pub fn merge(base: &Path, adapter: &Path, output: &Path) -> Result<Config, Error> {
    let scale = scale(adapter)?;
    let checkpoint = Checkpoint::open_backbone(base)?;
    let mut config = checkpoint.config().clone();
    if let Some(json) = checkpoint::read_text_file(&adapter.join(checkpoint::CONFIG))? {
        config.labels = Config::from_json(&json)?.labels;
    }
    let mut tensors = HashMap::new();
    let weights = checkpoint.weights()?;
    for expected in layout::tensors(checkpoint.config()) {
        if weights.has_head || !layout::is_head(&expected.name) {
            let tensor = weights.tensor(&expected.name)?;
            tensors.insert(expected.name, tensor);
        }
    }
    tensors.extend(read(&adapter.join(WEIGHTS))?);
    merge_into(&mut tensors, scale).map_err(|error| Error::checkpoint(adapter, error.to_string()))?;
    for expected in layout::tensors(&config) {
        let shape = tensors.get(&expected.name).map(Tensor::size).unwrap_or_default();
        if !shape
            .iter()
            .map(|&n| usize::try_from(n).unwrap_or(0))
            .eq(expected.shape.iter().copied())
        {
            return Err(Error::checkpoint(
                adapter,
                format!(
                    "merged with {}, the tensor {} has the shape {shape:?} instead of {:?}: is it the right base, with a \
                     classifier if the adapter has none, and with as many labels?",
                    base.display(),
                    expected.name,
                    expected.shape
                ),
            ));
        }
    }
    network::save_tensors(
        output,
        &config,
        tensors,
        &checkpoint.tokenizer().to_json()?,
        Storage::Fp32,
    )?;
    Ok(config)
}

/// Reads the tensors under the names that they have in a network.
fn read(path: &Path) -> Result<HashMap<String, Tensor>, Error> {
    let bytes = fs::read(path).map_err(|e| Error::io(path, e))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|e| {
        Error::checkpoint(
            path,
            format!("is not a safetensors file ({e}): copy or download it again"),
        )
    })?;
    file.iter()
        .map(|(name, view)| {
            let known = name
                .strip_prefix(PREFIX)
                .filter(|known| is_adapter(known) || layout::is_head(known));
            let Some(known) = known else {
                return Err(Error::checkpoint(
                    path,
                    format!("has the tensor {name}, which is neither a LoRA adapter's nor the classifier's"),
                ));
            };
            Ok((known.to_owned(), weights::view_to_tensor(path, name, &view)?))
        })
        .collect()
}

/// Reads what the adapters' outputs are multiplied by, and refuses what merging would get wrong.
fn scale(folder: &Path) -> Result<f64, Error> {
    let path = folder.join(CONFIG);
    let refuse = |reason: String| Err(Error::checkpoint(&path, reason));
    let Some(text) = checkpoint::read_text_file(&path)? else {
        return refuse("is missing: an adapter's folder holds it beside adapter_model.safetensors".to_owned());
    };
    let config: Value = match serde_json::from_slice(&text) {
        Ok(config) => config,
        Err(error) => return refuse(format!("is not JSON: {error}")),
    };
    let plain = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text == "none",
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    for key in [
        "bias",
        "use_dora",
        "fan_in_fan_out",
        "rank_pattern",
        "alpha_pattern",
        "lora_bias",
    ] {
        if !plain(&config[key]) {
            return refuse(format!(
                "{key} is {}, which is not supported here: merge it with PEFT",
                config[key]
            ));
        }
    }
    if config["peft_type"] != "LORA" {
        return refuse(format!("peft_type is {}; only LORA can be merged", config["peft_type"]));
    }
    match (config["r"].as_f64(), config["lora_alpha"].as_f64()) {
        (Some(rank), Some(alpha)) if rank >= 1.0 && alpha.is_finite() => Ok(match config["use_rslora"].as_bool() {
            Some(true) => alpha / rank.sqrt(),
            _ => alpha / rank,
        }),
        _ => refuse("needs the numbers r and lora_alpha".to_owned()),
    }
}
