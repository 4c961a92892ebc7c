//! Whom the client believes over TLS, with certificates of this file's own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod mirror_kubo;
}

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use skywave::http_client::{Client, Endpoint, ExchangeError, Method, Request, Tcp, TlsError, Trust};
use skywave::mirror::MirrorConfig;
use skywave::supervisor::chain;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{self, ServerConfig, crypto};

use support::mirror_kubo::FakeKubo;

/// An authority, and the file that names it.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// What a server of these names shows; `years` is when it is valid.
    fn certify(&self, names: &[&str], years: (i32, i32)) -> Arc<ServerConfig> {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        server(vec![certificate.der().clone()], key)
    }
}

fn server(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// A kubo behind TLS: its port.
async fn listen(config: Arc<ServerConfig>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (acceptor, kubo) = (TlsAcceptor::from(config), FakeKubo::new("bearer:of-the-test"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, kubo) = (acceptor.clone(), kubo.clone());
            tokio::spawn(async move {
                // A client that does not believe us goes away.
                if let Ok(stream) = acceptor.accept(stream).await {
                    kubo.serve(stream).await;
                }
            });
        }
    });
    port
}

/// The status of a request to `https://<host>`.
async fn ask(host: &str, trust: Trust) -> Result<u16, ExchangeError> {
    let endpoint = Endpoint::parse(&format!("https://{host}"), Some("bearer:of-the-test")).unwrap();
    let client = Client::new(endpoint, Arc::new(Tcp)).trusting(trust);
    let request = Request::new(Method::Post, "/api/v0/pin/ls?name=x".into());
    client.send(request).await.map(|answer| answer.status)
}

/// What an attempt that must not succeed says.
async fn refused(host: &str, trust: Trust) -> (TlsError, String) {
    let error = ask(host, trust).await.unwrap_err();
    let words = chain(&error);
    assert!(words.contains(&format!("no secure connection to {host}")), "{words}");
    match error {
        ExchangeError::Secure { source, .. } => (source, words),
        other => panic!("{other:?}"),
    }
}

const NOW: (i32, i32) = (2020, 4096);

#[tokio::test]
async fn a_host_that_a_known_authority_vouches_for_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "own");
    let port = listen(authority.certify(&["localhost", "127.0.0.1"], NOW)).await;
    for host in ["localhost", "127.0.0.1"] {
        let status = ask(&format!("{host}:{port}"), Trust::File(authority.file.clone())).await.unwrap();
        assert_eq!(status, 200, "{host}");
    }
}

#[tokio::test]
async fn a_host_that_nobody_vouches_for_hears_no_request_and_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let (own, other) = (Authority::new(folder.path(), "own"), Authority::new(folder.path(), "other"));
    let port = listen(own.certify(&["localhost"], NOW)).await;
    let host = format!("localhost:{port}");
    for trust in [Trust::Public, Trust::File(other.file.clone())] {
        let (error, words) = refused(&host, trust).await;
        assert!(matches!(error, TlsError::UnknownAuthority) && words.contains("`ca`"), "{words}");
    }
    // The right authority, and another host's certificate.
    let (_, words) = refused(&format!("127.0.0.1:{port}"), Trust::File(own.file.clone())).await;
    assert!(words.contains("not valid for name"), "{words}");
    for (years, word) in [((2000, 2001), "expired"), ((4000, 4096), "not valid yet")] {
        let port = listen(own.certify(&["localhost"], years)).await;
        let (_, words) = refused(&format!("localhost:{port}"), Trust::File(own.file.clone())).await;
        assert!(words.contains(word), "{words}");
    }
    // The authority's own name for a host that it never signed for.
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let port = listen(server(vec![certificate.der().clone()], key)).await;
    let (error, _) = refused(&format!("localhost:{port}"), Trust::File(own.file.clone())).await;
    assert!(matches!(error, TlsError::UnknownAuthority), "{error:?}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_named() {
    let kubo = FakeKubo::new("bearer:of-the-test");
    let address = kubo.listen().await;
    let (_, words) = refused(&address.to_string(), Trust::Public).await;
    assert!(!words.contains("of-the-test"), "{words}");
}

#[tokio::test]
async fn a_file_without_authorities_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let own = Authority::new(folder.path(), "own");
    let port = listen(own.certify(&["localhost"], NOW)).await;
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let garbage = folder.path().join("garbage.pem");
    std::fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for file in [folder.path().join("missing.pem"), empty, garbage] {
        let (_, words) = refused(&format!("localhost:{port}"), Trust::File(file.clone())).await;
        assert!(words.contains(&file.display().to_string()), "{words}");
    }
}

#[tokio::test]
async fn a_mirror_behind_tls_is_reached_by_its_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "own");
    let port = listen(authority.certify(&["localhost"], NOW)).await;
    let mut config: MirrorConfig = toml::from_str(&format!(
        "url = \"https://localhost:{port}\"\nauthorization = \"bearer:of-the-test\"\nca = {:?}",
        authority.file
    ))
    .unwrap();
    let kubo = config.kubo(Arc::new(Tcp)).unwrap();
    assert_eq!(kubo.pinned("skywave/k51").await.unwrap(), []);
    config.ca = None;
    let error = config.kubo(Arc::new(Tcp)).unwrap().pinned("skywave/k51").await.unwrap_err();
    assert!(chain(&error).contains("pin/ls: no secure connection"), "{}", chain(&error));
}
