//! Which arm gets which request.
//!
//! # Unpinned, unsticky requests: stratified at random
//!
//! Requests are numbered from 0 by one atomic counter. The arm of request n is a pure function of n, the weights and a
//! seed, so there is no lock and no other state.
//!
//! For two arms, let the smaller weight be m of T. Request n covers the mass `[n·m, (n+1)·m)`, and stratum k is the mass
//! `[k·T, (k+1)·T)`. Each stratum gives exactly one of its requests to the smaller arm, at a place drawn by a keyed hash
//! of k. So after any number of requests the arm's count is within one of its exact share, and yet each single
//! request meets the arm with probability m/T: a client whose traffic has a rhythm (two kinds in turn, say) cannot line
//! up with the split, as it would with round robin.
//!
//! A request on the border of two strata belongs to both by a part of its mass. If stratum k took it, stratum k+1 must
//! take another one; the probabilities below (Deville 1998, systematic sampling with random places) make that so and
//! keep every request's probability at exactly m/T. For that a stratum asks whether the one before took the
//! border, which its own draw nearly always makes irrelevant (chance to go one further back: under a quarter).
//!
//! More arms are a balanced tree of such splits; a child numbers its requests by how many of the parent's came
//! before (`TwoWay::rank`, a closed form), so one counter serves the whole tree. K arms stay within ceil(log2 K).
//!
//! # Sticky requests and draws: nested intervals
//!
//! An affinity key or a call chain's draw is a [`Position`] in `[0, 1)`. The arms other than the first lie from 0
//! upwards in the route's order; the first arm (the stable one) has the rest, up to 1. So when the weight of a canary beside a
//! stable arm is raised, its interval grows in place: keys move only from stable to canary. With several canaries this
//! holds for the last one; raising an earlier one shifts those after it.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

use twox_hash::XxHash64;

/// Parts per million that a route's weights sum to.
pub const PPM: u32 = 1_000_000;

/// Weights that are no split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("weights sum to {0} instead of 1,000,000 parts per million")]
pub struct BadSum(pub u64);

/// Splits a stream of requests over arms by weight. Shared by all threads.
#[derive(Debug)]
pub struct Splitter {
    root: Node,
    arms: usize,
    /// Ends of the arms' intervals in ppm with their arms, in ascending order.
    intervals: Vec<(u32, usize)>,
    next: AtomicU64,
}

impl Splitter {
    /// Takes the arms' weights in ppm, in the route's order. The seed decides the draws; use a new one for each route.
    ///
    /// # Errors
    /// If the weights do not sum to 1,000,000.
    pub fn new(weights: &[u32], seed: u64) -> Result<Self, BadSum> {
        let sum: u64 = weights.iter().copied().map(u64::from).sum();
        if sum != u64::from(PPM) {
            return Err(BadSum(sum));
        }
        let weighted: Vec<(usize, u64)> = weights
            .iter()
            .map(|&w| u64::from(w))
            .enumerate()
            .filter(|&(_, w)| w > 0)
            .collect();
        let mut end = 0;
        let mut intervals = Vec::new();
        for (arm, &weight) in weights
            .iter()
            .enumerate()
            .skip(1)
            .chain(weights.iter().enumerate().take(1))
        {
            end += weight;
            intervals.push((end, arm));
        }
        Ok(Self {
            root: Node::new(&weighted, seed),
            arms: weights.len(),
            intervals,
            next: AtomicU64::new(0),
        })
    }

    /// Takes the next number and says which arm it goes to, as the arm's index.
    pub fn draw(&self) -> usize {
        self.arm_of(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The arm of request n.
    #[must_use]
    pub fn arm_of(&self, n: u64) -> usize {
        let (mut node, mut n) = (&self.root, n);
        loop {
            match node {
                Node::Arm(arm) => return *arm,
                Node::Split { two, minor, major } => {
                    let rank = two.rank(n);
                    (node, n) = if two.rank(n + 1) > rank {
                        (minor, rank)
                    } else {
                        (major, n - rank)
                    };
                }
            }
        }
    }

    /// How many of the first n requests go to each arm.
    #[must_use]
    pub fn counts(&self, n: u64) -> Vec<u64> {
        let mut counts = vec![0; self.arms];
        let mut open = vec![(&self.root, n)];
        while let Some((node, n)) = open.pop() {
            match node {
                Node::Arm(arm) => counts[*arm] = n,
                Node::Split { two, minor, major } => {
                    let rank = two.rank(n);
                    open.extend([(&**minor, rank), (&**major, n - rank)]);
                }
            }
        }
        counts
    }

    /// How many requests were drawn.
    pub fn drawn(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The arm whose interval holds the position.
    #[must_use]
    pub fn arm_at(&self, position: Position) -> usize {
        let index = self.intervals.partition_point(|&(end, _)| end <= position.0);
        self.intervals[index.min(self.intervals.len() - 1)].1
    }
}

/// A place in `[0, 1)`, in steps of one part per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u32);

impl Position {
    /// Where an affinity key lies for a model: the same in every router, unrelated between models.
    #[must_use]
    pub fn of_key(model: &str, key: &[u8]) -> Self {
        let hash = XxHash64::oneshot(XxHash64::oneshot(0, model.as_bytes()), key);
        Self(u32::try_from((u128::from(hash) * u128::from(PPM)) >> 64).unwrap_or(PPM - 1))
    }

    /// Reads a decimal fraction in [0, 1) such as `0.25`; digits beyond the sixth are cut off.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
        let zeros = !whole.is_empty() && whole.bytes().all(|b| b == b'0');
        if !zeros || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let six = digits.bytes().chain(std::iter::repeat(b'0')).take(6);
        Some(Self(six.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))))
    }
}

