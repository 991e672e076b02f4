//! The beginning: heads that copy.
//!
//! What a scribe most needs, looking up and copying, is done in trained networks by two kinds of heads: one tells each token
//! what stood before it, the next finds where the present token stood before and says what followed it there. Such heads take a
//! random network tens of millions of tokens to find. Here they are set up from the start (roughly; training does the rest), so that
//! an hour on two cores is enough.
//!
//! They need a direction of the embedding that is the same for all tokens ("column 0"), from which the first head makes a query
//! that depends on the position alone, and content in the slowly turning half of the rotary pairs, which is blind to position.

use tch::{Device, Kind, Tensor, no_grad};

use super::{Block, Matrix, Network};

/// Of random embeddings, and of column 0 in multiples of it.
const DEVIATION: f64 = 0.05;
const COLUMN_0: f64 = 3.0;
/// How much smaller than usual the rest of what blocks write begins.
const QUIET: f64 = 0.03;
/// Sharpness of the heads that look back, and of those that look for the same token.
const LOOK_BACK: f64 = 8.0;
const LOOK_UP: f64 = 5.0;
/// How loud what stood before is, and what is said, in multiples of an embedding.
const CARRIED: f64 = 2.5;
const SAID: f64 = 6.0;
/// Rotary pairs that tell neighbours apart.
const FAST_PAIRS: i64 = 8;

pub(super) fn begin(network: &Network) -> anyhow::Result<()> {
    let [first, second, ..] = network.blocks.as_slice() else {
        return Ok(());
    };
    if network.shape.head_width() < 4 * FAST_PAIRS {
        return Ok(());
    }
    no_grad(|| {
        let mut embedding = network.embedding.shallow_clone();
        let _ = embedding.f_normal_(0.0, DEVIATION)?;
        let _ = embedding.f_select(1, 0)?.f_fill_(COLUMN_0 * DEVIATION)?;
        for Block { output, down, .. } in &network.blocks {
            for Matrix { value, .. } in [output, down] {
                let _ = value.shallow_clone().f_mul_scalar_(QUIET)?;
            }
        }
        let places = look_back(network, first)?;
        look_up(network, second, &places)
    })
}

/// Head 0 carries the token before to each token, head 1 the one before that. Returns where a token finds itself, the one before,
/// and the one before that.
fn look_back(network: &Network, block: &Block) -> anyhow::Result<[Tensor; 3]> {
    let (head, width) = (network.shape.head_width(), network.shape.width);
    let sharpness = LOOK_BACK / COLUMN_0;
    // Heads 0 and 1 share the first key.
    let query = block.query.value.f_narrow(0, 0, 2 * head)?;
    let key = block.key.value.f_narrow(0, 0, head)?;
    let _ = query.shallow_clone().f_mul_scalar_(QUIET)?;
    let _ = key.shallow_clone().f_mul_scalar_(QUIET)?;
    for pair in 0..FAST_PAIRS {
        let speed = network.shape.rope_base.powf(-2.0 * pair as f64 / head as f64);
        for (matrix, row, angle) in [(&query, 0, 0.0), (&query, head, -speed), (&key, 0, speed)] {
            let (sine, cosine) = angle.sin_cos();
            for (row, value) in [(row + 2 * pair, cosine), (row + 2 * pair + 1, sine)] {
                let mut row = matrix.f_select(0, row)?;
                let _ = row.f_zero_()?;
                let _ = row.f_narrow(0, 0, 1)?.f_fill_(sharpness * value)?;
            }
        }
    }
    let [itself, before, second_before] = [blind(head, width)?, blind(head, width)?, blind(head, width)?];
    block.value.value.f_narrow(0, 0, head)?.f_copy_(&itself)?;
    for (index, place) in [(0, &before), (1, &second_before)] {
        let written = place.f_transpose(0, 1)?.f_mul_scalar(CARRIED * DEVIATION)?;
        block.output.value.f_narrow(1, index * head, head)?.f_copy_(&written)?;
    }
    Ok([itself, before, second_before])
}

/// All heads look for tokens before which the present two stood, and say them.
fn look_up(network: &Network, block: &Block, places: &[Tensor; 3]) -> anyhow::Result<()> {
    let (head, width) = (network.shape.head_width(), network.shape.width);
    let group = network.shape.heads / network.shape.kv_heads;
    let slow = || -> anyhow::Result<Tensor> {
        let matrix = Tensor::f_zeros([head, head], (Kind::Float, Device::Cpu))?;
        matrix
            .f_narrow(0, head / 2, head / 2)?
            .f_copy_(&orthogonal(head / 2, head)?.f_mul_scalar(LOOK_UP)?)?;
        Ok(matrix)
    };
    let [itself, before, second_before] = places;
    for kv in 0..network.shape.kv_heads {
        let (one, two) = (slow()?, slow()?);
        let wanted = one.f_matmul(itself)?.f_add(&two.f_matmul(before)?)?;
        let offered = one.f_matmul(before)?.f_add(&two.f_matmul(second_before)?)?;
        let said = blind(head, width)?;
        block.key.value.f_narrow(0, kv * head, head)?.f_copy_(&offered)?;
        block.value.value.f_narrow(0, kv * head, head)?.f_copy_(&said)?;
        let saying = said.f_transpose(0, 1)?.f_mul_scalar(SAID * DEVIATION)?;
        for query in kv * group..(kv + 1) * group {
            block.query.value.f_narrow(0, query * head, head)?.f_copy_(&wanted)?;
            block.output.value.f_narrow(1, query * head, head)?.f_copy_(&saying)?;
        }
    }
    Ok(())
}

/// A random view of embeddings that does not see column 0.
fn blind(rows: i64, width: i64) -> anyhow::Result<Tensor> {
    let view = orthogonal(rows, width)?.f_contiguous()?;
    let _ = view.f_select(1, 0)?.f_zero_()?;
    Ok(view)
}

/// A random matrix whose rows, or columns if there are fewer, are orthogonal and of length 1.
fn orthogonal(rows: i64, columns: i64) -> anyhow::Result<Tensor> {
    let tall = Tensor::f_randn([rows.max(columns), rows.min(columns)], (Kind::Float, Device::Cpu))?;
    let (basis, _) = Tensor::f_linalg_qr(&tall, "reduced")?;
    Ok(if rows <= columns {
        basis.f_transpose(0, 1)?
    } else {
        basis
    })
}
