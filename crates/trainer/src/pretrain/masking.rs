//! Which tokens are to be told, and what stands in their places.
//!
//! As BERT does it, anew each time a text is seen: each ordinary token is asked with the recipe's chance; of the asked ones
//! 80% become `[MASK]`, 10% another token, so that the network cannot trust what it sees, and 10% stay, so that it does not
//! ignore it. All is drawn from the seed and the number of the batch.

use anyhow::Context;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use understudy_distilbert::Tokenizer;

use super::recipe::PretrainRecipe;

const HIDDEN: f64 = 0.8;
const REPLACED: f64 = 0.1;
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The rule of one run.
pub(super) struct Masking {
    share: f64,
    seed: u64,
    mask: u32,
    special: Vec<u32>,
    /// Ids that may stand in for another, all but the special ones.
    ordinary: Vec<u32>,
}

/// A batch with tokens hidden.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Masked {
    pub(super) rows: Vec<Vec<u32>>,
    /// Row and position of each asked token.
    pub(super) asked: Vec<(usize, usize)>,
    /// What stood there.
    pub(super) truth: Vec<u32>,
}

impl Masked {
    /// Some of its rows.
    pub(super) fn of(&self, rows: &[usize]) -> Self {
        let mut part = Self {
            rows: Vec::with_capacity(rows.len()),
            asked: Vec::new(),
            truth: Vec::new(),
        };
        for (number, &row) in rows.iter().enumerate() {
            part.rows.push(self.rows[row].clone());
            for (&(of, position), &truth) in self.asked.iter().zip(&self.truth) {
                if of == row {
                    part.asked.push((number, position));
                    part.truth.push(truth);
                }
            }
        }
        part
    }
}

impl Masking {
    pub(super) fn new(tokenizer: &Tokenizer, recipe: &PretrainRecipe) -> anyhow::Result<Self> {
        let mask = tokenizer
            .id("[MASK]")
            .context("the tokeniser has no [MASK]; give another, or let a vocabulary be trained")?;
        let special: Vec<u32> = SPECIAL.iter().filter_map(|token| tokenizer.id(token)).collect();
        let end = u32::try_from(tokenizer.vocab_size())?;
        Ok(Self {
            share: recipe.mask_share,
            seed: recipe.seed,
            mask,
            ordinary: (0..end).filter(|id| !special.contains(id)).collect(),
            special,
        })
    }

    /// How many tokens of a row may be asked.
    pub(super) fn askable(&self, row: &[u32]) -> usize {
        row.iter().filter(|id| !self.special.contains(id)).count()
    }

    /// Hides tokens of the rows of batch `number`. At least one is asked, if there is any to ask.
    pub(super) fn hide(&self, rows: &[&[u32]], number: u64) -> Masked {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(number);
        let mut masked = Masked {
            rows: rows.iter().map(|row| row.to_vec()).collect(),
            asked: Vec::new(),
            truth: Vec::new(),
        };
        for (index, row) in rows.iter().enumerate() {
            for (position, id) in row.iter().enumerate() {
                if !self.special.contains(id) && random.random_bool(self.share) {
                    self.ask(&mut masked, (index, position), &mut random);
                }
            }
        }
        if masked.asked.is_empty() {
            let first = rows.iter().enumerate().find_map(|(index, row)| {
                let position = row.iter().position(|id| !self.special.contains(id))?;
                Some((index, position))
            });
            if let Some(place) = first {
                self.ask(&mut masked, place, &mut random);
            }
        }
        masked
    }

    fn ask(&self, masked: &mut Masked, place: (usize, usize), random: &mut ChaCha8Rng) {
        let token = &mut masked.rows[place.0][place.1];
        masked.asked.push(place);
        masked.truth.push(*token);
        let draw: f64 = random.random();
        if draw < HIDDEN {
            *token = self.mask;
        } else if draw < HIDDEN + REPLACED {
            *token = self.ordinary[random.random_range(0..self.ordinary.len())];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masking() -> Masking {
        Masking {
            share: 0.15,
            seed: 7,
            mask: 4,
            special: (0..5).collect(),
            ordinary: (5..1000).collect(),
        }
    }

    #[test]
    fn shares_are_as_told_and_special_tokens_stay() {
        let row: Vec<u32> = [2].into_iter().chain(5..995).chain([1, 3]).collect();
        let rows: Vec<&[u32]> = vec![&row; 100];
        let masked = masking().hide(&rows, 0);
        let share = |part: usize, whole: usize| part as f64 / whole as f64;
        let asked = masked.asked.len();
        assert!((share(asked, 100 * 990) - 0.15).abs() < 0.005);
        let now = |&(row, position): &(usize, usize)| masked.rows[row][position];
        let hidden = masked.asked.iter().filter(|place| now(place) == 4).count();
        let kept = masked
            .asked
            .iter()
            .zip(&masked.truth)
            .filter(|(place, truth)| now(place) == **truth)
            .count();
        assert!((share(hidden, asked) - 0.8).abs() < 0.02);
        assert!((share(kept, asked) - 0.1).abs() < 0.02);
        let mut restored = masked.rows.clone();
        for (&(row, position), &truth) in masked.asked.iter().zip(&masked.truth) {
            assert!(truth >= 5);
            restored[row][position] = truth;
        }
        assert!(restored.iter().all(|restored| *restored == row));
    }

    #[test]
    fn a_batch_is_hidden_in_the_same_way_again_and_another_differently() {
        let row: Vec<u32> = (5..105).collect();
        let rows: [&[u32]; 1] = [&row];
        assert_eq!(masking().hide(&rows, 3), masking().hide(&rows, 3));
        assert_ne!(masking().hide(&rows, 3), masking().hide(&rows, 4));
        assert_eq!(masking().hide(&[&[2, 9, 3]], 0).asked, [(0, 1)], "one at least");
    }
}
