//! Follows a text through a grammar.
//!
//! A state is the set of stacks that the text so far may have led to. Stacks share their lower parts: a stack is a node
//! `(position, node below)`, and equal nodes are one. Bounded: stacks, nodes, and the work for one token.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{Element, Grammar};

/// Below the lowest node.
const BOTTOM: u32 = u32::MAX;

/// Most stacks of a state.
const STACKS_MAX: usize = 1024;

/// Most positions that one character may lead through.
const CLOSURE_MAX: usize = 8192;

/// Most nodes of a matcher.
const NODES_MAX: usize = 1 << 18;

/// Most characters times stacks that are looked at to find the tokens allowed next: a fraction of a second.
const STEPS_MAX: u64 = 8_000_000;

/// The grammar leads to more possibilities than are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is too ambiguous or left-recursive: too many ways to match the same text")]
pub struct TooComplex;

/// A place in a grammar.
#[derive(Debug, Clone)]
pub struct Matcher {
    grammar: Arc<Grammar>,
    /// Position and the node below.
    pub(super) nodes: Vec<(u32, u32)>,
    numbers: HashMap<(u32, u32), u32>,
    state: State,
    steps: u64,
    // Kept for their room.
    todo: Vec<(u32, u32)>,
    seen: HashSet<(u32, u32)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// Nodes whose position is a class.
    stacks: Vec<u32>,
    /// The text so far is complete.
    complete: bool,
    partial: Partial,
}

/// A character of which some bytes have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Partial {
    bits: u32,
    /// Bytes that are missing.
    missing: u32,
    /// The first character that needs this many bytes: a smaller one would be written shorter.
    least: u32,
}

impl Matcher {
    /// The beginning of the grammar.
    ///
    /// # Errors
    /// If already there are too many possibilities.
    pub fn new(grammar: Arc<Grammar>) -> Result<Self, TooComplex> {
        let mut matcher = Self {
            nodes: Vec::new(),
            numbers: HashMap::new(),
            state: State::default(),
            steps: 0,
            todo: Vec::new(),
            seen: HashSet::new(),
            grammar,
        };
        let mut state = State::default();
        let root = matcher.grammar.root as usize;
        for alternative in 0..matcher.grammar.rules[root].len() {
            let begin = matcher.grammar.rules[root][alternative];
            matcher.follow(begin, BOTTOM, &mut state)?;
        }
        matcher.state = state;
        Ok(matcher)
    }

