//! Does a text say only what the sheet says?
//!
//! Pure and deterministic; linear in the text, and no text makes it panic.

mod align;
mod bind;
mod clause;
mod derive;
mod figure;
mod hedge;
mod knowledge;
mod labels;
mod number;
mod quotation;
mod ranking;
mod tail;
mod token;

use std::ops::Range;

use crate::sheet::FactSheet;

use clause::Reading;
use knowledge::{About, Knowledge};
use token::Token;

/// Most complaints that [`Report::complaints`] gives: a model mends the first ones at best.
const COMPLAINTS_MAX: usize = 20;

/// What a text claims, and what of it the sheet supports.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// In the order of the text.
    pub claims: Vec<Claim>,
}

/// One thing that a text says.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// What sort of thing.
    pub kind: ClaimKind,
    /// Where: bytes of the text, at character borders.
    pub range: Range<usize>,
    /// The sentence around it: bytes of the text, at character borders.
    pub sentence: Range<usize>,
    /// Whether the sheet says so.
    pub verdict: Verdict,
}

/// What sort of thing a text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimKind {
    /// A figure, in digits or in words.
    Number,
    /// Which is more, longer, surer, or whether that is certain.
    Ranking,
    /// Words in quotation marks, and words that are called distinctive.
    Quotation,
}

/// Whether the sheet says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Supported {
        /// The title of the fact, or "quotation".
        fact: String,
    },
    /// It does not.
    Unsupported {
        /// The title of the fact that the text seems to be about.
        fact: Option<String>,
        /// For a person or a model that shall mend it.
        reason: String,
    },
}

/// What becomes of unsupported sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They stay, followed by `[unsupported]`.
    Mark,
    /// They go.
    Remove,
}

impl Claim {
    /// Whether the sheet says so.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        matches!(self.verdict, Verdict::Supported { .. })
    }
}

impl Report {
    /// Claims that the sheet supports.
    #[must_use]
    pub fn supported(&self) -> usize {
        self.claims.iter().filter(|claim| claim.is_supported()).count()
    }

    /// Claims that it does not.
    #[must_use]
    pub fn unsupported(&self) -> usize {
        self.claims.len() - self.supported()
    }

    /// What is wrong, one line each, for [`crate::prompt::revision`]. At most 20.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints: Vec<String> = Vec::new();
        for claim in &self.claims {
            if let Verdict::Unsupported { reason, .. } = &claim.verdict
                && !complaints.contains(reason)
            {
                complaints.push(reason.clone());
            }
            if complaints.len() == COMPLAINTS_MAX {
                break;
            }
        }
        complaints
    }

    /// The text with its unsupported sentences marked or removed.
    #[must_use]
    pub fn apply(&self, text: &str, policy: Policy) -> String {
        let mut sentences: Vec<Range<usize>> = Vec::new();
        for claim in self.claims.iter().filter(|claim| !claim.is_supported()) {
            if sentences.last() != Some(&claim.sentence) {
                sentences.push(claim.sentence.clone());
            }
        }
        let mut kept = String::with_capacity(text.len());
        let mut at = 0;
        for sentence in sentences {
            // Another text than the one that was checked has no such sentence.
            let (Some(before), Some(within)) = (text.get(at..sentence.start), text.get(sentence.clone())) else {
                continue;
            };
            kept.push_str(before);
            at = sentence.end;
            match policy {
                Policy::Mark => {
                    kept.push_str(within);
                    kept.push_str(" [unsupported]");
                }
                Policy::Remove => at += blank_after(&kept, &text[at..]),
            }
        }
        kept.push_str(text.get(at..).unwrap_or_default());
        if policy == Policy::Remove {
            kept.truncate(kept.trim_end().len());
        }
        kept
    }
}

/// Bytes of white space that go with a removed sentence, so that neither a double space nor an empty paragraph stays.
fn blank_after(before: &str, rest: &str) -> usize {
    let blank = rest.len() - rest.trim_start().len();
    let starts_paragraph = before.is_empty() || before.ends_with('\n');
    let ends_paragraph = rest[..blank].contains('\n');
    if starts_paragraph || !ends_paragraph { blank } else { 0 }
}

