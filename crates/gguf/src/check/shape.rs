//! The sizes of a model.

use super::keys::{Keys, missing};
use crate::{
    Value,
    error::{Checked, require},
};

/// llama.cpp's own limit; it aborts beyond.
const LAYERS_MAX: u32 = 512;
/// Tokens. The longest contexts that models claim are ten million.
const CONTEXT_MAX: u32 = 1 << 24;
/// Of any matrix but the vocabulary's. Llama 3.1 405B has 53,248.
const WIDTH_MAX: u32 = 1 << 20;

/// Keys that other kinds of models have, each with the value that a llama has it with.
const ABSENT_OR_ZERO: &[(&str, &str)] = &[
    ("llama.expert_count", "it is a mixture of experts"),
    ("llama.expert_used_count", "it is a mixture of experts"),
    ("llama.expert_group_count", "it is a mixture of experts"),
    ("llama.expert_group_used_count", "it is a mixture of experts"),
    ("llama.nextn_predict_layers", "it predicts several tokens at once"),
    ("llama.pooling_type", "it is an embedding model"),
    ("llama.classifier.pooling_type", "it is a classifier"),
];

pub(super) struct Shape {
    pub(super) context: u32,
    pub(super) embedding: u32,
    pub(super) feed_forward: u32,
    pub(super) layers: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    /// Width of a head.
    pub(super) head: u32,
}

impl Shape {
    pub(super) fn read(keys: &Keys<'_>) -> Checked<Self> {
        refuse_other_kinds(keys)?;
        let size = |key: &str| -> Checked<u32> {
            let value = keys.needed_u32(key)?;
            require!(value > 0, "its {key} is 0; convert the model again");
            Ok(value)
        };
        let width = |key: &str| -> Checked<u32> {
            let value = size(key)?;
            require!(
                value <= WIDTH_MAX,
                "its {key} of {value} is beyond {WIDTH_MAX}: the file is damaged; copy or download it again"
            );
            Ok(value)
        };
        let context = size("llama.context_length")?;
        require!(
            context <= CONTEXT_MAX,
            "its llama.context_length of {context} tokens is beyond {CONTEXT_MAX}: the file is damaged; copy or download \
             it again"
        );
        let layers = size("llama.block_count")?;
        require!(
            layers <= LAYERS_MAX,
            "it has {layers} layers, and {LAYERS_MAX} are the most; choose a smaller model"
        );
        let embedding = width("llama.embedding_length")?;
        let heads = width("llama.attention.head_count")?;
        let kv_heads = match keys.get("llama.attention.head_count_kv") {
            None => heads,
            Some(_) => size("llama.attention.head_count_kv")?,
        };
        require!(
            heads.is_multiple_of(kv_heads),
            "its {heads} heads are no multiple of its {kv_heads} key and value heads; convert the model again"
        );
        let shape = Self {
            context,
            embedding,
            feed_forward: width("llama.feed_forward_length")?,
            layers,
            heads,
            kv_heads,
            head: head_width(keys, embedding, heads)?,
        };
        check_numbers(keys)?;
        Ok(shape)
    }

    /// Width of all heads together.
    pub(super) fn queries(&self) -> u64 {
        u64::from(self.heads) * u64::from(self.head)
    }

    /// Width of all key or value heads together.
    pub(super) fn keys(&self) -> u64 {
        u64::from(self.kv_heads) * u64::from(self.head)
    }
}

fn refuse_other_kinds(keys: &Keys<'_>) -> Checked<()> {
    for (key, what) in ABSENT_OR_ZERO {
        require!(
            keys.u32(key)?.unwrap_or(0) == 0,
            "{what} ({key}), which is not supported; choose a dense model of the Llama family"
        );
    }
    require!(
        keys.bool("llama.attention.causal")?.unwrap_or(true),
        "it is an embedding model (llama.attention.causal is false), which is not supported; choose a model that writes \
         text"
    );
    for key in ["llama.classifier.output_labels", "llama.embedding_length_out"] {
        require!(
            keys.get(key).is_none(),
            "it is not a model that writes text ({key}); choose one that does"
        );
    }
    Ok(())
}

/// All of a head is rotated, and llama.cpp asserts that keys and values have one width.
fn head_width(keys: &Keys<'_>, embedding: u32, heads: u32) -> Checked<u32> {
    let key_length = keys.u32("llama.attention.key_length")?;
    let head = match key_length {
        Some(head) => head,
        None => {
            require!(
                embedding.is_multiple_of(heads),
                "its width of {embedding} is no multiple of its {heads} heads; convert the model again"
            );
            embedding / heads
        }
    };
    require!(
        heads.checked_mul(head).is_some_and(|width| width <= WIDTH_MAX),
        "its {heads} heads of {head} are together wider than {WIDTH_MAX}: the file is damaged; copy or download it again"
    );
    require!(
        head > 0 && head.is_multiple_of(2),
        "its heads are {head} wide, which cannot be rotated in pairs; convert the model again"
    );
    let values = keys.u32("llama.attention.value_length")?.unwrap_or(embedding / heads);
    require!(
        values == head,
        "its keys are {head} wide and its values {values}; models where they differ are not supported"
    );
    for key in [
        "llama.attention.key_length_swa",
        "llama.attention.value_length_swa",
        "llama.rope.dimension_count",
        "llama.rope.dimension_count_swa",
    ] {
        let width = keys.u32(key)?.unwrap_or(head);
        require!(
            width == head,
            "its {key} is {width} where its heads are {head} wide; convert the model again"
        );
    }
    Ok(head)
}

fn check_numbers(keys: &Keys<'_>) -> Checked<()> {
    let epsilon = "llama.attention.layer_norm_rms_epsilon";
    let value = keys.f32(epsilon)?.ok_or_else(|| missing(epsilon))?;
    require!(
        value > 0.0 && value < 1.0,
        "its {epsilon} is {value}, which is not between 0 and 1; convert the model again"
    );
    let base = keys.f32("llama.rope.freq_base")?.unwrap_or(10_000.0);
    require!(
        base.is_finite() && base > 0.0,
        "its llama.rope.freq_base is {base} and not a positive number; convert the model again"
    );
    // llama.cpp aborts on a type of scaling that it does not know.
    let scaling = keys.string("llama.rope.scaling.type")?.unwrap_or("linear");
    require!(
        matches!(scaling, "none" | "linear" | "yarn"),
        "its llama.rope.scaling.type is {scaling:?}, and none, linear and yarn are supported; convert the model again"
    );
    for key in ["llama.rope.scaling.factor", "llama.rope.scale_linear"] {
        let factor = keys.f32(key)?.unwrap_or(1.0);
        require!(
            factor.is_normal() && factor > 0.0,
            "its {key} is {factor} and not a positive number; convert the model again"
        );
    }
    let original = keys.u32("llama.rope.scaling.original_context_length")?.unwrap_or(1);
    require!(
        (1..=CONTEXT_MAX).contains(&original),
        "its llama.rope.scaling.original_context_length is {original}; convert the model again"
    );
    keys.bool("llama.rope.scaling.finetuned")?;
    for key in ["llama.rope.scaling.attn_factor", "llama.rope.scaling.alpha"] {
        keys.f32(key)?;
    }
    for (key, value) in keys.iter().filter(|(key, _)| key.starts_with("llama.")) {
        let finite = match value {
            Value::F32(number) => number.is_finite(),
            Value::F64(number) => number.is_finite(),
            _ => true,
        };
        require!(finite, "its {key} is not a finite number; convert the model again");
    }
    Ok(())
}
