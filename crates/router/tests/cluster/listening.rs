//! Connections: limits, identities, TLS, shutdown.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, StatusCode};
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use understudy_protocol::v1::ListWorkersRequest;

use crate::kit::{Cluster, FakeWorker, classify, code, http2};

/// A cluster that serves, by a router with these flags.
async fn serving(flags: &[&str]) -> (Cluster, FakeWorker) {
    let mut cluster = Cluster::start(&[]).await;
    let worker = cluster.worker("w1", &["v1"]).await;
    cluster.route(&[("stable", "v1", 1_000_000)]).await;
    cluster.ready(&[1]).await;
    crate::kit::state_saved(&cluster).await;
    cluster.router.take().unwrap().drain().await;
    cluster.start_router(flags).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    (cluster, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_grpc_gets_a_clear_answer() {
    let (cluster, _worker) = serving(&[]).await;
    let mut stream = TcpStream::connect(cluster.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 426") && text.contains("gRPC over HTTP/2"),
        "{text}"
    );

    let mut sender = http2(TcpStream::connect(cluster.address).await.unwrap()).await;
    let address = cluster.address.to_string();
    assert_eq!(code(&mut sender, classify(&address)).await, 0);
    let json =
        Request::post(format!("http://{address}/understudy.v1.Analyst/Classify")).header("content-type", "text/json");
    assert_eq!(code(&mut sender, json).await, Code::Internal as i32);
    for path in ["/understudy.v1.Nobody/Classify", "/understudy.v1.Routes/Nothing", "/x"] {
        let request = Request::post(format!("http://{address}{path}")).header("content-type", "application/grpc");
        assert_eq!(code(&mut sender, request).await, Code::Unimplemented as i32, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn oversize_metadata_is_refused_and_the_connection_lives() {
    let (cluster, _worker) = serving(&["--metadata-bytes-max=8000"]).await;
    let mut sender = http2(TcpStream::connect(cluster.address).await.unwrap()).await;
    let address = cluster.address.to_string();
    let large = classify(&address)
        .header("x-large", "x".repeat(9_000))
        .body(Full::default())
        .unwrap();
    match sender.send_request(large).await {
        Ok(response) => assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(error) => assert!(!error.is_closed(), "{error:?}"),
    }
    assert_eq!(
        code(&mut sender, classify(&address).header("x-fits", "x".repeat(7_000))).await,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_rates() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "shop 0123456789abcdef\nbatch fedcba9876543210\n").unwrap();
    let (cluster, worker) = serving(&[&format!("--tokens={}", file.display()), "--rate-limit=5"]).await;
    let mut client = cluster.client().await;
    assert_eq!(client.call("x", &[]).await.unwrap_err().code(), Code::Unauthenticated);
    let wrong = [("authorization", "Bearer 0123456789abcdeX")];
    assert_eq!(
        client.call("x", &wrong).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let error = cluster
        .routes()
        .await
        .list_workers(ListWorkersRequest {})
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "operators need a token, too");
    let health = HealthClient::new(cluster.channel().await)
        .check(HealthCheckRequest::default())
        .await;
    assert!(health.is_ok(), "health is for anybody");
    for token in ["Bearer 0123456789abcdef", "bearer fedcba9876543210"] {
        let mut refused = 0;
        for _ in 0..8 {
            match client.call("x", &[("authorization", token)]).await {
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.code(), Code::ResourceExhausted);
                    refused += 1;
                }
            }
        }
        assert!((1..=3).contains(&refused), "{refused} of 8 in a burst of 5");
    }
    assert!(
        !worker.behaviour.last.lock().unwrap().contains_key("authorization"),
        "the token is not for workers"
    );
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
        }
    }

    fn sign(&self, name: SanType) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![name];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    std::fs::write(folder.join(name), text).unwrap();
    folder.join(name).display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_client_certificates_and_alpn() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (cert, key) = authority.sign(SanType::DnsName("localhost".try_into().unwrap()));
    let flags = [
        format!("--tls-cert={}", write(folder.path(), "cert", &cert.pem())),
        format!("--tls-key={}", write(folder.path(), "key", &key.serialize_pem())),
        format!(
            "--tls-client-ca={}",
            write(folder.path(), "ca", &authority.issuer.pem())
        ),
        // Certificates identify by themselves: with tokens configured the caller needs none.
        format!("--tokens={}", write(folder.path(), "tokens", "shop 0123456789abcdef")),
        "--rate-limit=3".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let (cluster, _worker) = serving(&flags).await;

    let connect = |signer: Option<(&Authority, &str)>| {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match signer {
            None => builder.with_no_client_auth(),
            Some((authority, uri)) => {
                let (cert, key) = authority.sign(SanType::URI(uri.try_into().unwrap()));
                let chain: Vec<CertificateDer<'static>> = vec![cert.der().clone()];
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
                    .unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (connector, address) = (tokio_rustls::TlsConnector::from(Arc::new(config)), cluster.address);
        async move {
            let name = ServerName::try_from("localhost").unwrap();
            let stream = connector
                .connect(name, TcpStream::connect(address).await.unwrap())
                .await
                .ok()?;
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            // In TLS 1.3 the client learns only later that its certificate was refused.
            let mut sender = http2(stream).await;
            let probe = Request::post("http://localhost/x").body(Full::default()).unwrap();
            sender.send_request(probe).await.is_ok().then_some(sender)
        }
    };
    assert!(connect(None).await.is_none(), "no certificate");
    assert!(
        connect(Some((&stranger, "spiffe://x/stranger"))).await.is_none(),
        "a stranger's"
    );
    let mut shop = connect(Some((&authority, "spiffe://x/shop"))).await.unwrap();
    let codes = [
        code(&mut shop, classify("localhost")).await,
        code(&mut shop, classify("localhost")).await,
        code(&mut shop, classify("localhost")).await,
        code(&mut shop, classify("localhost")).await,
    ];
    assert_eq!(
        codes,
        [0, 0, 0, Code::ResourceExhausted as i32],
        "the certificate's own rate"
    );
    let mut other = connect(Some((&authority, "spiffe://x/other"))).await.unwrap();
    assert_eq!(code(&mut other, classify("localhost")).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_lets_requests_finish_and_tells_by_health() {
    let (mut cluster, _worker) = serving(&["--drain-timeout=5s"]).await;
    let mut health = HealthClient::new(cluster.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    let analyst = HealthCheckRequest {
        service: "understudy.v1.Analyst".into(),
    };
    assert_eq!(health.check(analyst).await.unwrap().into_inner().status, 1);

    let mut client = cluster.client().await;
    let mut late = client.clone();
    let slow = tokio::spawn(async move { client.call("sleep 700", &[]).await });
    tokio::time::sleep(Duration::from_millis(150)).await;
    let router = cluster.router.take().unwrap();
    let since = Instant::now();
    let drain = tokio::spawn(router.drain());
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2, "NOT_SERVING");
    drop((watch, health));
    assert!(slow.await.unwrap().is_ok(), "what is in flight finishes");
    assert!(drain.await.unwrap(), "all finished");
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    assert!(late.call("x", &[]).await.is_err());
}
