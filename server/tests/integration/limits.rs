//! Too much at once.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use promptfield_core::job::spec::hex;
use promptfield_server::Limits;
use reqwest::{Response, StatusCode};
use sha2::{Digest, Sha256};
use sqlx::SqlitePool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET /api/v1/artefacts/{hash} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    slow.write_all(head.as_bytes()).await.unwrap();
    while server.metric("promptfield_cut_off_connections_total").await != Some(1.0) {}
    let mut came = Vec::new();
    // The end of the stream or a reset, as the system likes.
    let _ = slow.read_to_end(&mut came).await;
    assert!(came.len() < file.len(), "{}", came.len());
}

/// Asks something on a connection that stays open; the answer has no body.
async fn is_alive(stream: &mut TcpStream) -> bool {
    let request = b"GET /api/v1/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if stream.write_all(request).await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => return false,
        }
    }
    answer.starts_with(b"HTTP/1.1 204")
}

/// What comes until the connection is closed, or reset.
async fn rest(stream: &mut TcpStream) -> String {
    let mut came = Vec::new();
    let _ = stream.read_to_end(&mut came).await;
    String::from_utf8(came).unwrap()
}

#[tokio::test]
async fn silent_connections_shut_nobody_out() {
    let server = TestServer::with_limits(Limits { connections: 4, ..Limits::default() }).await;
    // A client's own connection, which is kept.
    assert_eq!(server.get("/workers").await.status(), StatusCode::OK);
    let mut answered = TcpStream::connect(server.address).await.unwrap();
    assert!(is_alive(&mut answered).await);
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    // The oldest had to go, for others and for this one.
    let mut newcomer = TcpStream::connect(server.address).await.unwrap();
    assert!(is_alive(&mut newcomer).await);
    for stream in &mut silent[..19] {
        assert_eq!(rest(stream).await, "");
    }
    assert!(is_alive(&mut answered).await);
    assert_eq!(server.get("/workers").await.status(), StatusCode::OK);
    assert!(server.metric("promptfield_turned_away_connections_total").await >= Some(19.0));
    // An answer that anybody gets protects from silence only, not from those who show that they may ask.
    let mut greeted = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        assert!(is_alive(&mut stream).await);
        greeted.push(stream);
    }
    assert_eq!(
        reqwest::get(format!("http://{}/api/v1/workers", server.address)).await.unwrap().status(),
        StatusCode::OK
    );
    assert_eq!(server.get("/workers").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn above_the_most_connections_those_in_use_stay() {
    let server = TestServer::with_limits(Limits { connections: 2, ..Limits::default() }).await;
    let (first, second) = (server.get("/events").await, server.get("/events").await);
    let mut third = TcpStream::connect(server.address).await.unwrap();
    assert!(!is_alive(&mut third).await);
    drop(first);
    let mut again = TcpStream::connect(server.address).await.unwrap();
    while !is_alive(&mut again).await {
        again = TcpStream::connect(server.address).await.unwrap();
    }
    assert_eq!(second.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let server = TestServer::with_limits(Limits { patience: Duration::from_millis(100), ..Limits::default() }).await;
    for start in ["", "GET /api/v1/workers HTTP/1.1\r\nHost: local"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let came = rest(&mut stream).await;
        assert!(came.is_empty() || came.starts_with("HTTP/1.1 408"), "{came}");
    }
    // Nor is one that is long.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {}", "x".repeat(40 << 10));
    let _ = stream.write_all(head.as_bytes()).await;
    let came = rest(&mut stream).await;
    assert!(came.is_empty() || came.starts_with("HTTP/1.1 431"), "{came}");
}

#[tokio::test]
async fn a_body_that_stops_is_not_waited_for() {
    let server = TestServer::with_limits(Limits { patience: Duration::from_millis(100), ..Limits::default() }).await;
    let hash = "0".repeat(64);
    for (start, length) in [
        ("POST /api/v1/experiments", "Content-Length: 100"),
        ("POST /api/v1/experiments/preview", "Transfer-Encoding: chunked"),
        ("POST /api/v1/workers", "Content-Length: 100"),
        ("POST /api/v1/leases/1/progress", "Content-Length: 100"),
        (&format!("PUT /api/v1/artefacts/{hash}"), "Content-Length: 100"),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!("{start} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n1\r\n{{");
        stream.write_all(request.as_bytes()).await.unwrap();
        let came = rest(&mut stream).await;
        assert!(came.starts_with("HTTP/1.1 408") && came.contains("/problems/too-slow"), "{start}: {came}");
    }
    let left = fs_err::read_dir(server.folder().join("artefacts/incoming")).unwrap().count();
    assert_eq!(left, 0);
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
