//! Leases.

use std::time::Instant;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Service, unexpected};
use crate::{
    error::Error,
    pb::etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
        LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
        LeaseTimeToLiveResponse, lease_server::Lease,
    },
    state::{Command, Reply},
};

/// Answers to renewals that wait for a slow client.
const ANSWERS_MAX: usize = 16;

#[tonic::async_trait]
impl Lease for Service {
    type LeaseKeepAliveStream = ReceiverStream<Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_grant(&self, request: Request<LeaseGrantRequest>) -> Result<Response<LeaseGrantResponse>, Status> {
        let LeaseGrantRequest { id, ttl: ttl_s } = request.into_inner();
        // Of 2^63 numbers a random one is free; were it not, the client is told that it exists.
        let id = if id == 0 { rand::random_range(1..=i64::MAX) } else { id };
        match self.writer.carry_out(Command::Grant { id, ttl_s }).await? {
            Reply::Granted { id, ttl_s, revision } => {
                let header = self.header(revision);
                Ok(Response::new(LeaseGrantResponse {
                    header,
                    id,
                    ttl: ttl_s,
                    error: String::new(),
                }))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        match self
            .writer
            .carry_out(Command::Revoke {
                id: request.into_inner().id,
            })
            .await?
        {
            Reply::Revoked { revision } => Ok(Response::new(LeaseRevokeResponse {
                header: self.header(revision),
            })),
            other => Err(unexpected(&other)),
        }
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let mut requests = request.into_inner();
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let mut service = self.clone();
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = requests.message() => message,
                    _ = service.stopping.wait_for(|stop| *stop) => {
                        let _ = answers.try_send(Err(Error::Stopped.into()));
                        return;
                    }
                };
                let Ok(Some(LeaseKeepAliveRequest { id })) = message else {
                    return;
                };
                // Renewals are not on disk: after a restart a lease has its whole time again.
                let ttl = service.state.write().leases.renew(id, Instant::now()).unwrap_or(0);
                let answer = LeaseKeepAliveResponse {
                    header: service.header_now(),
                    id,
                    ttl,
                };
                if answers.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let found = self.state.read().leases.time_to_live(id, Instant::now());
        let header = self.header_now();
        Ok(Response::new(match found {
            Some(lease) => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: lease.remaining_s,
                granted_ttl: lease.granted_s,
                keys: if keys { lease.keys } else { Vec::new() },
            },
            // As etcd: no error.
            None => LeaseTimeToLiveResponse {
                header,
                id,
                ttl: -1,
                ..LeaseTimeToLiveResponse::default()
            },
        }))
    }

    async fn lease_leases(
        &self,
        _request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let leases = self
            .state
            .read()
            .leases
            .ids()
            .into_iter()
            .map(|id| LeaseStatus { id })
            .collect();
        Ok(Response::new(LeaseLeasesResponse {
            header: self.header_now(),
            leases,
        }))
    }
}
