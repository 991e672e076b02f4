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

use super::matrix::Matrix;
use super::{Block, Network};

/// Of random embeddings, and of column 0 in multiples of it.
const DEVIATION: f64 = 0.05;
const COLUMN_0: f64 = 3.0;
/// How much smaller than usual the rest of what blocks write begins.
const QUIET: f64 = 0.1;
/// Sharpness of the heads that look back, and of those that look for the same token.
const LOOK_BACK: f64 = 7.0;
const LOOK_UP: f64 = 1.5;
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
        let (before, written) = look_back(network, first)?;
        look_up(network, second, &before, &written)
    })
}

/// Head 0 carries the token before to each token, head 1 looks at the one before that. Returns what of it is carried, and where
/// it is written.
fn look_back(network: &Network, block: &Block) -> anyhow::Result<(Tensor, Tensor)> {
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
    let carried = orthogonal(head, width)?;
    let _ = carried.f_select(1, 0)?.f_zero_()?;
    block.value.value.f_narrow(0, 0, head)?.f_copy_(&carried)?;
    let written = orthogonal(width, head)?;
    let _ = written.f_select(0, 0)?.f_zero_()?;
    block
        .output
        .value
        .f_narrow(1, 0, head)?
        .f_copy_(&written.f_mul_scalar(DEVIATION)?)?;
    Ok((carried, written))
}

/// All heads look for tokens before which the present one stood, and say them.
fn look_up(network: &Network, block: &Block, carried: &Tensor, written: &Tensor) -> anyhow::Result<()> {
    let (head, width) = (network.shape.head_width(), network.shape.width);
    let group = network.shape.heads / network.shape.kv_heads;
    for kv in 0..network.shape.kv_heads {
        let slow = Tensor::f_zeros([head, head], (Kind::Float, Device::Cpu))?;
        slow.f_narrow(0, head / 2, head / 2)?
            .f_copy_(&orthogonal(head / 2, head)?)?;
        let slow = slow.f_mul_scalar(LOOK_UP)?;
        let said = orthogonal(head, width)?;
        let _ = said.f_select(1, 0)?.f_zero_()?;
        block
            .key
            .value
            .f_narrow(0, kv * head, head)?
            .f_copy_(&slow.f_matmul(&written.f_transpose(0, 1)?)?)?;
        block.value.value.f_narrow(0, kv * head, head)?.f_copy_(&said)?;
        let saying = said.f_transpose(0, 1)?.f_mul_scalar(DEVIATION)?;
        for query in kv * group..(kv + 1) * group {
            block
                .query
                .value
                .f_narrow(0, query * head, head)?
                .f_copy_(&slow.f_matmul(carried)?)?;
            block.output.value.f_narrow(1, query * head, head)?.f_copy_(&saying)?;
        }
    }
    Ok(())
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
