//! TLS 1.3 over a connection that is there, and whom it believes. rustls stands here alone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, RootCertStore, crypto};

use super::Pipe;

/// Whose word for the other end counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// The authorities that Mozilla's browser believes, as of the release of the program.
    #[default]
    Public,
    /// Those of this PEM file and no others. It is read at each connection, so a new one needs no restart.
    File(PathBuf),
}

/// Why there is no secure connection.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file of authorities cannot be read, or holds none.
    #[error("cannot read the authorities of {path}: {reason}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No certificate can name this.
    #[error("{name:?} is no host that a certificate can name")]
    Name {
        /// The host.
        name: String,
    },
    /// An authority vouches for the other end that nobody here knows.
    #[error("its certificate is of an authority that is not known here; `ca` names one's own")]
    UnknownAuthority,
    /// The other end speaks no TLS 1.3, or is not who it should be.
    #[error("{0}")]
    Handshake(String),
}

/// Speaks TLS over `pipe` with the host of that name, which must prove who it is.
pub(super) async fn secure(
    pipe: Box<dyn Pipe>,
    name: &str,
    trust: &Trust,
) -> Result<Box<dyn Pipe>, TlsError> {
    let host = ServerName::try_from(name.to_owned());
    let host = host.map_err(|_| TlsError::Name { name: name.to_owned() })?;
    let connector = TlsConnector::from(client_config(trust).await?);
    match connector.connect(host, pipe).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(judge(&error)),
    }
}

fn judge(error: &io::Error) -> TlsError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            TlsError::UnknownAuthority
        }
        _ => TlsError::Handshake(error.to_string()),
    }
}

async fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, TlsError> {
    static PUBLIC: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    match trust {
        Trust::Public => {
            let roots = || webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
            Ok(PUBLIC.get_or_init(|| configured(roots())).clone())
        }
        Trust::File(path) => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || authorities(&path));
            let roots = read.await.map_err(|error| TlsError::Handshake(error.to_string()))??;
            Ok(configured(roots))
        }
    }
}

fn configured(roots: RootCertStore) -> Arc<ClientConfig> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]);
    let builder = builder.expect("ring has the cipher suites of TLS 1.3");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let wrong = |reason: String| TlsError::Authorities { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("it holds no certificate in PEM".into()));
    }
    Ok(roots)
}
