//! The weights of a linear layer, and what is left of them in 4 bits.

use tch::nn::{Init, VarStore};
use tch::{Tensor, no_grad};

/// Sub-blocks of 4-bit weights share a scale and a minimum.
const QUANTISED_TOGETHER: i64 = 32;
const LEVELS: f64 = 15.0;

/// A linear layer's weights, with what rounding them to 4 bits would change.
pub(super) struct Matrix {
    pub(super) value: Tensor,
    rounding: Option<Tensor>,
}

impl Matrix {
    pub(super) fn new(store: &VarStore, name: &str, size: [i64; 2], deviation: f64) -> anyhow::Result<Self> {
        let init = Init::Randn {
            mean: 0.0,
            stdev: deviation,
        };
        let (path, name) = name.rsplit_once('.').unwrap_or(("", name));
        let value = path
            .split('.')
            .fold(store.root(), |at, part| at / part)
            .f_var(name, &size, init)?;
        Ok(Self { value, rounding: None })
    }

    pub(super) fn share(&self) -> Self {
        let Self { value, rounding } = self;
        Self {
            value: value.shallow_clone(),
            rounding: rounding.as_ref().map(Tensor::shallow_clone),
        }
    }

    /// The weights that are computed with.
    pub(super) fn effective(&self) -> anyhow::Result<Tensor> {
        Ok(match &self.rounding {
            Some(rounding) => self.value.f_add(rounding)?,
            None => self.value.shallow_clone(),
        })
    }

    /// Rounds the weights as they are now, or gives up rounding.
    pub(super) fn round(&mut self, on: bool) -> anyhow::Result<()> {
        self.rounding = if on { Some(rounding(&self.value)?) } else { None };
        Ok(())
    }
}

/// What rounding to 4 bits, with a scale and a minimum for each few weights of a row, adds to the weights.
pub(super) fn rounding(weights: &Tensor) -> anyhow::Result<Tensor> {
    no_grad(|| {
        let size = weights.size();
        let blocks = weights.f_detach()?.f_view([-1, QUANTISED_TOGETHER])?;
        let low = blocks.f_amin([1].as_slice(), true)?.f_clamp_max(0.0)?;
        let step = (blocks.f_amax([1].as_slice(), true)?.f_sub(&low)?.f_div_scalar(LEVELS)?).f_clamp_min(1e-12)?;
        let rounded = blocks
            .f_sub(&low)?
            .f_div(&step)?
            .f_round()?
            .f_clamp(0.0, LEVELS)?
            .f_mul(&step)?
            .f_add(&low)?;
        Ok(rounded.f_sub(&blocks)?.f_view(size.as_slice())?)
    })
}
