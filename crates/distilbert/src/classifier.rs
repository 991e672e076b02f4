//! Inference: the network of [`network`](crate::network), arranged for speed.
//!
//! * **Packed batches** on the CPU: the tokens of all texts lie one after another in one matrix, without padding, and the
//!   linear layers run over it at once; attention runs text by text (texts of one length together). On CUDA, where many small
//!   kernels cost more than padding, the batch is padded and masked.
//! * **Prepacked weights**: Q, K and V in one matrix, laid out once for oneDNN (fp32, bf16) or FBGEMM (int8), with GELU and
//!   the residual fused where the kernel can.
//! * **The last block computes what is read**: of its output only the first token's row goes on to the classifier. So it needs
//!   keys and values of every token but the query, the feed-forward layer and the norms of one. That saves a sixth of
//!   the work of a network of six blocks, nearly half of one of two, and changes no result.
//!
//! * **Few shapes**: oneDNN compiles a kernel for each number of rows, which costs a small network more than the computation
//!   itself. So the matrix of tokens is filled up with a few spare rows ([`round_up`]) that nothing reads.
//!
//! The residual stream has the precision of the linear layers (fp32 under int8); the classifier itself is always fp32.
//! Under int8 activations are quantised by batch, so that an answer depends slightly on its neighbours; see
//! [`choose_precision`](crate::choose_precision) for the check that bounds this.

use tch::{Kind, Tensor};

use crate::{
    checkpoint::Checkpoint,
    config::Config,
    error::Error,
    layout::BACKBONE,
    native::{Linear, Packing, SharedTensor},
    network::{LAYER_NORM_EPSILON, additive_mask},
    precision::{Device, Precision},
    weights::Weights,
};

/// The classifier's two layers are small and their rounding would reach the answer undamped.
const HEAD_KIND: Kind = Kind::Float;

/// A loaded classifier, shared read-only by any number of threads.
pub struct Classifier {
    config: Config,
    max_tokens: usize,
    device: Device,
    precision: Precision,
    words: SharedTensor,
    positions: SharedTensor,
    norm: LayerNorm,
    blocks: Vec<Block>,
    last: LastBlock,
    pre_classifier: Linear,
    classifier: Linear,
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Classifier({} on {}, {} classes)",
            self.precision,
            self.device,
            self.config.labels.len()
        )
    }
}

impl Classifier {
    /// Reads the weights and packs them.
    pub fn load(checkpoint: &Checkpoint, device: Device, precision: Precision) -> Result<Classifier, Error> {
        let _no_grad = tch::no_grad_guard();
        device.check(precision)?;
        let weights = checkpoint.weights()?;
        let config = checkpoint.config();
        let loader = Loader {
            weights: &weights,
            device,
            precision,
        };
        let embeddings = format!("{BACKBONE}embeddings");
        let layer = |i: usize| format!("{BACKBONE}transformer.layer.{i}");
        let last = config.n_layers - 1;
        Ok(Classifier {
            max_tokens: config.max_position_embeddings,
            device,
            precision,
            words: loader.tensor(&format!("{embeddings}.word_embeddings.weight"))?,
            positions: loader.tensor(&format!("{embeddings}.position_embeddings.weight"))?,
            norm: loader.norm(&format!("{embeddings}.LayerNorm"))?,
            blocks: (0..last)
                .map(|i| Block::load(&loader, &layer(i)))
                .collect::<Result<_, _>>()?,
            last: LastBlock::load(&loader, &layer(last))?,
            pre_classifier: loader.head("pre_classifier")?,
            classifier: loader.head("classifier")?,
            config: config.clone(),
        })
    }

    /// The logits of each text, from its token ids with `[CLS]` and `[SEP]`. The batch may mix lengths at little cost.
    pub fn logits(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.check(batch)?;
        let _no_grad = tch::no_grad_guard();
        let layout = match self.device {
            Device::Cpu => Layout::packed(batch, self.precision.packing(self.device))?,
            Device::Cuda(_) => Layout::padded(batch, &self.config, self.device, self.precision.kind())?,
        };
        let logits = self
            .run(&layout)?
            .f_to_device(tch::Device::Cpu)?
            .f_to_kind(Kind::Float)?;
        let classes = self.config.labels.len();
        let mut flat = vec![0.0; batch.len() * classes];
        logits.f_contiguous()?.f_copy_data(&mut flat, batch.len() * classes)?;
        let mut rows = vec![Vec::new(); batch.len()];
        for (row, &place) in flat.chunks_exact(classes).zip(&layout.order) {
            rows[place] = row.to_vec();
        }
        Ok(rows)
    }

