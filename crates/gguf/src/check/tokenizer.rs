//! The vocabulary.

use std::collections::HashSet;

use super::keys::{Keys, missing, wrong_type};
use crate::{
    Array, Value,
    error::{Checked, require},
};

/// The largest known are a quarter of it.
const VOCABULARY_MAX: usize = 1 << 20;
/// `token_type` of a byte.
const BYTE: i32 = 6;

/// How a `gpt2` vocabulary splits text before it merges, as far as llama.cpp knows and works on bytes: those that work on
/// characters abort on some texts.
#[rustfmt::skip]
const PRE_TOKENIZERS: &[&str] = &[
    "a.x-4.0", "afmoe", "bailingmoe", "bailingmoe2", "bloom", "chameleon", "chatglm-bpe", "codeshell", "command-r",
    "dbrx", "deepseek-coder", "deepseek-llm", "deepseek-r1-qwen", "deepseek-v3", "default", "exaone", "exaone-moe",
    "exaone4", "falcon", "falcon-h1", "falcon3", "gigachat", "glm4", "gpt-2", "gpt-4o", "gpt3-finnish",
    "granite-docling", "grok-2", "hunyuan", "hunyuan-dense", "jais", "jais-2", "kimi-k2", "lfm2", "llada-moe",
    "llama-bpe", "llama-v3", "llama3", "llama4", "megrez", "mellum", "midm-2.0", "minerva-7b", "minimax-m2", "mpt",
    "olmo", "phi-2", "pixtral", "poro-chat", "qwen2", "qwen35", "refact", "seed-coder", "smaug-bpe", "smollm",
    "stablelm2", "starcoder", "superbpe", "tekken", "trillion", "viking", "youtu",
];
/// Those of them that begin texts with a BOS unless told otherwise.
#[rustfmt::skip]
const ADD_BOS_BY_DEFAULT: &[&str] = &[
    "chameleon", "falcon-h1", "falcon3", "lfm2", "llama-bpe", "llama-v3", "llama3", "midm-2.0", "pixtral", "tekken",
];

#[rustfmt::skip]
const SPECIAL_IDS: &[&str] = &[
    "bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask", "fim_pre", "fim_suf", "fim_mid",
    "fim_pad", "fim_rep", "fim_sep", "prefix", "suffix", "middle",
];
const FLAGS: &[&str] = &[
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
    "normalizer.lowercase",
    "normalizer.strip_accents",
];

pub(super) struct Tokenizer<'a> {
    tokens: HashSet<&'a str>,
    pub(super) vocabulary: u32,
    pub(super) chat_template: Option<&'a str>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) add_bos: bool,
}

impl<'a> Tokenizer<'a> {
    pub(super) fn read(keys: &Keys<'a>) -> Checked<Self> {
        let model = keys.needed_string("tokenizer.ggml.model")?;
        let list = keys
            .strings("tokenizer.ggml.tokens")?
            .ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
        let (tokens, vocabulary) = distinct(list)?;
        check_types(keys, list)?;
        // Ids that llama.cpp assumes where a file names none, and whether a text begins with BOS.
        let (bos, eos, add_bos) = match model {
            "gpt2" => {
                check_merges(keys)?;
                (None, None, ADD_BOS_BY_DEFAULT.contains(&pre_tokenizer(keys)?))
            }
            "llama" => {
                keys.string("tokenizer.ggml.pre")?;
                check_scores(keys, list.len())?;
                check_bytes(&tokens)?;
                (Some(1), Some(2), true)
            }
            other => {
                return Err(crate::error::bad!(
                    "its tokenizer is {other:?}, and gpt2 (byte-level BPE) and llama (SentencePiece) are supported; choose \
                     another model"
                ));
            }
        };
        keys.u32("tokenizer.ggml.token_type_count")?;
        for flag in FLAGS {
            keys.bool(&format!("tokenizer.ggml.{flag}"))?;
        }
        if let Some(value) = keys.get("tokenizer.ggml.suppress_tokens")
            && !matches!(value, Value::Array(Array::I32(_)))
        {
            return Err(wrong_type("tokenizer.ggml.suppress_tokens", value, "list of i32"));
        }
        for name in SPECIAL_IDS {
            special(keys, name, vocabulary)?;
        }
        let id = |name| special(keys, name, vocabulary);
        let default = |id: Option<u32>| id.filter(|id| *id < vocabulary);
        let tokenizer = Self {
            tokens,
            vocabulary,
            chat_template: keys.string("tokenizer.chat_template")?,
            bos: id("bos")?.or(default(bos)),
            eos: id("eos")?.or(default(eos)),
            eot: id("eot")?,
            add_bos: keys.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos),
        };
        require!(
            tokenizer.bos.is_some() || !tokenizer.add_bos,
            "its texts are to begin with a BOS token (add_bos_token), and it names none; convert the model again"
        );
        // llama.cpp would take token 11.
        require!(
            tokenizer.eos.is_some(),
            "it has no tokenizer.ggml.eos_token_id, so that a text would never end; convert the model again"
        );
        Ok(tokenizer)
    }

    /// llama.cpp looks tokens of Phi-3 up in a model that is named so, and does not load one without them.
    pub(super) fn check_name(&self, name: &str) -> Checked<()> {
        let name = name.to_ascii_lowercase();
        if name.contains("phi-3") || name.contains("phi3") {
            for token in ["</s>", "<unk>", "<s>", "<|endoftext|>"] {
                require!(
                    self.tokens.contains(token),
                    "it is named Phi-3 and has no token {token:?}; give it another general.name"
                );
            }
        }
        Ok(())
    }
}

