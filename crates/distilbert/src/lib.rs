//! DistilBERT sequence classification on libtorch, in Hugging Face's layout.

mod checkpoint;
mod config;
mod error;
mod layout;
mod native;
pub mod network;
mod tokenizer;
mod weights;

pub use checkpoint::Checkpoint;
pub use config::Config;
pub use error::Error;
pub use native::CpuAutocast;
pub use tokenizer::{Encoding, Tokenizer};
