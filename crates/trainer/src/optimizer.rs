//! AdamW with decoupled weight decay and clipping by the gradient's length.
//!
//! Own code rather than `tch::nn::AdamW`, whose moments cannot be saved: a run that was interrupted goes on as if it had not been.

use anyhow::{Context, ensure};
use tch::{Tensor, no_grad};

use crate::recipe::Recipe;

const EPSILON: f64 = 1e-8;

/// The optimiser's constants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) weight_decay: f64,
    pub(crate) clip: f64,
}

impl From<&Recipe> for Settings {
    fn from(recipe: &Recipe) -> Self {
        let &Recipe {
            beta1,
            beta2,
            weight_decay,
            clip,
            ..
        } = recipe;
        Self {
            beta1,
            beta2,
            weight_decay,
            clip,
        }
    }
}

struct Parameter {
    name: String,
    value: Tensor,
    moment1: Tensor,
    moment2: Tensor,
    decays: bool,
}

/// Parameters with their moments, sorted by name.
pub(crate) struct AdamW {
    settings: Settings,
    parameters: Vec<Parameter>,
}

impl AdamW {
    pub(crate) fn new(store: &tch::nn::VarStore, settings: Settings) -> anyhow::Result<Self> {
        let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        let parameters = variables
            .into_iter()
            .map(|(name, value)| {
                Ok(Parameter {
                    moment1: value.f_zeros_like()?.f_detach()?,
                    moment2: value.f_zeros_like()?.f_detach()?,
                    // Biases and layer norms are vectors.
                    decays: value.dim() > 1,
                    name,
                    value,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { settings, parameters })
    }

    /// One update, the `step`-th from 1, by the gradients that lie in the parameters; clears them. Returns the gradient's length
    /// before clipping.
    pub(crate) fn step(&mut self, step: u64, learning_rate: f64) -> anyhow::Result<f64> {
        let Settings {
            beta1,
            beta2,
            weight_decay,
            clip,
        } = self.settings;
        no_grad(|| {
            let mut gradients = Vec::with_capacity(self.parameters.len());
            let mut norms = Vec::with_capacity(self.parameters.len());
            for parameter in &self.parameters {
                let gradient = parameter.value.f_grad()?;
                if gradient.defined() {
                    norms.push(gradient.f_norm()?);
                }
                gradients.push(gradient);
            }
            let length = Tensor::f_stack(&norms, 0)?.f_norm()?.f_double_value(&[])?;
            ensure!(
                length.is_finite(),
                "the gradient is not finite at step {step}: lower --learning-rate"
            );
            let scale = (clip / (length + 1e-6)).min(1.0);
            let count = step as f64;
            let size = learning_rate / (1.0 - beta1.powf(count));
            let correction = (1.0 - beta2.powf(count)).sqrt();
            for (parameter, mut gradient) in self.parameters.iter_mut().zip(gradients) {
                if !gradient.defined() {
                    continue;
                }
                if scale < 1.0 {
                    let _ = gradient.f_mul_scalar_(scale)?;
                }
                let _ = parameter.moment1.f_lerp_(&gradient, 1.0 - beta1)?;
                let _ = parameter.moment2.f_lerp_(&gradient.f_square()?, 1.0 - beta2)?;
                if parameter.decays && weight_decay > 0.0 {
                    let _ = parameter.value.f_mul_scalar_(1.0 - learning_rate * weight_decay)?;
                }
                let mut deviation = parameter.moment2.f_sqrt()?;
                let _ = deviation.f_add_scalar_(EPSILON * correction)?;
                let mut change = parameter.moment1.f_div(&deviation)?;
                let _ = change.f_mul_scalar_(-size * correction)?;
                let _ = parameter.value.f_add_(&change)?;
                let _ = gradient.f_zero_()?;
            }
            Ok(length)
        })
    }

    /// Everything that a later run needs, named.
    pub(crate) fn state(&self) -> Vec<(String, Tensor)> {
        let named = |p: &Parameter| {
            [
                (format!("value/{}", p.name), p.value.shallow_clone()),
                (format!("moment1/{}", p.name), p.moment1.shallow_clone()),
                (format!("moment2/{}", p.name), p.moment2.shallow_clone()),
            ]
        };
        self.parameters.iter().flat_map(named).collect()
    }

    /// Takes back what [`AdamW::state`] gave, parameters included.
    pub(crate) fn restore(&mut self, state: &std::collections::HashMap<String, Tensor>) -> anyhow::Result<()> {
        no_grad(|| {
            for parameter in &mut self.parameters {
                let Parameter {
                    name,
                    value,
                    moment1,
                    moment2,
                    ..
                } = parameter;
                for (part, target) in [("value", value), ("moment1", moment1), ("moment2", moment2)] {
                    let saved = state
                        .get(&format!("{part}/{name}"))
                        .with_context(|| format!("it has no {part} of {name}"))?;
                    ensure!(saved.size() == target.size(), "its {part} of {name} has another shape");
                    target.f_copy_(saved)?;
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::nn::VarStore;
    use tch::{Device, Kind};

    use super::*;

    /// The rule of `torch.optim.AdamW`, in f64, on the gradient of (w - 3)²; the vector has no decay.
    #[test]
    fn follows_the_rule() {
        let store = VarStore::new(Device::Cpu);
        let matrix = store.root().var("matrix", &[1, 1], tch::nn::Init::Const(1.0));
        let vector = store.root().var("vector", &[1], tch::nn::Init::Const(1.0));
        let settings = Settings {
            beta1: 0.9,
            beta2: 0.98,
            weight_decay: 0.1,
            clip: 5.0,
        };
        let mut optimizer = AdamW::new(&store, settings).unwrap();
        let mut expected = [(1.0_f64, 0.0, 0.0, 0.1), (1.0, 0.0, 0.0, 0.0)];
        for step in 1..=20_i32 {
            let loss = (&matrix - 3.0).square().sum(Kind::Float) + (&vector - 3.0).square().sum(Kind::Float);
            loss.backward();
            let length = optimizer.step(step.unsigned_abs().into(), 0.05).unwrap();
            let gradients = expected.map(|(w, ..)| 2.0 * (w - 3.0));
            let norm = gradients.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!((length - norm).abs() < 1e-4);
            for ((w, m, v, decay), gradient) in expected.iter_mut().zip(gradients) {
                let gradient = gradient * (5.0 / norm).min(1.0);
                *m = 0.9 * *m + 0.1 * gradient;
                *v = 0.98 * *v + 0.02 * gradient * gradient;
                *w *= 1.0 - 0.05 * *decay;
                let (m, v) = (*m / (1.0 - 0.9_f64.powi(step)), *v / (1.0 - 0.98_f64.powi(step)));
                *w -= 0.05 * m / (v.sqrt() + 1e-8);
            }
        }
        assert!((matrix.double_value(&[0, 0]) - expected[0].0).abs() < 1e-4);
        assert!((vector.double_value(&[0]) - expected[1].0).abs() < 1e-4);
        assert!(expected[0].0 < expected[1].0);
    }
}
