//! Decides whether llama.cpp may see a file.
//!
//! The rules follow llama.cpp's loader (`gguf.cpp`, `llama-model.cpp`, `llama-vocab.cpp` and `models/llama.cpp` of the
//! version that the scribe worker links): what it throws on is refused with a better text, and so is what it asserts
//! without need, such as the byte tokens whose absence ends the process at the first text that needs one.

mod keys;
mod shape;
mod tensors;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::{fs::File, path::Path};

use self::{keys::Keys, shape::Shape, tokenizer::Tokenizer};
use crate::{
    Error, Model, TensorType,
    error::{Checked, Fault, require},
    header::Header,
    source::Source,
    tensor::file_type_name,
};

/// Architectures (`general.architecture`) that can be served.
pub const ARCHITECTURES: &[&str] = &["llama"];

/// Reads the header of a file and says what model it holds. It takes milliseconds and at most a few hundred megabytes,
/// whatever the file.
///
/// # Errors
/// [`Error::Invalid`] with what is wrong and what to do, [`Error::Local`] if the file cannot be read.
pub fn check(path: &Path) -> Result<Model, Error> {
    let fault = |fault| match fault {
        Fault::Bad(reason) => Error::Invalid {
            path: path.to_owned(),
            reason,
        },
        Fault::Io(error) => Error::local("cannot read", path)(error),
    };
    let kind = std::fs::metadata(path).map_err(Error::local("cannot open", path))?;
    // Before it is opened, which would wait for the other end of a pipe.
    regular(&kind).map_err(fault)?;
    let file = File::open(path).map_err(Error::local("cannot open", path))?;
    let kind = file.metadata().map_err(Error::local("cannot open", path))?;
    regular(&kind).map_err(fault)?;
    let header = Header::read(&mut Source::new(file, kind.len())).map_err(fault)?;
    model(&header).map_err(fault)
}

fn regular(kind: &std::fs::Metadata) -> Checked<()> {
    require!(
        kind.is_file(),
        "it is not a regular file; give the .gguf file of the model"
    );
    Ok(())
}

fn model(header: &Header) -> Checked<Model> {
    let keys = Keys::new(&header.keys);
    let architecture = keys.needed_string("general.architecture")?;
    require!(
        ARCHITECTURES.contains(&architecture),
        "its architecture is {architecture:?}, and {} is what can be served; choose a model of the Llama family",
        ARCHITECTURES.join(", ")
    );
    let kind = keys.string("general.type")?.unwrap_or("model");
    require!(
        kind == "model",
        "its general.type is {kind:?} and not \"model\": it is part of a model; give the whole one"
    );
    require!(
        keys.u16("split.count")?.unwrap_or(0) <= 1,
        "it is one part of a model in several files; join them with `llama-gguf-split --merge`"
    );
    // llama.cpp looks these tensors up and trusts what it finds.
    for key in ["general.tensor_extra.name", "general.tensor_extra.prec_a4"] {
        require!(
            !header.keys.contains_key(key),
            "it has {key}, which is not supported; quantise the model again, e.g. as Q4_K_M"
        );
    }
    let shape = Shape::read(&keys)?;
    let tokenizer = Tokenizer::read(&keys)?;
    tensors::check(&header.tensors, &shape, tokenizer.vocabulary)?;

    let sum = |of: fn(&crate::header::Tensor) -> u64| header.tensors.values().map(of).sum();
    let quantization = keys
        .u32("general.file_type")?
        .and_then(file_type_name)
        .unwrap_or_else(|| commonest(header).name());
    let name = keys.string("general.name")?;
    tokenizer.check_name(name.unwrap_or_default())?;
    Ok(Model {
        name: name.map(str::to_owned),
        architecture: architecture.to_owned(),
        context_length: shape.context,
        embedding_length: shape.embedding,
        feed_forward_length: shape.feed_forward,
        layers: shape.layers,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        head_dim: shape.head,
        vocabulary: tokenizer.vocabulary,
        parameters: sum(|tensor| tensor.elements),
        weights_bytes: sum(|tensor| tensor.bytes),
        quantization: quantization.to_owned(),
        chat_template: tokenizer.chat_template.map(str::to_owned),
        bos: tokenizer.bos,
        eos: tokenizer.eos,
        eot: tokenizer.eot,
        add_bos: tokenizer.add_bos,
    })
}

/// The type of most elements.
fn commonest(header: &Header) -> TensorType {
    let elements = |kind: TensorType| -> u64 {
        let of_kind = header.tensors.values().filter(|tensor| tensor.kind == kind);
        of_kind.map(|tensor| tensor.elements).sum()
    };
    TensorType::all()
        .max_by_key(|kind| elements(*kind))
        .unwrap_or(TensorType::F32)
}
