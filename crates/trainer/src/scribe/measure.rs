//! How well the scribe copies, measured on held-out examples while it trains.

use std::fmt;

use tch::{Kind, Tensor, no_grad};

use super::batches::{Batch, group};
use super::grammar::{Material, example};
use super::network::Network;
use super::tokenizer::{Part, Tokenizer};

const SEED: u64 = 0x0DD5_EED5;
const EXAMPLES: u64 = 32;
const BATCH_TOKENS: usize = 4096;

/// Held-out examples.
pub(crate) struct Examination {
    batches: Vec<(Batch, Vec<Part>)>,
}

/// Its outcome: mean loss of a token, and the share of tokens that were the likeliest, given what stands before them.
#[derive(Debug)]
pub(crate) struct Marks {
    loss: f64,
    digits: f64,
    quotations: f64,
    prose: f64,
}

impl Examination {
    pub(crate) fn new(material: &Material, tokenizer: &Tokenizer) -> anyhow::Result<Self> {
        let lessons = (0..EXAMPLES)
            .map(|index| {
                let example = example(material, &mut super::random(SEED, index))?;
                tokenizer.conversation(&example.messages, Some(&example.answer))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let batches = group(lessons, BATCH_TOKENS).into_iter().map(|lessons| {
            let parts = lessons
                .iter()
                .map(|lesson| tokenizer.parts(lesson))
                .collect::<anyhow::Result<Vec<_>>>()?;
            Ok((Batch::new(&lessons)?, parts.concat()))
        });
        Ok(Self {
            batches: batches.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Measures a network.
    pub(crate) fn sit(&self, network: &Network) -> anyhow::Result<Marks> {
        no_grad(|| {
            let weights = network.weights()?;
            let mut loss = 0.0;
            let mut counts = [[0_usize; 2]; 3];
            for (batch, parts) in &self.batches {
                let states = network.states(&weights, &batch.ids, Some(&batch.rows), None)?;
                let logits = weights.logits(&states)?;
                loss += cross_entropy(&logits, &batch.targets)?
                    .f_sum(Kind::Float)?
                    .f_double_value(&[])?;
                let right: Vec<bool> = logits.f_argmax(-1, false)?.f_eq_tensor(&batch.targets)?.try_into()?;
                for (&part, right) in parts.iter().zip(right) {
                    counts[part as usize][usize::from(right)] += 1;
                }
            }
            let all: usize = counts.iter().flatten().sum();
            let share = |part: Part| {
                let [wrong, right] = counts[part as usize];
                right as f64 / (wrong + right).max(1) as f64
            };
            Ok(Marks {
                loss: loss / all.max(1) as f64,
                digits: share(Part::Digit),
                quotations: share(Part::Quotation),
                prose: share(Part::Prose),
            })
        })
    }
}

/// The loss of each row.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &Tensor) -> anyhow::Result<Tensor> {
    let losses = logits.f_cross_entropy_loss(targets, None::<&Tensor>, tch::Reduction::None, -100, 0.0)?;
    Ok(losses.f_to_kind(Kind::Float)?)
}

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            loss,
            digits,
            quotations,
            prose,
        } = self;
        write!(
            f,
            "held-out loss {loss:.4}; right: digits {:.2}%, quotations {:.2}%, prose {:.2}%",
            100.0 * digits,
            100.0 * quotations,
            100.0 * prose
        )
    }
}