    /// The engine must not see ids or lengths outside the network: on CUDA they would poison the device for good.
    fn check(&self, batch: &[&[u32]]) -> Result<(), Error> {
        for (i, ids) in batch.iter().enumerate() {
            if ids.is_empty() || ids.len() > self.max_tokens {
                return Err(Error::Input(format!(
                    "text {i} has {} tokens; the network takes 1 to {}",
                    ids.len(),
                    self.max_tokens
                )));
            }
            if let Some(id) = ids.iter().find(|&&id| id as usize >= self.config.vocab_size) {
                return Err(Error::Input(format!(
                    "text {i} has the token id {id}; the vocabulary ends at {}",
                    self.config.vocab_size - 1
                )));
            }
        }
        Ok(())
    }

    fn run(&self, layout: &Layout) -> Result<Tensor, Error> {
        let heads = self.config.n_heads as i64;
        let words = Tensor::f_embedding(&self.words, &layout.ids, -1, false, false)?;
        let positions = Tensor::f_embedding(&self.positions, &layout.positions, -1, false, false)?;
        let mut x = self.norm.run(&words.f_add(&positions)?)?;
        for block in &self.blocks {
            x = block.run(&x, layout, heads)?;
        }
        let first = self.last.run(&x, layout, heads)?.f_to_kind(HEAD_KIND)?;
        let pooled = self.pre_classifier.run(&first, false)?.f_relu()?;
        self.classifier.run(&pooled, false)
    }

    /// The network's shape and labels.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The precision in which it computes.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        self.device
    }
}

/// Texts of one length that lie one after another.
struct Group {
    /// The first text's first row in the matrix of tokens.
    start: i64,
    texts: i64,
    length: i64,
}

/// How a batch lies in the matrix of tokens.
struct Layout {
    /// `[tokens]`.
    ids: Tensor,
    positions: Tensor,
    /// `[texts]`: the row of each text's first token.
    firsts: Tensor,
    groups: Vec<Group>,
    /// Rows at the end that belong to no text.
    spare: i64,
    /// Only where the batch is padded.
    mask: Option<Tensor>,
    /// Place in the caller's batch of each text here.
    order: Vec<usize>,
}

impl Layout {
    /// Without padding, sorted by length.
    fn packed(batch: &[&[u32]], packing: Packing) -> Result<Layout, Error> {
        let mut order: Vec<usize> = (0..batch.len()).collect();
        order.sort_by_key(|&place| batch[place].len());
        let tokens = batch.iter().map(|ids| ids.len()).sum();
        // Under int8 a spare row would widen the range to which all rows are quantised; FBGEMM compiles nothing by shape.
        let rows = if packing == Packing::OneDnn {
            round_up(tokens)
        } else {
            tokens
        };
        let (mut ids, mut positions) = (Vec::<i64>::with_capacity(rows), Vec::<i64>::with_capacity(rows));
        let mut firsts = Vec::<i64>::with_capacity(batch.len());
        let mut groups = Vec::<Group>::new();
        for &place in &order {
            let start = ids.len() as i64;
            let length = batch[place].len() as i64;
            firsts.push(start);
            ids.extend(batch[place].iter().map(|&id| i64::from(id)));
            positions.extend(0..length);
            match groups.last_mut() {
                Some(group) if group.length == length => group.texts += 1,
                _ => groups.push(Group {
                    start,
                    texts: 1,
                    length,
                }),
            }
        }
        ids.resize(rows, 0);
        positions.resize(rows, 0);
        Ok(Layout {
            ids: Tensor::f_from_slice(&ids)?,
            positions: Tensor::f_from_slice(&positions)?,
            firsts: Tensor::f_from_slice(&firsts)?,
            groups,
            spare: (rows - tokens) as i64,
            mask: None,
            order,
        })
    }