/// Traces every number, ranking word and quotation of the text to the sheet.
#[must_use]
pub fn check(text: &str, sheet: &FactSheet) -> Report {
    let knowledge = Knowledge::new(sheet);
    let verbatim: Vec<&str> = sheet
        .quotations
        .iter()
        .map(|quotation| quotation.text.as_str())
        .collect();
    let verbatim: Vec<&str> = verbatim
        .into_iter()
        .filter(|text| text.contains(['"', '“', '”', '«']))
        .collect();
    let names: Vec<&str> = knowledge.classes.iter().map(|class| class.name.as_str()).collect();
    let mut report = Report::default();
    let mut before: Option<Reading<'_>> = None;
    let sentences = token::sentences(text, &verbatim, &names);
    for sentence in &sentences {
        let reading = read(&sentence.tokens, &knowledge, before.as_ref());
        let mut found: Vec<(ClaimKind, Range<usize>, Verdict)> = Vec::new();
        let contexts = reading.contexts(&knowledge);
        for (index, context) in contexts.iter().enumerate() {
            let asked = figure::Asked {
                reading: &reading,
                index,
                context,
                knowledge: &knowledge,
            };
            if let Some(verdict) = figure::judge(&asked) {
                found.push((ClaimKind::Number, reading.figures[index].tokens.clone(), verdict));
            }
        }
        let rankings = ranking::judge(&reading, &knowledge);
        found.extend(
            rankings
                .into_iter()
                .map(|(tokens, verdict)| (ClaimKind::Ranking, tokens, verdict)),
        );
        // A word that is listed as a word says nothing else.
        let quotations = quotation::judge(&reading, &knowledge);
        found.retain(|(_, tokens, _)| !quotations.iter().any(|(quoted, _)| quoted.contains(&tokens.start)));
        found.extend(
            quotations
                .into_iter()
                .map(|(tokens, verdict)| (ClaimKind::Quotation, tokens, verdict)),
        );
        found.sort_by_key(|(_, tokens, _)| tokens.start);
        for (kind, tokens, verdict) in found {
            let (Some(first), Some(last)) = (
                sentence.tokens.get(tokens.start),
                sentence.tokens.get(tokens.end.saturating_sub(1)),
            ) else {
                continue;
            };
            report.claims.push(Claim {
                kind,
                range: first.range.start..last.range.end.max(first.range.end),
                sentence: sentence.range.clone(),
                verdict,
            });
        }
        before = Some(reading);
    }
    report
}

fn read<'t>(tokens: &'t [Token<'t>], knowledge: &Knowledge<'_>, before: Option<&Reading<'_>>) -> Reading<'t> {
    let classes_before: Vec<About> = before.map(|before| before.subjects()).unwrap_or_default();
    let topics_before = before.map(|before| {
        before
            .topics
            .iter()
            .flat_map(|label| label.what.topics.clone())
            .collect()
    });
    let classes = labels::classes(tokens, knowledge, &classes_before);
    let mut figures = number::figures(tokens, &|word| knowledge.noun(word));
    // "5 stars" can be a class, and a figure of a title is a name.
    figures.retain(|figure| !classes.iter().any(|label| label.tokens.contains(&figure.tokens.start)));
    let titled = titled(tokens, &knowledge.sheet.title);
    figures.retain(|figure| !titled.iter().any(|title| title.contains(&figure.tokens.start)));
    let (segment, against) = clause::segments(tokens, &classes);
    let mut reading = Reading {
        tokens,
        figures,
        topics: labels::topics(tokens, knowledge),
        stats: labels::stats(tokens),
        classes,
        segment,
        against,
        before: classes_before,
        topics_before: topics_before.unwrap_or_default(),
    };
    for index in 0..reading.figures.len() {
        if let Some(tail) = tail::named(&reading, index, knowledge) {
            reading.stats.push(labels::Label {
                tokens: reading.figures[index].tokens.clone(),
                what: vec![tail.stat],
            });
        }
    }
    reading.stats.sort_by_key(|label| label.tokens.start);
    reading
}

/// Where the corpus is called by its title.
fn titled(tokens: &[Token<'_>], title: &str) -> Vec<Range<usize>> {
    let words: Vec<String> = token::sentences(title, &[], &[])
        .into_iter()
        .flat_map(|sentence| sentence.tokens)
        .map(|token| token.lower)
        .collect();
    if words.is_empty() || !title.contains(|c: char| c.is_ascii_digit()) {
        return Vec::new();
    }
    let is = |window: &[Token<'_>]| window.iter().zip(&words).all(|(token, word)| token.is(word));
    let starts = tokens.windows(words.len()).enumerate().filter(|(_, window)| is(window));
    starts.map(|(start, _)| start..start + words.len()).collect()
}
