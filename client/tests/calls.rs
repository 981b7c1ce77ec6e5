//! Calls to a coordinator in a test's hand: which are repeated, when, and what becomes of errors.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use promptfield_client::{Client, ClientOptions, Connection, Error, Patience, Target};
use promptfield_core::id::{ExperimentId, JobId};
use promptfield_core::protocol::Protocol;
use promptfield_core::scheduler::Counts;
use promptfield_core::time::Timestamp;
use promptfield_core::wire::api::{ExperimentSummary, SubmitResponse};

const CHANGED: &str = r#"{"changed":3}"#;
const QUICK: Patience =
    Patience { first: Duration::from_millis(1), longest: Duration::from_millis(1), most: Some(3), unattended: false };

/// Answers as many calls as there are answers (`None` ends a connection without one), and gives back what was asked.
fn coordinator(answers: Vec<Option<String>>) -> (Client, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let asked = std::thread::spawn(move || answers.into_iter().map(|answer| hear(&listener, answer)).collect());
    (Client::new(&url, &Connection::default(), ClientOptions::default()).unwrap(), asked)
}

/// The first line and the headers of the next request, and its body.
fn hear(listener: &TcpListener, answer: Option<String>) -> String {
    let (mut connection, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut asked = String::new();
    while !asked.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut asked).unwrap() > 0, "the request broke off: {asked}");
    }
    let asked_lower = asked.to_lowercase();
    let length = asked_lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    asked.push_str(std::str::from_utf8(&body).unwrap());
    if let Some(answer) = answer {
        connection.write_all(answer.as_bytes()).unwrap();
    }
    asked
}

#[allow(clippy::unnecessary_wraps, reason = "`None` is no answer")]
fn answer(status: &str, headers: &str, body: &str) -> Option<String> {
    let length = body.len();
    Some(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"))
}

fn problem(status: u16, detail: &str) -> String {
    serde_json::json!({ "type": "/problems/x", "title": "x", "status": status, "detail": detail }).to_string()
}

fn patient(client: Client, patience: Patience) -> Client {
    client.patient(patience, |_| {})
}

const JOB: Target = Target::Job(JobId(7));

#[tokio::test]
async fn a_call_is_made_once_unless_its_caller_is_patient() {
    let (client, asked) = coordinator(vec![answer("503 Service Unavailable", "", &problem(503, "it starts"))]);
    let error = client.retry(JOB).await.unwrap_err();
    assert_eq!(error.status(), Some(503));
    assert!(error.to_string().ends_with("can't do this now: it starts"), "{error}");
    assert!(asked.join().unwrap()[0].starts_with("POST /api/v1/jobs/7/retry HTTP/1.1\r\n"));
}

#[tokio::test]
async fn what_may_pass_is_waited_out_and_retry_after_takes_the_place_of_a_pause() {
    let (client, asked) = coordinator(vec![
        None,
        answer("429 Too Many Requests", "Retry-After: 1\r\n", ""),
        answer("408 Request Timeout", "", ""),
        answer("200 OK", "", CHANGED),
    ]);
    let started = Instant::now();
    assert_eq!(patient(client, QUICK).cancel(JOB).await.unwrap().changed, 3);
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(asked.join().unwrap().len(), 4);
}

#[tokio::test]
async fn an_answer_that_lasts_is_not_asked_for_again() {
    for status in ["400 Bad Request", "401 Unauthorized", "404 Not Found", "409 Conflict", "500 Internal Server Error"]
    {
        let (client, asked) = coordinator(vec![answer(status, "", "")]);
        let error = patient(client, QUICK).retry(JOB).await.unwrap_err();
        assert_eq!(error.status().unwrap().to_string(), status[..3]);
        assert!(error.to_string().ends_with(&format!("it answered {status}")), "{error}");
        assert_eq!(asked.join().unwrap().len(), 1);
    }
    let (client, asked) = coordinator(vec![answer("200 OK", "", "[]")]);
    assert!(matches!(patient(client, QUICK).retry(JOB).await, Err(Error::Unreadable { .. })));
    asked.join().unwrap();
    let (client, asked) = coordinator(vec![answer("200 OK", "Content-Type: text/html\r\n", "<html>")]);
    let error = patient(client, QUICK).retry(JOB).await.unwrap_err().to_string();
    assert!(error.starts_with("`--coordinator`: `http://127.0.0.1:"), "{error}");
    asked.join().unwrap();
}

#[tokio::test]
async fn the_last_error_comes_when_patience_ends() {
    let (client, asked) = coordinator(vec![answer("503 Service Unavailable", "Retry-After: 0\r\n", ""); 4]);
    assert_eq!(patient(client, QUICK).retry(JOB).await.unwrap_err().status(), Some(503));
    assert_eq!(asked.join().unwrap().len(), 4);
}

#[tokio::test]
async fn where_nobody_ever_was_only_the_unattended_wait() {
    let (client, asked) = coordinator(Vec::new());
    asked.join().unwrap();
    assert!(matches!(patient(client.clone(), QUICK).retry(JOB).await, Err(Error::Unreachable { .. })));
    let mut tries = 0;
    let unattended = Patience { unattended: true, ..QUICK };
    let answer = client.repeat(unattended, || client.retry(JOB), |_| tries += 1).await;
    assert!(matches!(answer, Err(Error::Unreachable { .. })), "{answer:?}");
    assert_eq!(tries, 3);
}

#[tokio::test]
async fn a_submission_with_a_key_is_the_same_each_time() {
    let experiment = ExperimentSummary {
        id: ExperimentId(7),
        name: "x".into(),
        protocol: Protocol::FewShot,
        submitted_at: Timestamp(0),
        submitted_by: None,
        cancelled: false,
        counts: Counts::default(),
    };
    let submitted = serde_json::to_string(&SubmitResponse { created: true, experiment }).unwrap();
    let (client, asked) = coordinator(vec![None, answer("201 Created", "", &submitted)]);
    let experiment = serde_json::json!({ "name": "x" });
    assert!(client.submit(&experiment, Some("k1")).await.unwrap().created);
    let asked = asked.join().unwrap();
    let sent = |asked: &str| asked.contains("idempotency-key: k1\r\n") && asked.ends_with(r#"{"name":"x"}"#);
    assert!(asked.len() == 2 && asked.iter().all(|asked| sent(asked)), "{asked:?}");

    let (client, asked) = coordinator(vec![None]);
    assert!(client.submit(&experiment, None).await.is_err());
    assert!(!asked.join().unwrap()[0].contains("idempotency-key"));
}

#[tokio::test]
async fn bad_input_is_said_field_by_field() {
    let problem = serde_json::json!({ "type": "/problems/invalid-input", "title": "x", "status": 422, "detail": "d",
        "errors": [{ "field": "seeds", "value": "x", "expected": "numbers" }] });
    let (client, asked) = coordinator(vec![answer("422 Unprocessable Content", "", &problem.to_string())]);
    let error = client.submit(&serde_json::json!({}), Some("k")).await.unwrap_err().to_string();
    assert_eq!(error, "`seeds`: `x` is not valid: expected numbers");
    asked.join().unwrap();
}
