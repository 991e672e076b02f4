//! Well-formed files that hold no model that can be served.

use super::Table;
use crate::{
    Array, TensorType, Value,
    hostile::tiny::{Kind, Sizes, tiny},
    value::encode_string,
};

pub(super) fn add(table: &mut Table) {
    sizes(table);
    numbers(table);
    other_kinds(table);
    vocabulary(table);
    special_tokens(table);
    sentence_piece(table);
    shapes(table);
}

fn sizes(table: &mut Table) {
    for layers in [513, 9_999, u32::MAX] {
        table.key("llama.block_count", layers, "layers, and 512 are the most");
    }
    table.key("llama.block_count", 1u32, "which no dense llama of 1 layers has");
    table.key("llama.block_count", 3u32, "it has no tensor \"blk.2.");
    table.key("llama.block_count", 512u32, "it has no tensor \"blk.2.");
    table.key("llama.attention.head_count", 3u32, "no multiple of its");
    table.key("llama.attention.head_count", u32::MAX, "is beyond");
    table.key("llama.attention.head_count", 1u32, "no multiple of its");
    table.key("llama.attention.head_count", 32u32, "cannot be rotated in pairs");
    table.key("llama.attention.head_count", 2u32, "where its heads are 16 wide");
    table.key(
        "llama.attention.head_count_kv",
        3u32,
        "no multiple of its 3 key and value heads",
    );
    table.key(
        "llama.attention.head_count_kv",
        8u32,
        "no multiple of its 8 key and value heads",
    );
    table.key("llama.attention.head_count_kv", 1u32, "where the model's sizes ask for");
    for width in [0, 1, 4, 16, u32::MAX] {
        table.key("llama.rope.dimension_count", width, "where its heads are 8 wide");
    }
    table.key("llama.rope.dimension_count_swa", 4u32, "where its heads are 8 wide");
    table.key("llama.attention.key_length", 0u32, "cannot be rotated in pairs");
    table.key("llama.attention.key_length", 7u32, "cannot be rotated in pairs");
    table.key(
        "llama.attention.key_length",
        16u32,
        "its keys are 16 wide and its values 8",
    );
    table.key(
        "llama.attention.value_length",
        16u32,
        "its keys are 8 wide and its values 16",
    );
    table.key("llama.attention.key_length_swa", 4u32, "where its heads are 8 wide");
    table.key("llama.context_length", (1u32 << 24) + 1, "tokens is beyond");
    table.key("llama.context_length", u32::MAX, "tokens is beyond");
    table.key("llama.embedding_length", 64u32, "where its heads are 16 wide");
    table.key("llama.embedding_length", 1u32 << 31, "is beyond");
    table.key("llama.feed_forward_length", 65u32, "where the model's sizes ask for");
    table.key("llama.feed_forward_length", u32::MAX, "is beyond");
}

fn numbers(table: &mut Table) {
    let epsilon = "llama.attention.layer_norm_rms_epsilon";
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -1e-5, 1.0, 1e9] {
        table.key(epsilon, value, "is not between 0 and 1");
    }
    table.without(epsilon, "has no llama.attention.layer_norm_rms_epsilon");
    table.key(epsilon, Value::F64(1e-5), "is a f64 and not a f32");
    for value in [f32::NAN, f32::INFINITY, 0.0, -10_000.0] {
        table.key("llama.rope.freq_base", value, "not a positive number");
        table.key("llama.rope.scaling.factor", value, "not a positive number");
        table.key("llama.rope.scale_linear", value, "not a positive number");
    }
    table.key("llama.rope.freq_base", 10_000u32, "is a u32 and not a f32");
    for kind in ["llama3", "longrope", "dynamic", ""] {
        table.key("llama.rope.scaling.type", kind, "none, linear and yarn are supported");
    }
    table.key("llama.rope.scaling.type", 1u32, "is a u32 and not a string");
    table.key(
        "llama.rope.scaling.original_context_length",
        0u32,
        "original_context_length is 0",
    );
    table.key("llama.rope.scaling.finetuned", 1u32, "is a u32 and not a bool");
    table.key("llama.rope.scaling.attn_factor", f32::NAN, "is not a finite number");
    table.key(
        "llama.rope.scaling.yarn_log_multiplier",
        f32::INFINITY,
        "is not a finite number",
    );
}

