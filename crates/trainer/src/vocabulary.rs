//! Training of a WordPiece vocabulary: lower case, BERT's normaliser and word breaks, `tokenizer.json` out.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use tokenizers::models::wordpiece::{WordPiece, WordPieceTrainerBuilder};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{AddedToken, Model, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString};
use tokenizers::{PreTokenizer, Tokenizer, Trainer, decoders};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Characters that the vocabulary spells; a word with a rarer one is `[UNK]`.
const ALPHABET_MAX: usize = 200;
/// Rarer words do not shape the vocabulary.
const FREQUENCY_MIN: u64 = 2;

/// Where a new network's tokeniser comes from.
pub(crate) struct Source<'a> {
    /// A tokenizer.json.
    pub(crate) given: Option<&'a Path>,
    /// The output folder of the run that is gone on with.
    pub(crate) begun: Option<&'a Path>,
    /// Tokens, if it is trained, without phrases.
    pub(crate) size: usize,
    /// Most tokens that the network takes.
    pub(crate) max_tokens: usize,
}

impl Source<'_> {
    /// The one given, else the one that the run began with, else one trained on `texts`, with `phrases` as tokens besides.
    pub(crate) fn tokenizer<'t>(
        &self,
        texts: impl FnOnce() -> Vec<&'t str>,
        phrases: impl FnOnce() -> Vec<String>,
        say: &dyn Fn(String),
    ) -> anyhow::Result<understudy_distilbert::Tokenizer> {
        let begun = self.begun.map(|output| output.join("tokenizer.json"));
        let json = match (self.given, begun.filter(|path| path.exists())) {
            (Some(path), _) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
            (None, Some(path)) => std::fs::read(&path)?,
            (None, None) => {
                say(format!("training a vocabulary of {} tokens", self.size));
                train(&texts(), self.size, &phrases())?.into_bytes()
            }
        };
        Ok(understudy_distilbert::Tokenizer::from_json(&json, self.max_tokens)?)
    }
}

/// Trains a vocabulary of `size` tokens, adds the phrases to it, and returns the text of its `tokenizer.json`.
pub(crate) fn train(texts: &[&str], size: usize, phrases: &[String]) -> anyhow::Result<String> {
    let failed = |error: tokenizers::Error| anyhow!("cannot train the vocabulary: {error}");
    let normalizer = BertNormalizer::default();
    let words = |text: &str| -> tokenizers::Result<Vec<String>> {
        let mut normal = NormalizedString::from(text);
        normalizer.normalize(&mut normal)?;
        let mut parts = PreTokenizedString::from(normal);
        BertPreTokenizer.pre_tokenize(&mut parts)?;
        let parts = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Ok(parts.into_iter().map(|(word, ..)| word.to_owned()).collect())
    };

    let mut frequency: HashMap<char, u64> = HashMap::new();
    for text in texts {
        for c in words(text).map_err(failed)?.iter().flat_map(|word| word.chars()) {
            *frequency.entry(c).or_default() += 1;
        }
    }
    let mut alphabet: Vec<(char, u64)> = frequency.into_iter().collect();
    alphabet.sort_unstable_by_key(|&(c, count)| (std::cmp::Reverse(count), c));
    alphabet.truncate(ALPHABET_MAX);
    let mut alphabet: Vec<char> = alphabet.into_iter().map(|(c, _)| c).collect();
    alphabet.sort_unstable();
    let fewest = SPECIAL.len() + 2 * alphabet.len();
    ensure!(
        size > fewest,
        "a vocabulary of {size} tokens is too small: {fewest} are needed for the characters alone"
    );

    // The library numbers "##c" in the order of a hash map and breaks ties between merges by number, so that each run would
    // give another vocabulary. Numbered here, as if they were special tokens, they come out the same.
    let inner = alphabet.iter().map(|c| AddedToken::from(format!("##{c}"), false));
    let fixed = SPECIAL
        .map(|token| AddedToken::from(token, true))
        .into_iter()
        .chain(inner)
        .collect();
    let mut trainer = WordPieceTrainerBuilder::new()
        .vocab_size(size)
        .min_frequency(FREQUENCY_MIN)
        .initial_alphabet(alphabet.iter().copied().collect::<HashSet<char>>())
        .limit_alphabet(alphabet.len())
        .special_tokens(fixed)
        .show_progress(false)
        .build();
    trainer.feed(texts.iter(), words).map_err(failed)?;
    let mut model = WordPiece::default();
    trainer.train(&mut model).map_err(failed)?;
    ensure!(
        model.get_vocab_size() <= size,
        "the vocabulary came out larger than {size}"
    );

    let id = |token: &str| {
        model
            .token_to_id(token)
            .ok_or_else(|| anyhow!("the vocabulary has no {token}"))
    };
    let processor = BertProcessing::new(("[SEP]".to_owned(), id("[SEP]")?), ("[CLS]".to_owned(), id("[CLS]")?));
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_normalizer(Some(normalizer))
        .with_pre_tokenizer(Some(BertPreTokenizer))
        .with_decoder(Some(decoders::wordpiece::WordPiece::default()))
        .with_post_processor(Some(processor));
    tokenizer.add_special_tokens(&SPECIAL.map(|token| AddedToken::from(token, true)));
    let whole = |phrase: &String| AddedToken::from(phrase.clone(), false).single_word(true);
    tokenizer.add_tokens(&phrases.iter().map(whole).collect::<Vec<_>>());
    tokenizer.to_string(false).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_words_are_tokens_and_runs_agree() {
        let texts: Vec<String> = (0..400)
            .map(|i| {
                format!(
                    "A Wonderful film, number {} of {}; Ünusually dreadful pacing!",
                    i * 7919 % 1000,
                    i * 31 % 77
                )
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let json = train(&texts, 200, &[]).unwrap();
        assert_eq!(json, train(&texts, 200, &[]).unwrap());
        let tokenizer = understudy_distilbert::Tokenizer::from_json(json.as_bytes(), 16).unwrap();
        assert_eq!(tokenizer.id("[PAD]"), Some(0));
        assert!(tokenizer.vocab_size() <= 200);
        let ids = tokenizer.encode("wonderful UNUSUALLY").unwrap().ids;
        assert_eq!(ids.len(), 4, "each is one token");
        assert_eq!(
            (ids[0], ids[3]),
            (tokenizer.id("[CLS]").unwrap(), tokenizer.id("[SEP]").unwrap())
        );
        assert!(train(&texts, 50, &[]).unwrap_err().to_string().contains("too small"));
    }

    #[test]
    fn a_phrase_is_one_token_wherever_it_stands_as_words() {
        let texts = vec!["the ending was not bad at all, café and all"; 50];
        let json = train(&texts, 80, &["not bad".to_owned(), "café and".to_owned()]).unwrap();
        let tokenizer = understudy_distilbert::Tokenizer::from_json(json.as_bytes(), 16).unwrap();
        let tokens = |text| tokenizer.encode(text).unwrap().ids.len() - 2;
        assert_eq!(tokens("NOT bad"), 1);
        assert_eq!(tokens("Café and"), 1, "accents are taken off phrases as off words");
        assert_eq!(tokens("was not bad."), tokens("was .") + 1);
        assert!(tokens("not badly") > 1 && tokens("knot bad") > 1);
        assert_eq!(
            tokenizer.id("not bad"),
            Some(u32::try_from(tokenizer.vocab_size() - 2).unwrap())
        );
    }
}
