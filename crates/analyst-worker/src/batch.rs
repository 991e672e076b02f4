//! Which waiting texts are computed together. Pure: the time and the number of idle engines are arguments.
//!
//! Invariants, each held by a property test:
//! * a batch holds texts of one version only, and costs no more tokens than its budget, unless it is a single text;
//! * the oldest waiting text is in the next batch, so a text with n older ones waits for n batches at most;
//! * work whose deadline has passed is given back, never computed.
//!
//! Beside the oldest, a batch takes the texts nearest to it in length: with engines that pad, this is what keeps padding
//! low; with packed ones it keeps a short text from waiting for a long one's computation.

use std::{collections::BTreeMap, time::Instant};

/// Smallest share of the waiting tokens that is worth an engine of its own: below it a batch is not split for the sake
/// of an idle engine.
const SPLIT_TOKENS_MIN: usize = 64;

/// What a batch may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Most tokens that are computed at once.
    pub tokens_max: usize,
    /// The engine pads texts to the length of the batch's longest, and padding costs what tokens do.
    pub padded: bool,
}

impl Budget {
    fn cost(self, texts: usize, tokens: usize, longest: usize) -> usize {
        if self.padded { texts * longest } else { tokens }
    }
}

/// A text that waits for an engine.
#[derive(Debug)]
pub struct Waiting<T> {
    /// Texts with different groups are never computed together.
    pub group: usize,
    /// Its length.
    pub tokens: usize,
    /// When its caller gives up.
    pub deadline: Option<Instant>,
    /// The work itself.
    pub item: T,
}

/// Texts in the order of their arrival.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: BTreeMap<u64, Waiting<T>>,
    next: u64,
    tokens: usize,
}

/// What [`Queue::take`] removed.
#[derive(Debug)]
pub struct Taken<T> {
    /// To be computed together; empty if nothing waits.
    pub batch: Vec<Waiting<T>>,
    /// Too late for an answer.
    pub expired: Vec<Waiting<T>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: 0,
            tokens: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Adds a text at the end and tells its place, for [`Self::remove`].
    pub fn push(&mut self, text: Waiting<T>) -> u64 {
        let place = self.next;
        self.next += 1;
        self.tokens += text.tokens;
        self.waiting.insert(place, text);
        place
    }

    /// Takes a text out, if it is still waiting.
    pub fn remove(&mut self, place: u64) -> Option<Waiting<T>> {
        let text = self.waiting.remove(&place)?;
        self.tokens -= text.tokens;
        Some(text)
    }

    /// Whether a text is still waiting.
    #[must_use]
    pub fn contains(&self, place: u64) -> bool {
        self.waiting.contains_key(&place)
    }

    /// Nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The text that waits for longest.
    #[must_use]
    pub fn oldest(&self) -> Option<&Waiting<T>> {
        self.waiting.first_key_value().map(|(_, text)| text)
    }

    /// Texts that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Tokens that wait.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Takes the next batch for one of `idle_engines` engines. Each gets an even share of what waits, so that a burst is
    /// spread over them instead of keeping one busy.
    pub fn take(&mut self, budget: Budget, idle_engines: usize, now: Instant) -> Taken<T> {
        let late = |text: &Waiting<T>| text.deadline.is_some_and(|deadline| deadline <= now);
        let expired: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, text)| late(text))
            .map(|(place, _)| *place)
            .collect();
        let expired = expired.into_iter().filter_map(|place| self.remove(place)).collect();

        let share = match idle_engines {
            0 | 1 => usize::MAX,
            engines => self.tokens.div_ceil(engines).max(SPLIT_TOKENS_MIN),
        };
        let places = self.choose(Budget {
            tokens_max: budget.tokens_max.min(share),
            ..budget
        });
        Taken {
            batch: places.into_iter().filter_map(|place| self.remove(place)).collect(),
            expired,
        }
    }

    fn choose(&self, budget: Budget) -> Vec<u64> {
        let Some((&first, oldest)) = self.waiting.first_key_value() else {
            return Vec::new();
        };
        let mut others: Vec<(usize, u64, usize)> = self
            .waiting
            .range(first + 1..)
            .filter(|(_, text)| text.group == oldest.group)
            .map(|(place, text)| (text.tokens.abs_diff(oldest.tokens), *place, text.tokens))
            .collect();
        others.sort_unstable();

        let (mut total, mut longest) = (oldest.tokens, oldest.tokens);
        let mut chosen = vec![first];
        for (_, place, tokens) in others {
            if budget.cost(chosen.len() + 1, total + tokens, longest.max(tokens)) <= budget.tokens_max {
                total += tokens;
                longest = longest.max(tokens);
                chosen.push(place);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests;
