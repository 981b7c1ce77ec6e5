//! `/jobs/{id}/log`: what a trainer printed.
//!
//! A follower reads lines from the database, page by page, and sleeps when it has sent everything until something was written:
//! lines, or an event, which may be the attempt's end. It gets them as text, or as server-sent events: these have a heartbeat
//! while nothing is printed, which text has no room for, numbers to resume from, and a last word by which an end is told from a
//! connection that broke.

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use promptfield_core::chain::chain;
use promptfield_core::id::{JobId, LeaseId, Sequence};
use promptfield_core::input::{InvalidInput, one_of};
use promptfield_core::scheduler::AttemptEnd;
use promptfield_core::wire::api::{LogEnd, LogLine};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::IntoParams;

use super::extract::{Id, Params};
use super::jobs::latest_attempt;
use super::problem::{ApiError, answer};
use super::{App, Live, Shared};
use crate::metrics::OpenStream;
use crate::store::{Reader, Reported, StoreError};
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
    /// The `lease` of one of the job's attempts; the latest if absent.
    #[param(value_type = Option<LeaseId>)]
    attempt: Option<String>,
}

impl LogParams {
    fn follow(&self) -> Result<bool, InvalidInput> {
        match self.follow.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(InvalidInput::new("follow", other, one_of(other, ["true", "false"]))),
        }
    }

    /// The attempt whose log is wanted; `None` if the job has had none yet.
    async fn attempt(&self, app: &App, job: JobId) -> Result<Option<LeaseId>, ApiError> {
        let latest = latest_attempt(app, job).await?;
        let Some(text) = self.attempt.as_deref() else { return Ok(latest) };
        let attempts = app.reader.attempts(job).await?;
        if let Some(attempt) = attempts.iter().find(|attempt| attempt.lease.to_string() == text) {
            return Ok(Some(attempt.lease));
        }
        let leases: Vec<String> = attempts.iter().map(|attempt| format!("`{}`", attempt.lease)).collect();
        let expected = match leases.as_slice() {
            [] => format!("nothing: job {job} has had no attempt yet"),
            leases => format!("the lease of an attempt of job {job}: {}", leases.join(" or ")),
        };
        Err(ApiError::Unreadable(InvalidInput::new("attempt", text, expected)))
    }
}

/// Why a log breaks off.
#[derive(Debug, thiserror::Error)]
enum BrokenOff {
    #[error(transparent)]
    Unreadable(#[from] StoreError),
    /// It was removed while it was sent.
    #[error("the log isn't kept any more")]
    Removed,
}

/// The log of a job's latest attempt, or of the one that is named, as far as it has come; empty before the first.
///
/// With `follow`, the answer goes on with the lines that come, until the attempt ends or the coordinator stops; before the
/// first attempt, it waits for it. Whoever follows and accepts `text/event-stream` gets each line as an event with a `LogLine`,
/// whose `id` can be given back as `Last-Event-ID`, a comment now and then, and at the attempt's end an event `end` with a
/// `LogEnd`.
#[utoipa::path(
    get,
    path = "/jobs/{id}/log",
    operation_id = "get_log",
    tag = "jobs",
    params(
        ("id" = JobId, Path, description = "The job's identifier."),
        LogParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last line that was seen: a follower of events goes on after it."),
    ),
    responses(
        (status = 200, description = "The lines.", content((String = "text/plain; charset=utf-8"), (LogLine = "text/event-stream"))),
        answer::Unreadable,
        answer::NotFound,
        answer::Removed,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn show(
    State(app): Shared,
    Id(id): Id<JobId>,
    Params(params): Params<LogParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let follow = params.follow().map_err(ApiError::Unreadable)?;
    let wanted = params.attempt(&app, id).await?;
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    if follow && accepts_events(&headers) {
        let seen = last_event_id(&app, id, &headers).await?;
        if let Some((attempt, seen)) = params.attempt.as_ref().zip(seen.as_ref())
            && wanted != Some(seen.attempt)
        {
            let expected = format!("the attempt that `Last-Event-ID` is of, `{}`", seen.attempt);
            return Err(ApiError::Unreadable(InvalidInput::new("attempt", attempt, expected)));
        }
        let place = seen.or(wanted.map(|attempt| Place { attempt, next: 0 }));
        is_kept(&app, id, place.map(|place| place.attempt)).await?;
        let events = Follower::new(&app, id, place)?.events().take_until(app.stop.cancelled_owned());
        return Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(app.heartbeat)).into_response());
    }
    is_kept(&app, id, wanted).await?;
    let place = wanted.map(|attempt| Place { attempt, next: 0 });
    if follow {
        let lines = Follower::new(&app, id, place)?.text().take_until(app.stop.cancelled_owned());
        return Ok((plain, Extension(Live), Body::from_stream(lines)).into_response());
    }
    let body = match place {
        Some(place) => Body::from_stream(pages(app.reader, place).map_ok(|lines| text(&lines))),
        None => Body::empty(),
    };
    Ok((plain, body).into_response())
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut accepted = accepted.flat_map(|list| list.split(',')).map(|kind| kind.split(';').next().unwrap_or(kind));
    accepted.any(|kind| kind.trim() == "text/event-stream")
}

