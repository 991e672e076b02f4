//! Trying a file in a process of its own before it is trusted.
//!
//! What the check of the file (`understudy-gguf`) passes should load. If it does not, only a child dies.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use llama_cpp_2::{context::params::LlamaContextParams, llama_batch::LlamaBatch, model::LlamaModel, token::LlamaToken};

use crate::{backend::Backend, options::Device};

/// Hidden flag of the binary: `--probe FILE`.
pub const FLAG: &str = "--probe";

/// Time for starting, and for each gigabyte that is read.
const SECONDS: u64 = 60;
const SECONDS_PER_GB: u64 = 30;

const POLL: Duration = Duration::from_millis(10);

/// What is shown of a child's last words.
const LAST_WORDS_BYTES: i64 = 600;

/// Tokens of the child's context.
const CONTEXT_TOKENS: NonZeroU32 = NonZeroU32::new(256).unwrap();

/// Files that were tried and are good.
#[derive(Debug)]
pub struct Probe {
    binary: PathBuf,
    good: Mutex<BTreeSet<String>>,
}

impl Probe {
    /// Tries files with `binary`, which is this one, or in tests the one that was built with them.
    #[must_use]
    pub fn new(binary: PathBuf) -> Self {
        Self {
            binary,
            good: Mutex::default(),
        }
    }

    /// Tries a file once; `sha256` is its name here.
    ///
    /// # Errors
    /// How the child ended.
    pub fn check(&self, path: &Path, sha256: &str, device: Device) -> anyhow::Result<()> {
        let good = || self.good.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if good().contains(sha256) {
            return Ok(());
        }
        let bytes = path
            .metadata()
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        let limit = Duration::from_secs(SECONDS + SECONDS_PER_GB * (bytes >> 30));
        let mut words = tempfile()?;
        let mut child = Command::new(&self.binary)
            .arg(FLAG)
            .arg(path)
            .args(["--device", device.name()])
            // Its last words are to be the reason.
            .envs([("RUST_BACKTRACE", "0"), ("RUST_LIB_BACKTRACE", "0")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {} to try the file", self.binary.display()))?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if begun.elapsed() > limit {
                child.kill()?;
                child.wait()?;
                anyhow::bail!("llama.cpp did not load it in {} seconds", limit.as_secs());
            }
            thread::sleep(POLL);
        };
        if !status.success() {
            anyhow::bail!(
                "llama.cpp cannot load it or compute with it ({status}): {}; convert the model again with a current llama.cpp",
                last_words(&mut words)
            );
        }
        good().insert(sha256.to_owned());
        Ok(())
    }
}

/// What the child does: loads the file and computes one token.
///
/// # Errors
/// What failed.
pub fn run(path: &Path, device: Device) -> anyhow::Result<()> {
    let backend = Backend::get()?;
    let params = backend.place(device)?.model_params().map_err(anyhow::Error::msg)?;
    let model = LlamaModel::load_from_file(&backend.llama, path, &params).context("it does not load")?;
    let params = LlamaContextParams::default()
        .with_n_ctx(Some(CONTEXT_TOKENS))
        .with_n_batch(8)
        .with_n_ubatch(8);
    let mut context = model
        .new_context(&backend.llama, params)
        .context("there is no context for it")?;
    let mut batch = LlamaBatch::new(1, 1);
    batch.add(LlamaToken::new(0), 0, &[0], true)?;
    context.decode(&mut batch).context("it does not compute")?;
    anyhow::ensure!(
        context.get_logits_ith(0).iter().any(|logit| logit.is_finite()),
        "its output is not made of numbers: its weights are damaged"
    );
    Ok(())
}

/// A file without a name.
fn tempfile() -> anyhow::Result<File> {
    tempfile::tempfile().context("cannot make a temporary file")
}

fn last_words(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let length = file.seek(SeekFrom::End(0)).unwrap_or(0);
    let last = LAST_WORDS_BYTES.min(i64::try_from(length).unwrap_or(0));
    if file.seek(SeekFrom::End(-last)).is_ok() {
        // What cannot be read cannot be shown.
        let _ = file.read_to_end(&mut bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() {
        "no message".to_owned()
    } else {
        words.join(" ")
    }
}
