//! For `bench/router/run.sh`: an Analyst that answers at once, with a registry that knows it and a route that splits 95/5.
//! Prints its addresses, then serves until it is ended.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use clap::Parser;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};
use understudy_embedded_registry::Options;
use understudy_protocol::v1::{
    Arm, Classification, ClassifyBatchRequest, ClassifyBatchResponse, ClassifyRequest, ClassifyResponse,
    ClassifyStreamRequest, ClassifyStreamResponse, GetModelInfoRequest, Kind, ModelInfo, Residency, ResidencyState,
    Route, Shadow, Worker,
    analyst_server::{Analyst, AnalystServer},
};
use understudy_registry::{Registry, RegistryOptions};

/// An Analyst that answers at once, for measuring the router
#[derive(Debug, Parser)]
struct Cli {
    /// Folder for the registry's data
    #[arg(long)]
    data_dir: std::path::PathBuf,
    /// Address of the worker
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Let the route belong to a rollout, so that the router counts and samples
    #[arg(long)]
    rollout: bool,
    /// Mirror this share of the requests, in parts per million
    #[arg(long, default_value_t = 0, requires = "rollout", value_name = "PPM")]
    mirror: u32,
}

struct Echo;

#[tonic::async_trait]
impl Analyst for Echo {
    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        let label = request.into_inner().text;
        Ok(Response::new(ClassifyResponse {
            classification: Some(Classification {
                label,
                ..Default::default()
            }),
        }))
    }

    async fn classify_batch(
        &self,
        _: Request<ClassifyBatchRequest>,
    ) -> Result<Response<ClassifyBatchResponse>, Status> {
        Err(Status::unimplemented("not for this benchmark"))
    }

    type ClassifyStreamStream = Pin<Box<dyn Stream<Item = Result<ClassifyStreamResponse, Status>> + Send>>;

    async fn classify_stream(
        &self,
        _: Request<Streaming<ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        Err(Status::unimplemented("not for this benchmark"))
    }

    async fn get_model_info(&self, _: Request<GetModelInfoRequest>) -> Result<Response<ModelInfo>, Status> {
        Ok(Response::new(ModelInfo::default()))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let (ready, address) = tokio::sync::oneshot::channel();
    let options = Options {
        data_dir: cli.data_dir,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
    };
    let server =
        understudy_embedded_registry::serve(options, |address| _ = ready.send(address), std::future::pending());
    let server = tokio::spawn(server);
    let registry_address = address.await?;
    let options = RegistryOptions {
        endpoints: vec![format!("http://{registry_address}")],
        ..RegistryOptions::default()
    };
    let registry = Registry::connect(&options).await?;

    let listener = tokio::net::TcpListener::bind(cli.listen).await?;
    let address = listener.local_addr()?;
    let version = |version: &str| Residency {
        model: "echo".into(),
        version: version.into(),
        state: ResidencyState::Ready.into(),
        ..Residency::default()
    };
    let worker = Worker {
        worker: "echo".into(),
        kind: Kind::Analyst.into(),
        address: format!("http://{address}"),
        versions: vec![version("v1"), version("v2")],
        ..Worker::default()
    };
    let _announcement = registry.announce(worker, Duration::from_secs(10));
    let arm = |name: &str, version: &str, weight_ppm| Arm {
        name: name.into(),
        version: version.into(),
        weight_ppm,
    };
    let arms = vec![arm("stable", "v1", 950_000), arm("candidate", "v2", 50_000)];
    let route = Route {
        model: "echo".into(),
        kind: Kind::Analyst.into(),
        epoch: 1,
        arms,
        rollout: cli.rollout.into(),
        shadow: (cli.mirror > 0).then(|| Shadow {
            arm: "candidate".into(),
            sample_ppm: cli.mirror,
            ..Shadow::default()
        }),
        ..Route::default()
    };
    registry.put_route(&route, 0).await?;
    println!("registry={registry_address} worker={address}");

    let service = AnalystServer::new(Echo);
    tokio::select! {
        result = tonic::transport::Server::builder().tcp_nodelay(true).add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)) => result?,
        result = server => result??,
    }
    Ok(())
}
