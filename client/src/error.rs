//! What a call may bring instead of what it asks for.

use std::sync::Arc;
use std::time::Duration;

use promptfield_core::VERSION;
use promptfield_core::input::{FieldError, InvalidInput};
use promptfield_core::wire::api::Problem;

/// Why a call has brought nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens, or the connection broke before an answer began.
    #[error(
        "can't reach the coordinator at {url}; start one with `promptfield serve`, or name another with `--coordinator`"
    )]
    Unreachable {
        /// The coordinator's address.
        url: Arc<str>,
        /// Why.
        source: Arc<reqwest::Error>,
    },
    /// The answer broke off.
    #[error("the answer to {call} broke off")]
    Broken {
        /// The call.
        call: String,
        /// Why.
        source: Arc<reqwest::Error>,
    },
    /// The answer can be read, and isn't one to what was asked.
    #[error("the answer to {call} {what}")]
    Unexpected {
        /// The call.
        call: String,
        /// What is wrong with the answer, as the rest of a sentence.
        what: String,
    },
    /// Whoever answers isn't a coordinator of this version.
    #[error("the answer to {call} can't be understood; is the coordinator of version {VERSION}?")]
    Unreadable {
        /// The call.
        call: String,
        /// What is wrong with the answer.
        source: Arc<serde_json::Error>,
    },
    /// The address is that of a page, of the dashboard for instance.
    #[error("{}", no_page(url))]
    Page {
        /// The address.
        url: Arc<str>,
    },
    /// The answer is no.
    #[error("{0}")]
    Refused(Box<Refusal>),
}

fn no_page(url: &str) -> InvalidInput {
    InvalidInput::new(
        "--coordinator",
        url,
        "the address that the coordinator said when it started, without a page's path",
    )
}

/// A coordinator's "no".
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The coordinator's address.
    pub url: Arc<str>,
    /// The call.
    pub call: String,
    /// The HTTP status.
    pub status: u16,
    /// The coordinator's reason.
    pub detail: String,
    /// For bad input: every field that is wrong.
    pub errors: Vec<FieldError>,
    /// For how long it asks to wait.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// What a problem document says, as the answer to `call` or to a part of it.
    pub fn new(url: Arc<str>, call: String, problem: Problem) -> Self {
        let Problem { status, detail, errors, .. } = problem;
        Self { url, call, status, detail, errors, retry_after: None }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url, detail, .. } = self;
        match self.status {
            _ if !self.errors.is_empty() => InvalidInput { errors: self.errors.clone() }.fmt(f),
            401 | 403 => write!(f, "the coordinator at {url} refused: {detail}"),
            408 | 429 | 503 => write!(f, "the coordinator at {url} can't do this now: {detail}"),
            400..500 => f.write_str(detail),
            _ => write!(f, "the coordinator at {url} answered: {detail}"),
        }
    }
}

impl Error {
    /// The HTTP status of a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }

    /// For how long the coordinator asks to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}