fn other_kinds(table: &mut Table) {
    for architecture in ["bert", "qwen2", "mamba", "llama4", "clip", "LLAMA", "llama\0", ""] {
        table.key("general.architecture", architecture, "its architecture is");
    }
    table.key("general.architecture", 1u32, "is a u32 and not a string");
    table.without("general.architecture", "has no general.architecture");
    for kind in ["adapter", "mmproj", "vocab", "imatrix"] {
        table.key("general.type", kind, "it is part of a model");
    }
    table.key("split.count", Value::U16(3), "one part of a model in several files");
    table.key("split.count", 2u32, "is a u32 and not a u16");
    table.key("llama.expert_count", 8u32, "mixture of experts");
    table.key("llama.expert_used_count", 2u32, "mixture of experts");
    table.key("llama.expert_group_count", 2u32, "mixture of experts");
    table.key("llama.expert_count", u32::MAX, "mixture of experts");
    table.key("llama.nextn_predict_layers", 9u32, "several tokens at once");
    table.key("llama.attention.causal", false, "embedding model");
    table.key("llama.pooling_type", 1u32, "embedding model");
    table.key(
        "llama.classifier.output_labels",
        vec!["a".to_owned()],
        "not a model that writes text",
    );
    table.key("llama.embedding_length_out", 16u32, "not a model that writes text");
    table.key(
        "general.tensor_extra.name",
        vec!["output.weight".to_owned()],
        "which is not supported",
    );
    table.add("only a vocabulary", "has no tensor", |raw| raw.tensors.clear());
}

fn vocabulary(table: &mut Table) {
    table.add("no tokenizer", "has no tokenizer.ggml.model", |raw| {
        raw.keys.retain(|key| !key.name.starts_with(b"tokenizer."));
    });
    for key in ["model", "tokens", "token_type", "merges"] {
        table.without(&format!("tokenizer.ggml.{key}"), "it has no tokenizer.ggml.");
    }
    for model in [
        "bert",
        "t5",
        "rwkv",
        "none",
        "no_vocab",
        "test",
        "plamo2",
        "gemma4",
        "hybriddna",
        "whitespace",
        "",
    ] {
        table.key("tokenizer.ggml.model", model, "its tokenizer is");
    }
    for pre in ["", "gemma4", "mmbert", "sarvam-moe", "whitespace", "of-next-year"] {
        table.key("tokenizer.ggml.pre", pre, "which is not supported");
    }
    table.key("tokenizer.ggml.pre", 3u32, "is a u32 and not a string");
    table.key("tokenizer.ggml.tokens", Vec::<String>::new(), "it has 0 tokens");
    table.key(
        "tokenizer.ggml.tokens",
        vec![1i32, 2],
        "is a list and not a list of strings",
    );
    table.key("tokenizer.ggml.tokens", "abc", "is a string and not a list of strings");
    table.add("more than a million tokens", "1 to 1048576 are supported", |raw| {
        raw.set(
            "tokenizer.ggml.tokens",
            (0..=1 << 20).map(|id| format!("{id}")).collect::<Vec<_>>(),
        );
    });
    let tokens = |change: &dyn Fn(usize) -> Option<String>| -> Vec<String> {
        (0..266)
            .map(|id| change(id).unwrap_or_else(|| format!("token {id}")))
            .collect()
    };
    let at = |place, text: &'static str| move |id| (id == place).then(|| text.to_owned());
    table.key("tokenizer.ggml.tokens", tokens(&at(7, "")), "token 7 is empty");
    table.key("tokenizer.ggml.tokens", tokens(&at(265, "token 3")), "is there twice");
    // llama.cpp reads up to the zero, and aborts on what is then a duplicate.
    table.key("tokenizer.ggml.tokens", tokens(&at(265, "token 3\0x")), "zero byte");
    table.add("a token that is not UTF-8", "not UTF-8", |raw| {
        let mut value = [8u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()].concat();
        value.extend([2, 0, 0, 0, 0, 0, 0, 0, 0xC3, 0x28]);
        raw.set_raw("tokenizer.ggml.tokens", 9, value);
    });
    for count in [0, 265, 267] {
        table.key(
            "tokenizer.ggml.token_type",
            vec![1i32; count],
            "token types for 266 tokens",
        );
    }
    table.key(
        "tokenizer.ggml.token_type",
        vec![1u32; 266],
        "is a list and not a list of i32",
    );
    table.key("tokenizer.ggml.token_type", vec![6i32; 266], "has the type of a byte");
    table.key("tokenizer.ggml.merges", vec!["th".to_owned()], "has not two parts");
    table.key("tokenizer.ggml.merges", vec![" ".to_owned()], "has not two parts");
    table.key("tokenizer.ggml.merges", vec!["t ".to_owned()], "has not two parts");
    table.key("tokenizer.ggml.merges", vec![String::new()], "has not two parts");
    table.key(
        "tokenizer.ggml.merges",
        vec![1u32],
        "is a list and not a list of strings",
    );
    table.key("tokenizer.chat_template", 1u32, "is a u32 and not a string");
    table.key(
        "tokenizer.ggml.suppress_tokens",
        vec![1u32],
        "is a list and not a list of i32",
    );
    table.add("fewer tokens than rows", "where the model's sizes ask for", |raw| {
        raw.set(
            "tokenizer.ggml.tokens",
            (0..265).map(|id| format!("{id}")).collect::<Vec<_>>(),
        );
        raw.set("tokenizer.ggml.token_type", vec![1i32; 265]);
        raw.set("tokenizer.ggml.eot_token_id", 264u32);
    });
    table.key("general.name", "Phi-3 mini", "is named Phi-3");
}

