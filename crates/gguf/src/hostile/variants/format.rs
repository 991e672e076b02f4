//! Files that break the format.

use super::Table;
use crate::{
    TensorType,
    hostile::tiny::{Kind, Sizes, tiny},
};

pub(super) fn add(table: &mut Table) {
    cut(table);
    not_models(table);
    counts_and_lengths(table);
    keys(table);
    tensor_list(table);
    offsets(table);
}

const CUT: &str = "cut or damaged";

fn cut(table: &mut Table) {
    let raw = tiny(Kind::Bpe, Sizes::SMALL);
    let whole = raw.encode();
    let marks = raw.marks();
    let mut seen = Vec::new();
    for (part, at) in &marks {
        // The first and the last of each kind.
        let last = marks
            .iter()
            .rfind(|(other, _)| other == part)
            .is_some_and(|(_, last)| last == at);
        if seen.contains(part) && !last {
            continue;
        }
        let error = if *part == "data" { "it was cut" } else { CUT };
        seen.push(part);
        table.bytes(&format!("cut before {part} at {at}"), error, whole[..*at].to_vec());
        if *part != "data" {
            table.bytes(&format!("cut within {part} after {at}"), CUT, whole[..at + 2].to_vec());
        }
    }
    table.bytes("cut within the data", "it was cut", whole[..whole.len() / 2].to_vec());
    table.bytes("one byte short", "it was cut", whole[..whole.len() - 1].to_vec());
    table.bytes("empty", "it is empty", Vec::new());
}

fn not_models(table: &mut Table) {
    table.bytes("two bytes", "it is not a GGUF file", b"GG".to_vec());
    table.bytes("zeros", "it is not a GGUF file", vec![0; 4096]);
    table.bytes(
        "text",
        "it is not a GGUF file",
        b"review,label\ngreat,positive\n".repeat(100),
    );
    table.bytes(
        "garbage after the magic",
        "GGUF version",
        [b"GGUF".as_slice(), &[0x5A; 4096]].concat(),
    );
    table.add("magic in lower case", "it is not a GGUF file", |raw| {
        raw.magic = *b"gguf"
    });
    table.add("magic of GGML", "it is not a GGUF file", |raw| raw.magic = *b"lmgg");
    table.add("magic of safetensors", "it is not a GGUF file", |raw| {
        raw.magic = *b"\x40\0\0\0"
    });
    for version in [0, 1, 4, u32::MAX] {
        table.add(&format!("version {version}"), "GGUF version", |raw| {
            raw.version = version
        });
    }
    for version in [2u32, 3] {
        table.add(&format!("big-endian version {version}"), "big-endian", |raw| {
            raw.version = version.swap_bytes();
        });
    }
}

fn counts_and_lengths(table: &mut Table) {
    for count in [65_537, 1 << 32, 1 << 63, u64::MAX] {
        table.add(&format!("{count} tensors"), "tensors and", |raw| {
            raw.tensor_count = Some(count)
        });
        table.add(&format!("{count} keys"), "tensors and", |raw| {
            raw.key_count = Some(count)
        });
    }
    table.add("one key more than there are", "", |raw| {
        raw.key_count = Some(raw.keys.len() as u64 + 1);
    });
    table.add("one key fewer than there are", "", |raw| {
        raw.key_count = Some(raw.keys.len() as u64 - 1);
    });
    table.add("one tensor more than there are", "", |raw| {
        raw.tensor_count = Some(raw.tensors.len() as u64 + 1);
    });
    table.add("two tensors fewer than there are", "has no tensor", |raw| {
        raw.tensor_count = Some(raw.tensors.len() as u64 - 2);
    });
    table.add("no keys", "has no general.architecture", |raw| {
        raw.keys.clear();
        raw.tensors.clear();
    });
    table.add("no tensors", "has no tensor", |raw| raw.tensors.clear());
    for length in [1 << 20, 1 << 40, 1 << 63, u64::MAX] {
        table.add(&format!("a key of {length} bytes"), CUT, |raw| {
            if let Some(key) = raw.keys.first_mut() {
                key.name_length = Some(length);
            }
        });
        table.add(&format!("a text of {length} bytes"), CUT, |raw| {
            raw.set_raw("general.name", 8, length.to_le_bytes().to_vec());
        });
        table.add(&format!("a tensor name of {length} bytes"), CUT, |raw| {
            if let Some(tensor) = raw.tensors.first_mut() {
                tensor.name_length = Some(length);
            }
        });
        for kind in [0u32, 5, 8, 10] {
            table.add(&format!("a list of {length} values of type {kind}"), CUT, |raw| {
                let value = [kind.to_le_bytes().as_slice(), &length.to_le_bytes()].concat();
                raw.set_raw("tokenizer.ggml.tokens", 9, value);
            });
        }
    }
    table.add("a list whose first text is as long as the file", CUT, |raw| {
        let value = [
            8u32.to_le_bytes().as_slice(),
            &2u64.to_le_bytes(),
            &(1u64 << 30).to_le_bytes(),
        ]
        .concat();
        raw.set_raw("tokenizer.ggml.tokens", 9, value);
    });
    table.add("millions of empty texts", "brings the texts", |raw| {
        let count = 4_000_001u64;
        let mut value = [8u32.to_le_bytes().as_slice(), &count.to_le_bytes()].concat();
        value.resize(value.len() + 8 * 4_000_001, 0);
        raw.set_raw("test.texts", 9, value);
    });
}

