//! Values of metadata.

/// A value of a GGUF key.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is named as its Rust type")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// A list of values of one type. Lists of lists are not supported: no model has them and llama.cpp refuses them.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each variant is named as its Rust type")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Strings(Vec<String>),
}

pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;

impl Value {
    /// The number of the type in files.
    pub(crate) fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => STRING,
            Self::Array(_) => ARRAY,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// For error texts.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bool",
            Self::String(_) => "string",
            Self::Array(_) => "list",
        }
    }

    /// Appends the value as files hold it, without its type.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(value) => out.push(*value),
            Self::I8(value) => out.extend(value.to_le_bytes()),
            Self::U16(value) => out.extend(value.to_le_bytes()),
            Self::I16(value) => out.extend(value.to_le_bytes()),
            Self::U32(value) => out.extend(value.to_le_bytes()),
            Self::I32(value) => out.extend(value.to_le_bytes()),
            Self::U64(value) => out.extend(value.to_le_bytes()),
            Self::I64(value) => out.extend(value.to_le_bytes()),
            Self::F32(value) => out.extend(value.to_le_bytes()),
            Self::F64(value) => out.extend(value.to_le_bytes()),
            Self::Bool(value) => out.push(u8::from(*value)),
            Self::String(text) => encode_string(text, out),
            Self::Array(array) => array.encode(out),
        }
    }
}

impl Array {
    fn type_id(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Strings(_) => STRING,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// Type, length, elements.
    fn encode(&self, out: &mut Vec<u8>) {
        fn all<T: Copy, const N: usize>(values: &[T], bytes: fn(T) -> [u8; N], out: &mut Vec<u8>) {
            out.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| out.extend(bytes(*value)));
        }
        out.extend(self.type_id().to_le_bytes());
        match self {
            Self::U8(values) => all(values, u8::to_le_bytes, out),
            Self::I8(values) => all(values, i8::to_le_bytes, out),
            Self::U16(values) => all(values, u16::to_le_bytes, out),
            Self::I16(values) => all(values, i16::to_le_bytes, out),
            Self::U32(values) => all(values, u32::to_le_bytes, out),
            Self::I32(values) => all(values, i32::to_le_bytes, out),
            Self::U64(values) => all(values, u64::to_le_bytes, out),
            Self::I64(values) => all(values, i64::to_le_bytes, out),
            Self::F32(values) => all(values, f32::to_le_bytes, out),
            Self::F64(values) => all(values, f64::to_le_bytes, out),
            Self::Bool(values) => all(values, |value| [u8::from(value)], out),
            Self::Strings(values) => {
                out.extend((values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| encode_string(value, out));
            }
        }
    }
}

pub(crate) fn encode_string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

macro_rules! from {
    ($($type:ty => $variant:ident),* $(,)?) => { $(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )* };
}
from!(u32 => U32, i32 => I32, u64 => U64, f32 => F32, bool => Bool, &str => String, String => String, Array => Array);

macro_rules! from_list {
    ($($type:ty => $variant:ident),* $(,)?) => { $(
        impl From<$type> for Value {
            fn from(values: $type) -> Self {
                Self::Array(Array::$variant(values))
            }
        }
    )* };
}
from_list!(Vec<u32> => U32, Vec<i32> => I32, Vec<f32> => F32, Vec<String> => Strings);
