//! Grammars that a text must match: GBNF, as llama.cpp has it (pure).
//!
//! llama.cpp's own grammars are not used. A request brings them, and there a token that is not allowed aborts the process,
//! deep nesting overflows the stack, and an ambiguous or hidden left-recursive grammar takes all memory and time. Here
//! everything is bounded, and what goes beyond a bound is an error of that request.
//!
//! Deliberately absent: references to tokens (`<[13]>`), which are not text.

mod matcher;
mod parse;

use std::ops::RangeInclusive;

pub use matcher::{Matcher, TooComplex};
pub use parse::GrammarError;

/// A grammar, flattened: positions are indices of `elements`.
#[derive(Debug)]
pub struct Grammar {
    elements: Vec<Element>,
    classes: Vec<Class>,
    /// Where each rule's alternatives begin.
    rules: Vec<Vec<u32>>,
    root: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    /// Of an alternative.
    End,
    /// One character of a class.
    Class(u32),
    /// A rule's text.
    Rule(u32),
}

/// A set of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Class {
    /// Sorted, apart from each other.
    ranges: Vec<RangeInclusive<u32>>,
    ascii: u128,
}

impl Class {
    fn new(mut ranges: Vec<RangeInclusive<u32>>, negated: bool) -> Self {
        const LAST: u32 = char::MAX as u32;
        ranges.sort_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u32>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=(*last.end()).max(*range.end());
                }
                _ => merged.push(range),
            }
        }
        if negated {
            let mut next = 0;
            let mut others = Vec::new();
            for range in &merged {
                if next < *range.start() {
                    others.push(next..=range.start() - 1);
                }
                next = range.end().saturating_add(1);
            }
            if next <= LAST {
                others.push(next..=LAST);
            }
            merged = others;
        }
        let mut class = Self {
            ranges: merged,
            ascii: 0,
        };
        class.ascii = (0..128).filter(|&c| class.meets(c, c)).map(|c| 1_u128 << c).sum();
        class
    }

    fn holds(&self, character: u32) -> bool {
        if character < 128 {
            self.ascii >> character & 1 == 1
        } else {
            self.meets(character, character)
        }
    }

    /// Whether it holds any of the characters from `low` to `high`.
    fn meets(&self, low: u32, high: u32) -> bool {
        let after = self.ranges.partition_point(|range| *range.end() < low);
        self.ranges.get(after).is_some_and(|range| *range.start() <= high)
    }
}

#[cfg(test)]
mod tests;
