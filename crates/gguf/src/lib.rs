//! GGUF model files: reading, checking and writing.
//!
//! llama.cpp aborts the whole process on some malformed files and trusts others further than it should. [`check`] reads a
//! file's header, never its weights, and refuses whatever llama.cpp would refuse, abort on or misread. What it passes
//! loads. It knows one architecture, llama, whose tensors it can therefore list exactly.
//!
//! Invariants: nothing is allocated for a length before the file is known to hold that many bytes; the header as a whole
//! is bounded ([`METADATA_BYTES_MAX`]); no input panics.
//!
//! Deliberately absent: the weights themselves. Random or NaN weights are valid files; whoever samples from them must
//! cope.

mod check;
mod error;
mod header;
#[cfg(any(test, feature = "hostile"))]
pub mod hostile;
mod model;
mod source;
mod tensor;
mod value;
mod writer;

pub use check::{ARCHITECTURES, check};
pub use error::Error;
pub use header::METADATA_BYTES_MAX;
pub use model::Model;
pub use tensor::TensorType;
pub use value::{Array, Value};
pub use writer::Writer;
