//! The order in which examples are seen, and their tensors.

use anyhow::Context;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::{Device, Kind, Tensor};

/// Batches whose examples are sorted by length together. More give less padding and less chance.
const BATCHES_SORTED: usize = 50;

/// The batches of one epoch: each index once, like lengths together, in an order that depends on the seed and epoch only.
pub(crate) fn plan(lengths: &[usize], batch_size: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.shuffle(&mut random);
    let mut batches = Vec::with_capacity(lengths.len().div_ceil(batch_size));
    for window in order.chunks_mut(batch_size * BATCHES_SORTED) {
        window.sort_by_key(|&index| lengths[index]);
        batches.extend(window.chunks(batch_size).map(<[usize]>::to_vec));
    }
    batches.shuffle(&mut random);
    batches
}

/// The same without regard to lengths.
pub(crate) fn plan_ungrouped(examples: usize, batch_size: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    let mut order: Vec<usize> = (0..examples).collect();
    order.shuffle(&mut random);
    order.chunks(batch_size).map(<[usize]>::to_vec).collect()
}

/// Token ids and mask, `[batch, longest]`, padded with `pad`.
pub(crate) fn tensors(rows: &[&[u32]], pad: usize, device: Device) -> anyhow::Result<(Tensor, Tensor)> {
    let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let mut ids = vec![i64::try_from(pad)?; rows.len() * longest];
    let mut mask = vec![0_i64; rows.len() * longest];
    for (index, row) in rows.iter().enumerate() {
        let start = index * longest;
        for (offset, &id) in row.iter().enumerate() {
            ids[start + offset] = i64::from(id);
            mask[start + offset] = 1;
        }
    }
    let shape = [i64::try_from(rows.len())?, i64::try_from(longest)?];
    let build = |values: &[i64]| -> anyhow::Result<Tensor> {
        Ok(Tensor::f_from_slice(values)?.f_view(shape)?.f_to_device(device)?)
    };
    Ok((build(&ids)?, build(&mask)?))
}

/// A matrix of f32.
pub(crate) fn matrix(rows: &[Vec<f32>], device: Device) -> anyhow::Result<Tensor> {
    let columns = rows.first().context("an empty batch")?.len();
    let shape = [i64::try_from(rows.len())?, i64::try_from(columns)?];
    Ok(Tensor::f_from_slice(&rows.concat())?
        .f_view(shape)?
        .f_to_device(device)?)
}

/// The rows of a matrix.
pub(crate) fn rows(matrix: &Tensor) -> anyhow::Result<Vec<Vec<f32>>> {
    let (_, columns) = matrix.size2()?;
    let flat: Vec<f32> = matrix
        .f_to_kind(Kind::Float)?
        .f_contiguous()?
        .f_view([-1])?
        .try_into()?;
    Ok(flat
        .chunks(usize::try_from(columns)?.max(1))
        .map(<[f32]>::to_vec)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_once_like_lengths_together_and_repeatable() {
        let lengths: Vec<usize> = (0..1000).map(|i| i * 7919 % 256).collect();
        let batches = plan(&lengths, 8, 3, 1);
        let mut seen: Vec<usize> = batches.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
        let padding: usize = batches
            .iter()
            .map(|batch| batch.iter().map(|&i| lengths[i]).max().unwrap() * batch.len())
            .sum();
        assert!(padding * 100 < lengths.iter().sum::<usize>() * 105, "under 5% padding");
        assert_eq!(batches, plan(&lengths, 8, 3, 1));
        assert_ne!(batches, plan(&lengths, 8, 3, 2));
        assert_ne!(batches, plan(&lengths, 8, 4, 1));
    }

    #[test]
    fn ungrouped_batches_have_each_example_once() {
        let batches = plan_ungrouped(100, 8, 3, 1);
        let mut seen: Vec<usize> = batches.concat();
        assert_ne!(seen, (0..100).collect::<Vec<_>>());
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        assert_eq!(batches, plan_ungrouped(100, 8, 3, 1));
        assert_ne!(batches, plan_ungrouped(100, 8, 3, 2));
    }

    #[test]
    fn padding_is_masked() {
        let (ids, mask) = tensors(&[&[5, 6, 7], &[8]], 9, Device::Cpu).unwrap();
        assert_eq!(Vec::<i64>::try_from(ids.view([-1])).unwrap(), [5, 6, 7, 8, 9, 9]);
        assert_eq!(Vec::<i64>::try_from(mask.view([-1])).unwrap(), [1, 1, 1, 1, 0, 0]);
    }
}
