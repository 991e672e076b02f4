//! The header of a GGUF file: keys and the list of tensors.

use std::collections::HashMap;

use crate::{
    TensorType, Value,
    error::{Checked, bad, require},
    source::Source,
    tensor::elements,
};

/// Bytes that a header may take. Llama 3's takes 8 MB.
pub const METADATA_BYTES_MAX: u64 = 128 << 20;
/// Most keys and most tensors.
const ENTRIES_MAX: u64 = 65_536;
/// GGUF's own limit.
const KEY_BYTES_MAX: usize = 65_535;
/// ggml keeps names in 64 bytes with a zero at the end.
pub(crate) const TENSOR_NAME_BYTES_MAX: usize = 63;
pub(crate) const DIMENSIONS_MAX: usize = 4;
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
pub(crate) const VERSION: u32 = 3;
/// What a file without `general.alignment` has, and the least that ggml accepts of mapped tensors: it aborts on less.
pub(crate) const ALIGNMENT: u64 = 32;
const ALIGNMENT_MAX: u64 = 65_536;

pub(crate) struct Header {
    pub(crate) keys: HashMap<String, Value>,
    pub(crate) tensors: HashMap<String, Tensor>,
}

pub(crate) struct Tensor {
    /// With ones at the end.
    pub(crate) dimensions: [u64; DIMENSIONS_MAX],
    pub(crate) kind: TensorType,
    pub(crate) elements: u64,
    pub(crate) bytes: u64,
}

impl Header {
    pub(crate) fn read(source: &mut Source) -> Checked<Self> {
        require!(source.length() > 0, "it is empty; copy or download it again");
        require!(
            source.length() >= 4 && source.array()? == MAGIC,
            "it is not a GGUF file, which begins with \"GGUF\"; give the .gguf file of the model"
        );
        let version = source.u32()?;
        require!(
            !matches!(version.swap_bytes(), 1..=VERSION),
            "it is a big-endian GGUF; get the little-endian one"
        );
        require!(
            matches!(version, 2..=VERSION),
            "it has GGUF version {version}, and versions 2 and 3 are supported; convert the model again with a current \
             llama.cpp"
        );
        let tensor_count = source.u64()?;
        let key_count = source.u64()?;
        require!(
            tensor_count <= ENTRIES_MAX && key_count <= ENTRIES_MAX,
            "it claims {tensor_count} tensors and {key_count} keys, and {ENTRIES_MAX} of each are the most: the file is \
             damaged; copy or download it again"
        );
        source.section = "metadata";
        let keys = read_keys(source, key_count)?;
        let alignment = alignment(&keys)?;
        source.section = "list of tensors";
        let tensors = read_tensors(source, tensor_count, alignment)?;
        Ok(Self { keys, tensors })
    }
}

fn read_keys(source: &mut Source, count: u64) -> Checked<HashMap<String, Value>> {
    let mut keys = HashMap::new();
    for _ in 0..count {
        let key = source.string()?;
        require!(
            !key.is_empty() && key.len() <= KEY_BYTES_MAX,
            "it has a key of {} bytes: the file is damaged; copy or download it again",
            key.len()
        );
        require!(
            !key.contains('\0'),
            "its key {key:?} has a zero byte: the file is damaged; copy or download it again"
        );
        let value = source.value(&key)?;
        require!(
            !keys.contains_key(&key),
            "it has the key {key:?} twice; convert the model again"
        );
        keys.insert(key, value);
    }
    Ok(keys)
}

fn alignment(keys: &HashMap<String, Value>) -> Checked<u64> {
    let alignment = match keys.get("general.alignment") {
        None => return Ok(ALIGNMENT),
        Some(Value::U32(alignment)) => u64::from(*alignment),
        Some(other) => {
            return Err(bad!(
                "its general.alignment is a {} and not a u32; convert the model again",
                other.type_name()
            ));
        }
    };
    require!(
        alignment.is_power_of_two() && (ALIGNMENT..=ALIGNMENT_MAX).contains(&alignment),
        "its alignment {alignment} is not a power of two between {ALIGNMENT} and {ALIGNMENT_MAX}; convert the model again"
    );
    Ok(alignment)
}

