//! The gRPC services: bounds and headers; the meaning is the state's.

mod cluster;
mod lease;
mod watch;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use prost::Message;
use tokio::sync::{Semaphore, watch as watch_channel};
use tonic::{Response, Status, service::Routes};

use crate::{
    error::Error,
    ops,
    pb::FILE_DESCRIPTOR_SET,
    pb::etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
        RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
        auth_server::AuthServer,
        cluster_server::ClusterServer,
        kv_server::{Kv, KvServer},
        lease_server::LeaseServer,
        maintenance_server::MaintenanceServer,
        watch_server::WatchServer,
    },
    state::{Command, Reply},
    writer::{Shared, Writer},
};

/// Bytes of a request; as etcd.
const REQUEST_BYTES_MAX: usize = 1_572_864;
/// What is read of a larger one, so that the answer is etcd's; as etcd.
const REQUEST_OVERHEAD_BYTES: usize = 512 * 1024;

/// Who this server is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) cluster: u64,
    pub(crate) address: SocketAddr,
    pub(crate) data_dir: PathBuf,
}

impl Identity {
    /// The only member; any number that is not 0 will do.
    fn member(&self) -> u64 {
        self.cluster ^ 1 | 2
    }
}

/// One for each etcd service; all the same inside.
#[derive(Clone)]
struct Service {
    state: Shared,
    writer: Writer,
    stopping: watch_channel::Receiver<bool>,
    identity: Arc<Identity>,
    /// One permit for each watcher.
    watchers: Arc<Semaphore>,
}

pub(crate) fn routes(
    state: Shared,
    writer: Writer,
    stopping: watch_channel::Receiver<bool>,
    identity: Identity,
) -> Result<Routes, tonic_reflection::server::Error> {
    let watchers = Arc::new(Semaphore::new(watch::WATCHERS_MAX));
    let service = Service {
        state,
        writer,
        stopping,
        identity: Arc::new(identity),
        watchers,
    };
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (_, health) = tonic_health::server::health_reporter();
    let bytes = REQUEST_BYTES_MAX + REQUEST_OVERHEAD_BYTES;
    Ok(
        Routes::new(KvServer::new(service.clone()).max_decoding_message_size(bytes))
            .add_service(WatchServer::new(service.clone()).max_decoding_message_size(bytes))
            .add_service(LeaseServer::new(service.clone()).max_decoding_message_size(bytes))
            .add_service(ClusterServer::new(service.clone()))
            .add_service(MaintenanceServer::new(service.clone()))
            .add_service(AuthServer::new(service))
            .add_service(health)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?),
    )
}

impl Service {
    fn header(&self, revision: i64) -> Option<ResponseHeader> {
        let (cluster_id, member_id) = (self.identity.cluster, self.identity.member());
        Some(ResponseHeader {
            cluster_id,
            member_id,
            revision,
            raft_term: 1,
        })
    }

    fn header_now(&self) -> Option<ResponseHeader> {
        self.header(self.state.read().committed)
    }

    /// Completes a header that has only its revision.
    fn complete(&self, header: &mut Option<ResponseHeader>) {
        *header = self.header(header.as_ref().map_or(0, |header| header.revision));
    }
}

fn check_size(request: &impl Message) -> Result<(), Error> {
    if request.encoded_len() > REQUEST_BYTES_MAX {
        Err(Error::RequestTooLarge)
    } else {
        Ok(())
    }
}

/// The writer answers each command with its own kind of reply.
fn unexpected(reply: &Reply) -> Status {
    Status::internal(format!("unexpected reply {reply:?}"))
}

#[tonic::async_trait]
impl Kv for Service {
    async fn range(&self, request: tonic::Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        ops::check_range(&request)?;
        let mut response = self.state.read().range(&request)?;
        self.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn put(&self, request: tonic::Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let request = request.into_inner();
        check_size(&request)?;
        ops::check_put(&request)?;
        match self.writer.carry_out(Command::Put(request)).await? {
            Reply::Put(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: tonic::Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        check_size(&request)?;
        if request.key.is_empty() {
            return Err(Error::EmptyKey.into());
        }
        match self.writer.carry_out(Command::Delete(request)).await? {
            Reply::Delete(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn txn(&self, request: tonic::Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        check_size(&request)?;
        ops::check_txn(&request)?;
        match self.writer.carry_out(Command::Txn(request)).await? {
            Reply::Txn(mut response) => {
                self.complete(&mut response.header);
                Ok(Response::new(response))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn compact(
        &self,
        request: tonic::Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        match self.writer.carry_out(Command::Compact(request.into_inner())).await? {
            Reply::Compacted { revision } => Ok(Response::new(CompactionResponse {
                header: self.header(revision),
            })),
            other => Err(unexpected(&other)),
        }
    }
}
