//! How well the scribe copies, measured on held-out examples while it trains.

use std::fmt;

use tch::{Kind, Tensor, no_grad};

use super::batches::{Batch, group};
use super::grammar::{Material, example};
use super::network::Network;
use super::tokenizer::{Tokenizer, Tokens};

const SEED: u64 = 0x0DD5_EED5;
const EXAMPLES: u64 = 32;
const BATCH_TOKENS: usize = 4096;

/// What a token of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Prose,
    Digit,
    Quotation,
}

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
                .map(|lesson| parts(lesson, tokenizer))
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
                loss += cross_entropy(&logits, &batch.targets)?.f_double_value(&[])?;
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

/// The sum over all rows.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &Tensor) -> anyhow::Result<Tensor> {
    Ok(logits
        .f_cross_entropy_loss(targets, None::<&Tensor>, tch::Reduction::Sum, -100, 0.0)?
        .f_to_kind(Kind::Float)?)
}

/// What each token of the answer is.
fn parts(lesson: &Tokens, tokenizer: &Tokenizer) -> anyhow::Result<Vec<Part>> {
    let mut quoted = false;
    lesson.ids[lesson.answer..]
        .iter()
        .map(|&id| {
            let text = tokenizer.decode(&[id])?;
            let was = quoted;
            quoted ^= text.matches('"').count() % 2 == 1;
            Ok(match text.as_str() {
                _ if was => Part::Quotation,
                digit if digit.len() == 1 && digit.bytes().all(|byte| byte.is_ascii_digit()) => Part::Digit,
                _ => Part::Prose,
            })
        })
        .collect()
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
