//! A llama of some 30,000 parameters.

use super::raw::Raw;
use crate::TensorType;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Byte-level, as of Llama 3.
    Bpe,
    /// SentencePiece, as of Llama 2.
    Spm,
}

#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) width: u32,
    pub(super) inner: u32,
    pub(super) layers: u32,
    pub(super) heads: u32,
    pub(super) kv_heads: u32,
    pub(super) head: u32,
}

impl Sizes {
    pub(super) const SMALL: Self = Self {
        width: 32,
        inner: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head: 8,
    };
    /// For types with blocks of 256.
    pub(super) const WIDE: Self = Self {
        width: 256,
        inner: 256,
        layers: 1,
        heads: 4,
        kv_heads: 4,
        head: 64,
    };
}

const CHAT_TEMPLATE: &str = "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n\
                             {{ message['content'] }}<|eot_id|>{% endfor %}<|start_header_id|>assistant<|end_header_id|>\n\n";
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

pub(super) fn tiny(kind: Kind, sizes: Sizes) -> Raw {
    let mut raw = Raw::new();
    raw.set("general.architecture", "llama");
    raw.set("general.name", "tiny");
    raw.set("general.file_type", 0u32);
    raw.set("general.quantization_version", 2u32);
    raw.set("llama.context_length", 512u32);
    raw.set("llama.embedding_length", sizes.width);
    raw.set("llama.block_count", sizes.layers);
    raw.set("llama.feed_forward_length", sizes.inner);
    raw.set("llama.attention.head_count", sizes.heads);
    raw.set("llama.attention.head_count_kv", sizes.kv_heads);
    raw.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
    raw.set("llama.rope.dimension_count", sizes.head);
    raw.set("llama.rope.freq_base", 10_000.0f32);
    let vocabulary = match kind {
        Kind::Bpe => byte_level(&mut raw),
        Kind::Spm => sentence_piece(&mut raw),
    };
    raw.set("llama.vocab_size", vocabulary);
    tensors(&mut raw, sizes, vocabulary);
    raw
}

fn tensors(raw: &mut Raw, sizes: Sizes, vocabulary: u32) {
    let mut add = |name: &str, dimensions: &[u32]| {
        let dimensions: Vec<_> = dimensions.iter().map(|size| u64::from(*size)).collect();
        raw.add_tensor(name, &dimensions, TensorType::F32);
    };
    let Sizes { width, inner, .. } = sizes;
    let (queries, keys) = (sizes.heads * sizes.head, sizes.kv_heads * sizes.head);
    add("token_embd.weight", &[width, vocabulary]);
    for layer in 0..sizes.layers {
        for (part, dimensions) in [
            ("attn_norm", &[width][..]),
            ("attn_q", &[width, queries]),
            ("attn_k", &[width, keys]),
            ("attn_v", &[width, keys]),
            ("attn_output", &[queries, width]),
            ("ffn_norm", &[width]),
            ("ffn_gate", &[width, inner]),
            ("ffn_up", &[width, inner]),
            ("ffn_down", &[inner, width]),
        ] {
            add(&format!("blk.{layer}.{part}.weight"), dimensions);
        }
    }
    add("output_norm.weight", &[width]);
    add("output.weight", &[width, vocabulary]);
}

/// Sets the vocabulary and says how many tokens it has.
fn byte_level(raw: &mut Raw) -> u32 {
    let mut tokens: Vec<(String, i32)> = (0..=255).map(|byte| (letter(byte).to_string(), NORMAL)).collect();
    let merges = ["t h", "th e", "Ġ the", "i s", "Ġ is"];
    tokens.extend(merges.iter().map(|merge| (merge.replace(' ', ""), NORMAL)));
    // 261 and so on.
    for special in [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ] {
        tokens.push((special.to_owned(), CONTROL));
    }
    raw.set("tokenizer.ggml.model", "gpt2");
    raw.set("tokenizer.ggml.pre", "llama-bpe");
    let count = set_tokens(raw, tokens);
    raw.set("tokenizer.ggml.merges", merges.map(str::to_owned).to_vec());
    raw.set("tokenizer.ggml.bos_token_id", 261u32);
    raw.set("tokenizer.ggml.eos_token_id", 262u32);
    raw.set("tokenizer.ggml.eot_token_id", 265u32);
    raw.set("tokenizer.ggml.add_bos_token", true);
    raw.set("tokenizer.chat_template", CHAT_TEMPLATE);
    count
}

fn sentence_piece(raw: &mut Raw) -> u32 {
    let mut tokens = vec![
        ("<unk>".to_owned(), UNKNOWN),
        ("<s>".to_owned(), CONTROL),
        ("</s>".to_owned(), CONTROL),
    ];
    tokens.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), BYTE)));
    tokens.extend(["▁", "t", "h", "e", "▁the", "▁is"].map(|piece| (piece.to_owned(), NORMAL)));
    raw.set("tokenizer.ggml.model", "llama");
    let scores: Vec<f32> = tokens
        .iter()
        .scan(0.0, |score, _| {
            *score -= 1.0;
            Some(*score)
        })
        .collect();
    let count = set_tokens(raw, tokens);
    raw.set("tokenizer.ggml.scores", scores);
    raw.set("tokenizer.ggml.bos_token_id", 1u32);
    raw.set("tokenizer.ggml.eos_token_id", 2u32);
    raw.set("tokenizer.ggml.unknown_token_id", 0u32);
    count
}

fn set_tokens(raw: &mut Raw, tokens: Vec<(String, i32)>) -> u32 {
    let count = tokens.iter().fold(0, |count, _| count + 1);
    let (tokens, types): (Vec<String>, Vec<i32>) = tokens.into_iter().unzip();
    raw.set("tokenizer.ggml.tokens", tokens);
    raw.set("tokenizer.ggml.token_type", types);
    count
}

/// GPT-2's printable stand-in for a byte.
fn letter(byte: u8) -> char {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(&byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|byte| !printable(byte)).fold(0u32, |rank, _| rank + 1);
    char::from_u32(256 + rank).unwrap_or('?')
}