fn special_tokens(table: &mut Table) {
    for name in ["bos", "eos", "eot", "padding", "unknown", "fim_pre", "mask"] {
        for id in [266, 1 << 31, u32::MAX] {
            table.key(
                &format!("tokenizer.ggml.{name}_token_id"),
                id,
                "where it has 266 tokens",
            );
        }
        table.key(
            &format!("tokenizer.ggml.{name}_token_id"),
            -1i32,
            "is a i32 and not a u32",
        );
    }
    table.without("tokenizer.ggml.bos_token_id", "begin with a BOS token");
    table.without("tokenizer.ggml.eos_token_id", "has no tokenizer.ggml.eos_token_id");
    table.add("llama.cpp's default BOS", "begin with a BOS token", |raw| {
        raw.remove("tokenizer.ggml.bos_token_id");
        raw.remove("tokenizer.ggml.add_bos_token");
    });
    table.key("tokenizer.ggml.add_bos_token", 1u32, "is a u32 and not a bool");
    table.key("tokenizer.ggml.add_eos_token", "true", "is a string and not a bool");
    table.key("tokenizer.ggml.add_space_prefix", 1u32, "is a u32 and not a bool");
}

fn sentence_piece(table: &mut Table) {
    let scores = "tokenizer.ggml.scores";
    table.of(
        Kind::Spm,
        "SentencePiece without scores",
        "has no tokenizer.ggml.scores",
        |raw| raw.remove(scores),
    );
    for count in [0, 264, 266] {
        table.of(
            Kind::Spm,
            &format!("{count} scores"),
            "token scores for 265 tokens",
            |raw| {
                raw.set(scores, vec![0.0f32; count]);
            },
        );
    }
    table.of(Kind::Spm, "scores that are NaN", "is not a number", |raw| {
        raw.set(scores, vec![f32::NAN; 265])
    });
    table.of(Kind::Spm, "scores in f64", "is a list and not a list of f32", |raw| {
        raw.set(scores, Array::F64(vec![0.0; 265]));
    });
    // llama.cpp throws through its C interface at the first text with a letter that is no token.
    table.of(Kind::Spm, "no token for a byte", "has no token \"<0x00>\"", |raw| {
        let mut value = [8u32.to_le_bytes().as_slice(), &265u64.to_le_bytes()].concat();
        for id in 0..265 {
            encode_string(&format!("token {id}"), &mut value);
        }
        raw.set_raw("tokenizer.ggml.tokens", 9, value);
        raw.set("tokenizer.ggml.token_type", vec![1i32; 265]);
    });
    table.of(
        Kind::Spm,
        "SentencePiece with pre as a number",
        "is a u32 and not a string",
        |raw| {
            raw.set("tokenizer.ggml.pre", 1u32);
        },
    );
    table.of(
        Kind::Spm,
        "SentencePiece with BOS out of range",
        "where it has 265 tokens",
        |raw| {
            raw.set("tokenizer.ggml.bos_token_id", 32_000u32);
        },
    );
}