async fn is_kept(app: &App, job: JobId, attempt: Option<LeaseId>) -> Result<(), ApiError> {
    if let Some(attempt) = attempt
        && app.reader.is_removed(Reported::Log, attempt).await?
    {
        return Err(ApiError::Removed(format!("the log of job {job}'s attempt {attempt} isn't kept any more")));
    }
    Ok(())
}

/// A place in the log of one of a job's attempts.
#[derive(Clone, Copy, Debug)]
struct Place {
    attempt: LeaseId,
    /// The line that comes next.
    next: u64,
}

/// The place after the line that a follower has seen, if it has seen any: `ATTEMPT-LINE`.
async fn last_event_id(app: &App, job: JobId, headers: &HeaderMap) -> Result<Option<Place>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let place = text.split_once('-').and_then(|(attempt, line)| {
        let line: u64 = line.parse().ok()?;
        Some(Place { attempt: attempt.parse().ok()?, next: line.checked_add(1)? })
    });
    let attempts = app.reader.attempts(job).await?;
    let place = place.filter(|place| attempts.iter().any(|one| one.lease == place.attempt));
    let expected = "the `id` that a line of this job's log had";
    place.map(Some).ok_or_else(|| ApiError::Unreadable(InvalidInput::new("Last-Event-ID", text, expected)))
}

/// The log in pages, so that no log is ever in memory as a whole.
fn pages(reader: Reader, place: Place) -> impl Stream<Item = Result<Vec<LogLine>, BrokenOff>> {
    stream::try_unfold((reader, place), |(reader, mut place)| async move {
        Ok(page(&reader, &mut place).await?.map(|lines| (lines, (reader, place))))
    })
}

/// The lines from a place on, which then is after them; `None` if there are none.
async fn page(reader: &Reader, place: &mut Place) -> Result<Option<Vec<LogLine>>, BrokenOff> {
    let attempt = place.attempt;
    let lines = reader.log_lines(attempt, place.next, PAGE).await?;
    if reader.is_removed(Reported::Log, attempt).await? {
        return Err(BrokenOff::Removed);
    }
    let Some((last, _)) = lines.last() else { return Ok(None) };
    place.next = last + 1;
    Ok(Some(lines.into_iter().map(|(line, text)| LogLine { attempt, line, text }).collect()))
}

fn text(lines: &[LogLine]) -> Bytes {
    let mut page = String::new();
    for LogLine { text, .. } in lines {
        page.push_str(text);
        page.push('\n');
    }
    Bytes::from(page)
}