    /// All texts as long as the longest.
    fn padded(batch: &[&[u32]], config: &Config, device: Device, kind: Kind) -> Result<Layout, Error> {
        let length = batch.iter().map(|ids| ids.len()).max().unwrap_or(1);
        let ragged = batch.iter().any(|ids| ids.len() != length);
        let mut ids = vec![config.pad_token_id as i64; batch.len() * length];
        let mut mask = vec![0_i64; batch.len() * length];
        for (i, text) in batch.iter().enumerate() {
            for (j, &id) in text.iter().enumerate() {
                ids[i * length + j] = i64::from(id);
                mask[i * length + j] = 1;
            }
        }
        let (texts, length) = (batch.len() as i64, length as i64);
        let positions: Vec<i64> = (0..texts).flat_map(|_| 0..length).collect();
        let firsts: Vec<i64> = (0..texts).map(|i| i * length).collect();
        let device = device.into();
        let mask = if ragged {
            let mask = Tensor::f_from_slice(&mask)?
                .f_view([texts, length])?
                .f_to_device(device)?;
            Some(additive_mask(&mask, kind)?)
        } else {
            None
        };
        Ok(Layout {
            ids: Tensor::f_from_slice(&ids)?.f_to_device(device)?,
            positions: Tensor::f_from_slice(&positions)?.f_to_device(device)?,
            firsts: Tensor::f_from_slice(&firsts)?.f_to_device(device)?,
            groups: vec![Group {
                start: 0,
                texts,
                length,
            }],
            spare: 0,
            mask,
            order: (0..batch.len()).collect(),
        })
    }
}

/// The number of rows for this many tokens: a multiple of 16, and beyond 512 of a 32nd of the next power of two. So there are
/// some hundred numbers up to 16,384, fewer than oneDNN keeps kernels for, and at most a 16th of the rows is spare from 256
/// tokens on.
fn round_up(tokens: usize) -> usize {
    tokens.next_multiple_of((tokens.next_power_of_two() / 32).max(16))
}

struct LayerNorm {
    weight: SharedTensor,
    bias: SharedTensor,
}

impl LayerNorm {
    fn run(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(x.f_layer_norm(
            self.weight.size(),
            Some(&*self.weight),
            Some(&*self.bias),
            LAYER_NORM_EPSILON,
            true,
        )?)
    }
}

/// What follows attention in a block.
struct AfterAttention {
    out: Linear,
    attention_norm: LayerNorm,
    lin1: Linear,
    lin2: Linear,
    output_norm: LayerNorm,
}

impl AfterAttention {
    fn load(loader: &Loader, layer: &str) -> Result<AfterAttention, Error> {
        Ok(AfterAttention {
            out: loader.linear(&[format!("{layer}.attention.out_lin")])?,
            attention_norm: loader.norm(&format!("{layer}.sa_layer_norm"))?,
            lin1: loader.linear(&[format!("{layer}.ffn.lin1")])?,
            lin2: loader.linear(&[format!("{layer}.ffn.lin2")])?,
            output_norm: loader.norm(&format!("{layer}.output_layer_norm"))?,
        })
    }

    fn run(&self, attention: &Tensor, x: &Tensor) -> Result<Tensor, Error> {
        let x = self.attention_norm.run(&self.out.run_add(attention, x)?)?;
        let hidden = self.lin1.run(&x, true)?;
        self.output_norm.run(&self.lin2.run_add(&hidden, &x)?)
    }
}

struct Block {
    qkv: Linear,
    after: AfterAttention,
}

impl Block {
    fn load(loader: &Loader, layer: &str) -> Result<Block, Error> {
        Ok(Block {
            qkv: loader.linear(&["q_lin", "k_lin", "v_lin"].map(|part| format!("{layer}.attention.{part}")))?,
            after: AfterAttention::load(loader, layer)?,
        })
    }

    fn run(&self, x: &Tensor, layout: &Layout, heads: i64) -> Result<Tensor, Error> {
        let (_, dim) = x.size2()?;
        let qkv = self.qkv.run(x, false)?;
        let mut parts = Vec::with_capacity(layout.groups.len());
        for group in &layout.groups {
            let rows = group.rows(&qkv)?;
            let part = |i: i64| group.heads(&rows.f_narrow(1, i * dim, dim)?, heads);
            let y = attend(&part(0)?, &part(1)?, &part(2)?, layout.mask.as_ref())?;
            parts.push(y.f_transpose(1, 2)?.f_reshape([group.texts * group.length, dim])?);
        }
        if layout.spare > 0 {
            parts.push(Tensor::f_zeros([layout.spare, dim], (qkv.f_kind()?, qkv.device()))?);
        }
        self.after.run(&join(parts)?, x)
    }
}

/// The last block, for the first token of each text.
struct LastBlock {
    q: Linear,
    kv: Linear,
    after: AfterAttention,
}