fn shapes(table: &mut Table) {
    for name in [
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_norm.weight",
        "blk.0.attn_q.weight",
        "blk.1.attn_k.weight",
        "blk.1.attn_v.weight",
        "blk.0.attn_output.weight",
        "blk.1.ffn_norm.weight",
        "blk.0.ffn_gate.weight",
        "blk.0.ffn_up.weight",
        "blk.1.ffn_down.weight",
    ] {
        table.add(&format!("without {name}"), "it has no tensor", |raw| {
            raw.remove_tensor(name)
        });
        table.add(
            &format!("{name} of another shape"),
            "where the model's sizes ask for",
            |raw| {
                raw.reshape(name, &[32, 7], TensorType::F32);
            },
        );
    }
    table.add("a matrix on its side", "where the model's sizes ask for", |raw| {
        raw.reshape("blk.0.ffn_up.weight", &[64, 32], TensorType::F32);
    });
    table.add(
        "a matrix in three dimensions",
        "where the model's sizes ask for",
        |raw| {
            raw.reshape("blk.0.ffn_up.weight", &[32, 64, 2], TensorType::F32);
        },
    );
    for kind in [
        TensorType::F16,
        TensorType::BF16,
        TensorType::Q8_0,
        TensorType::F64,
        TensorType::I32,
    ] {
        table.add(&format!("norms in {}", kind.name()), "must be F32", |raw| {
            raw.reshape("blk.0.attn_norm.weight", &[32], kind);
        });
    }
    table.add("a bias in F16", "must be F32", |raw| {
        raw.add_tensor("blk.0.attn_q.bias", &[32], TensorType::F16);
    });
    table.add("a bias that is too short", "where the model's sizes ask for", |raw| {
        raw.add_tensor("blk.0.attn_q.bias", &[31], TensorType::F32);
    });
    for kind in TensorType::all().filter(|kind| !kind.is_weight()) {
        let mut raw = tiny(Kind::Bpe, Sizes::WIDE);
        raw.quantise(kind);
        table.bytes(
            &format!("weights in {}", kind.name()),
            "which is no type for weights",
            raw.encode(),
        );
    }
    table.add(
        "rope_freqs of a wrong length",
        "where the model's sizes ask for",
        |raw| {
            raw.add_tensor("rope_freqs.weight", &[3], TensorType::F32);
        },
    );
    for name in [
        "blk.0.ffn_gate_inp.weight",
        "blk.0.ffn_up_exps.weight",
        "blk.0.attn_qkv.weight",
        "blk.2.attn_norm.weight",
        "blk.00.attn_norm.weight",
        "blk.-1.attn_norm.weight",
        "output.bias",
        "position_embd.weight",
        "something",
    ] {
        table.add(&format!("with {name}"), "which no dense llama", |raw| {
            raw.add_tensor(name, &[32, 32], TensorType::F32);
        });
    }
}
