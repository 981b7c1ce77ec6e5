//! A job's log while it's written.

use std::time::Duration;

use promptfield_core::id::LeaseId;
use promptfield_core::job::outcome::FailureClass;
use promptfield_core::scheduler::AttemptEnd;
use promptfield_core::wire::api::{LeaseGrant, LogChunk, LogEnd, LogLine, ProgressReport};
use promptfield_server::Limits;
use reqwest::{Method, Response, StatusCode};

use crate::support::{Client, Message, Messages, TestServer, at_step, experiment, problem};

/// A log that is followed.
struct Log {
    response: Response,
    text: String,
}

impl Log {
    async fn follow(client: &Client) -> Self {
        // Whoever could read it compressed must still get lines as they come.
        let request = client.request(Method::GET, "/jobs/1/log?follow=true").header("Accept-Encoding", "gzip");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("content-encoding"));
        Self { response, text: String::new() }
    }

    /// Waits until exactly `text` has come.
    async fn until(&mut self, text: &str) {
        while self.text.len() < text.len() {
            let chunk = self.response.chunk().await.unwrap().expect("the log has ended");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert_eq!(self.text, text);
    }

    /// Waits for the end, and gives everything back.
    async fn end(mut self) -> String {
        while let Some(chunk) = self.response.chunk().await.unwrap() {
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        self.text
    }
}

pub(crate) async fn print(client: &Client, grant: &LeaseGrant, first_line: u64, lines: &[&str]) {
    let log = Some(LogChunk { first_line, lines: lines.iter().map(|&line| line.into()).collect() });
    let report = ProgressReport { log, ..at_step(grant, first_line) };
    assert_eq!(client.progress(grant, &report).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn lines_come_as_they_are_written_until_the_attempt_ends() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    // Before anyone has the job.
    let mut log = Log::follow(&server).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    print(&server, &grant, 0, &["a", "b"]).await;
    log.until("a\nb\n").await;
    let mut late = Log::follow(&server).await;
    late.until("a\nb\n").await;
    print(&server, &grant, 2, &["c"]).await;
    log.until("a\nb\nc\n").await;
    print(&server, &grant, 3, &["d"]).await;
    assert_eq!(server.complete(&grant).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(log.end().await, "a\nb\nc\nd\n");
    assert_eq!(late.end().await, "a\nb\nc\nd\n");
    // Whoever comes later gets all of it, and the end.
    assert_eq!(Log::follow(&server).await.end().await, "a\nb\nc\nd\n");
}

#[tokio::test]
async fn a_failure_and_a_cancellation_end_a_log() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    let log = Log::follow(&server).await;
    print(&server, &grant, 0, &["a"]).await;
    server.fail(&grant, FailureClass::BadData, "no").await;
    assert_eq!(log.end().await, "a\n");
    server.submit(&experiment(&[2])).await;
    let waiting = server.get("/jobs/3/log?follow=true").await;
    server.post("/jobs/3/cancel", &()).await;
    assert_eq!(waiting.text().await.unwrap(), "");
}

#[tokio::test]
async fn a_log_that_is_followed_ends_when_the_coordinator_stops() {
    let mut server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let log = Log::follow(&server).await;
    server.shut_down().await;
    assert_eq!(log.end().await, "");
}

#[tokio::test]
async fn follow_is_yes_or_no() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    assert_eq!(server.text("/jobs/1/log?follow=false").await, "");
    let response = server.get("/jobs/1/log?follow=ture").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let problem = problem(response).await;
    assert_eq!(problem.errors[0].field, "follow");
    assert!(problem.detail.contains("did you mean `true`?"), "{}", problem.detail);
    assert_eq!(server.get("/jobs/99/log?follow=true").await.status(), StatusCode::NOT_FOUND);
}

/// A log that is followed as events.
async fn events(client: &Client, last: Option<&str>) -> Messages {
    let request = client.request(Method::GET, "/jobs/1/log?follow=true").header("Accept", "text/event-stream");
    let request = last.into_iter().fold(request, |request, last| request.header("Last-Event-ID", last));
    Messages::new(request.send().await.unwrap())
}

async fn line(log: &mut Messages) -> (String, LogLine) {
    let Message { id, event, data } = log.next().await.unwrap();
    assert_eq!(event, None, "{data}");
    (id.unwrap(), serde_json::from_str(&data).unwrap())
}

async fn end(mut log: Messages) -> LogEnd {
    let Message { event, data, .. } = log.next().await.unwrap();
    assert_eq!(event.as_deref(), Some("end"), "{data}");
    assert_eq!(log.next().await, None);
    serde_json::from_str(&data).unwrap()
}

#[tokio::test]
async fn events_of_a_log_can_be_resumed_and_have_an_end() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    // Before anyone has the job.
    let mut log = events(&server, None).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    print(&server, &grant, 0, &["50 %\r100 %", "b", "c"]).await;
    let (id, first) = line(&mut log).await;
    assert_eq!((id.as_str(), &first.text), ("1-0", &"50 %\r100 %".to_owned()));
    let mut resumed = events(&server, Some("1-1")).await;
    assert_eq!(line(&mut resumed).await, ("1-2".into(), LogLine { attempt: LeaseId(1), line: 2, text: "c".into() }));
    server.fail(&grant, FailureClass::WorkerLost, "gone").await;
    let failed = LogEnd { attempt: Some(LeaseId(1)), end: Some(AttemptEnd::Failed) };
    assert_eq!(end(resumed).await, failed);
    for text in ["b", "c"] {
        assert_eq!(line(&mut log).await.1.text, text);
    }
    assert_eq!(end(log).await, failed);
    // Whoever has lines of that attempt doesn't get those of the next, and who hasn't, only those.
    let again = server.lease(worker, 2).await.into_iter().find(|again| again.job == grant.job).unwrap();
    print(&server, &again, 0, &["new"]).await;
    assert_eq!(end(events(&server, Some("1-2")).await).await, failed);
    let mut log = events(&server, None).await;
    assert_eq!(line(&mut log).await.1, LogLine { attempt: again.lease, line: 0, text: "new".into() });
}

