//! A coordinator, as its clients see it: typed calls of its HTTP API.
//!
//! A call brings what it asks for, or an [`Error`]. Which errors may pass, and after which pauses a call is made again, is one
//! law: [`Patience`]. Callers say how much of it they have, and what becomes of an error that stays.
//!
//! | file | what |
//! | --- | --- |
//! | `address` | the address by which a coordinator is called |
//! | `connection` | the token, the authorities and the proxy that a client needs |
//! | `call` | one call: sent, read, repeated |
//! | `error` | what a call may bring instead of an answer |
//! | `patience` | which calls are repeated, and when |
//! | `experiments`, `jobs`, `workers`, `installation` | the calls |
//! | `messages` | streams of server-sent events |

mod address;
mod call;
mod connection;
mod error;
mod experiments;
mod installation;
mod jobs;
mod messages;
mod patience;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::Retryable as _;
use promptfield_core::chain::chain;
use promptfield_core::wire::api::PREFIX;

pub use address::{coordinator_address, host_name};
pub use connection::{Connection, ConnectionError};
pub use error::{Error, Refusal};
pub use experiments::Target;
pub use messages::{Message, Messages};
pub use patience::Patience;
pub use workers::REPORTS_CALL;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What clients differ in.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// How long a small answer may take; `None` for as long as it takes.
    pub answer_timeout: Option<Duration>,
    /// Reports of at least so many bytes are compressed; `None` for none.
    pub compress_from: Option<usize>,
    /// What the client calls itself.
    pub user_agent: Option<&'static str>,
}

/// Calls one coordinator. Clones are cheap, and share connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    url: Arc<str>,
    compress_from: Option<usize>,
    patience: Patience,
    notice: fn(&Error),
    /// Whether anybody has ever answered there.
    was_there: Arc<AtomicBool>,
}

impl Client {
    /// A client of the coordinator at `url`, which makes each call once, but for submissions; nothing is sent yet.
    pub fn new(url: &str, connection: &Connection, options: ClientOptions) -> Result<Self, ConnectionError> {
        let mut http = connection.client(url)?.connect_timeout(CONNECT_TIMEOUT);
        if let Some(timeout) = options.answer_timeout {
            http = http.timeout(timeout);
        }
        if let Some(name) = options.user_agent {
            http = http.user_agent(name);
        }
        Ok(Self {
            http: http.build().map_err(|source| ConnectionError::Client { source })?,
            url: url.trim_end_matches('/').into(),
            compress_from: options.compress_from,
            patience: Patience::NONE,
            notice: |error| tracing::warn!("{}; trying again", chain(error)),
            was_there: Arc::default(),
        })
    }

    /// The same, with patience in every call; `notice` hears the first error of a call that is made again.
    #[must_use]
    pub fn patient(self, patience: Patience, notice: fn(&Error)) -> Self {
        Self { patience, notice, ..self }
    }

    /// Where the coordinator is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes a call, and again as long as `patience` lasts; `notice` hears each error that is waited out.
    pub async fn repeat<T, F>(
        &self,
        patience: Patience,
        call: impl FnMut() -> F,
        mut notice: impl FnMut(&Error),
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        call.retry(patience.pauses())
            // Where nobody listens from the first, there is nobody to wait for.
            .when(|error| patience.covers(error) && (patience.unattended || self.was_there.load(Ordering::Relaxed)))
            .adjust(|error, pause| pause.map(|pause| error.retry_after().unwrap_or(pause)))
            .notify(|error, _| notice(error))
            .await
    }

    fn address_of(&self, path: &str) -> String {
        format!("{}{PREFIX}{path}", self.url)
    }
}
