//! How long bodies may be, and how they're compressed.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use promptfield_core::wire::api::{
    LeaseReport, LogChunk, ProgressReport, Report, ReportAnswer, ReportAnswers, Reports,
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{TestServer, answer_to_announcement, at_step, completion, experiment, on, problem, read, worker};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn post_encoded(server: &TestServer, path: &str, encoding: &str, body: Vec<u8>) -> Response {
    let request = server.request(Method::POST, path).header("Content-Encoding", encoding);
    request.body(body).send().await.unwrap()
}

#[tokio::test]
async fn reports_may_come_compressed() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    let log = Some(LogChunk { first_line: 0, lines: vec!["epoch [1/2]".into(); 1000] });
    let report = json!(ProgressReport { log, ..at_step(&grant, 1) }).to_string();
    let path = on(grant.lease, "progress");
    let packed = gzip(report.as_bytes());
    assert!(packed.len() * 10 < report.len());
    assert_eq!(post_encoded(&server, &path, "gzip", packed.clone()).await.status(), StatusCode::OK);
    assert_eq!(server.text("/jobs/1/log").await, "epoch [1/2]\n".repeat(1000));
    let response = post_encoded(&server, &path, "gzip", packed[..packed.len() / 2].to_vec()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(problem(response).await.errors[0].field, "body");
    let completion = completion(&grant);
    let packed = gzip(json!(completion).to_string().as_bytes());
    let response = post_encoded(&server, &on(grant.lease, "complete"), "gzip", packed).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let report = LeaseReport { lease: grant.lease, report: Report::Complete(Box::new(completion)) };
    let packed = gzip(json!(Reports { reports: vec![report] }).to_string().as_bytes());
    let response = post_encoded(&server, "/leases/reports", "gzip", packed).await;
    let ReportAnswers { answers } = read(response).await;
    assert_eq!(answers, [ReportAnswer::Done]);
}

#[tokio::test]
async fn what_comes_out_of_a_compressed_body_counts() {
    let server = TestServer::start().await;
    let bomb = gzip(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    let response = post_encoded(&server, "/leases/1/progress", "gzip", bomb).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(problem(response).await.detail, "the body has at most 4194304 bytes here");
}

#[tokio::test]
async fn other_encodings_and_routes_are_refused() {
    let server = TestServer::start().await;
    for (path, encoding) in [("/leases/1/progress", "br"), ("/experiments", "gzip"), ("/workers", "gzip")] {
        let response = post_encoded(&server, path, encoding, gzip(b"{}")).await;
        assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
        let problem = problem(response).await;
        assert_eq!(problem.kind, "/problems/unsupported-encoding");
        assert!(problem.detail.contains(encoding), "{}", problem.detail);
    }
}

#[tokio::test]
async fn each_route_takes_as_much_as_it_needs() {
    let server = TestServer::start().await;
    for (path, most) in [
        ("/experiments", 16 << 20),
        ("/leases/1/complete", 16 << 20),
        ("/leases/1/progress", 4 << 20),
        ("/leases/1/fail", 64 << 10),
        ("/leases/1/release", 64 << 10),
        ("/workers", 64 << 10),
        ("/workers/1/lease", 64 << 10),
    ] {
        let start = format!("POST /api/v1{path}");
        let answer = answer_to_announcement(&server, &start, most as u64 + 1).await;
        assert_eq!(answer, "HTTP/1.1 413 Payload Too Large", "{path}");
        // As long as it may be, and wrong for another reason.
        let response = server.request(Method::POST, path).body(vec![b' '; most]).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_can_read_it() {
    let server = TestServer::start().await;
    server.post("/workers", &worker("w")).await;
    let packed = server.request(Method::GET, "/openapi.json").header("Accept-Encoding", "gzip").send().await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert!(packed.headers()["vary"].to_str().unwrap().to_lowercase().contains("accept-encoding"));
    let tag = packed.headers()["etag"].clone();
    let bytes = packed.bytes().await.unwrap();
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    let plain = server.get("/openapi.json").await;
    assert!(!plain.headers().contains_key("content-encoding"));
    assert_eq!(plain.headers()["etag"], tag);
    let plain = plain.text().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), serde_json::from_str::<Value>(&plain).unwrap());
    assert!(bytes.len() * 3 < plain.len());
    let events = server.request(Method::GET, "/events").header("Accept-Encoding", "gzip").send().await.unwrap();
    assert!(!events.headers().contains_key("content-encoding"));
}