#[tokio::test]
async fn the_log_of_every_attempt_can_be_read() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let first = server.lease(worker, 1).await.remove(0);
    print(&server, &first, 0, &["first", "why it failed"]).await;
    server.fail(&first, FailureClass::BadData, "no").await;
    server.post("/jobs/1/retry", &()).await;
    let second = server.lease(worker, 1).await.remove(0);
    print(&server, &second, 0, &["second"]).await;
    assert_eq!(server.text("/jobs/1/log").await, "second\n");
    let leases: Vec<LeaseId> = server.job(first.job).await.attempts.iter().map(|attempt| attempt.lease).collect();
    assert_eq!(leases, [first.lease, second.lease]);
    let of = |lease| format!("/jobs/1/log?attempt={lease}");
    assert_eq!(server.text(&of(first.lease)).await, "first\nwhy it failed\n");
    assert_eq!(server.text(&of(second.lease)).await, "second\n");
    // Whoever follows an earlier one gets its end, and not the next one's lines.
    assert_eq!(server.text(&format!("{}&follow=true", of(first.lease))).await, "first\nwhy it failed\n");
    let follow = |last: Option<&str>| {
        let path = format!("{}&follow=true", of(first.lease));
        let request = server.request(Method::GET, &path).header("Accept", "text/event-stream");
        last.into_iter().fold(request, |request, last| request.header("Last-Event-ID", last)).send()
    };
    let mut log = Messages::new(follow(Some(&format!("{}-0", first.lease))).await.unwrap());
    assert_eq!(line(&mut log).await.1.text, "why it failed");
    assert_eq!(end(log).await, LogEnd { attempt: Some(first.lease), end: Some(AttemptEnd::Failed) });
    let other = follow(Some(&format!("{}-0", second.lease))).await.unwrap();
    assert_eq!(other.status(), StatusCode::BAD_REQUEST);
    assert_eq!(problem(other).await.errors[0].field, "attempt");
    let unknown = server.get("/jobs/1/log?attempt=99").await;
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    let detail = problem(unknown).await.detail;
    assert!(detail.contains(&format!("`{}` or `{}`", first.lease, second.lease)), "{detail}");
}

#[tokio::test]
async fn a_job_that_ends_without_an_attempt_has_an_end_too() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let log = events(&server, None).await;
    server.post("/jobs/1/cancel", &()).await;
    assert_eq!(end(log).await, LogEnd { attempt: None, end: None });
}

#[tokio::test]
async fn quiet_streams_have_a_heartbeat() {
    let limits = Limits { heartbeat: Duration::from_millis(1), ..Limits::default() };
    let server = TestServer::with_limits(limits).await;
    server.submit(&experiment(&[1])).await;
    events(&server, None).await.comment().await;
    Messages::new(server.get("/events").await).comment().await;
}

#[tokio::test]
async fn a_place_in_another_log_is_refused() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    for wrong in ["1-0", "7", "x-1", "1-18446744073709551615"] {
        let request = server.request(Method::GET, "/jobs/1/log?follow=true").header("Accept", "text/event-stream");
        let response = request.header("Last-Event-ID", wrong).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{wrong}");
        assert_eq!(problem(response).await.errors[0].field, "Last-Event-ID");
    }
}
