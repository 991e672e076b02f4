//! Where the registry is and how to log in.

use std::{path::PathBuf, time::Duration};

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};

use crate::Error;

/// h2 pings find a peer that vanished without closing its connection (a watch would wait for ever).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How to reach the registry: etcd v3, or the embedded one, which speaks the same.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Registry")]
pub struct RegistryOptions {
    /// Addresses of the registry (etcd v3), separated by commas
    #[arg(
        id = "registry_endpoints",
        long = "registry",
        env = "UNDERSTUDY_REGISTRY",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379"
    )]
    pub endpoints: Vec<String>,
    /// Keys begin with this; give each installation that shares an etcd its own
    #[arg(
        id = "registry_prefix",
        long = "registry-prefix",
        env = "UNDERSTUDY_REGISTRY_PREFIX",
        value_name = "PREFIX",
        default_value = "/understudy/v1/"
    )]
    pub prefix: String,
    /// User name, where the registry asks for one
    #[arg(
        id = "registry_user",
        long = "registry-user",
        env = "UNDERSTUDY_REGISTRY_USER",
        value_name = "NAME",
        requires = "registry_password"
    )]
    pub user: Option<String>,
    /// Password of --registry-user; prefer the environment variable, other users can see command lines
    #[arg(
        id = "registry_password",
        long = "registry-password",
        env = "UNDERSTUDY_REGISTRY_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true,
        requires = "registry_user"
    )]
    pub password: Option<String>,
    /// PEM file of the authority that signed the registry's certificate (default: the system's authorities)
    #[arg(
        id = "registry_cacert",
        long = "registry-cacert",
        env = "UNDERSTUDY_REGISTRY_CACERT",
        value_name = "FILE"
    )]
    pub cacert: Option<PathBuf>,
    /// PEM file of this client's certificate, for mutual TLS
    #[arg(
        id = "registry_cert",
        long = "registry-cert",
        env = "UNDERSTUDY_REGISTRY_CERT",
        value_name = "FILE",
        requires = "registry_key"
    )]
    pub cert: Option<PathBuf>,
    /// PEM file of this client's private key
    #[arg(
        id = "registry_key",
        long = "registry-key",
        env = "UNDERSTUDY_REGISTRY_KEY",
        value_name = "FILE",
        requires = "registry_cert"
    )]
    pub key: Option<PathBuf>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            prefix: "/understudy/v1/".to_owned(),
            user: None,
            password: None,
            cacert: None,
            cert: None,
            key: None,
        }
    }
}

/// Validated options.
pub(crate) struct Config {
    pub(crate) endpoints: Vec<String>,
    /// Ends with a slash.
    pub(crate) prefix: String,
    pub(crate) connect: ConnectOptions,
}

impl TryFrom<&RegistryOptions> for Config {
    type Error = Error;

    fn try_from(options: &RegistryOptions) -> Result<Self, Error> {
        let endpoints: Vec<String> = options.endpoints.iter().map(|e| e.trim().to_owned()).collect();
        if endpoints.is_empty() || endpoints.iter().any(String::is_empty) {
            return Err(Error::Options(
                "--registry needs at least one address, e.g. http://127.0.0.1:2379".to_owned(),
            ));
        }
        let tls = options.cacert.is_some() || options.cert.is_some();
        let secure = |endpoint: &String| endpoint.starts_with("https://");
        if let Some(plain) = endpoints
            .iter()
            .find(|e| (tls || endpoints.iter().any(secure)) && !secure(e))
        {
            return Err(Error::Options(format!(
                "--registry {plain}: with TLS every address must begin with https://"
            )));
        }
        if let Some(other) = endpoints.iter().find(|e| !secure(e) && !e.starts_with("http://")) {
            return Err(Error::Options(format!(
                "--registry {other}: must begin with http:// or https://"
            )));
        }
        if options.prefix.is_empty() {
            return Err(Error::Options("--registry-prefix must not be empty".to_owned()));
        }
        let mut prefix = options.prefix.clone();
        if !prefix.ends_with('/') {
            prefix.push('/');
        }

        let mut connect = ConnectOptions::new()
            .with_keep_alive(KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_require_leader(true);
        if endpoints.iter().any(secure) {
            connect = connect.with_tls(tls_options(options)?);
        }
        if let (Some(user), Some(password)) = (&options.user, &options.password) {
            connect = connect.with_user(user, password).with_auto_token_refresh(true);
        }
        Ok(Self {
            endpoints,
            prefix,
            connect,
        })
    }
}

fn tls_options(options: &RegistryOptions) -> Result<TlsOptions, Error> {
    let read = |flag: &str, path: &PathBuf| {
        std::fs::read(path).map_err(|e| Error::Options(format!("cannot read {flag} {}: {e}", path.display())))
    };
    let mut tls = TlsOptions::new();
    tls = match &options.cacert {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read("--registry-cacert", path)?)),
        None => tls.with_native_roots(),
    };
    if let (Some(cert), Some(key)) = (&options.cert, &options.key) {
        tls = tls.identity(Identity::from_pem(
            read("--registry-cert", cert)?,
            read("--registry-key", key)?,
        ));
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        registry: RegistryOptions,
    }

    fn config(args: &[&str]) -> Result<Config, String> {
        let cli = Cli::try_parse_from([&["test"], args].concat()).map_err(|e| e.to_string())?;
        Config::try_from(&cli.registry).map_err(|e| e.to_string())
    }

    #[test]
    fn options() {
        let config_ok = config(&["--registry", "http://a:1,http://b:2", "--registry-prefix", "/x"]).unwrap();
        assert_eq!(config_ok.endpoints, ["http://a:1", "http://b:2"]);
        assert_eq!(config_ok.prefix, "/x/");
        for (args, expected) in [
            (vec!["--registry", "a:1"], "must begin with http://"),
            (
                vec!["--registry", "http://a,https://b"],
                "every address must begin with https://",
            ),
            (
                vec!["--registry", "https://a", "--registry-cacert", "/no/such"],
                "cannot read --registry-cacert",
            ),
            (vec!["--registry-user", "me"], "--registry-password"),
            (vec!["--registry-prefix", ""], "must not be empty"),
            (vec!["--registry", ""], "at least one address"),
        ] {
            let error = config(&args).err().unwrap_or_default();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }
}
