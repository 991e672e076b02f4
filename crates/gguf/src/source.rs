//! Reads a header front to back, and never more than the file holds.

use std::{
    fs::File,
    io::{BufReader, Read as _},
};

use crate::{
    error::{Checked, bad, require},
    header::METADATA_BYTES_MAX,
    value::{ARRAY, Array, STRING, Value},
};

/// Strings in all lists together: bounds what their bookkeeping takes. The largest vocabularies have a quarter million
/// tokens and half a million merges.
const STRINGS_MAX: u64 = 4_000_000;

pub(crate) struct Source {
    input: BufReader<File>,
    /// Bytes read so far.
    at: u64,
    /// Bytes of the file.
    length: u64,
    /// What is being read, for error texts.
    pub(crate) section: &'static str,
    strings: u64,
}

impl Source {
    pub(crate) fn new(file: File, length: u64) -> Self {
        Self {
            input: BufReader::with_capacity(1 << 16, file),
            at: 0,
            length,
            section: "header",
            strings: 0,
        }
    }

    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Refuses to read `count` elements of `size` bytes that are not there.
    fn reserve(&self, count: u64, size: u64) -> Checked<usize> {
        let end = count.checked_mul(size).and_then(|bytes| bytes.checked_add(self.at));
        require!(
            end.is_some_and(|end| end <= self.length),
            "its {} asks for {count} × {size} bytes at byte {} of {}: the file was cut or damaged; copy or download it again",
            self.section,
            self.at,
            self.length
        );
        require!(
            end.is_some_and(|end| end <= METADATA_BYTES_MAX),
            "its {} takes more than {METADATA_BYTES_MAX} bytes, which no model needs; the file is damaged or not a model",
            self.section
        );
        usize::try_from(count * size).map_err(|_| bad!("its {} is too long for this machine", self.section))
    }

    fn take(&mut self, count: u64, size: u64) -> Checked<Vec<u8>> {
        let mut bytes = vec![0; self.reserve(count, size)?];
        self.input.read_exact(&mut bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Checked<[u8; N]> {
        let mut bytes = [0; N];
        self.reserve(1, N as u64)?;
        self.input.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self) -> Checked<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Checked<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn string(&mut self) -> Checked<String> {
        let length = self.u64()?;
        let at = self.at;
        String::from_utf8(self.take(length, 1)?).map_err(|_| {
            bad!(
                "its {} has a text at byte {at} that is not UTF-8: the file is damaged; copy or download it again",
                self.section
            )
        })
    }

    /// A value of a key with its type before it.
    pub(crate) fn value(&mut self, key: &str) -> Checked<Value> {
        let kind = self.u32()?;
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array()?)),
            1 => Value::I8(i8::from_le_bytes(self.array()?)),
            2 => Value::U16(u16::from_le_bytes(self.array()?)),
            3 => Value::I16(i16::from_le_bytes(self.array()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.array()?)),
            6 => Value::F32(f32::from_le_bytes(self.array()?)),
            7 => Value::Bool(self.array::<1>()? != [0]),
            STRING => Value::String(self.string()?),
            ARRAY => Value::Array(self.list(key)?),
            10 => Value::U64(self.u64()?),
            11 => Value::I64(i64::from_le_bytes(self.array()?)),
            12 => Value::F64(f64::from_le_bytes(self.array()?)),
            _ => return Err(unknown_type(key, kind)),
        })
    }

    fn list(&mut self, key: &str) -> Checked<Array> {
        let kind = self.u32()?;
        let count = self.u64()?;
        Ok(match kind {
            0 => Array::U8(self.take(count, 1)?),
            1 => Array::I8(self.elements(count, i8::from_le_bytes)?),
            2 => Array::U16(self.elements(count, u16::from_le_bytes)?),
            3 => Array::I16(self.elements(count, i16::from_le_bytes)?),
            4 => Array::U32(self.elements(count, u32::from_le_bytes)?),
            5 => Array::I32(self.elements(count, i32::from_le_bytes)?),
            6 => Array::F32(self.elements(count, f32::from_le_bytes)?),
            7 => Array::Bool(self.elements(count, |byte: [u8; 1]| byte != [0])?),
            STRING => Array::Strings(self.strings(key, count)?),
            ARRAY => {
                return Err(bad!(
                    "its key {key:?} is a list of lists, which no model has; convert the model again"
                ));
            }
            10 => Array::U64(self.elements(count, u64::from_le_bytes)?),
            11 => Array::I64(self.elements(count, i64::from_le_bytes)?),
            12 => Array::F64(self.elements(count, f64::from_le_bytes)?),
            _ => return Err(unknown_type(key, kind)),
        })
    }

    fn elements<T, const N: usize>(&mut self, count: u64, decode: fn([u8; N]) -> T) -> Checked<Vec<T>> {
        let bytes = self.take(count, N as u64)?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|chunk| decode(*chunk)).collect())
    }

    fn strings(&mut self, key: &str, count: u64) -> Checked<Vec<String>> {
        // Each has at least its length.
        self.reserve(count, 8)?;
        self.strings = self.strings.saturating_add(count);
        require!(
            self.strings <= STRINGS_MAX,
            "its key {key:?} brings the texts in its metadata to more than {STRINGS_MAX}; the file is damaged or not a \
             model"
        );
        (0..count).map(|_| self.string()).collect()
    }
}

fn unknown_type(key: &str, kind: u32) -> crate::error::Fault {
    bad!(
        "its key {key:?} has a value of the unknown type {kind}: the file is damaged, or newer than this software; copy or \
         download it again"
    )
}
