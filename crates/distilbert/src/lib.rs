//! DistilBERT sequence classification on libtorch, in Hugging Face's layout.
//!
//! [`Checkpoint`] opens and checks a folder (`config.json`, `model.safetensors`, `tokenizer.json` or `vocab.txt`); from there
//! [`Classifier`] computes for serving and [`network`] for training. Both give what `transformers` gives for the same
//! checkpoint: `tests/distilbert.rs` compares them with logits that `scripts/parity/generate.py` recorded.
//!
//! # What an executable owes
//!
//! It calls [`init_process`] first in `main`, before any thread, [`init_engine_thread`] in each thread that computes, and has
//! this `build.rs`, because Cargo does not pass a library's link arguments on. They make the executable find libtorch
//! (`lib` beside it, `../lib`, or where it was built) and export the function by which MKL learns that the processor has AVX2.
//! Without the latter, fp32 on AMD processors runs at less than half its speed, as it does in Python.
//!
//! ```ignore
//! //! Link arguments for libtorch: see understudy-distilbert.
//! fn main() {
//!     let arguments = std::env::var_os("DEP_UNDERSTUDY_DISTILBERT_LINK_ARGUMENTS").unwrap_or_default();
//!     for argument in arguments.to_string_lossy().split(';').filter(|argument| !argument.is_empty()) {
//!         println!("cargo::rustc-link-arg={argument}");
//!     }
//! }
//! ```
//!
//! A process that computes on several threads should be started with `OMP_WAIT_POLICY=passive`: libgomp reads it before
//! `main`, and its threads otherwise spin while they wait.
//!
//! Deliberately absent: other networks than DistilBERT, regression and multi-label heads, pickled weights.

mod checkpoint;
mod classifier;
mod config;
mod error;
mod layout;
pub mod lora;
mod native;
pub mod network;
mod precision;
mod process;
mod tokenizer;
mod weights;

pub use checkpoint::Checkpoint;
pub use classifier::Classifier;
pub use config::Config;
pub use error::Error;
pub use native::{AdamW, Autocast, ParameterGroup, forget_gradient};
pub use precision::{Choice, Device, Precision, Processor, choose_precision, softmax};
pub use process::{
    cuda_available, init_engine_thread, init_process, init_training, mkl_override_is_active, trim_memory,
};
pub use tokenizer::{Encoding, Tokenizer};
