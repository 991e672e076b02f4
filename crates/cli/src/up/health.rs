//! Waits for the processes of a platform to be healthy.

use std::{net::SocketAddr, time::Duration};

use anyhow::bail;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use understudy_protocol::v1::ListWorkersRequest;

use super::child::Child;
use crate::{
    problem::sentence,
    router::{Router, admin},
};

const POLL: Duration = Duration::from_millis(50);
/// Of one question.
const PATIENCE: Duration = Duration::from_secs(2);
/// Of one process's start.
const START_MAX: Duration = Duration::from_secs(60);

/// Until something accepts connections at the address.
pub(super) async fn accepts(child: &mut Child, address: SocketAddr) -> anyhow::Result<()> {
    until(child, async || {
        let connected = timeout(PATIENCE, TcpStream::connect(address)).await;
        matches!(connected, Ok(Ok(_)))
    })
    .await
}

/// Until the gRPC server there says that it serves.
pub(super) async fn serves(child: &mut Child, url: &str) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE)
        .connect_lazy();
    let client = HealthClient::new(channel);
    until(child, async || {
        let answer = client
            .clone()
            .check(HealthCheckRequest { service: String::new() })
            .await;
        answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
    })
    .await
}

async fn until(child: &mut Child, is_well: impl AsyncFn() -> bool) -> anyhow::Result<()> {
    let name = child.name().to_owned();
    let well = async {
        while !is_well().await {
            sleep(POLL).await;
        }
    };
    tokio::select! {
        () = well => Ok(()),
        why = child.finished() => bail!("{why} before it was ready: its last lines above say why"),
        () = sleep(START_MAX) => bail!("{name} was not ready after {} s: its lines above may say why", START_MAX.as_secs()),
    }
}

/// Until the router has heard of this many workers.
pub(super) async fn knows_workers(router: &Router, count: usize) -> anyhow::Result<()> {
    let known = async {
        loop {
            match router.routes().list_workers(admin(ListWorkersRequest {})).await {
                Ok(answer) if answer.get_ref().workers.len() >= count => return Ok(()),
                Ok(_) => sleep(POLL).await,
                Err(status) if status.code() == tonic::Code::Unavailable => sleep(POLL).await,
                Err(status) => bail!(sentence(&status)),
            }
        }
    };
    match timeout(START_MAX, known).await {
        Ok(known) => known,
        Err(_) => bail!(
            "the workers did not reach the registry within {} s: the lines above may say why",
            START_MAX.as_secs()
        ),
    }
}
