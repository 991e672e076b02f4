//! An encoder that writes what it is told, true or not.

use crate::{TensorType, Value};

pub(super) struct Raw {
    pub(super) magic: [u8; 4],
    pub(super) version: u32,
    /// Instead of the true one.
    pub(super) tensor_count: Option<u64>,
    /// Instead of the true one.
    pub(super) key_count: Option<u64>,
    pub(super) keys: Vec<RawKey>,
    pub(super) tensors: Vec<RawTensor>,
    pub(super) alignment: usize,
    /// Bytes after the last tensor.
    pub(super) tail: usize,
}

#[derive(Clone)]
pub(super) struct RawKey {
    pub(super) name: Vec<u8>,
    /// Instead of the true one.
    pub(super) name_length: Option<u64>,
    pub(super) kind: u32,
    pub(super) value: Vec<u8>,
}

#[derive(Clone)]
pub(super) struct RawTensor {
    pub(super) name: Vec<u8>,
    pub(super) name_length: Option<u64>,
    pub(super) rank: Option<u32>,
    pub(super) dimensions: Vec<u64>,
    pub(super) kind: u32,
    /// Instead of the true one.
    pub(super) offset: Option<u64>,
    pub(super) data: Vec<u8>,
}

impl Raw {
    pub(super) fn new() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            key_count: None,
            keys: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            tail: 0,
        }
    }

    /// Replaces or adds a key.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        self.set_raw(name, value.type_id(), bytes);
    }

    pub(super) fn set_raw(&mut self, name: &str, kind: u32, value: Vec<u8>) {
        let key = RawKey {
            name: name.as_bytes().to_vec(),
            name_length: None,
            kind,
            value,
        };
        match self.keys.iter_mut().find(|old| old.name == key.name) {
            Some(old) => *old = key,
            None => self.keys.push(key),
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.keys.retain(|key| key.name != name.as_bytes());
    }

    pub(super) fn add_tensor(&mut self, name: &str, dimensions: &[u64], kind: TensorType) {
        let bytes = kind.bytes(dimensions).unwrap_or_default();
        let mut random = Random(self.tensors.len() as u64);
        let data = match kind {
            TensorType::F32 => {
                // About as large as trained weights are; around one where a norm is meant.
                let base = if dimensions.len() == 1 { 1.0 } else { 0.0 };
                (0..bytes / 4)
                    .flat_map(|_| (base + (f32::from(random.byte()) - 127.5) / 2000.0).to_le_bytes())
                    .collect()
            }
            _ => (0..bytes).map(|_| 0).collect(),
        };
        self.tensors.push(RawTensor {
            name: name.as_bytes().to_vec(),
            name_length: None,
            rank: None,
            dimensions: dimensions.to_vec(),
            kind: kind.id(),
            offset: None,
            data,
        });
    }

    pub(super) fn remove_tensor(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.name != name.as_bytes());
    }

    /// Changes one tensor.
    pub(super) fn tensor(&mut self, name: &str, change: impl FnOnce(&mut RawTensor)) {
        if let Some(tensor) = self.tensors.iter_mut().find(|tensor| tensor.name == name.as_bytes()) {
            change(tensor);
        }
    }

    /// Makes a tensor another one of the right length.
    pub(super) fn reshape(&mut self, name: &str, dimensions: &[u64], kind: TensorType) {
        self.tensor(name, |tensor| {
            tensor.dimensions = dimensions.to_vec();
            tensor.kind = kind.id();
            tensor.data = (0..kind.bytes(dimensions).unwrap_or_default()).map(|_| 0).collect();
        });
    }

    /// Gives all matrices a type, with zeros.
    pub(super) fn quantise(&mut self, kind: TensorType) {
        let matrices: Vec<_> = self
            .tensors
            .iter()
            .filter(|tensor| tensor.dimensions.len() == 2)
            .map(|tensor| {
                (
                    String::from_utf8_lossy(&tensor.name).into_owned(),
                    tensor.dimensions.clone(),
                )
            })
            .collect();
        for (name, dimensions) in matrices {
            self.reshape(&name, &dimensions, kind);
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.head().0;
        pad(&mut out, self.alignment);
        for tensor in &self.tensors {
            out.extend(&tensor.data);
            pad(&mut out, self.alignment);
        }
        out.extend((0..self.tail).map(|_| 0xAA));
        out
    }

    /// Where the parts of the header begin, and last where it ends.
    pub(super) fn marks(&self) -> Vec<(&'static str, usize)> {
        self.head().1
    }

    fn head(&self) -> (Vec<u8>, Vec<(&'static str, usize)>) {
        let mut out = Vec::new();
        let mut marks = Vec::new();
        out.extend(self.magic);
        marks.push(("version", out.len()));
        out.extend(self.version.to_le_bytes());
        marks.push(("count of tensors", out.len()));
        out.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        marks.push(("count of keys", out.len()));
        out.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        for key in &self.keys {
            marks.push(("key", out.len()));
            out.extend(key.name_length.unwrap_or(key.name.len() as u64).to_le_bytes());
            out.extend(&key.name);
            marks.push(("type of a value", out.len()));
            out.extend(key.kind.to_le_bytes());
            marks.push(("value", out.len()));
            out.extend(&key.value);
        }
        let mut offset = 0usize;
        for tensor in &self.tensors {
            marks.push(("tensor", out.len()));
            out.extend(tensor.name_length.unwrap_or(tensor.name.len() as u64).to_le_bytes());
            out.extend(&tensor.name);
            marks.push(("dimensions", out.len()));
            let rank = tensor.dimensions.iter().fold(0u32, |rank, _| rank + 1);
            out.extend(tensor.rank.unwrap_or(rank).to_le_bytes());
            tensor.dimensions.iter().for_each(|size| out.extend(size.to_le_bytes()));
            marks.push(("type of a tensor", out.len()));
            out.extend(tensor.kind.to_le_bytes());
            marks.push(("offset", out.len()));
            out.extend(tensor.offset.unwrap_or(offset as u64).to_le_bytes());
            offset += tensor.data.len().next_multiple_of(self.alignment.max(1));
        }
        marks.push(("data", out.len()));
        (out, marks)
    }
}

fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment.max(1)), 0);
}

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Below a bound of at most 2^32.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let [.., a, b, c, d] = self.next().to_le_bytes();
        u32::from_le_bytes([a, b, c, d]) as usize % bound.max(1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
