//! The Llama architecture: RMS norms, rotary positions, grouped queries, SwiGLU, tied embeddings.
//!
//! Rotary pairs are the neighbours (2i, 2i+1), as llama.cpp has them, so that weights are exported as they are. Master
//! weights, norms, softmax and loss are fp32; the products are computed in `kind`.

mod induction;
mod matrix;

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

use super::batches::Batch;
use super::measure::cross_entropy;
use matrix::Matrix;

/// A network's shape.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Shape {
    pub(crate) vocabulary: i64,
    pub(crate) width: i64,
    pub(crate) layers: i64,
    pub(crate) heads: i64,
    pub(crate) kv_heads: i64,
    pub(crate) hidden: i64,
    pub(crate) context: i64,
    pub(crate) rope_base: f64,
    pub(crate) epsilon: f64,
}

impl Shape {
    pub(crate) fn head_width(&self) -> i64 {
        self.width / self.heads
    }

    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let &Self {
            vocabulary,
            width,
            layers,
            heads,
            kv_heads,
            hidden,
            context,
            ..
        } = self;
        ensure!(
            [vocabulary, width, layers, heads, kv_heads, hidden, context]
                .iter()
                .all(|&size| size > 0),
            "every size in the recipe's shape must be positive"
        );
        ensure!(
            width % heads == 0 && heads % kv_heads == 0 && (width / heads) % 2 == 0,
            "heads must divide width into even parts, and kv-heads must divide heads"
        );
        Ok(())
    }
}

struct Block {
    attention_norm: Tensor,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    output: Matrix,
    ffn_norm: Tensor,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// A network's weights, ready to be multiplied.
pub(crate) struct Weights {
    blocks: Vec<BlockWeights>,
    logits: Tensor,
}

struct BlockWeights {
    attention: Tensor,
    output: Tensor,
    ffn: Tensor,
    down: Tensor,
}

impl Weights {
    /// Logits of states, fp32.
    pub(crate) fn logits(&self, states: &Tensor) -> anyhow::Result<Tensor> {
        Ok(states.f_linear(&self.logits, None::<&Tensor>)?.f_to_kind(Kind::Float)?)
    }
}

/// Keys and values of the tokens so far, by layer.
pub(crate) type Cache = Vec<(Tensor, Tensor)>;

/// The parameters by what moves them.
pub(crate) struct Stores {
    pub(crate) matrices: VarStore,
    /// Embeddings and norms.
    pub(crate) others: VarStore,
}

/// The network.
pub(crate) struct Network {
    shape: Shape,
    kind: Kind,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: Tensor,
    /// Complex, `[context, 1, head width / 2]`.
    turns: Tensor,
}

impl Network {
    /// Random weights by libtorch's seed, with heads that copy ([`induction`]).
    pub(crate) fn new(shape: Shape, kind: Kind) -> anyhow::Result<(Self, Stores)> {
        shape.check()?;
        let (matrices, others) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
        let Shape {
            vocabulary,
            width,
            hidden,
            ..
        } = shape;
        let kv = shape.kv_heads * shape.head_width();
        let deviation = (1.0 / width as f64).sqrt();
        let out = deviation / (2.0 * shape.layers as f64).sqrt();
        let norm = |name: String| (others.root() / name.as_str()).f_var("weight", &[width], Init::Const(1.0));
        let embedding = (others.root() / "token_embd").f_var(
            "weight",
            &[vocabulary, width],
            Init::Randn { mean: 0.0, stdev: 0.02 },
        )?;
        let blocks = (0..shape.layers)
            .map(|layer| {
                let matrix = |name: &str, rows: i64, columns: i64, deviation: f64| {
                    Matrix::new(
                        &matrices,
                        &format!("blk_{layer}.{name}.weight"),
                        [rows, columns],
                        deviation,
                    )
                };
                Ok(Block {
                    attention_norm: norm(format!("blk_{layer}_attn_norm"))?,
                    query: matrix("attn_q", width, width, deviation)?,
                    key: matrix("attn_k", kv, width, deviation)?,
                    value: matrix("attn_v", kv, width, deviation)?,
                    output: matrix("attn_output", width, width, out)?,
                    ffn_norm: norm(format!("blk_{layer}_ffn_norm"))?,
                    gate: matrix("ffn_gate", hidden, width, deviation)?,
                    up: matrix("ffn_up", hidden, width, deviation)?,
                    down: matrix("ffn_down", width, hidden, out)?,
                })
            })
            .collect::<anyhow::Result<_>>()?;
        let norm = norm("output_norm".to_owned())?;
        let turns = turns(&shape)?;
        let network = Self {
            shape,
            kind,
            embedding,
            blocks,
            norm,
            turns,
        };
        induction::begin(&network)?;
        Ok((network, Stores { matrices, others }))
    }