#[derive(Debug)]
enum Node {
    Arm(usize),
    Split {
        two: TwoWay,
        minor: Box<Node>,
        major: Box<Node>,
    },
}

impl Node {
    /// Takes at least one arm, each with a weight above 0.
    fn new(arms: &[(usize, u64)], seed: u64) -> Self {
        if let [(arm, _)] = arms {
            return Self::Arm(*arm);
        }
        let (left, right) = arms.split_at(arms.len() / 2);
        let sum = |arms: &[(usize, u64)]| arms.iter().map(|&(_, w)| w).sum::<u64>();
        let (minor, major) = if sum(left) <= sum(right) {
            (left, right)
        } else {
            (right, left)
        };
        let child = |side: &[(usize, u64)], salt: u8| Box::new(Self::new(side, XxHash64::oneshot(seed, &[salt])));
        Self::Split {
            two: TwoWay {
                minor: sum(minor),
                total: sum(arms),
                seed,
            },
            minor: child(minor, 0),
            major: child(major, 1),
        }
    }
}

/// One split into a minor side, of at most half the weight, and a major one.
#[derive(Debug)]
struct TwoWay {
    minor: u64,
    total: u64,
    seed: u64,
}

/// The lower border of a stratum.
struct Border {
    /// The request that holds the border, or that begins at it.
    request: u64,
    /// Its mass before the border; 0 if it begins there.
    before: u64,
}

impl TwoWay {
    /// How many of the first n requests go to the minor side.
    fn rank(&self, n: u64) -> u64 {
        // All strata that end within the first n requests have given theirs; the one after may have.
        let k = ratio(n, self.minor, self.total).0;
        k + u64::from(self.pick(k) < n)
    }

    fn border(&self, k: u64) -> Border {
        let (request, before) = ratio(k, self.total, self.minor);
        Border { request, before }
    }

    /// The request that stratum k gives to the minor side.
    fn pick(&self, k: u64) -> u64 {
        let (low, high) = (self.border(k), self.border(k + 1));
        if self.takes_upper(k) {
            return high.request;
        }
        // What is left: the request on the lower border, if it has mass here and stratum k-1 left it, and whole ones.
        let first_whole = low.request + u64::from(low.before > 0);
        if low.before > 0 && !self.takes_upper(k - 1) {
            let (before, within, above) = self.masses(&low, &high);
            let total = u128::from(self.total);
            let likely = within * (total - within);
            let all = (total - before) * (total - within) - above * (total - before - within);
            if below(self.hash(k, 1), likely, all) {
                return low.request;
            }
        }
        let whole = high.request - first_whole;
        let place = (u128::from(self.hash(k, 2)) * u128::from(whole)) >> 64;
        first_whole + u64::try_from(place).unwrap_or(0)
    }

    /// Whether stratum k takes the request on its upper border, as far as that has mass in it.
    fn takes_upper(&self, mut k: u64) -> bool {
        loop {
            let (low, high) = (self.border(k), self.border(k + 1));
            if high.before == 0 {
                return false;
            }
            let (before, within, above) = self.masses(&low, &high);
            let total = u128::from(self.total);
            let draw = self.hash(k, 0);
            if below(
                draw,
                above * (total - before - within),
                (total - before) * (total - within),
            ) {
                return true; // whatever the stratum before did
            }
            if !below(draw, above, total - within) {
                return false; // whatever the stratum before did
            }
            // Exactly if the stratum before took the lower border. Stratum 0 never gets here: with no mass on the
            // lower border the two thresholds are equal.
            k -= 1;
        }
    }

    /// Mass of the lower border's request before the border and within the stratum, and of the upper one's within it.
    fn masses(&self, low: &Border, high: &Border) -> (u128, u128, u128) {
        let within = if low.before == 0 { 0 } else { self.minor - low.before };
        (low.before.into(), within.into(), high.before.into())
    }

    fn hash(&self, k: u64, purpose: u8) -> u64 {
        let mut bytes = [purpose; 9];
        bytes[..8].copy_from_slice(&k.to_le_bytes());
        XxHash64::oneshot(self.seed, &bytes)
    }
}

/// `n * a / b` and its remainder, in full width. Saturates, which no counter reaches.
fn ratio(n: u64, a: u64, b: u64) -> (u64, u64) {
    let (product, b) = (u128::from(n) * u128::from(a), u128::from(b));
    let fits = |value| u64::try_from(value).unwrap_or(u64::MAX);
    (fits(product / b), fits(product % b))
}

/// Whether a uniform draw of 64 bits falls below `part` of `whole`. Both are under 2^41.
fn below(draw: u64, part: u128, whole: u128) -> bool {
    u128::from(draw) * whole < part << 64
}
