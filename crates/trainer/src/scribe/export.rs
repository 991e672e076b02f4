//! The trained network as a GGUF file, for llama.cpp.

use std::path::PathBuf;

use anyhow::Context as _;
use tch::{Kind, Tensor};
use understudy_gguf::{Array, TensorType, Value, Writer};

use super::network::Shape;
use super::tokenizer::{SPECIAL, Tokenizer};
use super::train::trained;

const NAME: &str = "Understudy starter scribe";
/// Llama 3's chat template, as `Tokenizer::conversation` renders it.
const CHAT_TEMPLATE: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = \
'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 \
== 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ \
'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
/// ggml's numbers: every tensor F32; the layout of quantised blocks; kinds of tokens.
const ALL_F32: u32 = 0;
const QUANTIZATION_VERSION: u32 = 2;
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct ExportOptions {
    /// Folder that `scribe train` wrote
    #[arg(value_name = "FOLDER")]
    trained: PathBuf,
    /// The file to write, in F32; `understudy-scribe quantize` makes it small
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn export(options: &ExportOptions) -> anyhow::Result<()> {
    let (recipe, tensors) = trained(&options.trained)?;
    let tokenizer = Tokenizer::load(&options.trained.join("tokenizer.json"))?;
    let mut named: Vec<(&String, &Tensor)> = tensors.iter().filter(|(name, _)| !name.contains('/')).collect();
    named.sort_by_key(|(name, _)| *name);
    let mut writer = Writer::new();
    describe(&mut writer, &recipe.shape)?;
    speak(&mut writer, &tokenizer)?;
    for (name, tensor) in named {
        let sizes: Vec<u64> = tensor
            .size()
            .into_iter()
            .rev()
            .map(u64::try_from)
            .collect::<Result<_, _>>()?;
        let values: Vec<f32> = tensor
            .f_to_kind(Kind::Float)?
            .f_contiguous()?
            .f_view([-1])?
            .try_into()?;
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        writer.tensor(name, &sizes, TensorType::F32, bytes);
    }
    writer.write(&options.output)?;
    let model = understudy_gguf::check(&options.output).context("what was written is no good")?;
    println!("wrote {}: {} parameters", options.output.display(), model.parameters);
    Ok(())
}

fn describe(writer: &mut Writer, shape: &Shape) -> anyhow::Result<()> {
    writer
        .metadata("general.architecture", text("llama"))
        .metadata("general.name", text(NAME))
        .metadata("general.license", text("apache-2.0"))
        .metadata("general.file_type", Value::U32(ALL_F32))
        .metadata("general.quantization_version", Value::U32(QUANTIZATION_VERSION));
    for (key, size) in [
        ("context_length", shape.context),
        ("embedding_length", shape.width),
        ("block_count", shape.layers),
        ("feed_forward_length", shape.hidden),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("rope.dimension_count", shape.head_width()),
        ("vocab_size", shape.vocabulary),
    ] {
        writer.metadata(format!("llama.{key}"), Value::U32(u32::try_from(size)?));
    }
    #[expect(clippy::cast_possible_truncation, reason = "GGUF has these in f32")]
    for (key, value) in [
        ("rope.freq_base", shape.rope_base),
        ("attention.layer_norm_rms_epsilon", shape.epsilon),
    ] {
        writer.metadata(format!("llama.{key}"), Value::F32(value as f32));
    }
    Ok(())
}

fn speak(writer: &mut Writer, tokenizer: &Tokenizer) -> anyhow::Result<()> {
    let (tokens, merges) = tokenizer.vocabulary()?;
    let kinds = tokens.iter().map(|token| {
        if SPECIAL.contains(&token.as_str()) {
            CONTROL
        } else {
            NORMAL
        }
    });
    let kinds = Array::I32(kinds.collect());
    let id = |token: &str| Tokenizer::id(token).map(Value::U32);
    writer
        .metadata("tokenizer.ggml.model", text("gpt2"))
        .metadata("tokenizer.ggml.pre", text("llama-bpe"))
        .metadata("tokenizer.ggml.tokens", Value::Array(Array::Strings(tokens)))
        .metadata("tokenizer.ggml.token_type", Value::Array(kinds))
        .metadata("tokenizer.ggml.merges", Value::Array(Array::Strings(merges)))
        .metadata("tokenizer.ggml.bos_token_id", id("<|begin_of_text|>")?)
        .metadata("tokenizer.ggml.eos_token_id", id("<|end_of_text|>")?)
        .metadata("tokenizer.ggml.eot_token_id", id("<|eot_id|>")?)
        .metadata("tokenizer.ggml.add_bos_token", Value::Bool(true))
        .metadata("tokenizer.chat_template", text(CHAT_TEMPLATE));
    Ok(())
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}