impl LastBlock {
    fn load(loader: &Loader, layer: &str) -> Result<LastBlock, Error> {
        Ok(LastBlock {
            q: loader.linear(&[format!("{layer}.attention.q_lin")])?,
            kv: loader.linear(&["k_lin", "v_lin"].map(|part| format!("{layer}.attention.{part}")))?,
            after: AfterAttention::load(loader, layer)?,
        })
    }

    fn run(&self, x: &Tensor, layout: &Layout, heads: i64) -> Result<Tensor, Error> {
        let (_, dim) = x.size2()?;
        let first = x.f_index_select(0, &layout.firsts)?;
        let q = self.q.run(&first, false)?;
        let kv = self.kv.run(x, false)?;
        let mut parts = Vec::with_capacity(layout.groups.len());
        let mut done = 0;
        for group in &layout.groups {
            let rows = group.rows(&kv)?;
            let q = q
                .f_narrow(0, done, group.texts)?
                .f_view([group.texts, 1, heads, dim / heads])?
                .f_transpose(1, 2)?;
            let k = group.heads(&rows.f_narrow(1, 0, dim)?, heads)?;
            let v = group.heads(&rows.f_narrow(1, dim, dim)?, heads)?;
            parts.push(attend(&q, &k, &v, layout.mask.as_ref())?.f_reshape([group.texts, dim])?);
            done += group.texts;
        }
        self.after.run(&join(parts)?, &first)
    }
}

impl Group {
    fn rows(&self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(x.f_narrow(0, self.start, self.texts * self.length)?)
    }

    /// `[rows, dim]` to `[texts, heads, length, dim of a head]`, without a copy.
    fn heads(&self, rows: &Tensor, heads: i64) -> Result<Tensor, Error> {
        let (_, dim) = rows.size2()?;
        Ok(rows
            .f_unflatten(0, [self.texts, self.length])?
            .f_unflatten(2, [heads, dim / heads])?
            .f_transpose(1, 2)?)
    }
}

fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, Error> {
    Ok(Tensor::f_scaled_dot_product_attention(
        q, k, v, mask, 0.0, false, None, false,
    )?)
}

fn join(mut parts: Vec<Tensor>) -> Result<Tensor, Error> {
    match parts.len() {
        1 => Ok(parts.swap_remove(0)),
        _ => Ok(Tensor::f_cat(&parts, 0)?),
    }
}

struct Loader<'a> {
    weights: &'a Weights,
    device: Device,
    precision: Precision,
}

impl Loader<'_> {
    fn tensor(&self, name: &str) -> Result<SharedTensor, Error> {
        let tensor = self.weights.tensor(name)?;
        Ok(SharedTensor::new(
            tensor
                .f_to_kind(self.precision.kind())?
                .f_to_device(self.device.into())?,
        ))
    }

    fn norm(&self, name: &str) -> Result<LayerNorm, Error> {
        Ok(LayerNorm {
            weight: self.tensor(&format!("{name}.weight"))?,
            bias: self.tensor(&format!("{name}.bias"))?,
        })
    }

    /// One linear layer from several that have the same input.
    fn linear(&self, names: &[String]) -> Result<Linear, Error> {
        let read = |part: &str| -> Result<Tensor, Error> {
            let parts = names
                .iter()
                .map(|name| {
                    let tensor = self.weights.tensor(&format!("{name}.{part}"))?;
                    Ok(tensor.f_to_kind(self.precision.kind())?)
                })
                .collect::<Result<_, Error>>()?;
            Ok(join(parts)?.f_to_device(self.device.into())?)
        };
        Linear::new(&read("weight")?, &read("bias")?, self.precision.packing(self.device))
    }

    /// A layer of the classifier, which is small and kept exact.
    fn head(&self, name: &str) -> Result<Linear, Error> {
        let read = |part: &str| -> Result<Tensor, Error> {
            let tensor = self.weights.tensor(&format!("{name}.{part}"))?;
            Ok(tensor.f_to_kind(HEAD_KIND)?.f_to_device(self.device.into())?)
        };
        Linear::new(&read("weight")?, &read("bias")?, Packing::Plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_rows_are_few_and_close() {
        let rows: std::collections::BTreeSet<_> = (1..=16_384).map(round_up).collect();
        assert!(rows.len() <= 128, "{}", rows.len());
        for tokens in 1..=16_384 {
            let spare = round_up(tokens) - tokens;
            assert!(spare < 16.max(tokens / 15), "{tokens}: {spare}");
        }
        assert_eq!([1, 16, 17, 512, 513, 1025].map(round_up), [16, 16, 32, 512, 544, 1088]);
    }
}