    /// The same parameters, for another thread.
    pub(crate) fn share(&self) -> Self {
        let Self {
            shape,
            kind,
            embedding,
            blocks,
            norm,
            turns,
        } = self;
        Self {
            shape: *shape,
            kind: *kind,
            embedding: embedding.shallow_clone(),
            blocks: blocks.iter().map(Block::share).collect(),
            norm: norm.shallow_clone(),
            turns: turns.shallow_clone(),
        }
    }

    /// The weights as they are multiplied: rounded if that is on, with the norms' gains (the weights are fewer than the
    /// activations), in the kind of the products.
    pub(crate) fn weights(&self) -> anyhow::Result<Weights> {
        let blocks = self.blocks.iter().map(|block| {
            let Block {
                attention_norm,
                query,
                key,
                value,
                output,
                ffn_norm,
                gate,
                up,
                down,
            } = block;
            let cast = |weights: Tensor| weights.f_to_kind(self.kind);
            let attention = Tensor::f_cat(&[query.effective()?, key.effective()?, value.effective()?], 0)?;
            let ffn = Tensor::f_cat(&[gate.effective()?, up.effective()?], 0)?;
            Ok(BlockWeights {
                attention: cast(attention.f_mul(attention_norm)?)?,
                output: cast(output.effective()?)?,
                ffn: cast(ffn.f_mul(ffn_norm)?)?,
                down: cast(down.effective()?)?,
            })
        });
        Ok(Weights {
            blocks: blocks.collect::<anyhow::Result<_>>()?,
            logits: self.embedding.f_mul(&self.norm)?.f_to_kind(self.kind)?,
        })
    }

    /// Normalised states `[rows, width]` after the last block: of the positions `rows` in `ids` `[batch, time]`, flattened,
    /// or of all of them. With a cache, `ids` go on where it ends, and it grows; then they are one token or the first.
    pub(crate) fn states(
        &self,
        weights: &Weights,
        ids: &Tensor,
        rows: Option<&Tensor>,
        mut cache: Option<&mut Cache>,
    ) -> anyhow::Result<Tensor> {
        let (batch, time) = ids.size2()?;
        let start = cache
            .as_ref()
            .and_then(|cache| cache.first())
            .map_or(0, |(key, _)| key.size()[2]);
        ensure!(
            start + time <= self.shape.context,
            "{} tokens do not fit the context",
            start + time
        );
        let turns = self.turns.f_narrow(0, start, time)?;
        let linear = |x: &Tensor, weights: &Tensor| x.f_linear(weights, None::<&Tensor>);
        let mut x = Tensor::f_embedding(&self.embedding, ids, -1, false, false)?;
        for (layer, block) in weights.blocks.iter().enumerate() {
            let qkv = linear(&self.scaled(&x)?, &block.attention)?;
            let mixed = self.attention(&qkv, &turns, layer, cache.as_deref_mut())?;
            x = x.f_add(&linear(&mixed, &block.output)?)?;
            let both = linear(&self.scaled(&x)?, &block.ffn)?;
            let hidden = both.f_narrow(-1, 0, self.shape.hidden)?.f_silu()?;
            let hidden = hidden.f_mul(&both.f_narrow(-1, self.shape.hidden, self.shape.hidden)?)?;
            x = x.f_add(&linear(&hidden, &block.down)?)?;
        }
        let mut x = x.f_view([batch * time, self.shape.width])?;
        if let Some(rows) = rows {
            x = x.f_index_select(0, rows)?;
        }
        self.scaled(&x)
    }

    /// The weighted sum of the losses where the batch is judged.
    pub(crate) fn loss(&self, batch: &Batch) -> anyhow::Result<Tensor> {
        let weights = self.weights()?;
        let states = self.states(&weights, &batch.ids, Some(&batch.rows), None)?;
        Ok(cross_entropy(&weights.logits(&states)?, &batch.targets)?.f_dot(&batch.weights)?)
    }

    pub(crate) fn parameters(&self) -> usize {
        self.tensors().iter().map(|(_, tensor)| tensor.numel()).sum()
    }

    /// Divided by the root of the mean square.
    fn scaled(&self, x: &Tensor) -> anyhow::Result<Tensor> {
        let square = x.f_square()?.f_mean_dim([-1].as_slice(), true, Kind::Float)?;
        Ok(x.f_mul(&square.f_add_scalar(self.shape.epsilon)?.f_rsqrt()?)?
            .f_to_kind(self.kind)?)
    }