fn keys(table: &mut Table) {
    table.add("a list of lists", "list of lists", |raw| {
        let value = [9u32, 1, 0, 4, 1, 0, 7].map(u32::to_le_bytes).concat();
        raw.set_raw("test.nested", 9, value);
    });
    for kind in [13u32, 255, u32::MAX] {
        table.add(&format!("a value of type {kind}"), "unknown type", |raw| {
            raw.set_raw("test.unknown", kind, vec![0; 8]);
        });
        table.add(&format!("a list of type {kind}"), "unknown type", |raw| {
            let value = [kind.to_le_bytes().as_slice(), &1u64.to_le_bytes(), &[0; 8]].concat();
            raw.set_raw("test.unknown", 9, value);
        });
    }
    table.add("a key twice", "twice", |raw| raw.keys.extend(raw.keys.first().cloned()));
    table.add("an empty key", "a key of 0 bytes", |raw| raw.set("", 1u32));
    table.add("a key of 65,536 bytes", "a key of 65536 bytes", |raw| {
        raw.set(&"k".repeat(65_536), 1u32)
    });
    table.add("a key with a zero byte", "zero byte", |raw| {
        raw.set("general.name\0", 1u32)
    });
    table.add("a key that is not UTF-8", "not UTF-8", |raw| {
        if let Some(key) = raw.keys.last_mut() {
            key.name = vec![b'k', 0xFF, 0xFE];
        }
    });
    for alignment in [0, 1, 3, 8, 16, 33, 1 << 17, 1 << 31, u32::MAX] {
        table.key("general.alignment", alignment, "alignment");
    }
    table.key("general.alignment", 32u64, "is a u64 and not a u32");
    table.key("general.alignment", "32", "is a string and not a u32");
    table.key("general.name", 7u32, "is a u32 and not a string");
    table.key("general.file_type", "Q4_K_M", "is a string and not a u32");
    for key in [
        "llama.context_length",
        "llama.block_count",
        "llama.embedding_length",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.feed_forward_length",
    ] {
        table.key(key, 0u32, "is 0");
        table.key(key, 2u64, "is a u64 and not a u32");
        table.key(key, -1i32, "is a i32 and not a u32");
        table.key(key, 2.0f32, "is a f32 and not a u32");
        table.key(key, vec![4u32, 4], "is a list and not a u32");
        if key != "llama.attention.head_count_kv" {
            table.without(key, "it has no llama.");
        }
    }
}

