//! Submissions that their client has named, and answers that a client has already.

use promptfield_core::wire::api::SubmitResponse;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use sqlx::SqlitePool;

use crate::support::{Client, TestServer, experiment, problem, read, run_all};

async fn submit(client: &Client, key: &str, document: &Value) -> Response {
    let request = client.request(Method::POST, "/experiments").header("Idempotency-Key", key);
    request.json(document).send().await.unwrap()
}

#[tokio::test]
async fn the_same_key_and_body_get_the_same_answer_for_a_day() {
    let mut server = TestServer::start().await;
    let first = submit(&server, "k1", &experiment(&[1])).await;
    assert_eq!(first.status(), StatusCode::CREATED);
    let location = first.headers()["location"].clone();
    let first: SubmitResponse = read(first).await;
    assert!(first.created);
    let worker = server.register("w").await;
    run_all(&server, worker, 1).await;
    server.restart().await;
    let again = submit(&server, "k1", &experiment(&[1])).await;
    assert_eq!((again.status(), &again.headers()["location"]), (StatusCode::CREATED, &location));
    assert_eq!(read::<SubmitResponse>(again).await, first);
    // Another key is another submission, of the same experiment.
    let other = submit(&server, "k2", &experiment(&[1])).await;
    assert_eq!(other.status(), StatusCode::OK);
    let other: SubmitResponse = read(other).await;
    assert_eq!((other.created, other.experiment.counts.completed), (false, 1));
    // A day later, the key means nothing any more.
    let pool = SqlitePool::connect(&server.database().display().to_string()).await.unwrap();
    sqlx::query("UPDATE idempotency_key SET at = at - 24 * 60 * 60 * 1000").execute(&pool).await.unwrap();
    let late = submit(&server, "k1", &experiment(&[2])).await;
    assert_eq!(late.status(), StatusCode::CREATED);
    let keys: Vec<String> = sqlx::query_scalar("SELECT key FROM idempotency_key").fetch_all(&pool).await.unwrap();
    assert_eq!(keys, ["k1"]);
}

#[tokio::test]
async fn one_key_is_one_submission_even_at_once() {
    let server = TestServer::start().await;
    let document = experiment(&[1]);
    let answers = futures_util::future::join_all((0..8).map(|_| submit(&server, "k", &document))).await;
    for answer in answers {
        assert!(read::<SubmitResponse>(answer).await.created);
    }
    let list: Value = server.json("/experiments").await;
    assert_eq!(list["total"], 1);
}

#[tokio::test]
async fn a_key_with_another_body_is_refused() {
    let server = TestServer::start().await;
    submit(&server, "k", &experiment(&[1])).await;
    let response = submit(&server, "k", &experiment(&[2])).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem(response).await.kind, "/problems/key-reused");
    let list: Value = server.json("/experiments").await;
    assert_eq!(list["total"], 1);
    // What was refused for itself has used no key up.
    let mut wrong = experiment(&[3]);
    wrong["methods"] = serde_json::json!(["x"]);
    assert_eq!(submit(&server, "other", &wrong).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(submit(&server, "other", &experiment(&[3])).await.status(), StatusCode::CREATED);
    for key in ["", "a b", &"x".repeat(256)] {
        let response = submit(&server, key, &experiment(&[4])).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{key}");
        assert_eq!(problem(response).await.errors[0].field, "Idempotency-Key");
    }
}

#[tokio::test]
async fn a_key_is_not_kept_when_the_submission_is_not_stored() {
    let server = TestServer::start().await;
    let pool = SqlitePool::connect(&server.database().display().to_string()).await.unwrap();
    let broken = "CREATE TRIGGER full BEFORE INSERT ON idempotency_key BEGIN SELECT raise(ABORT, 'full'); END";
    sqlx::query(broken).execute(&pool).await.unwrap();
    assert_eq!(submit(&server, "k", &experiment(&[1])).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let list: Value = server.json("/experiments").await;
    assert_eq!(list["total"], 0);
    sqlx::query("DROP TRIGGER full").execute(&pool).await.unwrap();
    assert!(read::<SubmitResponse>(submit(&server, "k", &experiment(&[1])).await).await.created);
}

async fn get_unless(client: &Client, path: &str, tags: &str) -> Response {
    client.request(Method::GET, path).header("If-None-Match", tags).send().await.unwrap()
}

#[tokio::test]
async fn what_a_client_has_already_is_not_sent_again() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let paths = ["/experiments/1", "/experiments/1/results", "/experiments/1/results?format=csv", "/openapi.json"];
    let mut tags = Vec::new();
    for path in paths {
        let response = server.get(path).await;
        assert_eq!(response.headers()["cache-control"], "no-cache");
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        for given in [tag.clone(), format!("\"x\", {tag}"), "*".to_owned()] {
            let response = get_unless(&server, path, &given).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{path} {given}");
            assert_eq!(response.headers()["etag"], tag.as_str());
            assert!(response.bytes().await.unwrap().is_empty());
        }
        tags.push(tag);
    }
    let worker = server.register("w").await;
    run_all(&server, worker, 1).await;
    for (path, tag) in paths.iter().zip(&tags) {
        let changed = *path != "/openapi.json";
        assert_eq!(get_unless(&server, path, tag).await.status() == StatusCode::OK, changed, "{path}");
    }
}
