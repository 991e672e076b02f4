//! The verdict on who is more.
use std::ops::Range;

use super::Verdict;
use super::clause::Reading;
use super::knowledge::Knowledge;

pub(super) fn judge(_reading: &Reading<'_>, _knowledge: &Knowledge<'_>) -> Vec<(Range<usize>, Verdict)> {
    Vec::new()
}
