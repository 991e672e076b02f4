//! Every tensor of a llama, each with its exact shape, and no other: llama.cpp refuses files with more.

use std::collections::HashMap;

use super::shape::Shape;
use crate::{
    TensorType,
    error::{Checked, bad, require},
    header::Tensor,
};

/// What a tensor may be stored as.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// Multiplied with activations.
    Weight,
    /// Norms and biases: their kernels take nothing but F32, and abort on the rest.
    Vector,
}

pub(super) fn check(tensors: &HashMap<String, Tensor>, shape: &Shape, vocabulary: u32) -> Checked<()> {
    let mut inventory = Inventory { tensors, found: 0 };
    let width = u64::from(shape.embedding);
    let inner = u64::from(shape.feed_forward);
    let (queries, keys) = (shape.queries(), shape.keys());
    let vocabulary = u64::from(vocabulary);

    inventory.need("token_embd.weight", &[width, vocabulary], Role::Weight)?;
    inventory.need("output_norm.weight", &[width], Role::Vector)?;
    // Absent where input and output share their matrix.
    inventory.allow("output.weight", &[width, vocabulary], Role::Weight)?;
    inventory.allow("rope_freqs.weight", &[u64::from(shape.head) / 2], Role::Vector)?;
    for layer in 0..shape.layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        for part in ["attn_norm.weight", "ffn_norm.weight"] {
            inventory.need(&name(part), &[width], Role::Vector)?;
        }
        for (part, rows, columns) in [
            ("attn_q", queries, width),
            ("attn_k", keys, width),
            ("attn_v", keys, width),
            ("attn_output", width, queries),
            ("ffn_gate", inner, width),
            ("ffn_up", inner, width),
            ("ffn_down", width, inner),
        ] {
            inventory.need(&name(&format!("{part}.weight")), &[columns, rows], Role::Weight)?;
            inventory.allow(&name(&format!("{part}.bias")), &[rows], Role::Vector)?;
        }
    }
    if inventory.found < tensors.len() {
        return Err(unexpected(tensors, shape.layers));
    }
    Ok(())
}

struct Inventory<'a> {
    tensors: &'a HashMap<String, Tensor>,
    found: usize,
}

impl Inventory<'_> {
    fn need(&mut self, name: &str, dimensions: &[u64], role: Role) -> Checked<()> {
        let found = self.allow(name, dimensions, role)?;
        require!(
            found,
            "it has no tensor {name:?}; convert the model again with a current llama.cpp"
        );
        Ok(())
    }

    /// True if the file has the tensor.
    fn allow(&mut self, name: &str, dimensions: &[u64], role: Role) -> Checked<bool> {
        let Some(tensor) = self.tensors.get(name) else {
            return Ok(false);
        };
        self.found += 1;
        let rank = dimensions.len();
        let (same, rest) = tensor.dimensions.split_at(rank);
        require!(
            same == dimensions && rest.iter().all(|size| *size == 1),
            "its tensor {name:?} is {:?} where the model's sizes ask for {dimensions:?}; convert the model again",
            tensor.dimensions
        );
        match role {
            Role::Weight => require!(
                tensor.kind.is_weight(),
                "its tensor {name:?} is {}, which is no type for weights; quantise the model again, e.g. as Q4_K_M",
                tensor.kind.name()
            ),
            Role::Vector => require!(
                tensor.kind == TensorType::F32,
                "its tensor {name:?} is {} and must be F32; convert the model again with a current llama.cpp",
                tensor.kind.name()
            ),
        }
        Ok(true)
    }
}

/// Says which tensor is too many.
fn unexpected(tensors: &HashMap<String, Tensor>, layers: u32) -> crate::error::Fault {
    let known = |name: &str| {
        let Some((layer, part)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
            return matches!(
                name,
                "token_embd.weight" | "output_norm.weight" | "output.weight" | "rope_freqs.weight"
            );
        };
        // As it is written in names: "blk.00." is another tensor.
        let in_range = layer
            .parse()
            .is_ok_and(|number: u32| number < layers && number.to_string() == layer);
        let norm = matches!(part, "attn_norm.weight" | "ffn_norm.weight");
        let matrix = part.rsplit_once('.').is_some_and(|(matrix, suffix)| {
            matches!(suffix, "weight" | "bias")
                && matches!(
                    matrix,
                    "attn_q" | "attn_k" | "attn_v" | "attn_output" | "ffn_gate" | "ffn_up" | "ffn_down"
                )
        });
        in_range && (norm || matrix)
    };
    let mut names: Vec<_> = tensors.keys().filter(|name| !known(name)).collect();
    names.sort();
    let name = names.first().map_or("", |name| name.as_str());
    bad!(
        "it has the tensor {name:?}, which no dense llama of {layers} layers has; convert the model again, or choose another"
    )
}
