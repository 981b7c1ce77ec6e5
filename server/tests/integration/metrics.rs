//! What Prometheus sees.

use reqwest::{Method, StatusCode};

use crate::support::{TestServer, experiment, run_all};

#[tokio::test]
async fn jobs_workers_and_requests_are_counted() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("gpu-1").await;
    run_all(&server, worker, 1).await;
    // The same result twice is one job.
    let grant = server.lease(worker, 1).await.remove(0);
    for _ in 0..2 {
        assert_eq!(server.complete(&grant).await.status(), StatusCode::NO_CONTENT);
    }
    server.submit(&experiment(&[1, 2])).await;
    server.get("/jobs/77").await;
    server.get("/nowhere").await;
    server.request(Method::from_bytes(b"BREW").unwrap(), "/jobs/1").send().await.unwrap();
    for (series, value) in [
        ("promptfield_jobs{state=\"completed\"}", 2.0),
        ("promptfield_jobs{state=\"queued\"}", 1.0),
        ("promptfield_jobs{state=\"blocked\"}", 1.0),
        ("promptfield_jobs{state=\"failed\"}", 0.0),
        ("promptfield_workers{state=\"active\"}", 1.0),
        ("promptfield_worker_completed_jobs_total{worker=\"gpu-1\"}", 2.0),
        ("promptfield_lease_seconds_count", 2.0),
        ("promptfield_event_lag_events", 0.0),
        ("promptfield_waiting_workers", 0.0),
        ("promptfield_http_requests_total{method=\"GET\",route=\"/api/v1/jobs/{id}\",status=\"404\"}", 1.0),
        ("promptfield_http_requests_total{method=\"POST\",route=\"/api/v1/experiments\",status=\"201\"}", 2.0),
        ("promptfield_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}", 1.0),
        ("promptfield_http_requests_total{method=\"other\",route=\"/api/v1/jobs/{id}\",status=\"405\"}", 1.0),
        ("promptfield_http_request_seconds_count{method=\"POST\",route=\"/api/v1/experiments\"}", 2.0),
    ] {
        assert_eq!(server.metric(series).await, Some(value), "{series}");
    }
    let commits = server.metric("promptfield_commit_seconds_count").await;
    assert!(commits > Some(5.0), "{commits:?}");
    assert_eq!(server.metric("promptfield_commit_requests_count").await, commits);
    let response = server.get("/metrics").await;
    assert_eq!(response.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(response.text().await.unwrap().ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_wait_without_jobs_is_no_slow_lease() {
    let server = TestServer::start().await;
    let worker = server.register("w").await;
    assert!(server.lease_within(worker, 1, 1).await.is_empty());
    assert_eq!(server.metric("promptfield_lease_seconds_count").await, Some(0.0));
    assert!(server.lease_within(worker, 1, 0).await.is_empty());
    assert_eq!(server.metric("promptfield_lease_seconds_count").await, Some(1.0));
}

#[tokio::test]
async fn streams_and_their_lag_are_counted() {
    let server = TestServer::start().await;
    let mut events = server.get("/events").await;
    assert_eq!(server.metric("promptfield_open_streams{kind=\"events\"}").await, Some(1.0));
    server.submit(&experiment(&[1])).await;
    let mut text = String::new();
    while !text.contains("id: 1\n") {
        text.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert_eq!(server.metric("promptfield_event_lag_events").await, Some(0.0));
    drop(events);
    while server.metric("promptfield_open_streams{kind=\"events\"}").await != Some(0.0) {}
}
