//! Muon: momentum, made orthogonal, for the matrices inside the network.
//!
//! After K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the scale of J. Liu et al.,
//! "Muon is scalable for LLM training" (2025), which lets one learning rate and weight decay serve matrices of every shape. On
//! these few tokens it learns to copy in a fraction of AdamW's steps.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use tch::nn::VarStore;
use tch::{Kind, Tensor, no_grad};

const MOMENTUM: f64 = 0.95;
/// Iterations and coefficients of the Newton–Schulz approximation.
const ITERATIONS: usize = 5;
const COEFFICIENTS: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// The root mean square of an update at learning rate 1.
const UPDATE_RMS: f64 = 0.2;

/// Matrices with their momenta, sorted by name.
pub(crate) struct Muon {
    parameters: Vec<(String, Tensor, Tensor)>,
    weight_decay: f64,
    kind: Kind,
}

impl Muon {
    pub(crate) fn new(store: &VarStore, weight_decay: f64, kind: Kind) -> anyhow::Result<Self> {
        let mut variables: Vec<(String, Tensor)> = store.variables().into_iter().collect();
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        let parameters = variables
            .into_iter()
            .map(|(name, value)| {
                let momentum = value.f_zeros_like()?.f_detach()?;
                Ok((name, value, momentum))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            parameters,
            weight_decay,
            kind,
        })
    }

    /// One update by the gradients that lie in the parameters; clears them.
    pub(crate) fn step(&mut self, learning_rate: f64) -> anyhow::Result<()> {
        no_grad(|| {
            for (name, value, momentum) in &mut self.parameters {
                let mut gradient = value.f_grad()?;
                ensure!(gradient.defined(), "{name} has no gradient");
                let _ = momentum.f_mul_scalar_(MOMENTUM)?.f_add_(&gradient)?;
                let direction = orthogonal(&gradient.f_add(&momentum.f_mul_scalar(MOMENTUM)?)?, self.kind)?;
                let (rows, columns) = value.size2()?;
                let scale = UPDATE_RMS * (rows.max(columns) as f64).sqrt();
                let _ = value.f_mul_scalar_(1.0 - learning_rate * self.weight_decay)?;
                let _ = value.f_add_(&direction.f_mul_scalar(-learning_rate * scale)?)?;
                let _ = gradient.f_zero_()?;
            }
            Ok(())
        })
    }

    /// Everything that a later run needs, named.
    pub(crate) fn state(&self) -> Vec<(String, Tensor)> {
        let named = |(name, value, momentum): &(String, Tensor, Tensor)| {
            [
                (format!("matrix/{name}"), value.shallow_clone()),
                (format!("momentum/{name}"), momentum.shallow_clone()),
            ]
        };
        self.parameters.iter().flat_map(named).collect()
    }

    /// Takes back what [`Muon::state`] gave, parameters included.
    pub(crate) fn restore(&mut self, state: &HashMap<String, Tensor>) -> anyhow::Result<()> {
        no_grad(|| {
            for (name, value, momentum) in &mut self.parameters {
                for (part, target) in [("matrix", value), ("momentum", momentum)] {
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

/// The nearest matrix with all singular values near 1.
fn orthogonal(matrix: &Tensor, kind: Kind) -> anyhow::Result<Tensor> {
    let [a, b, c] = COEFFICIENTS;
    let (rows, columns) = matrix.size2()?;
    let x = matrix.f_div(&matrix.f_norm()?.f_add_scalar(1e-7)?)?.f_to_kind(kind)?;
    let mut x = if rows > columns {
        x.f_transpose(0, 1)?.f_contiguous()?
    } else {
        x
    };
    for _ in 0..ITERATIONS {
        let gram = x.f_matmul(&x.f_transpose(0, 1)?)?;
        let polynomial = gram.f_mul_scalar(b)?.f_add(&gram.f_matmul(&gram)?.f_mul_scalar(c)?)?;
        x = x.f_mul_scalar(a)?.f_add(&polynomial.f_matmul(&x)?)?;
    }
    let x = if rows > columns { x.f_transpose(0, 1)? } else { x };
    Ok(x.f_to_kind(Kind::Float)?)
}

#[cfg(test)]
mod tests {
    use tch::{Device, nn::Init};

    use super::*;
    use crate::train::tests::alone;

    #[test]
    fn directions_have_singular_values_near_one() {
        let _turn = alone();
        for size in [[48, 16], [16, 48]] {
            let singular = orthogonal(&Tensor::randn(size, (Kind::Float, Device::Cpu)), Kind::Float).unwrap();
            let values: Vec<f64> = singular.svd(true, true).1.to_kind(Kind::Double).try_into().unwrap();
            assert!(values.iter().all(|value| (0.5..1.3).contains(value)), "{values:?}");
        }
    }

    #[test]
    fn a_step_goes_downhill_and_the_state_comes_back() {
        let _turn = alone();
        let store = VarStore::new(Device::Cpu);
        let weights = store.root().var("w", &[8, 4], Init::Const(1.0));
        let mut muon = Muon::new(&store, 0.0, Kind::Float).unwrap();
        let loss = || (&weights - 0.5).square().sum(Kind::Float);
        let before = loss().double_value(&[]);
        for _ in 0..3 {
            loss().backward();
            muon.step(0.05).unwrap();
        }
        assert!(loss().double_value(&[]) < before);
        let saved: HashMap<String, Tensor> = muon
            .state()
            .into_iter()
            .map(|(name, value)| (name, value.copy()))
            .collect();
        let now = loss().double_value(&[]);
        loss().backward();
        muon.step(0.05).unwrap();
        assert!((loss().double_value(&[]) - now).abs() > 1e-6);
        muon.restore(&saved).unwrap();
        assert!((loss().double_value(&[]) - now).abs() < 1e-9);
    }
}