    fn attention(
        &self,
        qkv: &Tensor,
        turns: &Tensor,
        layer: usize,
        cache: Option<&mut Cache>,
    ) -> anyhow::Result<Tensor> {
        let Shape {
            heads, kv_heads, width, ..
        } = self.shape;
        let head = self.shape.head_width();
        let (batch, time) = (qkv.size()[0], qkv.size()[1]);
        let turned = qkv.f_narrow(-1, 0, (heads + kv_heads) * head)?.f_to_kind(Kind::Float)?;
        let turned = turned
            .f_contiguous()?
            .f_view([batch, time, heads + kv_heads, head / 2, 2])?;
        let turned = turned
            .f_view_as_complex()?
            .f_mul(turns)?
            .f_view_as_real()?
            .f_to_kind(self.kind)?;
        let turned = turned
            .f_view([batch, time, heads + kv_heads, head])?
            .f_transpose(1, 2)?;
        let query = turned.f_narrow(1, 0, heads)?;
        let mut key = turned.f_narrow(1, heads, kv_heads)?;
        let value = qkv.f_narrow(-1, (heads + kv_heads) * head, kv_heads * head)?;
        let mut value = value.f_view([batch, time, kv_heads, head])?.f_transpose(1, 2)?;
        if let Some(cache) = cache {
            if let Some((keys, values)) = cache.get(layer) {
                (key, value) = (Tensor::f_cat(&[keys, &key], 2)?, Tensor::f_cat(&[values, &value], 2)?);
            }
            let entry = (key.shallow_clone(), value.shallow_clone());
            match cache.get_mut(layer) {
                Some(old) => *old = entry,
                None => cache.push(entry),
            }
        }
        let repeats = heads / kv_heads;
        if repeats > 1 {
            key = key.f_repeat_interleave_self_int(repeats, 1, None)?;
            value = value.f_repeat_interleave_self_int(repeats, 1, None)?;
        }
        let mixed =
            Tensor::f_scaled_dot_product_attention(&query, &key, &value, None::<&Tensor>, 0.0, time > 1, None, false)?;
        Ok(mixed.f_transpose(1, 2)?.f_reshape([batch, time, width])?)
    }

    /// From now on (until called again) computes with weights rounded to 4 bits, as a quantised file would; gradients pass
    /// through. `false` ends it.
    pub(crate) fn round_weights(&mut self, on: bool) -> anyhow::Result<()> {
        for matrix in self.blocks.iter_mut().flat_map(Block::matrices) {
            matrix.round(on)?;
        }
        Ok(())
    }

    /// Every tensor by its name in a GGUF file.
    pub(crate) fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut all = vec![
            ("token_embd.weight".to_owned(), self.embedding.shallow_clone()),
            ("output_norm.weight".to_owned(), self.norm.shallow_clone()),
        ];
        for (layer, block) in self.blocks.iter().enumerate() {
            let named = [
                ("attn_norm", &block.attention_norm),
                ("attn_q", &block.query.value),
                ("attn_k", &block.key.value),
                ("attn_v", &block.value.value),
                ("attn_output", &block.output.value),
                ("ffn_norm", &block.ffn_norm),
                ("ffn_gate", &block.gate.value),
                ("ffn_up", &block.up.value),
                ("ffn_down", &block.down.value),
            ];
            all.extend(named.map(|(name, value)| (format!("blk.{layer}.{name}.weight"), value.shallow_clone())));
        }
        all
    }
}

impl Block {
    fn share(&self) -> Self {
        let Self {
            attention_norm,
            query,
            key,
            value,
            output,
            ffn_norm,
            gate,
            up,
            down,
        } = self;
        Self {
            attention_norm: attention_norm.shallow_clone(),
            query: query.share(),
            key: key.share(),
            value: value.share(),
            output: output.share(),
            ffn_norm: ffn_norm.shallow_clone(),
            gate: gate.share(),
            up: up.share(),
            down: down.share(),
        }
    }

    fn matrices(&mut self) -> [&mut Matrix; 7] {
        let Self {
            query,
            key,
            value,
            output,
            gate,
            up,
            down,
            ..
        } = self;
        [query, key, value, output, gate, up, down]
    }
}

/// The rotations of each position, as complex numbers.
fn turns(shape: &Shape) -> anyhow::Result<Tensor> {
    let half = shape.head_width() / 2;
    let speeds: Vec<f64> = (0..half)
        .map(|pair| shape.rope_base.powf(-(pair as f64) / half as f64))
        .collect();
    let positions: Vec<f64> = (0..shape.context).map(|position| position as f64).collect();
    let (speeds, positions) = (Tensor::f_from_slice(&speeds)?, Tensor::f_from_slice(&positions)?);
    let angles = positions.f_outer(&speeds)?;
    let pairs = Tensor::f_stack(&[angles.f_cos()?, angles.f_sin()?], -1)?.f_to_kind(Kind::Float)?;
    Ok(pairs.f_view_as_complex()?.f_unsqueeze(1)?)
}

#[cfg(test)]
mod tests;
