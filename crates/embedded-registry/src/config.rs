//! Where the server keeps its data and listens.

use std::{net::SocketAddr, path::PathBuf};

/// Options of the embedded registry.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Folder for the data; made if it does not exist
    #[arg(
        long,
        env = "UNDERSTUDY_REGISTRY_DATA_DIR",
        value_name = "FOLDER",
        default_value = "run/registry"
    )]
    pub data_dir: PathBuf,
    /// Address to listen on. There is no authentication: keep it on loopback, and use etcd for more than one machine
    #[arg(
        long,
        env = "UNDERSTUDY_REGISTRY_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:2379"
    )]
    pub listen: SocketAddr,
}
