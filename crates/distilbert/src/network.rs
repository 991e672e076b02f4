//! The trainable network, on `tch::nn::VarStore`, with Hugging Face's parameter names.
//!
//! `DistilBertForSequenceClassification`: embeddings, transformer blocks with the layer norm after each residual, and on the
//! first token's vector a linear layer, ReLU and the classifier. It computes on padded batches and on whatever device and
//! kind the `VarStore` has. For serving there is [`Classifier`](crate::Classifier), which computes the same faster.
//!
//! New weights are drawn as `transformers` draws them: normal with the deviation `initializer_range`, biases 0. Whoever
//! wants others changes the variables of the `VarStore`, by name, before training ([`set`]).

mod masked;

use std::{collections::HashMap, fs, path::Path};

use tch::{
    Kind, Tensor,
    nn::{self, Init, VarStore},
};

pub use masked::{MaskedLm, load_masked, save_masked};

pub use crate::weights::Storage;
use crate::{checkpoint::Checkpoint, config::Config, error::Error, layout, lora, lora::Lora, native, weights};

/// The epsilon of every layer norm, fixed in DistilBERT.
pub(crate) const LAYER_NORM_EPSILON: f64 = 1e-12;

struct Linear {
    weight: Tensor,
    bias: Tensor,
    adapter: Option<Adapter>,
}

/// What LoRA adds to a linear layer.
struct Adapter {
    a: Tensor,
    b: Tensor,
    scale: f64,
    dropout: f64,
}

impl Adapter {
    /// Drawn as PEFT draws it: `A` uniform within `1 / √in`, `B` 0, so that the layer begins as it was.
    fn new(path: &nn::Path, of: &Linear, lora: &Lora) -> Result<Adapter, Error> {
        let (to, from) = of.weight.size2()?;
        let (rank, bound) = (lora.rank as i64, 1.0 / (from as f64).sqrt());
        let a = Init::Uniform { lo: -bound, up: bound };
        Ok(Adapter {
            a: (path / "lora_A").f_var("weight", &[rank, from], a)?,
            b: (path / "lora_B").f_var("weight", &[to, rank], Init::Const(0.0))?,
            scale: lora.scale(),
            dropout: lora.dropout,
        })
    }

    fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor, Error> {
        let none: Option<&Tensor> = None;
        let narrow = dropout(x.shallow_clone(), self.dropout, train)?.f_linear(&self.a, none)?;
        Ok(narrow.f_linear(&self.b, none)?.f_mul_scalar(self.scale)?)
    }
}

/// What LoRA adds to the words' vectors.
struct WordsAdapter {
    a: Tensor,
    b: Tensor,
    scale: f64,
}

impl WordsAdapter {
    /// Drawn as PEFT draws it: `A` 0, `B` normal, so that the vectors begin as they were.
    fn new(path: &nn::Path, of: &Tensor, lora: &Lora) -> Result<WordsAdapter, Error> {
        let (words, dim) = of.size2()?;
        let rank = lora.rank as i64;
        let b = Init::Randn { mean: 0.0, stdev: 1.0 };
        Ok(WordsAdapter {
            a: path.f_var("lora_embedding_A", &[rank, words], Init::Const(0.0))?,
            b: path.f_var("lora_embedding_B", &[dim, rank], b)?,
            scale: lora.scale(),
        })
    }

    fn forward(&self, ids: &Tensor) -> Result<Tensor, Error> {
        let none: Option<&Tensor> = None;
        let narrow = Tensor::f_embedding(&self.a.f_tr()?, ids, -1, false, false)?;
        Ok(narrow.f_linear(&self.b, none)?.f_mul_scalar(self.scale)?)
    }
}

