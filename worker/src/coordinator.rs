//! The coordinator, as a worker sees it: calls, and patience with who answers them.
//!
//! [`Coordinator::until_answered`] repeats a call for as long as it takes, since a worker outlives its coordinator; whoever has less
//! patience drops the future. Losing and finding the coordinator is logged here, once each.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use promptfield_client::{Client, ClientOptions, Connection, ConnectionError, Error, Patience, REPORTS_CALL};
use promptfield_core::chain::chain;
use promptfield_core::id::LeaseId;
use promptfield_core::wire::api::{
    CompletionReport, FailureReport, ProgressReport, ReleaseReport, Renewed, Report, ReportAnswer,
};
use tokio::time::Instant;

use crate::mailbox::Mailbox;

/// For everything small.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Reports of so many bytes are compressed: lines of logs and numbers by class shrink to a tenth.
const COMPRESS_FROM: usize = 8 << 10;
/// Between two tries of whatever a worker does until it succeeds.
pub(crate) const PATIENCE: Patience =
    Patience { first: Duration::from_millis(200), longest: Duration::from_secs(3), most: None, unattended: true };

/// The coordinator's "no".
#[derive(Clone, Debug, thiserror::Error)]
pub enum Rejected {
    /// 409: the lease isn't the latest attempt's, or its job has ended.
    #[error("{0}")]
    Stale(String),
    /// 410: the worker said goodbye, was silent for too long, or was started again.
    #[error("{0}")]
    UnknownWorker(String),
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// Any other answer that repeating the call won't change.
    #[error("the coordinator refused {call} ({status}): {detail}")]
    Refused {
        /// The call.
        call: String,
        /// The HTTP status.
        status: u16,
        /// The coordinator's reason.
        detail: String,
    },
    /// Whoever answers isn't a coordinator of this version.
    #[error(transparent)]
    Unreadable(Error),
}

impl From<Error> for Rejected {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => match refusal.status {
                409 => Self::Stale(refusal.detail),
                410 => Self::UnknownWorker(refusal.detail),
                404 => Self::NotFound(refusal.detail),
                status => Self::Refused { call: refusal.call, status, detail: refusal.detail },
            },
            other => Self::Unreadable(other),
        }
    }
}

impl Rejected {
    /// Whether the answer is on what was said, and not on who says it or from whom it comes.
    pub(crate) const fn is_final(&self) -> bool {
        match self {
            Self::Stale(_) | Self::NotFound(_) => true,
            Self::Refused { status, .. } => !matches!(*status, 401 | 403),
            Self::UnknownWorker(_) | Self::Unreadable(_) => false,
        }
    }
}

/// One coordinator, for one worker.
#[derive(Debug)]
pub(crate) struct Coordinator {
    /// Makes each call once.
    pub(crate) client: Client,
    mailbox: Mailbox,
    out_of_reach_since: Mutex<Option<Instant>>,
}

impl Coordinator {
    pub(crate) fn new(url: &str, connection: &Connection) -> Result<Self, ConnectionError> {
        let options = ClientOptions {
            answer_timeout: Some(ANSWER_TIMEOUT),
            compress_from: Some(COMPRESS_FROM),
            user_agent: Some(concat!("promptfield-worker/", env!("CARGO_PKG_VERSION"))),
        };
        let client = Client::new(url, connection, options)?;
        let mailbox = Mailbox::open(client.clone());
        Ok(Self { client, mailbox, out_of_reach_since: Mutex::default() })
    }

    /// Repeats a call until it is answered.
    pub(crate) async fn until_answered<T, F>(&self, call: impl FnMut() -> F) -> Result<T, Rejected>
    where
        F: Future<Output = Result<T, Error>>,
    {
        // Boxed: a slot's future holds many of these, one inside the other.
        let answer = Box::pin(self.client.repeat(PATIENCE, call, |error| self.lost(error))).await;
        self.found();
        Ok(answer?)
    }

    fn lost(&self, error: &Error) {
        let (url, reason) = (self.client.url(), chain(error));
        let mut since = self.out_of_reach_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_some() {
            tracing::debug!(reason, "the coordinator is still out of reach");
        } else {
            *since = Some(Instant::now());
            tracing::warn!(reason, "the coordinator at {url} is out of reach; jobs go on and report later");
        }
    }

    fn found(&self) {
        let mut since = self.out_of_reach_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.take().is_some() {
            tracing::info!("the coordinator is back");
        }
    }

    /// Since when nobody has answered.
    pub(crate) fn out_of_reach_since(&self) -> Option<Instant> {
        *self.out_of_reach_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn progress(&self, lease: LeaseId, report: &ProgressReport) -> Result<Renewed, Error> {
        match self.mailbox.send(lease, Report::Progress(report.clone())).await? {
            ReportAnswer::Renewed(renewed) => Ok(renewed),
            other => Err(Error::Unexpected { call: REPORTS_CALL.into(), what: format!("to progress is {other:?}") }),
        }
    }

    pub(crate) async fn complete(&self, lease: LeaseId, report: &CompletionReport) -> Result<(), Error> {
        self.mailbox.send(lease, Report::Complete(Box::new(report.clone()))).await.map(drop)
    }

    pub(crate) async fn fail(&self, lease: LeaseId, report: &FailureReport) -> Result<(), Error> {
        self.mailbox.send(lease, Report::Fail(report.clone())).await.map(drop)
    }

    pub(crate) async fn release(&self, lease: LeaseId, report: &ReleaseReport) -> Result<(), Error> {
        self.mailbox.send(lease, Report::Release(report.clone())).await.map(drop)
    }
}