    /// The text so far is one that the grammar describes.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.state.complete && self.state.partial.missing == 0
    }

    /// The text cannot go on.
    #[must_use]
    pub fn exhausted(&self) -> bool {
        self.state.stacks.is_empty()
    }

    /// Begins the choice of a token: the work for it is counted from here.
    pub fn begin_choice(&mut self) {
        self.steps = 0;
    }

    /// Whether the text may go on with these bytes.
    ///
    /// # Errors
    /// If there are too many possibilities.
    pub fn allows(&mut self, bytes: &[u8]) -> Result<bool, TooComplex> {
        // Most tokens fail at their first byte.
        if let (Some(&first), 0) = (bytes.first(), self.state.partial.missing)
            && first < 128
        {
            let any = self
                .state
                .stacks
                .iter()
                .any(|&stack| self.class_holds(stack, first.into()));
            if !any {
                return Ok(false);
            }
        }
        let before = self.nodes.len();
        let after = self.after(bytes);
        // What was only looked at leaves nothing behind.
        for node in self.nodes.drain(before..) {
            self.numbers.remove(&node);
        }
        after.map(|state| state.is_some())
    }

    /// Goes on with these bytes; false, and nothing changes, if the grammar does not allow them.
    ///
    /// # Errors
    /// If there are too many possibilities.
    pub fn accept(&mut self, bytes: &[u8]) -> Result<bool, TooComplex> {
        let Some(state) = self.after(bytes)? else {
            return Ok(false);
        };
        self.state = state;
        Ok(true)
    }

    fn after(&mut self, bytes: &[u8]) -> Result<Option<State>, TooComplex> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut state = self.state.clone();
        for &byte in bytes {
            let Some(partial) = state.partial.next(byte) else {
                return Ok(None);
            };
            state.partial = partial;
            if partial.missing == 0 {
                state = self.after_character(&state, partial.bits)?;
                if state.stacks.is_empty() && !state.complete {
                    return Ok(None);
                }
            }
        }
        if state.partial.missing > 0 {
            // Some character that begins so must be allowed.
            let (low, high) = state.partial.range();
            let possible = state.stacks.iter().any(|&stack| match self.element(stack) {
                Element::Class(class) => self.grammar.classes[class as usize].meets(low, high),
                _ => false,
            });
            if !possible {
                return Ok(None);
            }
        }
        Ok(Some(state))
    }

    fn after_character(&mut self, state: &State, character: u32) -> Result<State, TooComplex> {
        let mut next = State::default();
        self.seen.clear();
        for &stack in &state.stacks {
            self.steps += 1;
            if self.class_holds(stack, character) {
                let (position, below) = self.nodes[stack as usize];
                self.follow(position + 1, below, &mut next)?;
            }
        }
        if self.steps > STEPS_MAX {
            return Err(TooComplex);
        }
        Ok(next)
    }

    fn element(&self, stack: u32) -> Element {
        self.grammar.elements[self.nodes[stack as usize].0 as usize]
    }

    fn class_holds(&self, stack: u32, character: u32) -> bool {
        match self.element(stack) {
            Element::Class(class) => self.grammar.classes[class as usize].holds(character),
            _ => false,
        }
    }

    /// Adds every stack that `position` above `below` may become, up to its next class.
    fn follow(&mut self, position: u32, below: u32, state: &mut State) -> Result<(), TooComplex> {
        let grammar = Arc::clone(&self.grammar);
        self.todo.push((position, below));
        while let Some((position, below)) = self.todo.pop() {
            if !self.seen.insert((position, below)) {
                continue;
            }
            self.steps += 1;
            if self.seen.len() > CLOSURE_MAX || self.nodes.len() > NODES_MAX {
                self.todo.clear();
                return Err(TooComplex);
            }
            match grammar.elements[position as usize] {
                Element::End if below == BOTTOM => state.complete = true,
                Element::End => {
                    let (position, below) = self.nodes[below as usize];
                    self.todo.push((position, below));
                }
                Element::Class(_) => {
                    let stack = self.node(position, below);
                    // Positions are seen once, so this is new.
                    state.stacks.push(stack);
                    if state.stacks.len() > STACKS_MAX {
                        self.todo.clear();
                        return Err(TooComplex);
                    }
                }
                Element::Rule(rule) => {
                    // What ends with a rule need not be come back to.
                    let last = grammar.elements[position as usize + 1] == Element::End;
                    let below = if last { below } else { self.node(position + 1, below) };
                    self.todo
                        .extend(grammar.rules[rule as usize].iter().map(|&begin| (begin, below)));
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, position: u32, below: u32) -> u32 {
        let nodes = &mut self.nodes;
        *self.numbers.entry((position, below)).or_insert_with(|| {
            nodes.push((position, below));
            // Bounded by NODES_MAX and the closure of one character.
            u32::try_from(nodes.len() - 1).unwrap_or(BOTTOM)
        })
    }
}

impl Partial {
    /// With one more byte; none if that cannot be UTF-8.
    fn next(self, byte: u8) -> Option<Self> {
        let value = u32::from(byte);
        let begin = |bits, missing, least| Self { bits, missing, least };
        let next = match (self.missing, byte) {
            (0, 0x00..0x80) => begin(value, 0, 0),
            (0, 0xC2..0xE0) => begin(value & 0x1F, 1, 0x80),
            (0, 0xE0..0xF0) => begin(value & 0x0F, 2, 0x800),
            (0, 0xF0..0xF5) => begin(value & 0x07, 3, 0x1_0000),
            (1.., 0x80..0xC0) => begin(self.bits << 6 | value & 0x3F, self.missing - 1, self.least),
            _ => return None,
        };
        let (low, high) = next.range();
        // Not one that would be written shorter, and not half of a pair.
        (low <= high && (char::from_u32(low).is_some() || char::from_u32(high).is_some())).then_some(next)
    }

    /// The characters that it may become.
    fn range(self) -> (u32, u32) {
        let shift = 6 * self.missing;
        let low = self.bits << shift;
        (low.max(self.least), low | ((1 << shift) - 1))
    }
}
