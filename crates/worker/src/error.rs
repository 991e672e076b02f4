use std::{io, net::SocketAddr};

/// Why a worker could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Options that do not fit together.
    #[error("{0}")]
    Options(String),
    /// The address to serve on is not to be had.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// The cache of model files cannot be used.
    #[error("{0}; choose another folder with --cache-dir")]
    Cache(#[from] understudy_artifacts::Error),
    /// The registry's options are wrong.
    #[error(transparent)]
    Registry(#[from] understudy_registry::Error),
    /// The server failed.
    #[error("the gRPC server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// A defect in this software.
    #[error("the worker's {0} ended, which it never should; restart the worker and report this")]
    Ended(&'static str),
}
