//! Files of model versions: upload to an artifact store, fetch into a local cache, each checked by its sha256.
//!
//! A store is named by a URI: `file:///folder`, `s3://bucket/folder`, `gs://bucket/folder` or `az://container/folder`.
//! Credentials come from each cloud's usual environment variables (`AWS_…`, `GOOGLE_…`, `AZURE_…`) and from the
//! machine's own identity there.
//!
//! Nothing here reads a whole file into memory, and what a caller gets to see is complete: [`Cache::fetch`] answers
//! with a folder only when each of its files was hashed. `cache.rs` tells how that survives a kill at any moment.
//!
//! Deliberately absent: deleting from a store (versions are immutable, and only the operator knows what is still needed).

mod cache;
mod download;
mod error;
mod file;
mod store;
mod upload;

pub use cache::{Cache, CacheOptions, Tree};
pub use download::download;
pub use error::Error;
pub use file::File;
pub use store::{path_of_uri, uri_of_folder};
pub use upload::{Uploaded, upload};
