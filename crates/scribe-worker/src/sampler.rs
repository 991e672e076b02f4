//! Which token comes next (pure).
//!
//! llama.cpp's own samplers are not used: they abort the process on a row of NaN, and write out the whole vocabulary for
//! every token, which costs more than a small model's attention. The order is llama.cpp's: penalty, top-k, top-p, min-p,
//! temperature, draw.

use std::collections::VecDeque;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::engine::Sampling;

/// Tokens that the repeat penalty looks back on, as the contract says.
const PENALTY_TOKENS: usize = 64;

/// Chooses the tokens of one generation.
pub struct Sampler {
    sampling: Sampling,
    draws: ChaCha8Rng,
    recent: VecDeque<u32>,
}

/// Room for a choice, shared by the generations of an engine.
#[derive(Default)]
pub struct Scratch {
    logits: Vec<f32>,
    candidates: Vec<(f32, u32)>,
    weights: Vec<f32>,
}

impl Sampler {
    /// A sampler that has seen the end of `prompt`.
    #[must_use]
    pub fn new(sampling: Sampling, prompt: &[u32]) -> Self {
        let recent = &prompt[prompt.len().saturating_sub(PENALTY_TOKENS)..];
        Self {
            draws: ChaCha8Rng::seed_from_u64(sampling.seed.into()),
            sampling,
            recent: recent.iter().copied().collect(),
        }
    }

    /// Remembers a token that was chosen.
    pub fn accept(&mut self, token: u32) {
        if self.recent.len() >= PENALTY_TOKENS {
            self.recent.pop_front();
        }
        self.recent.push_back(token);
    }

    /// The next token, of those that are allowed. `None` if there is none, or the row is not made of numbers.
    pub fn choose(&mut self, row: &[f32], scratch: &mut Scratch, mut allowed: impl FnMut(u32) -> bool) -> Option<u32> {
        let Scratch {
            logits,
            candidates,
            weights,
        } = scratch;
        let row = if self.sampling.repeat_penalty > 1.0 {
            self.penalise(row, logits);
            logits.as_slice()
        } else {
            row
        };
        if self.sampling.temperature <= 0.0 || self.sampling.top_k == 1 {
            return likeliest(row, &mut allowed);
        }
        let k = match self.sampling.top_k {
            0 => row.len(),
            k => usize::try_from(k).map_or(row.len(), |k| k.min(row.len())),
        };
        top(row, k, candidates, &mut allowed);
        self.draw(candidates, weights)
    }

    fn penalise(&self, row: &[f32], logits: &mut Vec<f32>) {
        logits.clear();
        logits.extend_from_slice(row);
        let penalty = self.sampling.repeat_penalty;
        for (place, &token) in self.recent.iter().enumerate() {
            let again = self.recent.iter().take(place).any(|&earlier| earlier == token);
            if let (false, Some(logit)) = (again, logits.get_mut(token as usize)) {
                *logit = if *logit <= 0.0 {
                    *logit * penalty
                } else {
                    *logit / penalty
                };
            }
        }
    }

    /// Draws from candidates that are sorted, likeliest first.
    fn draw(&mut self, candidates: &[(f32, u32)], weights: &mut Vec<f32>) -> Option<u32> {
        let best = candidates.first()?.0;
        weights.clear();
        weights.extend(candidates.iter().map(|(logit, _)| (logit - best).exp()));
        let total: f32 = weights.iter().sum();

        let mut sum = 0.0;
        let mut within = |weight: &f32| {
            let before = sum;
            sum += weight;
            before < self.sampling.top_p * total
        };
        let nucleus = weights.iter().take_while(|weight| within(weight)).count();
        // The likeliest has weight 1.
        let likely = weights
            .iter()
            .take_while(|weight| **weight >= self.sampling.min_p)
            .count();
        let kept = nucleus.min(likely).max(1);

        weights.clear();
        let temperature = self.sampling.temperature;
        weights.extend(
            candidates[..kept]
                .iter()
                .map(|(logit, _)| ((logit - best) / temperature).exp()),
        );
        let mut point = self.draws.random::<f32>() * weights.iter().sum::<f32>();
        for (weight, (_, token)) in weights.iter().zip(candidates) {
            point -= weight;
            if point < 0.0 {
                return Some(*token);
            }
        }
        // Rounding may leave a little.
        Some(candidates[kept - 1].1)
    }
}

