//! AdamW with decoupled weight decay and clipping by the gradient's length.
//!
//! Own code rather than `tch::nn::AdamW`, whose moments cannot be saved: a run that was interrupted goes on as if it had not been.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use tch::{Device, Tensor, no_grad};
use understudy_distilbert::{ParameterGroup, forget_gradient};

use crate::parallel::World;

const EPSILON: f64 = 1e-8;

/// The optimiser's constants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) beta1: f64,
    pub(crate) beta2: f64,
    pub(crate) weight_decay: f64,
    /// Longest gradient; 0: any.
    pub(crate) clip: f64,
}

struct Parameter {
    name: String,
    value: Tensor,
    moment1: Tensor,
    moment2: Tensor,
    decays: bool,
    /// Its learning rate as a multiple of the highest.
    rate: f64,
}

/// Parameters that are trained, with their moments, sorted by name.
pub(crate) struct AdamW {
    settings: Settings,
    parameters: Vec<Parameter>,
}

impl AdamW {
    /// For the variables that are trained.
    pub(crate) fn new(store: &tch::nn::VarStore, settings: Settings) -> anyhow::Result<Self> {
        let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
        variables.retain(|(_, value)| value.requires_grad());
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        let parameters = variables
            .into_iter()
            .map(|(name, value)| {
                Ok(Parameter {
                    moment1: value.f_zeros_like()?.f_detach()?,
                    moment2: value.f_zeros_like()?.f_detach()?,
                    // Biases and layer norms are vectors.
                    decays: value.dim() > 1,
                    rate: 1.0,
                    name,
                    value,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { settings, parameters })
    }

    /// Lets each layer learn at `decay` times the rate of the layer above it: the classifier at the full one, the embeddings at
    /// the lowest.
    pub(crate) fn with_layer_decay(mut self, decay: f64) -> Self {
        let blocks = self.parameters.iter().filter_map(|parameter| block(&parameter.name));
        let blocks = blocks.max().map_or(0, |last| last + 1);
        for parameter in &mut self.parameters {
            let below = match block(&parameter.name) {
                Some(block) => blocks - block,
                None if parameter.name.contains("embeddings.") => blocks + 1,
                None => 0,
            };
            parameter.rate = (0..below).fold(1.0, |rate, _| rate * decay);
        }
        self
    }

    /// One update, the `step`-th from 1, by the gradients that lie in the parameters of all processes; takes them away. Returns
    /// the gradient's length before clipping.
    pub(crate) fn step(&mut self, world: &World, step: u64, learning_rate: f64) -> anyhow::Result<f64> {
        let Settings {
            beta1,
            beta2,
            weight_decay,
            clip,
        } = self.settings;
        no_grad(|| {
            let mut norms = Vec::with_capacity(self.parameters.len());
            let mut groups: BTreeMap<(bool, u64), (f64, ParameterGroup)> = BTreeMap::new();
            for (parameter, gradient) in self.parameters.iter().zip(self.take_gradients(world)?) {
                if !gradient.defined() {
                    continue;
                }
                norms.push(gradient.f_norm()?);
                let (_, group) = groups
                    .entry((parameter.decays, parameter.rate.to_bits()))
                    .or_insert_with(|| (parameter.rate, ParameterGroup::default()));
                group.values.push(parameter.value.shallow_clone());
                group.gradients.push(gradient);
                group.moments1.push(parameter.moment1.shallow_clone());
                group.moments2.push(parameter.moment2.shallow_clone());
            }
            let length = Tensor::f_stack(&norms, 0)?.f_norm()?.f_double_value(&[])?;
            ensure!(
                length.is_finite(),
                "the gradient is not finite at step {step}: lower --learning-rate"
            );
            let gradient_scale = if clip > 0.0 {
                (clip / (length + 1e-6)).min(1.0)
            } else {
                1.0
            };
            for ((decays, _), (rate, group)) in &groups {
                let update = understudy_distilbert::AdamW {
                    learning_rate: learning_rate * rate,
                    beta1,
                    beta2,
                    weight_decay: if *decays { weight_decay } else { 0.0 },
                    epsilon: EPSILON,
                    gradient_scale,
                };
                update.update(step, group)?;
            }
            Ok(length)
        })
    }

    /// The gradients, added up over all processes in one message. One that is undefined in some of them counts as zero there.
    fn take_gradients(&self, world: &World) -> anyhow::Result<Vec<Tensor>> {
        let mut gradients = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            gradients.push(parameter.value.f_grad()?);
            forget_gradient(&parameter.value)?;
        }
        if world.size() == 1 {
            return Ok(gradients);
        }
        let defined: Vec<f32> = gradients.iter().map(|gradient| f32::from(gradient.defined())).collect();
        let device = self
            .parameters
            .first()
            .map_or(Device::Cpu, |first| first.value.device());
        let mut parts = vec![Tensor::f_from_slice(&defined)?.f_to_device(device)?];
        for (parameter, gradient) in self.parameters.iter().zip(&gradients) {
            let missing = || parameter.value.f_zeros_like();
            let gradient = if gradient.defined() {
                gradient.shallow_clone()
            } else {
                missing()?
            };
            parts.push(gradient.f_reshape([-1])?);
        }
        let mut sums = Vec::<f32>::try_from(Tensor::f_cat(&parts, 0)?)?;
        world.sum_f32(&mut sums);
        let all = Tensor::f_from_slice(&sums)?.f_to_device(device)?;
        let mut begin = i64::try_from(defined.len())?;
        for ((parameter, gradient), &defined) in self.parameters.iter().zip(&mut gradients).zip(&sums) {
            let length = i64::try_from(parameter.value.numel())?;
            if defined > 0.0 {
                *gradient = all.f_narrow(0, begin, length)?.f_view_as(&parameter.value)?;
            }
            begin += length;
        }
        Ok(gradients)
    }

    /// Takes over the parameters and moments of the first process.
    pub(crate) fn copy_first(&mut self, world: &World) -> anyhow::Result<()> {
        if world.size() == 1 {
            return Ok(());
        }
        no_grad(|| {
            for (_, mut tensor) in self.state() {
                let mut values = Vec::<f32>::try_from(tensor.f_reshape([-1])?)?;
                world.copy_first(&mut values);
                tensor.f_copy_(&Tensor::f_from_slice(&values)?.f_view_as(&tensor)?)?;
            }
            Ok(())
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

/// The number of the transformer block that a parameter belongs to.
fn block(name: &str) -> Option<usize> {
    name.split_once(".layer.")?.1.split('.').next()?.parse().ok()
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
            let length = optimizer
                .step(&World::alone(), step.unsigned_abs().into(), 0.05)
                .unwrap();
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

    #[test]
    fn lower_layers_learn_more_slowly_and_frozen_ones_not_at_all() {
        let store = VarStore::new(Device::Cpu);
        let names = [
            "distilbert.embeddings.word_embeddings.weight",
            "distilbert.transformer.layer.0.ffn.lin1.weight",
            "distilbert.transformer.layer.1.ffn.lin1.weight",
            "classifier.weight",
        ];
        let root = store.root();
        let mut variables: Vec<Tensor> = names
            .iter()
            .map(|name| {
                let (path, last) = name.rsplit_once('.').unwrap();
                let path = path.split('.').fold(root.clone(), |path, part| path / part);
                path.var(last, &[1, 1], tch::nn::Init::Const(1.0))
            })
            .collect();
        let frozen = (&root / "pre_classifier").var("weight", &[1], tch::nn::Init::Const(1.0));
        let _ = frozen.set_requires_grad(false);
        let settings = Settings {
            beta1: 0.9,
            beta2: 0.999,
            weight_decay: 0.0,
            clip: 0.0,
        };
        let mut optimizer = AdamW::new(&store, settings).unwrap().with_layer_decay(0.5);
        assert_eq!(optimizer.state().len(), 12);
        let loss: Tensor = variables.iter().map(|value| value.sum(Kind::Float) * 100.0).sum();
        loss.backward();
        optimizer.step(&World::alone(), 1, 0.8).unwrap();
        // AdamW's first step is as long as the learning rate, whatever the gradient.
        for (value, expected) in variables.iter_mut().zip([0.9, 0.8, 0.6, 0.2]) {
            assert!((value.double_value(&[0, 0]) - expected).abs() < 1e-5, "{value:?}");
            assert!(!value.grad().defined());
        }
    }
}
