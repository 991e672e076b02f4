//! What the KV cache holds, and what of it the next request can use (pure).
//!
//! Every sequence of the cache is mirrored: its tokens, and the cells that hold them. A cell may be shared by sequences that
//! begin alike: copying a prefix marks its cells and moves no bytes. What is asked of the real cache is a list of [`Op`]s.
//!
//! ```text
//!            admit                     finish
//!   free ────────────► running ────────────────────► kept ──┐ evict, least recently used first
//!     ▲                   │ discard                         │
//!     └───────────────────┴─────────────────────────────────┘
//! ```
//!
//! Invariants: used cells and those that running sequences may still take are never more than there are, so a decode finds
//! room always; a prefix that is reused is equal token by token; a sequence that runs is never evicted.

/// What to do to the real cache, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The first `tokens` of `from` belong to `to` too, which is empty.
    Copy {
        /// Sequence.
        from: usize,
        /// Sequence.
        to: usize,
        /// How many.
        tokens: usize,
    },
    /// The sequence is empty.
    Clear(usize),
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
    Free,
    Running { limit: usize },
    Kept { last_used: u64 },
}

#[derive(Debug)]
struct Sequence {
    usage: Use,
    tokens: Vec<u32>,
    cells: Vec<u32>,
}

/// The cache's books.
#[derive(Debug)]
pub struct Ledger {
    sequences: Vec<Sequence>,
    /// How many sequences hold each cell.
    holders: Vec<u32>,
    free: Vec<u32>,
    clock: u64,
}

impl Ledger {
    /// An empty cache. There must be at least two more sequences than run at once.
    #[must_use]
    pub fn new(sequences: usize, cells: u32) -> Self {
        let empty = || Sequence {
            usage: Use::Free,
            tokens: Vec::new(),
            cells: Vec::new(),
        };
        Self {
            sequences: (0..sequences).map(|_| empty()).collect(),
            holders: vec![0; cells as usize],
            free: (0..cells).rev().collect(),
            clock: 0,
        }
    }

    /// Cells that hold a token.
    #[must_use]
    pub fn used(&self) -> usize {
        self.holders.len() - self.free.len()
    }

    /// Tokens of a sequence.
    #[must_use]
    pub fn length(&self, sequence: usize) -> usize {
        self.sequences[sequence].tokens.len()
    }

    /// Makes room for a request that may take up to `limit` tokens with its prompt, and gives it what is computed of it.
    /// `None` if running sequences leave no room; then nothing changes.
    pub fn admit(&mut self, prompt: &[u32], limit: usize, ops: &mut Vec<Op>) -> Option<Admitted> {
        // The last token is always computed: its row chooses the next one.
        let most = prompt.len().saturating_sub(1);
        let source = self.source(&prompt[..most]);
        let cached = source.map_or(0, |(tokens, _)| tokens);
        if self.pinned(source) + self.reserved() + (limit - cached) > self.holders.len() {
            return None;
        }

        let sequence = match self.sequences.iter().position(|one| one.usage == Use::Free) {
            Some(free) => free,
            None => {
                let oldest = self.oldest(source.map(|(_, sequence)| sequence))?;
                self.clear(oldest, ops);
                oldest
            }
        };
        self.clock += 1;
        self.sequences[sequence].usage = Use::Running { limit };
        if let Some((tokens, from)) = source {
            self.share(from, sequence, tokens, ops);
        }
        while self.free.len() < self.reserved() {
            let Some(oldest) = self.oldest(None) else { break };
            self.clear(oldest, ops);
        }
        Some(Admitted { sequence, cached })
    }

    /// Gives a running sequence that has computed nothing itself the longest beginning of its prompt that any other has,
    /// and tells how much of the prompt is computed now.
    pub fn reuse(&mut self, sequence: usize, prompt: &[u32], ops: &mut Vec<Op>) -> usize {
        let most = prompt.len().saturating_sub(1);
        let own = self.length(sequence);
        match self.source(&prompt[..most]) {
            Some((tokens, from)) if tokens > own && from != sequence => {
                let usage = self.sequences[sequence].usage;
                self.clear(sequence, ops);
                self.sequences[sequence].usage = usage;
                self.share(from, sequence, tokens, ops);
                tokens
            }
            _ => own,
        }
    }

