//! The values of a recipe that are words.

use std::str::FromStr;

use anyhow::{bail, ensure};
use serde::{Deserialize, Serialize};
use tch::Device;
use understudy_distilbert::{Autocast, Processor};

/// Width from which bf16 pays on a processor that has it. Narrower networks lose more to casts than they gain.
const BF16_DIM_MIN: usize = 384;

/// What the forward pass is computed in while training. Weights and moments stay fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Precision {
    /// bf16 where the processor has instructions for it and the model is at least 384 wide, else fp32.
    Auto,
    /// 32-bit floats.
    Fp32,
    /// bfloat16 where libtorch's autocast allows.
    Bf16,
}

impl Precision {
    /// What `Auto` stands for on this device. The answer depends on the processor and the width only, so that a run which is
    /// resumed on the same machine goes on as it began.
    pub(crate) fn resolve(self, device: Device, dim: usize) -> Self {
        let has_bf16 = device.is_cuda() || {
            let processor = Processor::detect();
            processor.avx512_bf16 || processor.amx_bf16
        };
        match self {
            Self::Auto if has_bf16 && dim >= BF16_DIM_MIN => Self::Bf16,
            Self::Auto => Self::Fp32,
            chosen => chosen,
        }
    }

    /// While it lives, the forward pass is computed in this precision, which must be resolved.
    pub(crate) fn autocast(self, device: Device) -> anyhow::Result<Option<Autocast>> {
        Ok(match self {
            Self::Bf16 => Some(Autocast::bf16(device)?),
            Self::Fp32 | Self::Auto => None,
        })
    }
}

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Schedule {
    /// By the same amount at each step, to 0.
    Linear,
    /// Along half a cosine, to 0.
    Cosine,
    /// Not at all.
    Constant,
}

/// The figure on the validation split by which the best checkpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Criterion {
    /// Share of right answers.
    Accuracy,
    /// Mean F1 of the classes.
    F1,
    /// Area under the ROC curve.
    RocAuc,
    /// Mean of -ln(probability of the true class); the lowest is best.
    LogLoss,
}

/// What a class's examples count in the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum ClassWeights {
    /// Each example counts the same.
    None,
    /// Each class counts the same: examples / (classes · examples of the class).
    Balanced,
    /// By name; classes that are not named count 1.
    Given(Vec<(String, f64)>),
}

impl FromStr for ClassWeights {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "none" => return Ok(Self::None),
            "balanced" => return Ok(Self::Balanced),
            _ => {}
        }
        let mut weights = Vec::new();
        for part in text.split(',') {
            let Some((label, weight)) = part.rsplit_once('=') else {
                bail!("say none, balanced or LABEL=WEIGHT,…, e.g. spoiler=4,clean=1");
            };
            let weight: f64 = weight.trim().parse()?;
            ensure!(
                weight.is_finite() && weight > 0.0,
                "the weight of {label} must be positive"
            );
            weights.push((label.trim().to_owned(), weight));
        }
        Ok(Self::Given(weights))
    }
}

impl TryFrom<String> for ClassWeights {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Self> {
        text.parse()
    }
}

impl From<ClassWeights> for String {
    fn from(weights: ClassWeights) -> Self {
        match weights {
            ClassWeights::None => "none".to_owned(),
            ClassWeights::Balanced => "balanced".to_owned(),
            ClassWeights::Given(weights) => {
                let parts: Vec<String> = weights
                    .iter()
                    .map(|(label, weight)| format!("{label}={weight}"))
                    .collect();
                parts.join(",")
            }
        }
    }
}

/// In which numbers a finished checkpoint is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Store {
    /// 32-bit floats.
    Fp32,
    /// 16-bit floats: half the size.
    Fp16,
}
