//! Writes GGUF files.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fs::Permissions,
    io::{BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use crate::{
    Error, TensorType, Value,
    header::{ALIGNMENT, DIMENSIONS_MAX, MAGIC, TENSOR_NAME_BYTES_MAX, VERSION},
    value::encode_string,
};

/// Collects keys and tensors and writes them as one file.
///
/// Tensors are borrowed where that is possible, and copied nowhere: they are written one after the other.
///
/// ```no_run
/// # use understudy_gguf::{TensorType, Writer};
/// let mut writer = Writer::new();
/// writer.metadata("general.architecture", "llama").metadata("llama.block_count", 2u32);
/// writer.tensor("output_norm.weight", &[2], TensorType::F32, vec![0; 8]);
/// writer.write("model.gguf".as_ref())?;
/// # Ok::<(), understudy_gguf::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Writer<'a> {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor<'a>>,
}

#[derive(Debug)]
struct Tensor<'a> {
    name: String,
    dimensions: Vec<u64>,
    kind: TensorType,
    data: Cow<'a, [u8]>,
}

impl<'a> Writer<'a> {
    /// Without keys and tensors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key. Keys are written in the order of their addition.
    pub fn metadata(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Adds a tensor. `dimensions` are in ggml's order, the row's length first (the reverse of PyTorch's); `data` is
    /// little-endian, row after row.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        dimensions: &[u64],
        kind: TensorType,
        data: impl Into<Cow<'a, [u8]>>,
    ) -> &mut Self {
        self.tensors.push(Tensor {
            name: name.into(),
            dimensions: dimensions.to_vec(),
            kind,
            data: data.into(),
        });
        self
    }

    /// Writes the file: all of it or nothing, and over an older one.
    ///
    /// # Errors
    /// [`Error::Unwritable`] if a key or tensor fits no file, [`Error::Local`] if the disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let unwritable = |reason| Error::Unwritable {
            path: path.to_owned(),
            reason,
        };
        let head = self.head().map_err(unwritable)?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".gguf-")
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(folder)
            .map_err(Error::local("cannot create a file in", folder))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let written = (|| {
            out.write_all(&head)?;
            out.write_all(padding(head.len()))?;
            for tensor in &self.tensors {
                out.write_all(&tensor.data)?;
                out.write_all(padding(tensor.data.len()))?;
            }
            out.flush()?;
            out.get_ref().as_file().sync_all()
        })();
        written.map_err(Error::local("cannot write", path))?;
        let file = out
            .into_inner()
            .map_err(|error| Error::local("cannot write", path)(error.into_error()))?;
        file.persist(path)
            .map_err(|error| Error::local("cannot write", path)(error.error))?;
        Ok(())
    }

    /// Everything before the tensors' data.
    fn head(&self) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        let mut seen = BTreeSet::new();
        for (key, value) in &self.metadata {
            if key.is_empty() || !seen.insert(key.as_str()) {
                return Err(format!("the key {key:?} is empty or given twice"));
            }
            encode_string(key, &mut out);
            out.extend(value.type_id().to_le_bytes());
            value.encode(&mut out);
        }
        let mut seen = BTreeSet::new();
        let mut offset = 0u64;
        for tensor in &self.tensors {
            let name = tensor.name.as_str();
            if name.is_empty() || name.len() > TENSOR_NAME_BYTES_MAX || !seen.insert(name) {
                return Err(format!(
                    "the tensor name {name:?} is empty, longer than {TENSOR_NAME_BYTES_MAX} bytes or given twice"
                ));
            }
            let dimensions = tensor.dimensions.as_slice();
            let rank = u32::try_from(dimensions.len()).ok();
            let Some(rank) =
                rank.filter(|_| (1..=DIMENSIONS_MAX).contains(&dimensions.len()) && !dimensions.contains(&0))
            else {
                return Err(format!(
                    "the tensor {name:?} has the dimensions {dimensions:?}, and 1 to {DIMENSIONS_MAX} are allowed, none 0"
                ));
            };
            let Some(bytes) = tensor.kind.bytes(dimensions) else {
                return Err(format!(
                    "the tensor {name:?} of {dimensions:?} cannot be {}, whose rows are multiples of {}",
                    tensor.kind.name(),
                    tensor.kind.block_elements()
                ));
            };
            let given = tensor.data.len() as u64;
            if given != bytes {
                return Err(format!(
                    "the tensor {name:?} of {dimensions:?} takes {bytes} bytes as {}, and {given} are given",
                    tensor.kind.name()
                ));
            }
            encode_string(name, &mut out);
            out.extend(rank.to_le_bytes());
            dimensions.iter().for_each(|size| out.extend(size.to_le_bytes()));
            out.extend(tensor.kind.id().to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += bytes.next_multiple_of(ALIGNMENT);
        }
        Ok(out)
    }
}

/// Zeros up to the next multiple of the alignment.
fn padding(length: usize) -> &'static [u8] {
    const ZEROS: [u8; 32] = [0; 32];
    const { assert!(ZEROS.len() as u64 == ALIGNMENT) };
    &ZEROS[..length.next_multiple_of(ZEROS.len()) - length]
}