struct Follower {
    reader: Reader,
    writer: Writer,
    news: watch::Receiver<Sequence>,
    reports: watch::Receiver<u64>,
    job: JobId,
    place: Option<Place>,
    has_ended: bool,
    _open: OpenStream,
    _place: OwnedSemaphorePermit,
}

/// What a follower gets.
enum News {
    Lines(Vec<LogLine>),
    End(LogEnd),
}

impl Follower {
    fn new(app: &App, job: JobId, place: Option<Place>) -> Result<Self, ApiError> {
        Ok(Self {
            _place: app.streams.enter()?,
            _open: app.metrics.follows_log(),
            reader: app.reader.clone(),
            writer: app.writer.clone(),
            news: app.writer.sequence(),
            reports: app.writer.reports(),
            job,
            place,
            has_ended: false,
        })
    }

    fn text(self) -> impl Stream<Item = Result<Bytes, BrokenOff>> {
        self.news().try_filter_map(async |news| match news {
            News::Lines(lines) => Ok(Some(text(&lines))),
            News::End(_) => Ok(None),
        })
    }

    fn events(self) -> impl Stream<Item = Result<sse::Event, axum::BoxError>> {
        let events = |news| {
            let events: Vec<Result<sse::Event, axum::BoxError>> = match news {
                News::Lines(lines) => lines.iter().map(event).collect(),
                News::End(end) => vec![sse::Event::default().event("end").json_data(end).map_err(Into::into)],
            };
            stream::iter(events)
        };
        self.news().map_ok(events).err_into::<axum::BoxError>().try_flatten()
    }

    fn news(self) -> impl Stream<Item = Result<News, BrokenOff>> {
        stream::try_unfold(self, |mut follower| async move {
            let news = follower.next().await.inspect_err(|error| {
                tracing::error!(error = chain(error), "can't read a log for a follower");
            })?;
            Ok(news.map(|news| (news, follower)))
        })
    }

    /// The next lines, when there are any, and in the end the end; `None` after it, or when the coordinator stops.
    async fn next(&mut self) -> Result<Option<News>, BrokenOff> {
        while !self.has_ended {
            // What is written while the database is read isn't overlooked: it's marked as seen before.
            self.news.borrow_and_update();
            self.reports.borrow_and_update();
            // And whether the attempt has ended is asked before its lines are: none comes between the two.
            let end = self.end().await?;
            if let Some(place) = &mut self.place
                && let Some(lines) = page(&self.reader, place).await?
            {
                return Ok(Some(News::Lines(lines)));
            }
            if let Some(end) = end {
                self.has_ended = true;
                return Ok(Some(News::End(end)));
            }
            let changed = tokio::select! {
                changed = self.news.changed() => changed,
                changed = self.reports.changed() => changed,
            };
            if changed.is_err() {
                break;
            }
        }
        Ok(None)
    }

    /// How the attempt ended, or that there will be none.
    async fn end(&mut self) -> Result<Option<LogEnd>, StoreError> {
        if self.place.is_none() {
            let latest = self.reader.latest_attempt(self.job).await?.flatten();
            self.place = latest.map(|attempt| Place { attempt, next: 0 });
        }
        if let Some(Place { attempt, .. }) = self.place {
            let attempts = self.reader.attempts(self.job).await?;
            let end: Option<AttemptEnd> = attempts.iter().find(|one| one.lease == attempt).and_then(|one| one.end);
            return Ok(end.map(|end| LogEnd { attempt: Some(attempt), end: Some(end) }));
        }
        let job = self.job;
        let is_final =
            self.writer.look(move |scheduler, _| scheduler.job(job).is_none_or(|job| job.state.name().is_final()));
        // A writer that has no time now will have news later.
        let is_final = is_final.await.unwrap_or(false);
        Ok(is_final.then_some(LogEnd { attempt: None, end: None }))
    }
}

fn event(line: &LogLine) -> Result<sse::Event, axum::BoxError> {
    let id = format!("{}-{}", line.attempt, line.line);
    Ok(sse::Event::default().id(id).json_data(line)?)
}