fn distinct(list: &[String]) -> Checked<(HashSet<&str>, u32)> {
    let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
    require!(
        (1..=VOCABULARY_MAX).contains(&list.len()),
        "it has {} tokens, and 1 to {VOCABULARY_MAX} are supported; convert the model again",
        list.len()
    );
    let mut tokens = HashSet::with_capacity(list.len());
    for (id, token) in list.iter().enumerate() {
        require!(!token.is_empty(), "its token {id} is empty; convert the model again");
        // llama.cpp reads up to it, and aborts where two tokens are then the same.
        require!(
            !token.contains('\0'),
            "its token {id} has a zero byte; convert the model again"
        );
        require!(
            tokens.insert(token.as_str()),
            "its token {id} ({}) is there twice; convert the model again",
            token.chars().take(40).collect::<String>().escape_debug()
        );
    }
    Ok((tokens, count))
}

/// Without types special tokens could not be told from text.
fn check_types(keys: &Keys<'_>, list: &[String]) -> Checked<()> {
    let key = "tokenizer.ggml.token_type";
    let value = keys.get(key).ok_or_else(|| missing(key))?;
    let Value::Array(Array::I32(types)) = value else {
        return Err(wrong_type(key, value, "list of i32"));
    };
    require!(
        types.len() == list.len(),
        "it has {} token types for {} tokens; convert the model again",
        types.len(),
        list.len()
    );
    for (id, (token, _)) in list
        .iter()
        .zip(types)
        .enumerate()
        .filter(|(_, (_, kind))| **kind == BYTE)
    {
        let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        require!(
            hex.is_some_and(|hex| hex.len() == 2 && u8::from_str_radix(hex, 16).is_ok()),
            "its token {id} has the type of a byte and is not written like <0x0A>; convert the model again"
        );
    }
    Ok(())
}

fn pre_tokenizer<'a>(keys: &Keys<'a>) -> Checked<&'a str> {
    let name = keys.string("tokenizer.ggml.pre")?.unwrap_or("default");
    require!(
        PRE_TOKENIZERS.contains(&name),
        "its tokenizer.ggml.pre is {name:?}, which is not supported; convert the model again with a current llama.cpp"
    );
    Ok(name)
}

fn check_merges(keys: &Keys<'_>) -> Checked<()> {
    let key = "tokenizer.ggml.merges";
    let merges = keys.strings(key)?.ok_or_else(|| missing(key))?;
    for (at, merge) in merges.iter().enumerate() {
        // As llama.cpp splits it: the left part may itself begin with a space.
        let space = merge.char_indices().skip(1).find(|(_, letter)| *letter == ' ');
        let right = space.map(|(space, _)| &merge[space + 1..]);
        require!(
            right.is_some_and(|right| !right.is_empty()),
            "its merge {at} has not two parts; convert the model again"
        );
    }
    Ok(())
}

fn check_scores(keys: &Keys<'_>, tokens: usize) -> Checked<()> {
    let key = "tokenizer.ggml.scores";
    let value = keys.get(key).ok_or_else(|| missing(key))?;
    let (count, ordered) = match value {
        Value::Array(Array::F32(scores)) => (scores.len(), scores.iter().all(|score| !score.is_nan())),
        Value::Array(Array::I32(scores)) => (scores.len(), true),
        other => return Err(wrong_type(key, other, "list of f32")),
    };
    require!(
        count == tokens,
        "it has {count} token scores for {tokens} tokens; convert the model again"
    );
    require!(
        ordered,
        "one of its token scores is not a number; convert the model again"
    );
    Ok(())
}

/// What no token spells is spelled in bytes, and llama.cpp ends the process where one is missing.
fn check_bytes(tokens: &HashSet<&str>) -> Checked<()> {
    for byte in 0..=255u8 {
        let token = format!("<0x{byte:02X}>");
        require!(
            tokens.contains(token.as_str()),
            "its vocabulary has no token {token:?}, so that not every text could be read; convert the model again"
        );
    }
    Ok(())
}

fn special(keys: &Keys<'_>, name: &str, vocabulary: u32) -> Checked<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    let id = keys.u32(&key)?;
    require!(
        id.is_none_or(|id| id < vocabulary),
        "its {key} is {} where it has {vocabulary} tokens; convert the model again",
        id.unwrap_or_default()
    );
    Ok(id)
}
