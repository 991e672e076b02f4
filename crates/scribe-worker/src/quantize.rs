//! Making a model file smaller.

use std::{ffi::CString, path::Path, str::FromStr};

use anyhow::Context as _;

use crate::{backend::Backend, memory::physical_cores};

/// How weights are stored, by llama.cpp's names and numbers.
const TYPES: [(&str, u32); 12] = [
    ("f32", llama_cpp_sys_2::LLAMA_FTYPE_ALL_F32),
    ("f16", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_F16),
    ("bf16", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_BF16),
    ("q8_0", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q8_0),
    ("q6_k", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q6_K),
    ("q5_k_m", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q5_K_M),
    ("q5_k_s", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q5_K_S),
    ("q5_0", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q5_0),
    ("q4_k_m", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q4_K_M),
    ("q4_k_s", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q4_K_S),
    ("q4_0", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q4_0),
    ("q3_k_m", llama_cpp_sys_2::LLAMA_FTYPE_MOSTLY_Q3_K_M),
];

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantization(&'static str, u32);

impl FromStr for Quantization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.to_ascii_lowercase();
        TYPES
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(name, number)| Self(name, *number))
            .ok_or_else(|| format!("it is one of {}", TYPES.map(|(name, _)| name).join(", ")))
    }
}

impl std::fmt::Display for Quantization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Writes `from` to `to` with its weights stored as `quantization`. `from` is checked first; `to` is there only when it is
/// complete.
///
/// # Errors
/// A file that is not a model, or cannot be written.
pub fn quantize(from: &Path, to: &Path, quantization: Quantization) -> anyhow::Result<()> {
    understudy_gguf::check(from)?;
    Backend::get()?;
    let folder = to
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let unfinished = tempfile::Builder::new()
        .prefix(".quantize-")
        .tempfile_in(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?
        .into_temp_path();
    let text = |path: &Path| {
        let text = path
            .to_str()
            .with_context(|| format!("{} is not UTF-8", path.display()))?;
        CString::new(text).context("a path has a zero byte")
    };
    let status = run(&text(from)?, &text(&unfinished)?, quantization)?;
    anyhow::ensure!(
        status == 0,
        "llama.cpp cannot quantise {} as {quantization}: its words are in the log",
        from.display()
    );
    understudy_gguf::check(&unfinished).context("what llama.cpp wrote is not good")?;
    unfinished
        .persist(to)
        .with_context(|| format!("cannot write {}", to.display()))
}

#[expect(unsafe_code, reason = "the safe crate does not offer it")]
fn run(from: &CString, to: &CString, quantization: Quantization) -> anyhow::Result<u32> {
    // SAFETY: it fills in a struct of plain values.
    let mut params = unsafe { llama_cpp_sys_2::llama_model_quantize_default_params() };
    params.nthread = i32::try_from(physical_cores())?;
    params.ftype = quantization.1;
    // A source that is quantised already is made smaller with some loss, which is what was asked for.
    params.allow_requantize = true;
    // SAFETY: both paths are zero-terminated and outlive the call, and the parameters hold no pointers of ours.
    Ok(unsafe { llama_cpp_sys_2::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) })
}
