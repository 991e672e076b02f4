use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;
use crate::{Array, Value, Writer, hostile};

/// A folder and a file in it.
fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn checked(bytes: &[u8]) -> Result<Model, Error> {
    let (_folder, path) = file(bytes);
    check(&path)
}

#[test]
fn hostile_files_are_refused_with_a_reason() {
    let variants = hostile::variants();
    assert!(variants.len() > 60);
    let mut names: Vec<_> = variants.iter().map(|variant| variant.name.as_str()).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        assert_ne!(pair[0], pair[1]);
    }
    let mut wrong = Vec::new();
    for variant in &variants {
        let began = Instant::now();
        match checked(&variant.bytes) {
            Ok(_) => wrong.push(format!("{}: passed", variant.name)),
            Err(Error::Invalid { reason, .. }) if reason.contains(variant.error) => {
                assert!(
                    reason.contains(';') || reason.contains(':'),
                    "says what to do: {reason}"
                );
            }
            Err(error) => wrong.push(format!("{}: {error}", variant.name)),
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{}", variant.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn valid_files_pass() {
    for valid in hostile::valid() {
        if let Err(error) = checked(&valid.bytes) {
            panic!("{}: {error}", valid.name);
        }
    }
}

#[test]
fn says_what_a_model_is() {
    let model = checked(&hostile::valid()[0].bytes).unwrap();
    assert_eq!(
        model,
        Model {
            name: Some("tiny".into()),
            architecture: "llama".into(),
            context_length: 512,
            embedding_length: 32,
            feed_forward_length: 64,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
            vocabulary: 266,
            parameters: 2 * (2 * 32 + 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) + 2 * 266 * 32 + 32,
            weights_bytes: 4 * model.parameters,
            quantization: "F32".into(),
            chat_template: model.chat_template.clone(),
            bos: Some(261),
            eos: Some(262),
            eot: Some(265),
            add_bos: true,
        }
    );
    assert!(model.chat_template.as_ref().unwrap().contains("start_header_id"));
    assert_eq!(model.kv_bytes_per_token(), 2 * 2 * 8 * 2 * 2);
}

#[test]
fn quantization_is_guessed_where_the_file_is_silent() {
    let valid = hostile::valid();
    let find = |name: &str| &valid.iter().find(|valid| valid.name == name).unwrap().bytes;
    assert_eq!(checked(find("only what is needed")).unwrap().quantization, "F32");
    let spm = checked(find("SentencePiece")).unwrap();
    assert_eq!((spm.bos, spm.eos, spm.eot, spm.add_bos), (Some(1), Some(2), None, true));
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = check(folder.path()).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    let error = check("/dev/zero".as_ref()).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
    let error = check(&folder.path().join("absent")).unwrap_err();
    assert!(matches!(error, Error::Local { .. }), "{error}");
    // Opened for reading, a pipe would wait for a writer for ever.
    let pipe = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let error = check(&pipe).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn a_header_is_bounded_however_large_the_file() {
    // A key that claims 200 MB in a file of 1 GiB, which takes no room on the disk.
    let bytes = [
        b"GGUF\x03\0\0\0".as_slice(),
        &1u64.to_le_bytes(),
        &1u64.to_le_bytes(),
        &200_000_000u64.to_le_bytes(),
    ];
    let (_folder, path) = file(&bytes.concat());
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    let error = check(&path).unwrap_err();
    assert!(error.to_string().contains("takes more than 134217728 bytes"), "{error}");
}

#[test]
fn writer_and_reader_agree() {
    // Everything of the header, through the reader and the writer, gives the same file.
    for valid in hostile::valid() {
        if valid.name == "version 2" || valid.name == "a larger alignment" || valid.name == "more bytes than needed" {
            continue;
        }
        let (folder, path) = file(&valid.bytes);
        let copied = folder.path().join("copy.gguf");
        copy(&valid.bytes, &path).write(&copied).unwrap();
        assert!(fs::read(&copied).unwrap() == valid.bytes, "{}", valid.name);
    }
}

/// A writer of what the file holds, in its order.
fn copy<'a>(bytes: &'a [u8], path: &std::path::Path) -> Writer<'a> {
    let mut source = Source::new(File::open(path).unwrap(), bytes.len() as u64);
    let mut writer = Writer::new();
    let head: [u8; 8] = source.array().unwrap();
    assert_eq!(&head[..4], b"GGUF");
    let (tensors, keys) = (source.u64().unwrap(), source.u64().unwrap());
    for _ in 0..keys {
        let key = source.string().unwrap();
        let value = source.value(&key).unwrap();
        writer.metadata(key, value);
    }
    let mut infos = Vec::new();
    for _ in 0..tensors {
        let name = source.string().unwrap();
        let rank = source.u32().unwrap();
        let dimensions: Vec<_> = (0..rank).map(|_| source.u64().unwrap()).collect();
        let kind = TensorType::from_id(source.u32().unwrap()).unwrap();
        infos.push((name, dimensions, kind, source.u64().unwrap()));
    }
    let data = usize::try_from(source.at().next_multiple_of(32)).unwrap();
    for (name, dimensions, kind, offset) in infos {
        let begin = data + usize::try_from(offset).unwrap();
        let end = begin + usize::try_from(kind.bytes(&dimensions).unwrap()).unwrap();
        writer.tensor(name, &dimensions, kind, &bytes[begin..end]);
    }
    writer
}

#[test]
fn writer_refuses_what_no_file_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let refused = |writer: &Writer<'_>| {
        let error = writer.write(&path).unwrap_err();
        assert!(matches!(error, Error::Unwritable { .. }), "{error}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
    };
    let zeros = [0u8; 64];
    refused(Writer::new().metadata("a", 1u32).metadata("a", 2u32));
    refused(Writer::new().metadata("", 1u32));
    refused(Writer::new().tensor("t", &[16], TensorType::F32, &zeros[..63]));
    refused(Writer::new().tensor("t", &[], TensorType::F32, &zeros[..4]));
    refused(Writer::new().tensor("t", &[1, 1, 1, 1, 1], TensorType::F32, &zeros[..4]));
    refused(Writer::new().tensor("t", &[0], TensorType::F32, &zeros[..0]));
    refused(Writer::new().tensor("t", &[33], TensorType::Q8_0, &zeros[..34]));
    refused(Writer::new().tensor("n".repeat(64), &[16], TensorType::F32, &zeros[..]));
    let twice = |writer: &mut Writer<'_>| {
        writer.tensor("t", &[1], TensorType::F32, vec![0; 4]);
    };
    let mut writer = Writer::new();
    twice(&mut writer);
    twice(&mut writer);
    refused(&writer);

    let absent = folder.path().join("absent/model.gguf");
    assert!(matches!(Writer::new().write(&absent).unwrap_err(), Error::Local { .. }));
    Writer::new()
        .metadata("list", Array::F64(vec![1.0]))
        .metadata("u8", Value::U8(3))
        .write(&path)
        .unwrap();
    assert!(checked(&fs::read(&path).unwrap()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_neither_panic_nor_take_long(seed: u64) {
        let bytes = hostile::damaged(seed);
        let began = Instant::now();
        let _ = checked(&bytes);
        prop_assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn noise_neither_panics_nor_passes(noise in proptest::collection::vec(any::<u8>(), 0..512)) {
        let bytes = [b"GGUF\x03\0\0\0".as_slice(), &noise].concat();
        prop_assert!(checked(&bytes).is_err());
    }
}
