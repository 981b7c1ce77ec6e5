//! Too much at once.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use promptfield_core::spec::hex;
use promptfield_server::Limits;
use reqwest::{Response, StatusCode};
use sha2::{Digest, Sha256};
use sqlx::SqlitePool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{LONG_MS, TestServer, experiment, problem, worker};

async fn too_busy(response: Response) -> String {
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "1");
    let problem = problem(response).await;
    assert_eq!(problem.kind, "/problems/too-busy");
    problem.detail
}

#[tokio::test]
async fn who_finds_the_writer_s_inbox_full_is_told_so_at_once() {
    let server = TestServer::with_limits(Limits { inbox: 2, ..Limits::default() }).await;
    let pool = SqlitePool::connect(&server.database().display().to_string()).await.unwrap();
    let someone_else = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    // The writer has at most two of these in its hands and two in its inbox.
    let names: Vec<String> = (0..6).map(|i| format!("w{i}")).collect();
    let register = |name: &String| {
        let (client, description) = (server.client.clone(), worker(name));
        async move { client.post("/workers", &description).await }
    };
    let mut answers: FuturesUnordered<_> = names.iter().map(register).collect();
    assert_eq!(
        too_busy(answers.next().await.unwrap()).await,
        "too many requests wait already, and nothing was changed"
    );
    someone_else.rollback().await.unwrap();
    let mut created = 0;
    while let Some(answer) = answers.next().await {
        created += usize::from(answer.status() == StatusCode::CREATED);
    }
    assert!((1..=4).contains(&created), "{created}");
    let workers: serde_json::Value = server.json("/workers").await;
    assert_eq!(workers["total"], created);
}

#[tokio::test]
async fn only_so_many_workers_wait() {
    let server = TestServer::with_limits(Limits { waiting: 1, ..Limits::default() }).await;
    let (first, second) = (server.register("first").await, server.register("second").await);
    let client = server.client.clone();
    let waiting = tokio::spawn(async move { client.lease_within(first, 1, LONG_MS).await });
    while server.metric("promptfield_waiting_workers").await != Some(1.0) {}
    let request = serde_json::json!({"slots": 1, "wait_ms": LONG_MS});
    let path = format!("/workers/{second}/lease");
    too_busy(server.post(&path, &request).await).await;
    // Who doesn't wait needs no place.
    assert!(server.lease_within(second, 1, 0).await.is_empty());
    server.submit(&experiment(&[1])).await;
    assert_eq!(waiting.await.unwrap().len(), 1);
}

#[tokio::test]
async fn only_so_many_streams_are_open() {
    let server = TestServer::with_limits(Limits { streams: 1, ..Limits::default() }).await;
    let first = server.get("/events").await;
    assert_eq!(too_busy(server.get("/events").await).await, "1 streams are open, which is the most at once");
    drop(first);
    while server.get("/events").await.status() != StatusCode::OK {}
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let server = TestServer::with_limits(Limits { patience: Duration::from_millis(100), ..Limits::default() }).await;
    // More than the buffers of a connection hold.
    let file = vec![7; 48 << 20];
    let hash = hex(&Sha256::digest(&file));
    let put = server.request(reqwest::Method::PUT, &format!("/artefacts/{hash}")).body(file.clone());
    assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    let mut slow = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET /api/v1/artefacts/{hash} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    slow.write_all(head.as_bytes()).await.unwrap();
    while server.metric("promptfield_cut_off_connections_total").await != Some(1.0) {}
    let mut came = Vec::new();
    // The end of the stream or a reset, as the system likes.
    let _ = slow.read_to_end(&mut came).await;
    assert!(came.len() < file.len(), "{}", came.len());
}

#[tokio::test]
async fn a_coordinator_without_room_is_not_ready() {
    let server = TestServer::with_limits(Limits { least_room: u64::MAX, ..Limits::default() }).await;
    let response = server.get("/readyz").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let problem = problem(response).await;
    assert_eq!(problem.kind, "/problems/no-room");
    assert!(problem.detail.starts_with("the disk of the database has "), "{}", problem.detail);
    assert!(problem.detail.contains("needs 18446744073709551615"), "{}", problem.detail);
    assert_eq!(server.get("/healthz").await.status(), StatusCode::NO_CONTENT);
    server.submit(&experiment(&[1])).await;
}
