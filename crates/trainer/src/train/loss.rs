//! What a step minimises.

use tch::{Kind, Tensor};

use super::Examples;
use crate::batches;
use crate::model::softmax;
use crate::recipe::Recipe;

/// Cross entropy with the true labels and with the teacher's softened distribution (Hinton et al. 2015): per review
/// `w · CE(z, label) + (1 - w) · T² · CE(z / T, softmax(teacher / T))`; w is 1 without a teacher, 0 without a label. `logits`
/// are of the examples whose indices `batch` has, `[batch, classes]` in fp32.
#[expect(clippy::cast_possible_truncation, reason = "weights need no more than f32")]
pub(super) fn of(logits: &Tensor, examples: &Examples, batch: &[usize], recipe: &Recipe) -> anyhow::Result<Tensor> {
    let classes = usize::try_from(logits.size2()?.1)?;
    let temperature = recipe.temperature as f32;
    let (mut hard, mut soft) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
    for &index in batch {
        let teacher = examples.teacher.get(index);
        let label = examples.labels[index];
        let weight = match (label, teacher) {
            (Some(_), None) => 1.0,
            (Some(_), Some(_)) => recipe.label_weight as f32,
            (None, _) => 0.0,
        };
        hard.push(
            (0..classes)
                .map(|class| if label == Some(class) { weight } else { 0.0 })
                .collect(),
        );
        soft.push(match teacher {
            None => vec![0.0; classes],
            Some(logits) => {
                let softened: Vec<f32> = logits.iter().map(|logit| logit / temperature).collect();
                softmax(&softened)
                    .iter()
                    .map(|p| p * (1.0 - weight) * temperature * temperature)
                    .collect()
            }
        });
    }
    let entropy = |logits: &Tensor, targets: &[Vec<f32>]| -> anyhow::Result<Tensor> {
        let targets = batches::matrix(targets, logits.device())?;
        let total = logits
            .f_log_softmax(-1, Kind::Float)?
            .f_mul(&targets)?
            .f_sum(Kind::Float)?;
        Ok(total.f_div_scalar(-(f64::from(u32::try_from(batch.len())?)))?)
    };
    let loss = entropy(logits, &hard)?;
    if examples.teacher.is_empty() {
        return Ok(loss);
    }
    Ok(loss.f_add(&entropy(&logits.f_div_scalar(recipe.temperature)?, &soft)?)?)
}
