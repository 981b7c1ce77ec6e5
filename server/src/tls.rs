//! HTTPS: each connection begins with a handshake, which takes bounded time.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use promptfield_core::chain::chain;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What a coordinator shows who it is with.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The PEM file of its certificate, followed by those between it and its authority's.
    pub certificate: PathBuf,
    /// The PEM file of its private key.
    pub key: PathBuf,
}

/// Why certificate and key can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file can't be read.
    #[error("the file can't be read")]
    Unreadable(#[source] io::Error),
    /// It isn't what it should be.
    #[error("`{}` is not valid: expected a PEM file with {expected}", path.display())]
    Malformed { path: PathBuf, expected: &'static str, source: pem::Error },
    /// There is no certificate in it.
    #[error("`{}` has no certificate: expected a PEM file with at least one", .0.display())]
    NoCertificate(PathBuf),
    /// They don't belong together, or their kind isn't supported.
    #[error("certificate and key can't be used together")]
    Unusable(#[source] rustls::Error),
}

impl Tls {
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let read = |path: &Path| fs_err::read(path).map_err(TlsError::Unreadable);
        let malformed = |path: &Path, expected| {
            let path = path.to_owned();
            move |source| TlsError::Malformed { path, expected, source }
        };
        let certificates = CertificateDer::pem_slice_iter(&read(&self.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(malformed(&self.certificate, "certificates"))?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate(self.certificate.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(malformed(&self.key, "a private key"))?;
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key));
        let mut config = config.map_err(TlsError::Unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// A connection after its handshake; `None` if that failed, or took too long.
pub(crate) async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: IpAddr,
) -> Option<TlsStream<TcpStream>> {
    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::debug!(%peer, error = chain(&error), "a handshake failed"),
        Err(_) => tracing::debug!(%peer, "a handshake took longer than {} s", HANDSHAKE.as_secs()),
    }
    None
}