fn tensor_list(table: &mut Table) {
    table.add("a tensor twice", "twice", |raw| {
        raw.tensors.extend(raw.tensors.first().cloned())
    });
    for length in [64, 65, 4096] {
        table.add(
            &format!("a tensor name of {length} letters"),
            "a tensor name of",
            |raw| {
                raw.add_tensor(&"n".repeat(length), &[4], TensorType::F32);
            },
        );
    }
    table.add("a tensor without a name", "a tensor name of 0 bytes", |raw| {
        raw.add_tensor("", &[4], TensorType::F32)
    });
    table.add("a tensor name with a zero byte", "zero byte", |raw| {
        raw.add_tensor("token_embd.weight\0", &[4], TensorType::F32);
    });
    let name = "blk.0.ffn_up.weight";
    for rank in [0, 5, 1 << 16, u32::MAX] {
        table.tensor(&format!("of {rank} dimensions"), name, "dimensions", |tensor| {
            tensor.rank = Some(rank)
        });
    }
    table.tensor("with a dimension of 0", name, "dimension of 0", |tensor| {
        tensor.dimensions = vec![32, 0]
    });
    table.tensor("with a first dimension of 0", name, "dimension of 0", |tensor| {
        tensor.dimensions = vec![0, 64]
    });
    for dimensions in [
        vec![1 << 32, 1 << 32],
        vec![1 << 63],
        vec![u64::MAX, 2],
        vec![1 << 16; 4],
        vec![1 << 62, 4],
    ] {
        table.tensor(&format!("of {dimensions:?}"), name, "more than 2^63", |tensor| {
            tensor.dimensions = dimensions
        });
    }
    table.tensor("of 2^62 elements", name, "more than 2^63 bytes", |tensor| {
        tensor.dimensions = vec![1 << 62]
    });
    for kind in [4, 5, 31, 33, 36, 38, 43, 255, u32::MAX] {
        table.tensor(&format!("of type {kind}"), name, "unknown type", |tensor| {
            tensor.kind = kind
        });
    }
    for kind in [
        TensorType::Q4_K,
        TensorType::Q6_K,
        TensorType::IQ2_XXS,
        TensorType::TQ1_0,
    ] {
        table.tensor(
            &format!("in {} with short rows", kind.name()),
            name,
            "multiples of",
            |tensor| {
                tensor.kind = kind.id();
            },
        );
    }
    table.add("rows that no Q8_0 has", "multiples of", |raw| {
        raw.reshape("blk.0.ffn_down.weight", &[63, 32], TensorType::F32);
        raw.tensor("blk.0.ffn_down.weight", |tensor| tensor.kind = TensorType::Q8_0.id());
    });
}

fn offsets(table: &mut Table) {
    let name = "blk.0.attn_q.weight";
    for (what, offset) in [
        ("over the first", 0),
        ("not aligned", 34_177),
        ("past the end", 1 << 40),
        ("at 2^63", 1 << 63),
        ("at 2^64 - 32", u64::MAX - 31),
    ] {
        table.tensor(what, name, "begins at byte", |tensor| tensor.offset = Some(offset));
    }
    table.tensor(
        "not at the beginning",
        "token_embd.weight",
        "begins at byte",
        |tensor| tensor.offset = Some(32),
    );
    table.add("two tensors in each other's place", "begins at byte", |raw| {
        let mut offset = 0;
        for tensor in &mut raw.tensors {
            tensor.offset = Some(offset);
            offset += (tensor.data.len() as u64).next_multiple_of(32);
        }
        let [first, second, ..] = raw.tensors.as_mut_slice() else {
            return;
        };
        std::mem::swap(&mut first.offset, &mut second.offset);
    });
    table.add("a gap between tensors", "begins at byte", |raw| {
        let mut offset = 0;
        for tensor in &mut raw.tensors {
            tensor.offset = Some(offset);
            offset += (tensor.data.len() as u64).next_multiple_of(32) + 32;
        }
    });
    table.add("tensors of 2^63 bytes together", "more than 2^63 bytes", |raw| {
        raw.tensors.clear();
        for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
            raw.add_tensor(name, &[1], TensorType::F32);
            raw.tensor(name, |tensor| {
                tensor.dimensions = vec![1 << 60];
                tensor.offset = Some((at as u64) << 62);
            });
        }
    });
    table.add("a last tensor that is longer than the file", "it was cut", |raw| {
        raw.tensor("output.weight", |tensor| tensor.dimensions = vec![32, 1 << 40]);
    });
}
