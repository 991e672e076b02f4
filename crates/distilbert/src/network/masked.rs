//! Masked-language modelling: `DistilBertForMaskedLM` of `transformers`.
//!
//! On each asked token's vector a linear layer, GELU and a layer norm, then a projection onto the vocabulary whose matrix is
//! the word embedding itself. Only the asked places are projected: they are a sixth of the text, and for a small network the
//! projection costs more than all the blocks.

use std::path::Path;

use serde_json::json;
use tch::{
    Tensor,
    nn::{self, Init, VarStore},
};

use super::{Backbone, Files, LayerNorm, Linear, Storage, copy, named};
use crate::{checkpoint::Checkpoint, config::Config, error::Error, layout, weights};

/// The backbone with the head that predicts tokens.
pub struct MaskedLm {
    backbone: Backbone,
    transform: Linear,
    norm: LayerNorm,
    bias: Tensor,
}

impl MaskedLm {
    /// Adds the network's variables to a `VarStore`, newly drawn. `path` is its root, or the names are not Hugging Face's.
    pub fn new(path: &nn::Path, config: &Config) -> Result<MaskedLm, Error> {
        let backbone = Backbone::new(path, config)?;
        Ok(MaskedLm {
            backbone,
            transform: Linear::new(
                &(path / "vocab_transform"),
                config.dim,
                config.dim,
                config.initializer_range,
            )?,
            norm: LayerNorm::new(&(path / "vocab_layer_norm"), config.dim)?,
            bias: (path / "vocab_projector").f_var("bias", &[config.vocab_size as i64], Init::Const(0.0))?,
        })
    }

    /// The logits, `[places, vocabulary]`, at places of the flattened batch: row · length + position. Ids and mask are as in
    /// [`Network::forward`](super::Network::forward).
    pub fn forward(&self, ids: &Tensor, mask: &Tensor, places: &Tensor, train: bool) -> Result<Tensor, Error> {
        let hidden = self.backbone.forward(ids, mask, train)?;
        let asked = hidden
            .f_view([-1, self.backbone.config.dim as i64])?
            .f_index_select(0, places)?;
        let asked = self.norm.forward(&self.transform.forward(&asked)?.f_gelu("none")?)?;
        Ok(asked.f_linear(&self.backbone.words, Some(&self.bias))?)
    }

    /// The shape of this network; its labels mean nothing.
    pub fn config(&self) -> &Config {
        &self.backbone.config
    }
}

/// Copies a checkpoint's weights into the variables of a [`MaskedLm`] of the same shape. A checkpoint without this head, such
/// as a classifier's, leaves it as it was drawn. Returns whether the head came along.
pub fn load_masked(store: &VarStore, checkpoint: &Checkpoint) -> Result<bool, Error> {
    let weights = checkpoint.weights()?;
    let head = layout::masked_head(checkpoint.config());
    let has_head = head.iter().all(|expected| weights.has(&expected.name));
    let backbone = layout::tensors(checkpoint.config())
        .into_iter()
        .filter(|expected| !layout::is_head(&expected.name));
    let mut variables = store.variables();
    for expected in backbone.chain(head.into_iter().filter(|_| has_head)) {
        let variable = variables
            .get_mut(&expected.name)
            .ok_or_else(|| Error::Input(format!("the network has no tensor {}", expected.name)))?;
        copy(variable, &weights.tensor(&expected.name)?)?;
    }
    Ok(has_head)
}

/// Writes a folder that [`Checkpoint::open_backbone`] and `transformers` read, as
/// [`save_checkpoint`](super::save_checkpoint) does.
pub fn save_masked(folder: &Path, config: &Config, store: &VarStore, tokenizer_json: &str) -> Result<(), Error> {
    config.validate()?;
    let mut json = config.to_json(Storage::Fp32);
    if let Some(keys) = json.as_object_mut() {
        keys.insert("architectures".to_owned(), json!(["DistilBertForMaskedLM"]));
        keys.remove("id2label");
        keys.remove("label2id");
    }
    // The projection's matrix is the word embedding, which `transformers` ties to it on loading.
    let names = layout::tensors(config)
        .into_iter()
        .filter(|expected| !layout::is_head(&expected.name))
        .chain(layout::masked_head(config))
        .map(|expected| expected.name);
    let files = Files {
        config: json,
        weights: weights::to_safetensors(&named(store.variables(), names)?, Storage::Fp32)?,
        tokenizer_json,
        max_tokens: config.max_position_embeddings,
    };
    files.write(folder)
}