fn read_tensors(source: &mut Source, count: u64, alignment: u64) -> Checked<HashMap<String, Tensor>> {
    let mut tensors = HashMap::new();
    // Where the next one must begin, from the beginning of the data.
    let mut next = 0u64;
    // Where the last one ends.
    let mut end = 0u64;
    for _ in 0..count {
        let name = source.string()?;
        require!(
            !name.is_empty() && name.len() <= TENSOR_NAME_BYTES_MAX,
            "it has a tensor name of {} bytes, and 1 to {TENSOR_NAME_BYTES_MAX} are allowed: the file is damaged; copy or \
             download it again",
            name.len()
        );
        require!(
            !name.contains('\0'),
            "its tensor name {name:?} has a zero byte: the file is damaged; copy or download it again"
        );
        require!(
            !tensors.contains_key(&name),
            "it has the tensor {name:?} twice; convert the model again"
        );
        let (tensor, offset) = read_tensor(source, &name)?;
        require!(
            offset == next,
            "its tensor {name:?} begins at byte {offset} of the data instead of {next}: it overlaps another or leaves a \
             gap; convert the model again"
        );
        end = next + tensor.bytes;
        next = tensor
            .bytes
            .checked_next_multiple_of(alignment)
            .and_then(|bytes| next.checked_add(bytes))
            .filter(|next| i64::try_from(*next).is_ok())
            .ok_or_else(|| {
                bad!("its tensors take more than 2^63 bytes: the file is damaged; copy or download it again")
            })?;
        tensors.insert(name, tensor);
    }
    let needed = source.at().next_multiple_of(alignment).saturating_add(end);
    require!(
        needed <= source.length(),
        "it has {} bytes where its tensors need {needed}: it was cut; copy or download it again",
        source.length()
    );
    Ok(tensors)
}

fn read_tensor(source: &mut Source, name: &str) -> Checked<(Tensor, u64)> {
    let rank = source.u32()?;
    let rank = usize::try_from(rank).unwrap_or(usize::MAX);
    require!(
        (1..=DIMENSIONS_MAX).contains(&rank),
        "its tensor {name:?} has {rank} dimensions, and 1 to {DIMENSIONS_MAX} are allowed: the file is damaged; copy or \
         download it again"
    );
    let mut dimensions = [1; DIMENSIONS_MAX];
    for dimension in &mut dimensions[..rank] {
        *dimension = source.u64()?;
    }
    require!(
        !dimensions.contains(&0),
        "its tensor {name:?} has a dimension of 0; convert the model again"
    );
    let id = source.u32()?;
    let kind = TensorType::from_id(id).ok_or_else(|| {
        bad!(
            "its tensor {name:?} has the unknown type {id}; quantise the model again with a current llama.cpp, e.g. as \
             Q4_K_M"
        )
    })?;
    let elements = elements(&dimensions).ok_or_else(|| {
        bad!("its tensor {name:?} has more than 2^63 elements: the file is damaged; copy or download it again")
    })?;
    require!(
        dimensions[0].is_multiple_of(kind.block_elements()),
        "its tensor {name:?} has rows of {} elements, and {} needs multiples of {}; quantise the model again as another \
         type",
        dimensions[0],
        kind.name(),
        kind.block_elements()
    );
    let bytes = kind.bytes(&dimensions).ok_or_else(|| {
        bad!("its tensor {name:?} has more than 2^63 bytes: the file is damaged; copy or download it again")
    })?;
    let offset = source.u64()?;
    Ok((
        Tensor {
            dimensions,
            kind,
            elements,
            bytes,
        },
        offset,
    ))
}
