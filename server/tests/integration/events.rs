//! The event stream.

use promptfield_core::id::{JobId, Sequence};
use promptfield_core::scheduler::{Event, EventKind, JobStateName};
use promptfield_core::wire::api::Gap;
use reqwest::{Method, StatusCode};

use crate::support::{Client, Message, Messages, TestServer, experiment, problem, run_all};

/// A stream of events, open.
pub(crate) struct Events {
    messages: Messages,
}

impl Events {
    pub(crate) async fn open(client: &Client, after: Option<u64>) -> Self {
        let request = client.request(Method::GET, "/events");
        let request = after.into_iter().fold(request, |request, after| request.header("Last-Event-ID", after));
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["x-accel-buffering"], "no", "a proxy lets it through");
        Self { messages: Messages::new(response) }
    }

    /// The next event; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let Message { id, event, data } = self.messages.next().await?;
        assert_eq!(event, None, "{data}");
        let event: Event = serde_json::from_str(&data).unwrap();
        assert_eq!(id, Some(event.sequence.to_string()));
        Some(event)
    }

    /// What comes next must be a gap.
    pub(crate) async fn gap(&mut self) -> Gap {
        let Message { id, event, data } = self.messages.next().await.unwrap();
        assert_eq!((id, event.as_deref()), (None, Some("gap")));
        serde_json::from_str(&data).unwrap()
    }

    pub(crate) async fn until_completed(&mut self, job: JobId) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await.unwrap();
            let done = matches!(&event.kind, EventKind::JobChanged { job: changed, to: JobStateName::Completed, .. } if *changed == job);
            events.push(event);
            if done {
                return events;
            }
        }
    }
}

fn sequences(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.sequence.0).collect()
}

#[tokio::test]
async fn a_follower_sees_everything_from_the_moment_it_came() {
    let server = TestServer::start().await;
    let mut events = Events::open(&server, None).await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    run_all(&server, worker, 2).await;
    let seen = events.until_completed(JobId(2)).await;
    assert_eq!(sequences(&seen), (1..=seen.len() as u64).collect::<Vec<_>>());
    assert!(matches!(seen[0].kind, EventKind::ExperimentSubmitted { jobs: 2, .. }));
    let of_first: Vec<_> = seen
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::JobChanged { job: JobId(1), to, .. } => Some(to),
            _ => None,
        })
        .collect();
    assert_eq!(of_first, [JobStateName::Leased, JobStateName::Completed]);
}

#[tokio::test]
async fn a_follower_resumes_where_it_was_even_after_a_restart() {
    let mut server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    run_all(&server, worker, 1).await;
    let all = Events::open(&server, Some(0)).await.until_completed(JobId(1)).await;
    server.restart().await;
    let mut resumed = Events::open(&server, Some(2)).await;
    assert_eq!(resumed.until_completed(JobId(1)).await, all[2..]);
    // And goes on live.
    run_all(&server, worker, 1).await;
    let live = resumed.until_completed(JobId(2)).await;
    assert!(live.iter().all(|event| event.sequence > all.last().unwrap().sequence));
}

#[tokio::test]
async fn a_number_of_another_database_starts_at_the_end() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let mut events = Events::open(&server, Some(1_000_000)).await;
    server.register("w").await;
    let event = events.next().await.unwrap();
    assert_eq!(event.sequence, Sequence(2));
    assert!(matches!(event.kind, EventKind::WorkerChanged { .. }));
}

#[tokio::test]
async fn a_last_event_id_that_is_no_number_is_refused() {
    let server = TestServer::start().await;
    let response = server.request(Method::GET, "/events").header("Last-Event-ID", "x").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(problem(response).await.errors[0].field, "Last-Event-ID");
}

#[tokio::test]
async fn streams_and_polls_end_when_the_coordinator_stops() {
    let mut server = TestServer::start().await;
    let worker = server.register("w").await;
    let mut events = Events::open(&server, None).await;
    let client = server.client.clone();
    let poll = tokio::spawn(async move { client.lease_within(worker, 1, crate::support::LONG_MS).await });
    server.submit(&experiment(&[1])).await;
    let lease = poll.await.unwrap();
    assert_eq!(lease.len(), 1);
    server.shut_down().await;
    while events.next().await.is_some() {}
    server.start_again().await;
    assert_eq!(server.complete(&lease[0]).await.status(), StatusCode::NO_CONTENT);
}
