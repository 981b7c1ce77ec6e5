//! `/events`: the event log as server-sent events.
//!
//! A follower reads the log from the database, page by page, and sleeps when it has read everything until it's told that
//! there is more. It so sees every event once and in order, whether it was there when the stream began or not; and a
//! follower that reads slowly is behind, but costs no memory but for one page and what its connection buffers; one that takes
//! nothing for too long is cut off by the connection ([`crate::listener`]), and comes again with `Last-Event-ID`.
//!
//! Whoever is behind what is kept is told so in the stream, by an event `gap`, since a browser's `EventSource` can read neither the
//! status nor the body of a refusal: what follows has to look at the whole again. The stream then goes on.

use std::collections::VecDeque;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use promptfield_core::chain::chain;
use promptfield_core::id::Sequence;
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::Event;
use promptfield_core::wire::api::Gap;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Shared;
use super::problem::{ApiError, answer};
use crate::metrics::OpenStream;
use crate::store::Reader;

const PAGE: u32 = 500;

/// Sends events from now on, or those after `Last-Event-ID`. What happens after the answer's head has come is in the stream.
///
/// Where events aren't kept any more, there is an event `gap` with a `Gap` in their place; it has no `id`. Whoever keeps a state
/// up to date by events has to ask for the whole of it then.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "follow_events",
    tag = "events",
    params(("Last-Event-ID" = Option<Sequence>, Header, description = "The last event that was seen; without it, events from now on.")),
    responses(
        (status = 200, description = "Events as they happen, for as long as both sides stay.", body = Event, content_type = "text/event-stream"),
        answer::Unreadable,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn follow(State(app): Shared, headers: HeaderMap) -> Result<impl IntoResponse, ApiError> {
    let news = app.writer.sequence();
    let end = *news.borrow();
    // A later number is of another database: there is nothing to resume.
    let last = last_event_id(&headers)?.map_or(end, |last| last.min(end));
    let place = app.streams.enter()?;
    let open = app.metrics.follows_events(last);
    let follower = Follower { reader: app.reader, news, last, page: VecDeque::new(), open, _place: place };
    let events = follower.events().take_until(app.stop.cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(app.heartbeat)))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Sequence>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    text.parse().map(Some).map_err(|_| {
        ApiError::Unreadable(InvalidInput::new("Last-Event-ID", text, "the whole number that an event had as `id`"))
    })
}

struct Follower {
    reader: Reader,
    news: watch::Receiver<Sequence>,
    /// The last event that was sent.
    last: Sequence,
    /// Events that were read and not yet sent.
    page: VecDeque<Event>,
    open: OpenStream,
    _place: OwnedSemaphorePermit,
}

/// What a follower gets.
enum News {
    Event(Event),
    Gap(Gap),
}

impl Follower {
    fn events(self) -> impl Stream<Item = Result<sse::Event, axum::Error>> {
        stream::unfold(self, |mut follower| async move {
            let sent = match follower.next().await? {
                News::Event(event) => sse::Event::default().id(event.sequence.to_string()).json_data(event),
                News::Gap(gap) => sse::Event::default().event("gap").json_data(gap),
            };
            Some((sent, follower))
        })
    }

    /// The next event. The stream ends when the coordinator does, or when the log can't be read; the client comes again.
    async fn next(&mut self) -> Option<News> {
        loop {
            if let Some(event) = self.page.pop_front() {
                let after = std::mem::replace(&mut self.last, event.sequence);
                if event.sequence.0 > after.0 + 1 {
                    // The events before it were removed: the log has no other gaps.
                    let first = event.sequence;
                    self.last = Sequence(first.0 - 1);
                    self.page.push_front(event);
                    return Some(News::Gap(Gap { after, first }));
                }
                self.open.reached(event.sequence);
                return Some(News::Event(event));
            }
            // News that comes while the log is read isn't overlooked: it's marked as seen before.
            let end = *self.news.borrow_and_update();
            if self.last >= end {
                self.news.changed().await.ok()?;
                continue;
            }
            match self.reader.events_after(self.last, PAGE).await {
                Ok(events) => self.page.extend(events),
                Err(error) => {
                    tracing::error!(error = chain(&error), "can't read the event log for a follower");
                    return None;
                }
            }
        }
    }
}
