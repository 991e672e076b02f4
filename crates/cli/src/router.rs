//! The connection to a router, which every command has.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_health::pb::health_client::HealthClient;
use understudy_protocol::v1::{
    analyst_client::AnalystClient, models_client::ModelsClient, rollouts_client::RolloutsClient,
    routes_client::RoutesClient, scribe_client::ScribeClient,
};

use crate::problem;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A model list with golden examples is larger than tonic's 4 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Of calls that only read or write records.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Where the router is, the same for every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct RouterOptions {
    /// Address of the router; an https:// address is called with TLS
    #[arg(
        long,
        env = "UNDERSTUDY_ROUTER",
        default_value = "http://127.0.0.1:8470",
        value_name = "URL",
        global = true,
        help_heading = "Router"
    )]
    pub(crate) router: String,
    /// Bearer token that the router asks for
    #[arg(
        long,
        env = "UNDERSTUDY_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        global = true,
        help_heading = "Router"
    )]
    pub(crate) token: Option<String>,
    /// File with the certificates (PEM) to trust instead of the system's
    #[arg(
        long,
        env = "UNDERSTUDY_CA",
        value_name = "FILE",
        global = true,
        help_heading = "Router"
    )]
    pub(crate) ca: Option<PathBuf>,
}

/// A router that has answered the connection.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    address: String,
    channel: Channel,
    bearer: Bearer,
}

pub(crate) type Transport = InterceptedService<Channel, Bearer>;

impl Router {
    pub(crate) async fn connect(options: &RouterOptions) -> anyhow::Result<Self> {
        let RouterOptions {
            router: address,
            token,
            ca,
        } = options;
        let is_url = address.starts_with("http://") || address.starts_with("https://");
        anyhow::ensure!(
            is_url,
            "--router must begin with http:// or https://, e.g. http://127.0.0.1:8470, but is {address}"
        );
        let mut endpoint = Endpoint::from_shared(address.clone())
            .with_context(|| format!("--router is no address: {address}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .tcp_nodelay(true);
        if address.starts_with("https://") {
            endpoint = endpoint.tls_config(tls(ca.as_deref())?)?;
        } else if ca.is_some() {
            anyhow::bail!("--ca is for TLS, so --router must begin with https://, but it is {address}");
        }
        let token = token.as_deref().map(|token| format!("Bearer {token}").parse());
        let bearer = Bearer(
            token
                .transpose()
                .context("--token has characters that a header cannot hold")?,
        );
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| problem::unreachable(address, &error))?;
        Ok(Self {
            address: address.clone(),
            channel,
            bearer,
        })
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn transport(&self) -> Transport {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }

    pub(crate) fn analyst(&self) -> AnalystClient<Transport> {
        AnalystClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn scribe(&self) -> ScribeClient<Transport> {
        ScribeClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn models(&self) -> ModelsClient<Transport> {
        ModelsClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn routes(&self) -> RoutesClient<Transport> {
        RoutesClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn rollouts(&self) -> RolloutsClient<Transport> {
        RolloutsClient::new(self.transport()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn health(&self) -> HealthClient<Transport> {
        HealthClient::new(self.transport())
    }
}

fn tls(ca: Option<&std::path::Path>) -> anyhow::Result<ClientTlsConfig> {
    Ok(match ca {
        None => ClientTlsConfig::new().with_native_roots(),
        Some(path) => {
            let pem = std::fs::read(path).with_context(|| format!("cannot read --ca {}", path.display()))?;
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
        }
    })
}

/// A request to an admin service, with a deadline.
pub(crate) fn admin<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ADMIN_TIMEOUT);
    request
}

/// Adds the token to each call.
#[derive(Debug, Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}
