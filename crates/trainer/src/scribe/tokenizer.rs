//! The scribe's own byte-level BPE, and how a conversation becomes tokens.
//!
//! It must give what llama.cpp gives for the pre-tokenizer `llama-bpe`: words of the vocabulary whole, else merges. Digits
//! were never merged in training, so a figure is always spelt digit by digit, which is what makes it copyable. The special
//! tokens are outside the text: a review that holds one as text cannot end a turn.

use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    AddedToken, Model as _, ModelWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    SplitDelimiterBehavior, Trainer as _,
};
use understudy_grounding::prompt::{Message, Role};

pub(crate) const SPECIAL: [&str; 5] = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
];
/// Rarer pairs are no token.
const FREQUENCY_MIN: u64 = 5;

/// Llama 3's word breaks, with groups of `digits` digits.
fn breaks(digits: &str) -> anyhow::Result<Sequence> {
    let pattern = format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    );
    let split = Split::new(SplitPattern::Regex(pattern), SplitDelimiterBehavior::Isolated, false)
        .map_err(|error| anyhow!("the word breaks are no expression: {error}"))?;
    Ok(Sequence::new(vec![
        split.into(),
        ByteLevel::new(false, true, false).into(),
    ]))
}

/// Trains a vocabulary of `size` tokens and returns the text of its `tokenizer.json`.
pub(crate) fn train(texts: &[String], size: usize) -> anyhow::Result<String> {
    let failed = |error: tokenizers::Error| anyhow!("cannot train the vocabulary: {error}");
    let single = breaks("")?;
    let words = |text: &str| -> tokenizers::Result<Vec<String>> {
        let mut parts = PreTokenizedString::from(text);
        single.pre_tokenize(&mut parts)?;
        let parts = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Ok(parts.into_iter().map(|(word, ..)| word.to_owned()).collect())
    };
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(size)
        .min_frequency(FREQUENCY_MIN)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(SPECIAL.map(|token| AddedToken::from(token, true)).into())
        .show_progress(false)
        .build();
    trainer.feed(texts.iter(), words).map_err(failed)?;
    let mut model = BPE::builder().ignore_merges(true).build().map_err(failed)?;
    trainer.train(&mut model).map_err(failed)?;
    model.ignore_merges = true;
    ensure!(
        model.get_vocab_size() == size,
        "the texts give {} tokens and {size} are wanted: give more text, or a smaller vocabulary",
        model.get_vocab_size()
    );
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer
        .with_pre_tokenizer(Some(breaks("{1,3}")?))
        .with_decoder(Some(ByteLevel::new(false, true, false)));
    tokenizer.to_string(true).map_err(failed)
}

/// A conversation or a text as tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    /// The model learns to say the tokens from here on.
    pub(crate) answer: usize,
    /// How much each of them counts.
    pub(crate) weights: Vec<f32>,
}

/// What a token of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Prose,
    Digit,
    Quotation,
}

impl Tokens {
    pub(crate) fn new(ids: Vec<u32>, answer: usize) -> Self {
        let weights = vec![1.0; ids.len() - answer];
        Self { ids, answer, weights }
    }
}

/// The scribe's tokenizer.
pub(crate) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: String,
}

impl Tokenizer {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let json = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(json).with_context(|| format!("{} is no tokenizer of a scribe", path.display()))
    }

    pub(crate) fn parse(json: String) -> anyhow::Result<Self> {
        let inner: tokenizers::Tokenizer = json.parse().map_err(|error| anyhow!("{error}"))?;
        ensure!(
            matches!(inner.get_model(), ModelWrapper::BPE(_)),
            "its model is not BPE"
        );
        for (id, token) in (0_u32..).zip(SPECIAL) {
            ensure!(inner.token_to_id(token) == Some(id), "its token {id} is not {token}");
        }
        Ok(Self { inner, json })
    }

    pub(crate) fn size(&self) -> usize {
        self.inner.get_vocab_size(false)
    }

    /// Tokens by id, and the merges in order, each "left right".
    pub(crate) fn vocabulary(&self) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        #[derive(serde::Deserialize)]
        struct File {
            model: Model,
        }
        #[derive(serde::Deserialize)]
        struct Model {
            merges: Vec<(String, String)>,
        }
        let file: File = serde_json::from_str(&self.json)?;
        let tokens = (0..u32::try_from(self.size())?)
            .map(|id| {
                self.inner
                    .id_to_token(id)
                    .with_context(|| format!("the vocabulary has no token {id}"))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok((
            tokens,
            file.model
                .merges
                .iter()
                .map(|(left, right)| format!("{left} {right}"))
                .collect(),
        ))
    }

    /// Tokens of plain text.
    pub(crate) fn encode(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| anyhow!("cannot tokenise: {error}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens, without the special ones.
    pub(crate) fn decode(&self, ids: &[u32]) -> anyhow::Result<String> {
        let plain: Vec<u32> = ids.iter().copied().filter(|&id| id >= 5).collect();
        self.inner
            .decode(&plain, false)
            .map_err(|error| anyhow!("cannot decode: {error}"))
    }

    /// Of a special token.
    pub(crate) fn id(token: &str) -> anyhow::Result<u32> {
        let found = (0..).zip(SPECIAL).find(|(_, special)| *special == token);
        Ok(found.with_context(|| format!("{token} is no special token"))?.0)
    }

    /// A text that the model learns to continue.
    pub(crate) fn plain(&self, text: &str) -> anyhow::Result<Tokens> {
        let mut ids = vec![Self::id("<|begin_of_text|>")?];
        ids.extend(self.encode(text)?);
        Ok(Tokens::new(ids, 1))
    }

    /// As llama.cpp renders Llama 3's template, up to where the model answers, then the answer and the end of its turn.
    pub(crate) fn conversation(&self, messages: &[Message], answer: Option<&str>) -> anyhow::Result<Tokens> {
        let mut ids = vec![Self::id("<|begin_of_text|>")?];
        for message in messages {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            self.header(role, &mut ids)?;
            // With what stands before it: llama.cpp tokenises both as one text, and line breaks merge.
            ids.extend(self.encode(&format!("\n\n{}", message.content.trim()))?);
            ids.push(Self::id("<|eot_id|>")?);
        }
        self.header("assistant", &mut ids)?;
        ids.extend(self.encode("\n\n")?);
        let start = ids.len();
        if let Some(answer) = answer {
            ids.extend(self.encode(answer.trim())?);
            ids.push(Self::id("<|eot_id|>")?);
        }
        Ok(Tokens::new(ids, start))
    }

    /// What each token of the answer is.
    pub(crate) fn parts(&self, tokens: &Tokens) -> anyhow::Result<Vec<Part>> {
        let mut quoted = false;
        let part = |&id: &u32| {
            let text = self.decode(&[id])?;
            let was = quoted;
            quoted ^= text.matches('"').count() % 2 == 1;
            Ok(match text.as_str() {
                _ if was => Part::Quotation,
                digit if digit.len() == 1 && digit.bytes().all(|byte| byte.is_ascii_digit()) => Part::Digit,
                _ => Part::Prose,
            })
        };
        tokens.ids[tokens.answer..].iter().map(part).collect()
    }

    fn header(&self, role: &str, ids: &mut Vec<u32>) -> anyhow::Result<()> {
        ids.push(Self::id("<|start_header_id|>")?);
        ids.extend(self.encode(role)?);
        ids.push(Self::id("<|end_header_id|>")?);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