    /// The sequence that begins most like the prompt, and how much.
    fn source(&self, prompt: &[u32]) -> Option<(usize, usize)> {
        let alike = self
            .sequences
            .iter()
            .enumerate()
            .map(|(number, one)| (common(&one.tokens, prompt), number));
        alike.max().filter(|(tokens, _)| *tokens > 0)
    }

    /// The first tokens of `from` belong to `to` too, which is empty.
    fn share(&mut self, from: usize, to: usize, tokens: usize, ops: &mut Vec<Op>) {
        self.clock += 1;
        let source = &mut self.sequences[from];
        if let Use::Kept { last_used } = &mut source.usage {
            *last_used = self.clock;
        }
        let (shared, cells) = (source.tokens[..tokens].to_vec(), source.cells[..tokens].to_vec());
        for &cell in &cells {
            self.holders[cell as usize] += 1;
        }
        let target = &mut self.sequences[to];
        (target.tokens, target.cells) = (shared, cells);
        ops.push(Op::Copy { from, to, tokens });
    }

    /// A running sequence has one more computed token. False if there is no cell for it, which is a defect.
    #[must_use]
    pub fn push(&mut self, sequence: usize, token: u32) -> bool {
        let Some(cell) = self.free.pop() else {
            return false;
        };
        self.holders[cell as usize] = 1;
        let sequence = &mut self.sequences[sequence];
        sequence.tokens.push(token);
        sequence.cells.push(cell);
        true
    }

    /// A running sequence ends and is kept for those that begin as it does. Kept ones that are its beginning go.
    pub fn finish(&mut self, sequence: usize, ops: &mut Vec<Op>) {
        self.clock += 1;
        self.sequences[sequence].usage = Use::Kept { last_used: self.clock };
        for other in 0..self.sequences.len() {
            let kept = matches!(self.sequences[other].usage, Use::Kept { .. });
            if other != sequence
                && kept
                && self.sequences[sequence]
                    .tokens
                    .starts_with(&self.sequences[other].tokens)
            {
                self.clear(other, ops);
            }
        }
        if self.sequences[sequence].tokens.is_empty() {
            self.clear(sequence, ops);
        }
    }

    /// A running sequence ends and nothing of it is kept.
    pub fn discard(&mut self, sequence: usize, ops: &mut Vec<Op>) {
        self.clear(sequence, ops);
    }

    fn clear(&mut self, sequence: usize, ops: &mut Vec<Op>) {
        let one = &mut self.sequences[sequence];
        one.usage = Use::Free;
        one.tokens.clear();
        for cell in std::mem::take(&mut one.cells) {
            let holders = &mut self.holders[cell as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(cell);
            }
        }
        ops.push(Op::Clear(sequence));
    }

    fn oldest(&self, except: Option<usize>) -> Option<usize> {
        let kept = |(number, one): (usize, &Sequence)| match one.usage {
            Use::Kept { last_used } if Some(number) != except => Some((last_used, number)),
            _ => None,
        };
        self.sequences
            .iter()
            .enumerate()
            .filter_map(kept)
            .min()
            .map(|(_, number)| number)
    }

    /// Cells that running sequences may still take.
    fn reserved(&self) -> usize {
        let rest = |one: &Sequence| match one.usage {
            Use::Running { limit } => limit.saturating_sub(one.tokens.len()),
            Use::Free | Use::Kept { .. } => 0,
        };
        self.sequences.iter().map(rest).sum()
    }

    /// Cells that stay used whatever is evicted: those of running sequences and of the prefix to be shared.
    fn pinned(&self, prefix: Option<(usize, usize)>) -> usize {
        let mut pinned = vec![false; self.holders.len()];
        let running = self
            .sequences
            .iter()
            .filter(|one| matches!(one.usage, Use::Running { .. }));
        let prefix = prefix.map_or(&[][..], |(tokens, from)| &self.sequences[from].cells[..tokens]);
        for &cell in running.flat_map(|one| &one.cells).chain(prefix) {
            pinned[cell as usize] = true;
        }
        pinned.into_iter().filter(|one| *one).count()
    }
}

/// How many tokens two begin with alike.
#[must_use]
pub fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
