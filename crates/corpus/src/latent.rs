//! Latent semantic analysis (Deerwester et al. 1990): the directions along which texts differ most, by subspace iteration.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::tfidf::Sparse;

/// Enough for the leading directions; the last ones remain mixtures of their neighbours.
const ITERATIONS: usize = 8;
const SEED: u64 = 1;

/// Approximate right singular vectors, the largest singular value first.
#[derive(Debug)]
pub(crate) struct Latent {
    /// For each column of the rows its weight in each direction.
    weights: Vec<f32>,
    dims: usize,
}

impl Latent {
    /// Finds at most `dims` directions of rows with `columns` columns.
    pub(crate) fn fit(rows: &Sparse, columns: usize, dims: usize) -> Self {
        let dims = dims.min(columns).min(rows.len());
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let mut latent = Self {
            weights: (0..columns * dims).map(|_| random.random_range(-1.0..1.0)).collect(),
            dims,
        };
        for _ in 0..ITERATIONS {
            let mut next = vec![0.0_f32; columns * dims];
            for index in 0..rows.len() {
                let row = rows.row(index);
                let along = latent.project(row);
                for &(column, value) in row {
                    let at = column as usize * dims;
                    for (sum, along) in next[at..at + dims].iter_mut().zip(&along) {
                        *sum += value * along;
                    }
                }
            }
            latent.weights = next;
            latent.orthonormalise();
        }
        latent
    }

    /// How far a row lies along each direction.
    pub(crate) fn project(&self, row: &[(u32, f32)]) -> Vec<f32> {
        let mut along = vec![0.0; self.dims];
        for &(column, value) in row {
            let at = column as usize * self.dims;
            for (sum, weight) in along.iter_mut().zip(&self.weights[at..at + self.dims]) {
                *sum += value * weight;
            }
        }
        along
    }

    /// Gram and Schmidt's process. A direction that is nothing but the earlier ones becomes 0.
    #[expect(clippy::cast_possible_truncation, reason = "weights need no more than f32")]
    fn orthonormalise(&mut self) {
        let dims = self.dims;
        for dim in 0..dims {
            let mut overlaps = vec![0.0_f64; dim + 1];
            for weights in self.weights.chunks_exact(dims) {
                for (overlap, &weight) in overlaps.iter_mut().zip(weights) {
                    *overlap += f64::from(weight) * f64::from(weights[dim]);
                }
            }
            let whole = overlaps[dim];
            let mut length = 0.0;
            for weights in self.weights.chunks_exact_mut(dims) {
                let shared: f64 = overlaps[..dim]
                    .iter()
                    .zip(&*weights)
                    .map(|(overlap, &weight)| overlap * f64::from(weight))
                    .sum();
                let rest = f64::from(weights[dim]) - shared;
                weights[dim] = rest as f32;
                length += rest * rest;
            }
            let scale = if length > 1e-12 * whole {
                (1.0 / length.sqrt()) as f32
            } else {
                0.0
            };
            self.weights
                .chunks_exact_mut(dims)
                .for_each(|weights| weights[dim] *= scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows along two directions at right angles, and one of a third in between.
    #[test]
    fn the_longest_directions_come_first() {
        let mut rows = Sparse::default();
        for _ in 0..9 {
            rows.push(&[(0, 0.6), (2, 0.8)]);
        }
        for _ in 0..4 {
            rows.push(&[(0, 0.8), (2, -0.6)]);
        }
        rows.push(&[(3, 1.0)]);
        let latent = Latent::fit(&rows, 5, 3);
        let at = |row: &[(u32, f32)]| -> Vec<f32> { latent.project(row).into_iter().map(f32::abs).collect() };
        for (row, direction) in [(0, 0), (9, 1), (13, 2)] {
            let along = at(rows.row(row));
            for (dim, along) in along.into_iter().enumerate() {
                let expected = if dim == direction { 1.0 } else { 0.0 };
                assert!((along - expected).abs() < 1e-2, "row {row}, direction {dim}: {along}");
            }
        }
        assert_eq!(at(&[(4, 1.0)]), [0.0; 3]);
    }

    #[test]
    fn there_are_no_more_directions_than_the_rows_have() {
        let mut rows = Sparse::default();
        rows.push(&[(0, 1.0)]);
        rows.push(&[(0, 2.0)]);
        let latent = Latent::fit(&rows, 3, 8);
        let along = latent.project(&[(0, 1.0), (1, 1.0)]);
        assert!((along[0].abs() - 1.0).abs() < 1e-6 && along.len() == 2);
        assert_eq!(along[1], 0.0);
    }
}
