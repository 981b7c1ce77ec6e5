//! How a coordinator is reached: with which token, and by whose word that it is the right one.

use std::io;
use std::path::{Path, PathBuf};

use promptfield_core::access::Secret;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

/// What a client of a coordinator needs besides its address.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The bearer token.
    pub token: Option<Secret>,
    /// A PEM file of the authorities that may vouch for the coordinator; without one, those that this machine trusts.
    pub ca: Option<PathBuf>,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The authorities' file can't be read.
    #[error("`coordinator.ca`: the file can't be read")]
    Ca {
        /// Why, with the path.
        source: io::Error,
    },
    /// The authorities' file holds something else.
    #[error("`coordinator.ca`: `{}` is not valid: expected a PEM file with at least one certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The HTTP client couldn't be made.
    #[error("the HTTP client could not be set up")]
    Client {
        /// Why.
        source: reqwest::Error,
    },
}

impl Connection {
    /// A client of the coordinator at `url`, to be completed.
    pub fn client(&self, url: &str) -> Result<reqwest::ClientBuilder, ConnectionError> {
        // Another may be installed already, which does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder();
        if let Some(token) = &self.token {
            // A secret is hexadecimal digits: always a header.
            if let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", token.expose())) {
                value.set_sensitive(true);
                builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)]));
            }
        }
        if let Some(path) = &self.ca {
            builder = builder.tls_certs_only(certificates(path)?);
        } else if !url.starts_with("https:") {
            // What isn't needed isn't looked for: a bare container trusts nobody.
            builder = builder.tls_certs_only([]);
        }
        // A token isn't carried to wherever an answer points.
        Ok(builder.redirect(reqwest::redirect::Policy::none()))
    }
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, ConnectionError> {
    let pem = fs_err::read(path).map_err(|source| ConnectionError::Ca { source })?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(ConnectionError::NoCertificate { path: path.to_owned() });
    }
    Ok(certificates)
}
