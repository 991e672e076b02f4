//! Tensor types: how many elements a block has and how many bytes it takes.

/// How the elements of a tensor are stored. The names and numbers are ggml's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs, reason = "ggml's own names, which users know")]
pub enum TensorType {
    F32,
    F16,
    BF16,
    F64,
    I8,
    I16,
    I32,
    I64,
    Q1_0,
    Q2_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ1_S,
    IQ1_M,
    IQ2_XXS,
    IQ2_XS,
    IQ2_S,
    IQ3_XXS,
    IQ3_S,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
}

/// One row for each type.
struct Layout {
    kind: TensorType,
    /// In files.
    id: u32,
    name: &'static str,
    /// Elements of a block.
    elements: u64,
    /// Bytes of a block.
    bytes: u64,
}

const fn layout(kind: TensorType, id: u32, name: &'static str, elements: u64, bytes: u64) -> Layout {
    Layout {
        kind,
        id,
        name,
        elements,
        bytes,
    }
}

/// In the order of the enum. From `ggml.h` and `ggml-common.h`.
const LAYOUTS: [Layout; 35] = {
    use TensorType::*;
    [
        layout(F32, 0, "F32", 1, 4),
        layout(F16, 1, "F16", 1, 2),
        layout(BF16, 30, "BF16", 1, 2),
        layout(F64, 28, "F64", 1, 8),
        layout(I8, 24, "I8", 1, 1),
        layout(I16, 25, "I16", 1, 2),
        layout(I32, 26, "I32", 1, 4),
        layout(I64, 27, "I64", 1, 8),
        layout(Q1_0, 41, "Q1_0", 128, 18),
        layout(Q2_0, 42, "Q2_0", 64, 18),
        layout(Q4_0, 2, "Q4_0", 32, 18),
        layout(Q4_1, 3, "Q4_1", 32, 20),
        layout(Q5_0, 6, "Q5_0", 32, 22),
        layout(Q5_1, 7, "Q5_1", 32, 24),
        layout(Q8_0, 8, "Q8_0", 32, 34),
        layout(Q8_1, 9, "Q8_1", 32, 36),
        layout(Q2_K, 10, "Q2_K", 256, 84),
        layout(Q3_K, 11, "Q3_K", 256, 110),
        layout(Q4_K, 12, "Q4_K", 256, 144),
        layout(Q5_K, 13, "Q5_K", 256, 176),
        layout(Q6_K, 14, "Q6_K", 256, 210),
        layout(Q8_K, 15, "Q8_K", 256, 292),
        layout(IQ1_S, 19, "IQ1_S", 256, 50),
        layout(IQ1_M, 29, "IQ1_M", 256, 56),
        layout(IQ2_XXS, 16, "IQ2_XXS", 256, 66),
        layout(IQ2_XS, 17, "IQ2_XS", 256, 74),
        layout(IQ2_S, 22, "IQ2_S", 256, 82),
        layout(IQ3_XXS, 18, "IQ3_XXS", 256, 98),
        layout(IQ3_S, 21, "IQ3_S", 256, 110),
        layout(IQ4_NL, 20, "IQ4_NL", 32, 18),
        layout(IQ4_XS, 23, "IQ4_XS", 256, 136),
        layout(TQ1_0, 34, "TQ1_0", 256, 54),
        layout(TQ2_0, 35, "TQ2_0", 256, 66),
        layout(MXFP4, 39, "MXFP4", 32, 17),
        layout(NVFP4, 40, "NVFP4", 64, 36),
    ]
};

impl TensorType {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        LAYOUTS.iter().map(|layout| layout.kind)
    }

    pub(crate) fn from_id(id: u32) -> Option<Self> {
        LAYOUTS.iter().find(|layout| layout.id == id).map(|layout| layout.kind)
    }

    fn layout(self) -> &'static Layout {
        &LAYOUTS[self as usize]
    }

    /// The number that files hold.
    #[must_use]
    pub fn id(self) -> u32 {
        self.layout().id
    }

    /// As ggml writes it, e.g. `Q4_K`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.layout().name
    }

    /// Elements that are stored together; a row is a multiple of it.
    #[must_use]
    pub fn block_elements(self) -> u64 {
        self.layout().elements
    }

    /// Bytes of one block.
    #[must_use]
    pub fn block_bytes(self) -> u64 {
        self.layout().bytes
    }

    /// Bytes of a tensor; `None` when a row is no multiple of the block or the size is beyond 2^63.
    #[must_use]
    pub fn bytes(self, dimensions: &[u64]) -> Option<u64> {
        let row = dimensions.first()?;
        if !row.is_multiple_of(self.block_elements()) {
            return None;
        }
        let elements = elements(dimensions)?;
        let bytes = (elements / self.block_elements()).checked_mul(self.block_bytes())?;
        i64::try_from(bytes).ok().map(|_| bytes)
    }

    /// True for what a matrix of weights may be: llama.cpp multiplies by no other. NVFP4 needs scales beside it.
    pub(crate) fn is_weight(self) -> bool {
        !matches!(
            self,
            Self::Q8_1 | Self::Q8_K | Self::NVFP4 | Self::F64 | Self::I8 | Self::I16 | Self::I32 | Self::I64
        )
    }
}

/// Elements of a tensor, if fewer than 2^63.
pub(crate) fn elements(dimensions: &[u64]) -> Option<u64> {
    let product = dimensions
        .iter()
        .try_fold(1u64, |product, dimension| product.checked_mul(*dimension))?;
    i64::try_from(product).ok().map(|_| product)
}

/// Name of a `general.file_type`.
pub(crate) fn file_type_name(file_type: u32) -> Option<&'static str> {
    Some(match file_type {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order_and_without_repeats() {
        for (at, layout) in LAYOUTS.iter().enumerate() {
            assert_eq!(layout.kind as usize, at, "{}", layout.name);
            assert_eq!(TensorType::from_id(layout.id), Some(layout.kind));
        }
        assert_eq!(TensorType::from_id(4), None);
        assert_eq!(TensorType::from_id(43), None);
    }

    #[test]
    fn bytes_of_tensors() {
        assert_eq!(TensorType::F32.bytes(&[3, 5]), Some(60));
        assert_eq!(TensorType::Q4_K.bytes(&[512, 2]), Some(576));
        assert_eq!(TensorType::Q4_K.bytes(&[300]), None);
        assert_eq!(TensorType::F32.bytes(&[1 << 40, 1 << 40]), None);
        assert_eq!(TensorType::F32.bytes(&[1 << 62]), None);
        assert_eq!(TensorType::F32.bytes(&[]), None);
    }
}
