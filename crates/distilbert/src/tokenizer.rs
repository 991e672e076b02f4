//! From text to token ids, as `transformers` does it.
//!
//! A text becomes `[CLS]` … `[SEP]`, cut at the end to fit the network. As in `transformers`, `[SEP]` or `[MASK]` written out in
//! a user's text becomes the special token: answers match what the model's author saw, and a classifier has no instructions
//! that such a text could subvert.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use serde_json::Value;
use tokenizers::{
    AddedToken, models::wordpiece::WordPiece, normalizers::BertNormalizer, pre_tokenizers::bert::BertPreTokenizer,
    processors::bert::BertProcessing,
};

use crate::error::Error;

/// A tokenised text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// `[CLS]`, the text's tokens, `[SEP]`.
    pub ids: Vec<u32>,
    /// Whether the text was longer than the network takes.
    pub truncated: bool,
}

/// A tokeniser whose every id lies within the network's vocabulary. Cheap to clone, shared by threads.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    max_tokens: usize,
    cls: u32,
    sep: u32,
}

impl Tokenizer {
    /// From the text of a `tokenizer.json`. Texts are cut to `max_tokens`, which counts `[CLS]` and `[SEP]`.
    pub fn from_json(json: &[u8], max_tokens: usize) -> Result<Tokenizer, Error> {
        let tokenizer = guarded(|| tokenizers::Tokenizer::from_bytes(json).map_err(|e| e.to_string()))?;
        Tokenizer::new(tokenizer, max_tokens)
    }

    /// BERT's WordPiece tokeniser from a `vocab.txt`, with the settings of a `tokenizer_config.json` (null: the defaults).
    pub fn from_vocab(vocab: &[u8], settings: &Value, max_tokens: usize) -> Result<Tokenizer, Error> {
        let ids = WordPiece::read_bytes(vocab).map_err(|e| Error::Tokenizer(format!("vocab.txt: {e}")))?;
        let flag = |name: &str| settings.get(name).and_then(Value::as_bool);
        let special = |name: &str, default: &str| match settings.get(name) {
            Some(Value::String(token)) => token.clone(),
            Some(Value::Object(token)) => token
                .get("content")
                .and_then(Value::as_str)
                .unwrap_or(default)
                .to_owned(),
            _ => default.to_owned(),
        };
        let unk = special("unk_token", "[UNK]");
        let [sep, pad, cls, mask] = [
            ("sep_token", "[SEP]"),
            ("pad_token", "[PAD]"),
            ("cls_token", "[CLS]"),
            ("mask_token", "[MASK]"),
        ]
        .map(|(name, default)| special(name, default));
        let id_of = |token: &str| {
            ids.get(token)
                .copied()
                .ok_or_else(|| Error::Tokenizer(format!("vocab.txt has no token {token}")))
        };
        let processor = BertProcessing::new((sep.clone(), id_of(&sep)?), (cls.clone(), id_of(&cls)?));
        let (_, _) = (id_of(&unk)?, id_of(&pad)?);
        let special: Vec<_> = [&unk, &sep, &pad, &cls, &mask]
            .into_iter()
            .filter(|token| ids.contains_key(*token))
            .map(|token| AddedToken::from(token.clone(), true))
            .collect();
        let model = WordPiece::builder()
            .vocab(ids)
            .unk_token(unk)
            .build()
            .map_err(|e| Error::Tokenizer(format!("vocab.txt: {e}")))?;
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        tokenizer
            .with_normalizer(Some(BertNormalizer::new(
                true,
                flag("tokenize_chinese_chars").unwrap_or(true),
                flag("strip_accents"),
                flag("do_lower_case").unwrap_or(true),
            )))
            .with_pre_tokenizer(Some(BertPreTokenizer))
            .with_post_processor(Some(processor));
        tokenizer.add_special_tokens(&special);
        Tokenizer::new(tokenizer, max_tokens)
    }

    fn new(mut tokenizer: tokenizers::Tokenizer, max_tokens: usize) -> Result<Tokenizer, Error> {
        if max_tokens < 3 {
            return Err(Error::Tokenizer(format!(
                "a limit of {max_tokens} tokens leaves no room between [CLS] and [SEP]"
            )));
        }
        // The file may bring settings of its own; cutting is done here, and padding not at all.
        tokenizer.with_padding(None);
        guarded(|| tokenizer.with_truncation(None).map(|_| ()).map_err(|e| e.to_string()))?;
        let frame = guarded(|| tokenizer.encode_fast("", true).map_err(|e| e.to_string()))?;
        let &[cls, sep] = frame.get_ids() else {
            return Err(Error::Tokenizer(format!(
                "an empty text becomes {} tokens; DistilBERT needs [CLS] and [SEP] (the post_processor of tokenizer.json)",
                frame.get_ids().len()
            )));
        };
        Ok(Tokenizer {
            inner: Arc::new(tokenizer),
            max_tokens,
            cls,
            sep,
        })
    }

    /// Tokenises a text.
    pub fn encode(&self, text: &str) -> Result<Encoding, Error> {
        let tokens = guarded(|| self.inner.encode_fast(text, false).map_err(|e| e.to_string()))?;
        let tokens = tokens.get_ids();
        let kept = tokens.len().min(self.max_tokens - 2);
        let mut ids = Vec::with_capacity(kept + 2);
        ids.push(self.cls);
        ids.extend_from_slice(&tokens[..kept]);
        ids.push(self.sep);
        Ok(Encoding {
            ids,
            truncated: kept < tokens.len(),
        })
    }

    /// The most ids that an [`Encoding`] has.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.inner
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |&id| id as usize + 1)
    }

    /// The id of a token, if it has one.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The text of `tokenizer.json`.
    pub fn to_json(&self) -> Result<String, Error> {
        self.inner.to_string(false).map_err(|e| Error::Tokenizer(e.to_string()))
    }
}

/// Runs code of `tokenizers` on files and texts from outside: a panic in there becomes an error.
fn guarded<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, Error> {
    match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result.map_err(Error::Tokenizer),
        Err(_) => Err(Error::Tokenizer("the tokeniser failed on this input".to_owned())),
    }
}