impl Linear {
    fn new(path: &nn::Path, from: usize, to: usize, deviation: f64) -> Result<Linear, Error> {
        let init = Init::Randn {
            mean: 0.0,
            stdev: deviation,
        };
        Ok(Linear {
            weight: path.f_var("weight", &[to as i64, from as i64], init)?,
            bias: path.f_var("bias", &[to as i64], Init::Const(0.0))?,
            adapter: None,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(x.f_linear(&self.weight, Some(&self.bias))?)
    }

    fn adapted(&self, x: &Tensor, train: bool) -> Result<Tensor, Error> {
        let y = self.forward(x)?;
        match &self.adapter {
            None => Ok(y),
            Some(adapter) => Ok(y.f_add(&adapter.forward(x, train)?)?),
        }
    }
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    fn new(path: &nn::Path, dim: usize) -> Result<LayerNorm, Error> {
        Ok(LayerNorm {
            weight: path.f_var("weight", &[dim as i64], Init::Const(1.0))?,
            bias: path.f_var("bias", &[dim as i64], Init::Const(0.0))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(x.f_layer_norm(
            self.weight.size(),
            Some(&self.weight),
            Some(&self.bias),
            LAYER_NORM_EPSILON,
            true,
        )?)
    }
}

struct Block {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    attention_norm: LayerNorm,
    lin1: Linear,
    lin2: Linear,
    output_norm: LayerNorm,
}

impl Block {
    fn new(path: &nn::Path, config: &Config) -> Result<Block, Error> {
        let (dim, deviation) = (config.dim, config.initializer_range);
        let attention = path / "attention";
        let square = |name: &str| Linear::new(&(&attention / name), dim, dim, deviation);
        let ffn = path / "ffn";
        Ok(Block {
            q: square("q_lin")?,
            k: square("k_lin")?,
            v: square("v_lin")?,
            out: square("out_lin")?,
            attention_norm: LayerNorm::new(&(path / "sa_layer_norm"), dim)?,
            lin1: Linear::new(&(&ffn / "lin1"), dim, config.hidden_dim, deviation)?,
            lin2: Linear::new(&(&ffn / "lin2"), config.hidden_dim, dim, deviation)?,
            output_norm: LayerNorm::new(&(path / "output_layer_norm"), dim)?,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor, config: &Config, train: bool) -> Result<Tensor, Error> {
        let (batch, length, dim) = x.size3()?;
        let heads = config.n_heads as i64;
        let split = |linear: &Linear| -> Result<Tensor, Error> {
            Ok(linear
                .adapted(x, train)?
                .f_view([batch, length, heads, dim / heads])?
                .f_transpose(1, 2)?)
        };
        let (q, k, v) = (split(&self.q)?, split(&self.k)?, split(&self.v)?);
        let attention = if train && config.attention_dropout > 0.0 {
            attention_with_dropout(&q, &k, &v, mask, config.attention_dropout)?
        } else {
            Tensor::f_scaled_dot_product_attention(&q, &k, &v, Some(mask), 0.0, false, None, false)?
        };
        let attention = self
            .out
            .adapted(&attention.f_transpose(1, 2)?.f_reshape([batch, length, dim])?, train)?;
        let x = self.attention_norm.forward(&attention.f_add(x)?)?;
        let hidden = self.lin1.adapted(&x, train)?.f_gelu("none")?;
        let hidden = dropout(self.lin2.adapted(&hidden, train)?, config.dropout, train)?;
        self.output_norm.forward(&hidden.f_add(&x)?)
    }
}

fn dropout(x: Tensor, p: f64, train: bool) -> Result<Tensor, Error> {
    if train && p > 0.0 {
        native::dropout(&x, p)
    } else {
        Ok(x)
    }
}

/// Step by step, as libtorch computes it too where weights are dropped, but with our dropout and without a second pass for rows
/// that see nothing, of which there are none.
fn attention_with_dropout(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, p: f64) -> Result<Tensor, Error> {
    let (.., width) = q.size4()?;
    let mut scores = q
        .f_mul_scalar((width as f64).powf(-0.5))?
        .f_matmul(&k.f_transpose(-2, -1)?)?;
    let kind = scores.f_kind()?;
    let _ = scores.f_add_(&mask.f_to_kind(kind)?)?;
    Ok(native::dropout(&scores.f_softmax(-1, kind)?, p)?.f_matmul(v)?)
}

/// Embeddings and blocks, to which each task adds its head.
struct Backbone {
    config: Config,
    words: Tensor,
    words_adapter: Option<WordsAdapter>,
    positions: Tensor,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

impl Backbone {
    fn new(path: &nn::Path, config: &Config) -> Result<Backbone, Error> {
        config.validate()?;
        let (dim, deviation) = (config.dim, config.initializer_range);
        let init = Init::Randn {
            mean: 0.0,
            stdev: deviation,
        };
        let backbone = path / "distilbert";
        let embeddings = &backbone / "embeddings";
        let words = (&embeddings / "word_embeddings").f_var("weight", &[config.vocab_size as i64, dim as i64], init)?;
        {
            let _no_grad = tch::no_grad_guard();
            let _zeroed = words.f_narrow(0, config.pad_token_id as i64, 1)?.f_zero_()?;
        }
        let layers = &backbone / "transformer" / "layer";
        Ok(Backbone {
            words,
            words_adapter: None,
            positions: (&embeddings / "position_embeddings").f_var(
                "weight",
                &[config.max_position_embeddings as i64, dim as i64],
                init,
            )?,
            norm: LayerNorm::new(&(&embeddings / "LayerNorm"), dim)?,
            blocks: (0..config.n_layers)
                .map(|i| Block::new(&(&layers / i), config))
                .collect::<Result<_, _>>()?,
            config: config.clone(),
        })
    }

    /// Each token's vector, `[batch, length, dim]`, after the last block.
    fn forward(&self, ids: &Tensor, mask: &Tensor, train: bool) -> Result<Tensor, Error> {
        let (batch, length) = ids.size2()?;
        if mask.size() != [batch, length] || length < 1 || length > self.positions.size()[0] {
            return Err(Error::Input(format!(
                "ids are {:?}, the mask {:?}; both must be [batch, length], with 1 to {} tokens",
                ids.size(),
                mask.size(),
                self.positions.size()[0]
            )));
        }
        let mut words = Tensor::f_embedding(&self.words, ids, -1, false, false)?;
        if let Some(adapter) = &self.words_adapter {
            words = words.f_add(&adapter.forward(ids)?)?;
        }
        let x = self
            .norm
            .forward(&words.f_add(&self.positions.f_narrow(0, 0, length)?)?)?;
        let mask = additive_mask(mask, x.f_kind()?)?;
        let mut x = dropout(x, self.config.dropout, train)?;
        for block in &self.blocks {
            x = block.forward(&x, &mask, &self.config, train)?;
        }
        Ok(x)
    }
}

/// The network with its classifier.
pub struct Network {
    backbone: Backbone,
    pre_classifier: Linear,
    classifier: Linear,
}

impl Network {
    /// Adds the network's variables to a `VarStore`, newly drawn. `path` is its root, or the names are not Hugging Face's.
    pub fn new(path: &nn::Path, config: &Config) -> Result<Network, Error> {
        let (dim, deviation) = (config.dim, config.initializer_range);
        Ok(Network {
            backbone: Backbone::new(path, config)?,
            pre_classifier: Linear::new(&(path / "pre_classifier"), dim, dim, deviation)?,
            classifier: Linear::new(&(path / "classifier"), dim, config.labels.len(), deviation)?,
        })
    }

    /// The logits, `[batch, labels]`, of token ids `[batch, length]` (i64). `mask` has the same shape and is 0 where a token is
    /// padding. Every row needs a token that is not, and ids must lie within the vocabulary: on CUDA an id outside it is
    /// noticed too late.
    pub fn forward(&self, ids: &Tensor, mask: &Tensor, train: bool) -> Result<Tensor, Error> {
        self.judge(&self.backbone.forward(ids, mask, train)?, train)
    }

    /// The logits and the first token's vector after the last block, `[batch, dim]`, from which they are computed.
    pub fn forward_with_hidden(&self, ids: &Tensor, mask: &Tensor, train: bool) -> Result<(Tensor, Tensor), Error> {
        let hidden = self.backbone.forward(ids, mask, train)?;
        Ok((self.judge(&hidden, train)?, hidden.f_select(1, 0)?))
    }

    fn judge(&self, hidden: &Tensor, train: bool) -> Result<Tensor, Error> {
        let pooled = self.pre_classifier.forward(&hidden.f_select(1, 0)?)?.f_relu()?;
        self.classifier
            .forward(&dropout(pooled, self.backbone.config.seq_classif_dropout, train)?)
    }

    /// Adds LoRA's adapters to the variables and to what is computed. `path` is that of [`Network::new`]. Freezing the rest is
    /// the caller's.
    pub fn adapt(&mut self, path: &nn::Path, lora: &Lora) -> Result<(), Error> {
        lora.validate()?;
        let adapted = |name: &str| lora.targets.iter().any(|target| target == name);
        let backbone = path / "distilbert";
        if adapted(lora::WORDS) {
            let path = &backbone / "embeddings" / lora::WORDS;
            self.backbone.words_adapter = Some(WordsAdapter::new(&path, &self.backbone.words, lora)?);
        }
        let layers = &backbone / "transformer" / "layer";
        for (i, block) in self.backbone.blocks.iter_mut().enumerate() {
            let layer = &layers / i;
            for (part, name, linear) in [
                ("attention", "q_lin", &mut block.q),
                ("attention", "k_lin", &mut block.k),
                ("attention", "v_lin", &mut block.v),
                ("attention", "out_lin", &mut block.out),
                ("ffn", "lin1", &mut block.lin1),
                ("ffn", "lin2", &mut block.lin2),
            ] {
                if adapted(name) {
                    linear.adapter = Some(Adapter::new(&(&layer / part / name), linear, lora)?);
                }
            }
        }
        Ok(())
    }

    /// The shape of this network.
    pub fn config(&self) -> &Config {
        &self.backbone.config
    }
}

/// `[batch, length]` of 0 and 1 to `[batch, 1, 1, length]` of −∞ and 0.
pub(crate) fn additive_mask(mask: &Tensor, kind: Kind) -> Result<Tensor, Error> {
    let padding = mask.f_eq(0)?.f_unsqueeze(1)?.f_unsqueeze(1)?;
    let zeros = Tensor::f_zeros(padding.size(), (kind, padding.device()))?;
    Ok(zeros.f_masked_fill(&padding, f64::NEG_INFINITY)?)
}

/// Replaces a variable's values, e.g. to begin from other weights than those that [`Network::new`] draws.
pub fn set(store: &VarStore, name: &str, values: &Tensor) -> Result<(), Error> {
    let mut variables = store.variables();
    let variable = variables
        .get_mut(name)
        .ok_or_else(|| Error::Input(format!("the network has no tensor {name}")))?;
    copy(variable, values)
}

fn copy(variable: &mut Tensor, values: &Tensor) -> Result<(), Error> {
    if variable.size() != values.size() {
        return Err(Error::Input(format!(
            "a tensor of shape {:?} got {:?}",
            variable.size(),
            values.size()
        )));
    }
    let _no_grad = tch::no_grad_guard();
    Ok(variable.f_copy_(values)?)
}

/// Copies a checkpoint's weights into the variables of a [`Network`] of the same shape. A backbone without a classifier
/// ([`Checkpoint::open_backbone`]) leaves the classifier as it was drawn. Returns whether the classifier came along.
pub fn load(store: &VarStore, checkpoint: &Checkpoint) -> Result<bool, Error> {
    let weights = checkpoint.weights()?;
    let mut variables = store.variables();
    for expected in layout::tensors(checkpoint.config()) {
        if layout::is_head(&expected.name) && !weights.has_head {
            continue;
        }
        let variable = variables
            .get_mut(&expected.name)
            .ok_or_else(|| Error::Input(format!("the network has no tensor {}", expected.name)))?;
        copy(variable, &weights.tensor(&expected.name)?)?;
    }
    Ok(weights.has_head)
}

/// Writes a folder that [`Checkpoint::open`] and `transformers` read: `config.json`, `model.safetensors`, `tokenizer.json`
/// and `tokenizer_config.json`. Each file is there whole or not at all; `config.json` comes last.
pub fn save_checkpoint(folder: &Path, config: &Config, store: &VarStore, tokenizer_json: &str) -> Result<(), Error> {
    save_checkpoint_as(folder, config, store, tokenizer_json, Storage::Fp32)
}

/// [`save_checkpoint`] with the numbers of the file's tensors.
pub fn save_checkpoint_as(
    folder: &Path,
    config: &Config,
    store: &VarStore,
    tokenizer_json: &str,
    storage: Storage,
) -> Result<(), Error> {
    save_tensors(folder, config, store.variables(), tokenizer_json, storage)
}

/// [`save_checkpoint_as`] from tensors by name.
pub fn save_tensors(
    folder: &Path,
    config: &Config,
    tensors: HashMap<String, Tensor>,
    tokenizer_json: &str,
    storage: Storage,
) -> Result<(), Error> {
    config.validate()?;
    let names = layout::tensors(config).into_iter().map(|expected| expected.name);
    let files = Files {
        config: config.to_json(storage),
        weights: weights::to_safetensors(&named(tensors, names)?, storage)?,
        tokenizer_json,
        max_tokens: config.max_position_embeddings,
    };
    files.write(folder)
}

/// The named ones.
fn named(
    mut tensors: HashMap<String, Tensor>,
    names: impl Iterator<Item = String>,
) -> Result<HashMap<String, Tensor>, Error> {
    names
        .map(|name| match tensors.remove(&name) {
            Some(tensor) => Ok((name, tensor)),
            None => Err(Error::Input(format!("the network has no tensor {name}"))),
        })
        .collect()
}

/// What a checkpoint folder holds.
struct Files<'a> {
    config: serde_json::Value,
    weights: Vec<u8>,
    tokenizer_json: &'a str,
    max_tokens: usize,
}

impl Files<'_> {
    fn write(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        weights::write_whole(&folder.join("model.safetensors"), &self.weights)?;
        weights::write_whole(&folder.join("tokenizer.json"), self.tokenizer_json.as_bytes())?;
        // The generic class takes tokenizer.json as it is, where DistilBERT's own would build parts of it anew from flags.
        let tokenizer_config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "model_max_length": self.max_tokens,
            "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]",
        });
        weights::write_whole(
            &folder.join("tokenizer_config.json"),
            format!("{tokenizer_config:#}\n").as_bytes(),
        )?;
        weights::write_whole(&folder.join("config.json"), format!("{:#}\n", self.config).as_bytes())
    }
}
