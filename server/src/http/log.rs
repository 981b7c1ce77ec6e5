//! `/jobs/{id}/log`: what a trainer printed.
//!
//! A follower reads lines from the database, page by page, and sleeps when it has sent everything until something was written:
//! lines, or an event, which may be the attempt's end.

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use promptfield_core::chain::chain;
use promptfield_core::id::{JobId, LeaseId, Sequence};
use promptfield_core::input::{InvalidInput, one_of};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::IntoParams;

use super::extract::{Id, Params};
use super::jobs::latest_attempt;
use super::problem::{ApiError, answer};
use super::{App, Live, Shared};
use crate::metrics::OpenStream;
use crate::store::{Reader, StoreError};
use crate::writer::Writer;

/// Lines that are read and sent together.
const PAGE: u32 = 2000;

/// The query of [`show()`].
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogParams {
    /// Whether to wait for more lines until the attempt ends.
    #[param(value_type = Option<bool>)]
    follow: Option<String>,
}

impl LogParams {
    fn follow(&self) -> Result<bool, InvalidInput> {
        match self.follow.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(InvalidInput::new("follow", other, one_of(other, ["true", "false"]))),
        }
    }
}

/// The log of a job's latest attempt, as far as it has come; empty before the first.
///
/// With `follow`, the answer goes on with the lines that come, until the attempt ends or the coordinator stops; before the
/// first attempt, it waits for it.
#[utoipa::path(
    get,
    path = "/jobs/{id}/log",
    operation_id = "get_log",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job's identifier."), LogParams),
    responses(
        (status = 200, description = "The lines.", body = String, content_type = "text/plain; charset=utf-8"),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn show(
    State(app): Shared,
    Id(id): Id<JobId>,
    Params(params): Params<LogParams>,
) -> Result<Response, ApiError> {
    let follow = params.follow().map_err(ApiError::Unreadable)?;
    let attempt = latest_attempt(&app, id).await?;
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    if follow {
        let lines = Follower::new(&app, id, attempt)?.pages().take_until(app.stop.cancelled_owned());
        return Ok((plain, Extension(Live), Body::from_stream(lines)).into_response());
    }
    let body = match attempt {
        Some(attempt) => Body::from_stream(pages(app.reader, attempt)),
        None => Body::empty(),
    };
    Ok((plain, body).into_response())
}

/// The log in pages, so that no log is ever in memory as a whole.
fn pages(reader: Reader, attempt: LeaseId) -> impl Stream<Item = Result<Bytes, StoreError>> {
    stream::try_unfold((reader, 0), move |(reader, first)| async move {
        Ok(page(&reader, attempt, first).await?.map(|(page, next)| (page, (reader, next))))
    })
}

/// The lines from `first` on, and the number of the line after them; `None` if there are none.
async fn page(reader: &Reader, attempt: LeaseId, first: u64) -> Result<Option<(Bytes, u64)>, StoreError> {
    let lines = reader.log_lines(attempt, first, PAGE).await?;
    let Some((last, _)) = lines.last() else { return Ok(None) };
    let next = last + 1;
    let mut page = String::new();
    for (_, line) in &lines {
        page.push_str(line);
        page.push('\n');
    }
    Ok(Some((Bytes::from(page), next)))
}

struct Follower {
    reader: Reader,
    writer: Writer,
    news: watch::Receiver<Sequence>,
    reports: watch::Receiver<u64>,
    job: JobId,
    attempt: Option<LeaseId>,
    /// The line that comes next.
    next: u64,
    _open: OpenStream,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    fn new(app: &App, job: JobId, attempt: Option<LeaseId>) -> Result<Self, ApiError> {
        Ok(Self {
            _place: app.streams.enter()?,
            _open: app.metrics.follows_log(),
            reader: app.reader.clone(),
            writer: app.writer.clone(),
            news: app.writer.sequence(),
            reports: app.writer.reports(),
            job,
            attempt,
            next: 0,
        })
    }

    fn pages(self) -> impl Stream<Item = Result<Bytes, StoreError>> {
        stream::try_unfold(self, |mut follower| async move {
            let page = follower.page().await.inspect_err(|error| {
                tracing::error!(error = chain(error), "can't read a log for a follower");
            })?;
            Ok(page.map(|page| (page, follower)))
        })
    }

    /// The next lines, when there are any; `None` when there will be none.
    async fn page(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            // What is written while the database is read isn't overlooked: it's marked as seen before.
            self.news.borrow_and_update();
            self.reports.borrow_and_update();
            // And whether the attempt has ended is asked before its lines are: none comes between the two.
            let has_ended = self.has_ended().await?;
            if let Some(attempt) = self.attempt
                && let Some((page, next)) = page(&self.reader, attempt, self.next).await?
            {
                self.next = next;
                return Ok(Some(page));
            }
            if has_ended {
                return Ok(None);
            }
            let changed = tokio::select! {
                changed = self.news.changed() => changed,
                changed = self.reports.changed() => changed,
            };
            if changed.is_err() {
                return Ok(None);
            }
        }
    }

    async fn has_ended(&mut self) -> Result<bool, StoreError> {
        if self.attempt.is_none() {
            self.attempt = self.reader.latest_attempt(self.job).await?.flatten();
        }
        if let Some(attempt) = self.attempt {
            let attempts = self.reader.attempts(self.job).await?;
            return Ok(attempts.iter().any(|one| one.lease == attempt && one.ended_at.is_some()));
        }
        let job = self.job;
        let is_final =
            self.writer.look(move |scheduler, _| scheduler.job(job).is_none_or(|job| job.state.name().is_final()));
        // A writer that has no time now will have news later.
        Ok(is_final.await.unwrap_or(false))
    }
}
