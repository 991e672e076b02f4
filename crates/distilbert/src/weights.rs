//! `model.safetensors`: the header is checked against the network before any tensor is made.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use memmap2::Mmap;
use safetensors::{
    Dtype, SafeTensorError, SafeTensors,
    tensor::{Metadata, TensorView},
};
use tch::{Kind, Tensor};

use crate::{
    config::Config,
    error::Error,
    layout::{self, BACKBONE},
    native,
};

/// A memory-mapped `model.safetensors` whose header fits the network.
pub(crate) struct Weights {
    path: PathBuf,
    map: Mmap,
    data_start: usize,
    metadata: Metadata,
    /// What stands before the backbone's names in this file: `distilbert.` or nothing.
    prefix: &'static str,
    /// Whether the classifier's tensors are there.
    pub(crate) has_head: bool,
}

impl Weights {
    /// Whether the file has a tensor of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// Maps the file and checks that each tensor of the network is there in the right shape. Without `need_head`, the
    /// classifier may be missing altogether.
    pub(crate) fn open(path: &Path, config: &Config, need_head: bool) -> Result<Weights, Error> {
        let length = fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
        if length < 8 {
            return Err(Error::checkpoint(
                path,
                format!("has only {length} bytes: copy or download it again"),
            ));
        }
        let map = native::map_file(path).map_err(|e| Error::io(path, e))?;
        let (header_length, metadata) = SafeTensors::read_metadata(&map).map_err(|e| broken(path, &e))?;
        let has = |name: &str| metadata.info(name).is_some();
        let first = "embeddings.word_embeddings.weight";
        let prefix = match (has(&format!("{BACKBONE}{first}")), has(first)) {
            (true, _) => BACKBONE,
            (false, true) => "",
            (false, false) => {
                return Err(Error::checkpoint(
                    path,
                    format!("has no tensor {BACKBONE}{first}: this is not a DistilBERT checkpoint"),
                ));
            }
        };
        let has_head = layout::tensors(config)
            .iter()
            .any(|tensor| layout::is_head(&tensor.name) && has(&tensor.name));
        let weights = Weights {
            path: path.to_owned(),
            data_start: 8 + header_length,
            map,
            metadata,
            prefix,
            has_head,
        };
        for expected in layout::tensors(config) {
            if !(layout::is_head(&expected.name) && !has_head && !need_head) {
                weights.check(&expected, config)?;
            }
        }
        Ok(weights)
    }

    fn name_in_file<'a>(&self, name: &'a str) -> std::borrow::Cow<'a, str> {
        match name.strip_prefix(BACKBONE) {
            Some(rest) if self.prefix.is_empty() => rest.into(),
            _ => name.into(),
        }
    }

    fn check(&self, expected: &layout::Expected, config: &Config) -> Result<(), Error> {
        let name = self.name_in_file(&expected.name);
        let Some(info) = self.metadata.info(&name) else {
            let advice = if layout::is_head(&name) {
                "it is a backbone without a classifier; fine-tune it first"
            } else {
                "config.json asks for it; is it of another model?"
            };
            return Err(Error::checkpoint(&self.path, format!("has no tensor {name}: {advice}")));
        };
        if info.shape != expected.shape {
            let reason = match (&*name, info.shape.first()) {
                ("classifier.weight" | "classifier.bias", Some(rows)) if *rows != config.labels.len() => format!(
                    "{name} has {rows} rows, but config.json names {} labels in id2label",
                    config.labels.len()
                ),
                _ => format!(
                    "tensor {name} has the shape {:?}, but config.json asks for {:?}",
                    info.shape, expected.shape
                ),
            };
            return Err(Error::checkpoint(&self.path, reason));
        }
        if kind_of(info.dtype).is_none() {
            let reason = format!(
                "tensor {name} is of type {:?}; F32, F16 and BF16 are supported",
                info.dtype
            );
            return Err(Error::checkpoint(&self.path, reason));
        }
        Ok(())
    }

    /// The tensor, on the CPU, in the kind in which it is stored. A value that is not finite is an error.
    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor, Error> {
        let name = self.name_in_file(name);
        let missing = || Error::checkpoint(&self.path, format!("has no tensor {name}"));
        let info = self.metadata.info(&name).ok_or_else(missing)?;
        let kind = kind_of(info.dtype).ok_or_else(missing)?;
        let (from, to) = info.data_offsets;
        // read_metadata has checked that the offsets lie within the file.
        let bytes = self
            .map
            .get(self.data_start + from..self.data_start + to)
            .ok_or_else(missing)?;
        if !all_finite(bytes, info.dtype) {
            let reason = format!("tensor {name} holds NaN or infinite values: the training that wrote it diverged");
            return Err(Error::checkpoint(&self.path, reason));
        }
        // tch copies as many bytes as the shape asks for without looking at how many there are.
        if bytes.len() != info.shape.iter().product::<usize>() * kind.elt_size_in_bytes() {
            return Err(missing());
        }
        let shape: Vec<i64> = info.shape.iter().map(|&n| n as i64).collect();
        Ok(Tensor::f_from_data_size(bytes, &shape, kind)?)
    }
}

