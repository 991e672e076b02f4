//! What the KV cache holds, and what of it the next request can use (pure).
//!
//! Each sequence of the cache has cells of its own, enough for one request: attention looks at no other's. They are
//! mirrored here by their tokens. A sequence that has ended keeps what it computed, until another request is put into its
//! place. What is asked of the real cache is a list of [`Op`]s.
//!
//! ```text
//!           admit              finish
//!   idle ───────────► running ────────► idle, with what it computed
//!     ▲                  │ discard
//!     └──────────────────┘
//! ```
//!
//! A request finds what is computed of its prompt in one of two ways. Where an idle sequence is that and little else, the
//! request goes on in it: that costs nothing, and is how a conversation's next turn finds the last one. Else the request takes
//! the sequence that was unused for longest, and the common beginning, if it is long enough to be worth that, is copied into
//! it: so a system prompt is computed once, and those who had it first keep what they had. What little is depends on what
//! the oldest sequence has: when that is nothing, nothing need be lost.
//!
//! llama.cpp computes sequences together only if their numbers follow each other, so those that run can be
//! [gathered](Ledger::gather).
//!
//! Invariants: a prefix that is reused is equal token by token; a sequence that runs is never taken.

use std::cmp::Reverse;

/// Prompts that begin alike for so many tokens more than what a sequence has itself: these are copied, not computed.
pub const COPY_TOKENS_MIN: usize = 32;

/// A sequence is copied as a whole, which takes as long as computing one token for so many of its own, or less.
const COPIED_PER_COMPUTED: usize = 64;

/// What to do to the real cache, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The first `tokens` of `from` replace what `to` holds.
    Copy {
        /// Sequence.
        from: usize,
        /// Sequence.
        to: usize,
        /// How many.
        tokens: usize,
    },
    /// Of a sequence, only the first tokens stay.
    Trim {
        /// Which.
        sequence: usize,
        /// How many.
        tokens: usize,
    },
    /// Two sequences change places.
    Swap(usize, usize),
}

/// A sequence that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Which.
    pub sequence: usize,
    /// Tokens of the prompt that are already computed.
    pub cached: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Running,
    Idle { last_used: u64 },
}

#[derive(Debug)]
struct Sequence {
    usage: Use,
    tokens: Vec<u32>,
}

/// The cache's books.
#[derive(Debug)]
pub struct Ledger {
    sequences: Vec<Sequence>,
    /// Of each sequence.
    cells: usize,
    clock: u64,
}

impl Ledger {
    /// An empty cache; `cells` are those of each sequence.
    #[must_use]
    pub fn new(sequences: usize, cells: usize) -> Self {
        let empty = || Sequence {
            usage: Use::Idle { last_used: 0 },
            tokens: Vec::new(),
        };
        Self {
            sequences: (0..sequences).map(|_| empty()).collect(),
            cells,
            clock: 0,
        }
    }

    /// Cells that hold a token.
    #[must_use]
    pub fn used(&self) -> usize {
        self.sequences.iter().map(|one| one.tokens.len()).sum()
    }

    /// Tokens of a sequence.
    #[must_use]
    pub fn length(&self, sequence: usize) -> usize {
        self.sequences[sequence].tokens.len()
    }

    /// Gives a request a sequence, with what is computed of its prompt. `None` if all run.
    pub fn admit(&mut self, prompt: &[u32], ops: &mut Vec<Op>) -> Option<Admitted> {
        let (last_used, oldest) = self.idle().min()?;
        let sequence = match self.source(beginning(prompt), None) {
            Some((tokens, from)) if self.is_idle(from) => {
                let lost = self.length(from) - tokens;
                let little = lost < COPY_TOKENS_MIN || (last_used > 0 && lost <= tokens);
                if little { from } else { oldest }
            }
            _ => oldest,
        };
        self.clock += 1;
        self.sequences[sequence].usage = Use::Running;
        let own = common(&self.sequences[sequence].tokens, beginning(prompt));
        self.trim(sequence, own, ops);
        let cached = self.reuse(sequence, prompt, ops);
        Some(Admitted { sequence, cached })
    }

