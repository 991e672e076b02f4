//! A text about a corpus is worth what its figures are worth. This crate holds what a model is told of a corpus
//! ([`FactSheet`]), how it is asked ([`prompt`]), and the check that what it wrote keeps to what it was told ([`check()`]).
//!
//! Pure: no IO, no clock, no model.

mod check;
pub mod prompt;
mod sheet;
mod statistics;

pub use check::{Claim, ClaimKind, Policy, Report, Verdict, check};
pub use sheet::{
    FACTS_MAX, Fact, FactSheet, NAME_CHARACTERS_MAX, QUOTATION_CHARACTERS_MAX, QUOTATIONS_MAX, Quotation, Unit, Value,
    figure,
};