/// The tensor of a file that was read whole, on the CPU.
pub(crate) fn view_to_tensor(path: &Path, name: &str, view: &TensorView) -> Result<Tensor, Error> {
    let Some(kind) = kind_of(view.dtype()) else {
        let reason = format!(
            "tensor {name} is of type {:?}; F32, F16 and BF16 are supported",
            view.dtype()
        );
        return Err(Error::checkpoint(path, reason));
    };
    if !all_finite(view.data(), view.dtype()) {
        let reason = format!("tensor {name} holds NaN or infinite values: the training that wrote it diverged");
        return Err(Error::checkpoint(path, reason));
    }
    // SafeTensors has checked that there are as many bytes as the shape asks for.
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?)
}

fn broken(path: &Path, error: &SafeTensorError) -> Error {
    let reason = match error {
        SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
            "is shorter or longer than its header says, so it was cut off or only half written: copy or download it again"
                .to_owned()
        }
        other => format!("is not a safetensors file ({other}): copy or download it again"),
    };
    Error::checkpoint(path, reason)
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}

/// A value whose exponent bits are all ones is infinite or NaN, in each of the three types.
fn all_finite(bytes: &[u8], dtype: Dtype) -> bool {
    let halves = |exponent: u16| {
        let (words, _) = bytes.as_chunks::<2>();
        // No early exit, so that the loop is vectorised.
        !words.iter().fold(false, |bad, word| {
            bad | (u16::from_le_bytes(*word) & exponent == exponent)
        })
    };
    match dtype {
        Dtype::F16 => halves(0x7c00),
        Dtype::BF16 => halves(0x7f80),
        _ => {
            let (words, _) = bytes.as_chunks::<4>();
            !words.iter().fold(false, |bad, word| {
                bad | (u32::from_le_bytes(*word) & 0x7f80_0000 == 0x7f80_0000)
            })
        }
    }
}

/// In which numbers a checkpoint is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// 32-bit floats.
    #[default]
    Fp32,
    /// 16-bit floats: half the size. Weights of a trained network lie far within their range, and the last digits that are
    /// lost matter less than those that a computation in fp16 or bf16 loses.
    Fp16,
}

impl Storage {
    /// The name of the numbers in `config.json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Storage::Fp32 => "float32",
            Storage::Fp16 => "float16",
        }
    }
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl safetensors::View for &Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.bytes.as_slice().into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The bytes of a `model.safetensors` with these tensors.
pub(crate) fn to_safetensors(tensors: &HashMap<String, Tensor>, storage: Storage) -> Result<Vec<u8>, Error> {
    let (kind, dtype) = match storage {
        Storage::Fp32 => (Kind::Float, Dtype::F32),
        Storage::Fp16 => (Kind::Half, Dtype::F16),
    };
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let tensor = tensor
            .f_detach()?
            .f_to_device(tch::Device::Cpu)?
            .f_to_kind(kind)?
            .f_contiguous()?;
        let count = tensor.numel();
        let mut bytes = vec![0; count * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, count)?;
        let shape = tensor
            .size()
            .into_iter()
            .map(|n| usize::try_from(n).unwrap_or(0))
            .collect();
        if !all_finite(&bytes, dtype) {
            return Err(Error::Engine(format!(
                "tensor {name} has values that {} cannot hold: the training diverged, or store it as float32",
                storage.name()
            )));
        }
        stored.push((name.clone(), Stored { dtype, shape, bytes }));
    }
    // `transformers` refuses a file that does not name its framework.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(stored.iter().map(|(name, tensor)| (name, tensor)), Some(metadata))
        .map_err(|e| Error::Engine(format!("writing safetensors: {e}")))
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|e| {
        // On a full disk its room is needed; that it may not be there is no further error.
        let _ = fs::remove_file(&partial);
        Error::io(path, e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values_that_are_not_finite() {
        let f32s = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        assert!(all_finite(&f32s(&[0.0, -1.5, f32::MAX, f32::MIN_POSITIVE]), Dtype::F32));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!all_finite(&f32s(&[0.0, bad, 1.0]), Dtype::F32));
        }
        // 65504 is the largest f16; 0x7c00 is its infinity, 0x7e00 a NaN.
        assert!(all_finite(&0x7bff_u16.to_le_bytes(), Dtype::F16));
        assert!(!all_finite(&0x7c00_u16.to_le_bytes(), Dtype::F16));
        assert!(!all_finite(&0xfe00_u16.to_le_bytes(), Dtype::F16));
        assert!(all_finite(&0x7f7f_u16.to_le_bytes(), Dtype::BF16));
        assert!(!all_finite(&0xffc0_u16.to_le_bytes(), Dtype::BF16));
    }
}
