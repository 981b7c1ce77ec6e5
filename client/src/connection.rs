//! How a coordinator is reached: with which token, and by whose word that it is the right one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use promptfield_core::wire::access::Secret;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

/// What a client of a coordinator needs besides its address.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The bearer token.
    pub token: Option<Secret>,
    /// A PEM file of the authorities that may vouch for the coordinator; without one, those that this machine trusts.
    pub ca: Option<PathBuf>,
    /// The proxy between here and the coordinator: `http://proxy.example:3128`. Without one the coordinator is asked directly, whatever
    /// `http_proxy` and its like in the environment say.
    pub proxy: Option<String>,
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
    /// The proxy's address is none.
    #[error("`coordinator.proxy`: `{value}` is not valid: expected an address such as `http://proxy.example:3128`")]
    Proxy {
        /// What was given.
        value: String,
    },
    /// A proxy would read the token, and could answer in the coordinator's place.
    #[error(
        "`coordinator.proxy`: the coordinator at {url} is asked without HTTPS, and a proxy could read and change everything: serve it by HTTPS"
    )]
    ProxyNeedsHttps {
        /// The coordinator's address.
        url: String,
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
        // The proxies that the environment names are for other hosts: they can't reach this machine's addresses, nor a cluster's.
        builder = builder.no_proxy();
        if let Some(value) = self.proxy.as_ref().filter(|_| !is_loopback(url)) {
            if !url.starts_with("https:") {
                return Err(ConnectionError::ProxyNeedsHttps { url: url.to_owned() });
            }
            let proxy = reqwest::Proxy::all(value).map_err(|_| ConnectionError::Proxy { value: value.clone() })?;
            builder = builder.proxy(proxy);
        }
        // A coordinator closes what is idle for as long as its patience lasts, 30 s as a rule: a request isn't to meet that.
        builder = builder.pool_idle_timeout(Duration::from_secs(20));
        // A token isn't carried to wherever an answer points.
        Ok(builder.redirect(reqwest::redirect::Policy::none()))
    }
}

/// Whether an address is one of this machine's own.
fn is_loopback(url: &str) -> bool {
    let parsed = reqwest::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, ConnectionError> {
    let pem = fs_err::read(path).map_err(|source| ConnectionError::Ca { source })?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(ConnectionError::NoCertificate { path: path.to_owned() });
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_used_for_https_alone_and_never_for_this_machine() {
        let through = |proxy: &str, url: &str| {
            Connection { proxy: Some(proxy.to_owned()), ..Connection::default() }.client(url).map(drop)
        };
        for url in ["http://127.0.0.1:7878", "http://localhost:7878", "http://[::1]:7878", "https://head.example:7878"]
        {
            through("http://proxy.example:3128", url).unwrap();
        }
        let error = through("http://proxy.example:3128", "http://head.example:7878").unwrap_err().to_string();
        assert!(error.starts_with("`coordinator.proxy`") && error.contains("without HTTPS"), "{error}");
        let error = through("http://", "https://head.example:7878").unwrap_err().to_string();
        assert!(error.contains("`http://` is not valid"), "{error}");
    }
}