    /// Gives a running sequence, which holds only a beginning of its prompt, the longest beginning that another has if it is
    /// worth a copy, and tells how much of the prompt is computed now.
    pub fn reuse(&mut self, sequence: usize, prompt: &[u32], ops: &mut Vec<Op>) -> usize {
        let own = self.length(sequence);
        let Some((tokens, from)) = self.source(beginning(prompt), Some(sequence)) else {
            return own;
        };
        if tokens < own + COPY_TOKENS_MIN.max(self.length(from) / COPIED_PER_COMPUTED) {
            return own;
        }
        self.clock += 1;
        let source = &mut self.sequences[from];
        if let Use::Idle { last_used } = &mut source.usage {
            *last_used = self.clock;
        }
        self.sequences[sequence].tokens = self.sequences[from].tokens[..tokens].to_vec();
        ops.push(Op::Copy {
            from,
            to: sequence,
            tokens,
        });
        tokens
    }

    /// A running sequence has one more computed token. False if it has no cell for it, which is a defect.
    #[must_use]
    pub fn push(&mut self, sequence: usize, token: u32) -> bool {
        let tokens = &mut self.sequences[sequence].tokens;
        let room = tokens.len() < self.cells;
        if room {
            tokens.push(token);
        }
        room
    }

    /// A running sequence ends and keeps what it has for those that begin as it does. Idle ones that are its beginning are
    /// the first to be taken.
    pub fn finish(&mut self, sequence: usize) {
        self.clock += 1;
        self.sequences[sequence].usage = Use::Idle { last_used: self.clock };
        let idle: Vec<usize> = self.idle().map(|(_, other)| other).collect();
        for other in idle.into_iter().filter(|other| *other != sequence) {
            let (whole, part) = (&self.sequences[sequence].tokens, &self.sequences[other].tokens);
            if whole.starts_with(part) {
                self.sequences[other].usage = Use::Idle { last_used: 0 };
            }
        }
    }

    /// A running sequence ends and nothing of it is kept.
    pub fn discard(&mut self, sequence: usize, ops: &mut Vec<Op>) {
        self.trim(sequence, 0, ops);
        self.sequences[sequence].usage = Use::Idle { last_used: 0 };
    }

    /// Moves sequences so that these follow each other. What they move away keeps what it has.
    pub fn gather(&mut self, sequences: &[usize], ops: &mut Vec<Op>) {
        let last = self.sequences.len().saturating_sub(sequences.len());
        // Where most of them are already, fewest must move.
        let inside = |begin: usize| begin..begin + sequences.len();
        let there = |begin: usize| sequences.iter().filter(|one| inside(begin).contains(one)).count();
        let Some(begin) = (0..=last).max_by_key(|&begin| (there(begin), Reverse(begin))) else {
            return;
        };
        let outside = sequences.iter().filter(|one| !inside(begin).contains(one));
        let gaps = inside(begin).filter(|place| !sequences.contains(place));
        for (&one, gap) in outside.zip(gaps) {
            self.sequences.swap(one, gap);
            ops.push(Op::Swap(one, gap));
        }
    }

    /// The sequence that begins most like the prompt, and how much; of several an idle one, of these the oldest, else the
    /// first, so that copies in a row have one source.
    fn source(&self, prompt: &[u32], except: Option<usize>) -> Option<(usize, usize)> {
        let alike = |(number, one): (usize, &Sequence)| {
            let tokens = common(&one.tokens, prompt);
            let age = match one.usage {
                Use::Running => None,
                Use::Idle { last_used } => Some(Reverse(last_used)),
            };
            (tokens > 0 && Some(number) != except).then_some((tokens, age, Reverse(number)))
        };
        let best = self.sequences.iter().enumerate().filter_map(alike).max();
        best.map(|(tokens, _, Reverse(number))| (tokens, number))
    }

    fn trim(&mut self, sequence: usize, tokens: usize, ops: &mut Vec<Op>) {
        if tokens < self.length(sequence) {
            self.sequences[sequence].tokens.truncate(tokens);
            ops.push(Op::Trim { sequence, tokens });
        }
    }

    fn is_idle(&self, sequence: usize) -> bool {
        matches!(self.sequences[sequence].usage, Use::Idle { .. })
    }

    /// When they were last used, and their numbers.
    fn idle(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        let idle = |(number, one): (usize, &Sequence)| match one.usage {
            Use::Idle { last_used } => Some((last_used, number)),
            Use::Running => None,
        };
        self.sequences.iter().enumerate().filter_map(idle)
    }
}

/// What of a prompt need not be computed: all but the last token, whose row chooses the next one.
fn beginning(prompt: &[u32]) -> &[u32] {
    &prompt[..prompt.len().saturating_sub(1)]
}

/// How many tokens two begin with alike.
#[must_use]
pub fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