/// Logits that are passed over together if none of them is higher than the best so far.
const BLOCK: usize = 64;

/// The allowed token with the highest logit, the first of equals. NaN is never highest.
fn likeliest(row: &[f32], allowed: &mut impl FnMut(u32) -> bool) -> Option<u32> {
    let mut best = (f32::NEG_INFINITY, None);
    for (begin, block) in (0_u32..).step_by(BLOCK).zip(row.chunks(BLOCK)) {
        // No branches, so that many are compared at once.
        if !block.iter().fold(false, |higher, &logit| higher | (logit > best.0)) {
            continue;
        }
        for (token, &logit) in (begin..).zip(block) {
            if logit > best.0 && allowed(token) {
                best = (logit, Some(token));
            }
        }
    }
    best.1
}

/// The `k` likeliest allowed tokens, likeliest first.
fn top(row: &[f32], k: usize, candidates: &mut Vec<(f32, u32)>, allowed: &mut impl FnMut(u32) -> bool) {
    let order = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    // What is not among the k likeliest of the tokens so far is passed over, which is nearly all.
    let crowd = (4 * k).max(256);
    let mut threshold = f32::NEG_INFINITY;
    candidates.clear();
    for (token, &logit) in (0_u32..).zip(row) {
        if logit > threshold && allowed(token) {
            candidates.push((logit, token));
            if candidates.len() >= crowd && k < candidates.len() {
                let (_, last, _) = candidates.select_nth_unstable_by(k - 1, order);
                threshold = last.0;
                candidates.truncate(k);
            }
        }
    }
    candidates.sort_unstable_by(order);
    candidates.truncate(k);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Sampling = Sampling {
        temperature: 1.0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        top_k: 0,
        seed: 7,
    };

    fn chosen(sampling: Sampling, row: &[f32], draws: usize) -> Vec<u32> {
        let (mut sampler, mut scratch) = (Sampler::new(sampling, &[]), Scratch::default());
        (0..draws)
            .map(|_| sampler.choose(row, &mut scratch, |_| true).unwrap())
            .collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_highest() {
        let greedy = Sampling {
            temperature: 0.0,
            ..PLAIN
        };
        assert_eq!(chosen(greedy, &[0.0, f32::NAN, 3.0, 3.0, -1.0], 2), [2, 2]);
        let mut sampler = Sampler::new(greedy, &[]);
        let mut scratch = Scratch::default();
        assert_eq!(
            sampler.choose(&[0.0, 5.0, 3.0], &mut scratch, |token| token != 1),
            Some(2)
        );
        for row in [&[f32::NAN; 4][..], &[f32::NEG_INFINITY; 4], &[]] {
            assert_eq!(sampler.choose(row, &mut scratch, |_| true), None);
            assert_eq!(Sampler::new(PLAIN, &[]).choose(row, &mut scratch, |_| true), None);
        }
        assert_eq!(sampler.choose(&[1.0], &mut scratch, |_| false), None);
        // In several blocks.
        let mut row = [0.0; 3 * BLOCK + 5];
        (row[BLOCK], row[BLOCK + 9], row[2 * BLOCK], row[3 * BLOCK + 4]) = (1.0, 2.0, 2.0, 3.0);
        let mut without = |refused: &[usize]| {
            let token = sampler.choose(&row, &mut scratch, |token| !refused.contains(&(token as usize)));
            token.map(|token| token as usize)
        };
        assert_eq!(without(&[]), Some(3 * BLOCK + 4));
        assert_eq!(without(&[3 * BLOCK + 4]), Some(BLOCK + 9));
        assert_eq!(without(&[3 * BLOCK + 4, BLOCK + 9]), Some(2 * BLOCK));
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let row = [1.0_f32.ln(), 2.0_f32.ln(), 5.0_f32.ln()];
        let draws = chosen(PLAIN, &row, 8000);
        let share = |token| draws.iter().filter(|&&one| one == token).count() as f64 / 8000.0;
        for (token, expected) in [(0, 0.125), (1, 0.25), (2, 0.625)] {
            assert!((share(token) - expected).abs() < 0.02, "{token}: {}", share(token));
        }
        assert_eq!(draws[..20], chosen(PLAIN, &row, 20));
        assert_ne!(draws[..20], chosen(Sampling { seed: 8, ..PLAIN }, &row, 20));
        // 5^2 : 2^2 : 1 at half the temperature.
        let cold = chosen(
            Sampling {
                temperature: 0.5,
                ..PLAIN
            },
            &row,
            8000,
        );
        let share = cold.iter().filter(|&&one| one == 2).count() as f64 / 8000.0;
        assert!((share - 25.0 / 30.0).abs() < 0.02);
    }

    #[test]
    fn each_limit_cuts_where_it_says() {
        let row = [4.0_f32.ln(), 3.0_f32.ln(), 2.0_f32.ln(), 1.0_f32.ln()];
        let kinds = |sampling| {
            let mut kinds = chosen(sampling, &row, 400);
            kinds.sort_unstable();
            kinds.dedup();
            kinds
        };
        assert_eq!(kinds(PLAIN), [0, 1, 2, 3]);
        assert_eq!(kinds(Sampling { top_k: 2, ..PLAIN }), [0, 1]);
        assert_eq!(kinds(Sampling { top_p: 0.69, ..PLAIN }), [0, 1]);
        assert_eq!(kinds(Sampling { top_p: 0.71, ..PLAIN }), [0, 1, 2]);
        assert_eq!(kinds(Sampling { top_p: 1e-9, ..PLAIN }), [0]);
        assert_eq!(kinds(Sampling { min_p: 0.49, ..PLAIN }), [0, 1, 2]);
        assert_eq!(kinds(Sampling { min_p: 1.0, ..PLAIN }), [0]);
        assert_eq!(
            kinds(Sampling {
                temperature: 1e-9,
                ..PLAIN
            }),
            [0]
        );
    }

    #[test]
    fn penalty_counts_a_token_once() {
        let sampling = Sampling {
            temperature: 0.0,
            repeat_penalty: 2.0,
            ..PLAIN
        };
        let mut sampler = Sampler::new(sampling, &[0, 0, 0]);
        let mut scratch = Scratch::default();
        assert_eq!(sampler.choose(&[4.0, 1.9], &mut scratch, |_| true), Some(0));
        assert_eq!(sampler.choose(&[4.0, 2.1], &mut scratch, |_| true), Some(1));
        assert_eq!(sampler.choose(&[-1.0, -1.9], &mut scratch, |_| true), Some(1));
        (0..64).for_each(|_| sampler.accept(1));
        assert_eq!(sampler.choose(&[4.0, 7.0], &mut scratch, |_| true), Some(0));
    }

    proptest! {
        #[test]
        fn top_is_the_head_of_the_sorted(row in prop::collection::vec(-9i8..9, 1..900), k in 1usize..60) {
            let row: Vec<f32> = row.into_iter().map(f32::from).collect();
            let mut sorted: Vec<f32> = row.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let mut candidates = Vec::new();
            top(&row, k.min(row.len()), &mut candidates, &mut |_| true);
            let logits: Vec<f32> = candidates.iter().map(|one| one.0).collect();
            prop_assert_eq!(&logits[..], &sorted[..k.min(row.len())]);
            prop_assert!(candidates.iter().all(|(logit, token)| row[*token as usize] == *logit));
        }
    }
}
