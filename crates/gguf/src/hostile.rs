//! Files for tests: hostile ones, each with what [`crate::check`] says of it, and valid ones beside them.
//!
//! All are made in memory from one tiny llama with pseudo-random weights, by an encoder that can lie where
//! [`crate::Writer`] cannot. A crate that loads models writes them to disk and proves that its process survives the
//! first kind and serves the second.

mod raw;
mod tiny;
mod variants;

pub use self::variants::variants;
use self::{
    raw::Raw,
    tiny::{Kind, Sizes, tiny},
};
use crate::{Array, TensorType, Value};

/// A file that must be refused.
#[derive(Debug, Clone)]
pub struct Hostile {
    /// What is wrong with it.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
    /// Part of the refusal's text.
    pub error: &'static str,
}

/// A file that must be served.
#[derive(Debug, Clone)]
pub struct Valid {
    /// What is special about it.
    pub name: String,
    /// The file.
    pub bytes: Vec<u8>,
}

/// Files that llama.cpp loads: each kind of tokeniser, each type of weights, and what is optional.
#[must_use]
pub fn valid() -> Vec<Valid> {
    let mut all: Vec<Valid> = Vec::new();
    let mut add = |name: &str, kind: Kind, sizes: Sizes, change: &dyn Fn(&mut Raw)| {
        let mut raw = tiny(kind, sizes);
        change(&mut raw);
        all.push(Valid {
            name: name.to_owned(),
            bytes: raw.encode(),
        });
    };
    add("byte-level BPE", Kind::Bpe, Sizes::SMALL, &|_| ());
    add("SentencePiece", Kind::Spm, Sizes::SMALL, &|_| ());
    add("version 2", Kind::Bpe, Sizes::SMALL, &|raw| raw.version = 2);
    add("input and output share their matrix", Kind::Bpe, Sizes::SMALL, &|raw| {
        raw.remove_tensor("output.weight");
    });
    add(
        "as many key heads as heads, unsaid",
        Kind::Bpe,
        Sizes {
            kv_heads: 4,
            ..Sizes::SMALL
        },
        &|raw| {
            raw.remove("llama.attention.head_count_kv");
        },
    );
    add(
        "one layer",
        Kind::Spm,
        Sizes {
            layers: 1,
            ..Sizes::SMALL
        },
        &|_| (),
    );
    add(
        "heads wider than the width's share",
        Kind::Bpe,
        Sizes {
            head: 16,
            ..Sizes::SMALL
        },
        &|raw| {
            raw.set("llama.attention.key_length", 16u32);
            raw.set("llama.attention.value_length", 16u32);
        },
    );
    add("frequencies of Llama 3.1", Kind::Bpe, Sizes::SMALL, &|raw| {
        raw.add_tensor("rope_freqs.weight", &[4], TensorType::F32);
    });
    add("scaled rotation", Kind::Bpe, Sizes::SMALL, &|raw| {
        raw.set("llama.rope.scaling.type", "yarn");
        raw.set("llama.rope.scaling.factor", 4.0f32);
        raw.set("llama.rope.scaling.original_context_length", 128u32);
        raw.set("llama.rope.scaling.finetuned", true);
    });
    add("biases", Kind::Bpe, Sizes::SMALL, &|raw| {
        for (name, length) in [
            ("attn_q", 32),
            ("attn_k", 16),
            ("attn_v", 16),
            ("attn_output", 32),
            ("ffn_up", 64),
        ] {
            raw.add_tensor(&format!("blk.0.{name}.bias"), &[length], TensorType::F32);
        }
    });
    add("a larger alignment", Kind::Bpe, Sizes::SMALL, &|raw| {
        raw.set("general.alignment", 4096u32);
        raw.alignment = 4096;
    });
    add("only what is needed", Kind::Bpe, Sizes::SMALL, &|raw| {
        for key in [
            "general.name",
            "general.file_type",
            "general.quantization_version",
            "llama.rope.dimension_count",
            "llama.rope.freq_base",
            "llama.vocab_size",
            "tokenizer.chat_template",
            "tokenizer.ggml.eot_token_id",
            "tokenizer.ggml.add_bos_token",
        ] {
            raw.remove(key);
        }
    });
    add("keys that nobody reads", Kind::Bpe, Sizes::SMALL, &|raw| {
        raw.set("general.tags", vec!["a".to_owned(), "b".to_owned()]);
        raw.set("test.u8", Value::U8(1));
        raw.set("test.i8", Value::I8(-1));
        raw.set("test.u16", Value::U16(1));
        raw.set("test.i16", Value::I16(-1));
        raw.set("test.u64", 1u64);
        raw.set("test.i64", Value::I64(-1));
        raw.set("test.f64", Value::F64(0.5));
        raw.set("test.list", Array::U64(vec![1, 2]));
        raw.set("test.empty", Array::Bool(Vec::new()));
        raw.set("split.count", Value::U16(1));
        raw.set("llama.expert_count", 0u32);
    });
    add("more bytes than needed", Kind::Bpe, Sizes::SMALL, &|raw| raw.tail = 100);
    for kind in TensorType::all().filter(|kind| kind.is_weight()) {
        // Rows are 256, which each type's block divides.
        add(&format!("weights in {}", kind.name()), Kind::Bpe, Sizes::WIDE, &|raw| {
            raw.quantise(kind)
        });
    }
    all
}

/// A valid file with pseudo-random damage: some bytes flipped in or near its header, or its end cut off. Some of these
/// are still valid.
#[must_use]
pub fn damaged(seed: u64) -> Vec<u8> {
    let mut random = raw::Random(seed);
    let kind = if random.below(2) == 0 { Kind::Bpe } else { Kind::Spm };
    let raw = tiny(kind, Sizes::SMALL);
    let mut bytes = raw.encode();
    let header = raw.marks().last().map_or(0, |(_, at)| *at);
    if random.below(4) == 0 {
        bytes.truncate(random.below(bytes.len()));
        return bytes;
    }
    for _ in 0..=random.below(6) {
        let at = random.below(header + 64);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = match random.below(3) {
                0 => *byte ^ (1 << random.below(8)),
                1 => 0xFF,
                _ => random.byte(),
            };
        }
    }
    bytes
}
