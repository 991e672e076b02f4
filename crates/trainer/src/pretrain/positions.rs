//! How a new network tells places apart: positions are waves, and the heads of the first block look at their neighbours.
//!
//! Drawn at random, positions say nothing at first, a head sees all places alike, and the loss stays at what word frequencies
//! tell until some head has found its neighbours. Weights that begin where training would end up (Trockman and Kolter, Mimetic
//! Initialization of Self-Attention Layers, 2023) save that time.

use tch::Tensor;
use tch::nn::VarStore;
use understudy_distilbert::{Config, network};

/// Factor of the first block's queries and keys. A head gives the place that it looks at about half of its attention.
const SHARPNESS: f64 = 1.4;

/// Sets the positions and the first block's attention of a new network.
pub(super) fn set(store: &VarStore, config: &Config) -> anyhow::Result<()> {
    let waves = waves(config.max_position_embeddings, config.dim, config.initializer_range)?;
    network::set(store, "distilbert.embeddings.position_embeddings.weight", &waves)?;
    let attention = "distilbert.transformer.layer.0.attention";
    let queries = shifts(config.dim, config.n_heads, neighbour)?;
    network::set(store, &format!("{attention}.q_lin.weight"), &queries)?;
    let keys = shifts(config.dim, config.n_heads, |_| 0.0)?;
    Ok(network::set(store, &format!("{attention}.k_lin.weight"), &keys)?)
}

/// Sines and cosines of a position (Vaswani et al., Attention Is All You Need, 2017), with the deviation of other weights. A linear
/// map shifts them.
#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
fn waves(positions: usize, dim: usize, deviation: f64) -> anyhow::Result<Tensor> {
    let value = |position: usize, column: usize| {
        let angle = position as f64 * frequency(column, dim);
        let wave = if column.is_multiple_of(2) {
            angle.sin()
        } else {
            angle.cos()
        };
        (wave * std::f64::consts::SQRT_2 * deviation) as f32
    };
    let values: Vec<f32> = (0..positions)
        .flat_map(|position| (0..dim).map(move |column| value(position, column)))
        .collect();
    matrix(&values, positions, dim)
}

/// Of the wave in a column and its neighbour.
fn frequency(column: usize, dim: usize) -> f64 {
    10_000_f64.powf(-((column - column % 2) as f64) / dim as f64)
}

/// How far from its own place a head looks: one back, one ahead, two back, and so on.
fn neighbour(head: usize) -> f64 {
    let distance = (head / 2 + 1) as f64;
    if head.is_multiple_of(2) { -distance } else { distance }
}

/// Weights of queries or keys that read, in each head, the fastest [`waves`] of the place `offset_of(head)` away.
#[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
fn shifts(dim: usize, heads: usize, offset_of: fn(usize) -> f64) -> anyhow::Result<Tensor> {
    let width = dim / heads;
    let mut values = vec![0.0_f32; dim * dim];
    for row in 0..dim {
        let place = row % width;
        let column = place - place % 2;
        let (sin, cos) = (offset_of(row / width) * frequency(column, dim)).sin_cos();
        let pair = if place == column { [cos, sin] } else { [-sin, cos] };
        for (value, weight) in values[row * dim + column..].iter_mut().zip(pair) {
            *value = (weight * SHARPNESS) as f32;
        }
    }
    matrix(&values, dim, dim)
}

fn matrix(values: &[f32], rows: usize, columns: usize) -> anyhow::Result<Tensor> {
    Ok(Tensor::f_from_slice(values)?.f_view([i64::try_from(rows)?, i64::try_from(columns)?])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_look_at_their_neighbours() {
        let (positions, dim, heads) = (40_i64, 64_i64, 4_i64);
        let waves = waves(40, 64, 0.05).unwrap();
        let read = |offset_of| {
            let weights = shifts(64, 4, offset_of).unwrap();
            let rows = waves.matmul(&weights.tr());
            rows.view([positions, heads, dim / heads]).transpose(0, 1)
        };
        let scores = read(neighbour).matmul(&read(|_| 0.0).transpose(1, 2));
        let looked_at = Vec::<Vec<i64>>::try_from(scores.argmax(-1, false)).unwrap();
        for (looked_at, offset) in looked_at.iter().zip([-1, 1, -2, 2]) {
            for place in 2..positions - 2 {
                assert_eq!(looked_at[usize::try_from(place).unwrap()], place + offset);
            }
        }
    }
}
