//! Webhooks, with a receiver that is played here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use promptfield_core::job::outcome::FailureClass;
use promptfield_core::wire::occasion::Occasion;
use promptfield_server::Webhook;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{TestServer, experiment};

#[derive(Debug)]
struct Delivered {
    headers: HeaderMap,
    body: Value,
}

impl Delivered {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// Someone who is told; while `broken`, it answers that it can't hear.
struct Receiver {
    url: String,
    broken: Arc<AtomicBool>,
    delivered: mpsc::UnboundedReceiver<Delivered>,
    refused: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    async fn start() -> Self {
        let (sender, delivered) = mpsc::unbounded_channel();
        let (broken, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (is_broken, refusals) = (Arc::clone(&broken), Arc::clone(&refused));
        let receive = move |headers: HeaderMap, body: Bytes| async move {
            if is_broken.load(Ordering::SeqCst) {
                refusals.lock().unwrap().push(headers["webhook-id"].to_str().unwrap().to_owned());
                return StatusCode::INTERNAL_SERVER_ERROR;
            }
            let body = serde_json::from_slice(&body).unwrap();
            sender.send(Delivered { headers, body }).unwrap();
            StatusCode::NO_CONTENT
        };
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/hooks/t0ken", listener.local_addr().unwrap());
        let router = Router::new().route("/hooks/t0ken", post(receive));
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { url, broken, delivered, refused }
    }

    async fn next(&mut self) -> Delivered {
        self.delivered.recv().await.unwrap()
    }

    fn webhook(&self, occasions: &[Occasion]) -> Webhook {
        Webhook::new(&self.url, occasions.to_vec()).unwrap()
    }
}

#[tokio::test]
async fn a_webhook_is_told_what_it_wants_to_hear_in_order() {
    let mut receiver = Receiver::start().await;
    let mut server = TestServer::with_webhooks(vec![receiver.webhook(&[]).signed_with("key")]).await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    server.fail(&grant, FailureClass::BadData, "no <images>").await;

    let failed = receiver.next().await;
    assert_eq!(failed.body["type"], "job_failed");
    assert_eq!(failed.body["text"], "Job 1 (train alignednorm on dtd, 16 shots, seed 1) failed: no <images>");
    assert_eq!(failed.body["event"]["to"], "failed");
    assert_eq!(failed.header("webhook-id"), format!("promptfield-{}", failed.body["event"]["sequence"]));
    let signed = failed.header("webhook-signature");
    assert!(signed.starts_with("v1,") && signed.len() == 3 + 44, "{signed}");
    assert!(failed.header("webhook-timestamp").parse::<u64>().unwrap() > 1_700_000_000);
    let dependent = receiver.next().await;
    assert_eq!((&dependent.body["type"], &dependent.body["event"]["job"]), (&json!("job_failed"), &json!(2)));
    let finished = receiver.next().await;
    assert_eq!(finished.body["type"], "experiment_finished");
    assert_eq!(finished.body["text"], "Experiment 1 “x” has ended: 0 of 2 jobs have their result.");
    // After a restart it goes on where it was.
    server.shut_down().await;
    server.start_again().await;
    server.post("/experiments/1/retry", &()).await;
    server.post("/experiments/1/cancel", &()).await;
    assert_eq!(receiver.next().await.body["type"], "experiment_finished");
    assert!(receiver.delivered.try_recv().is_err());
}

#[tokio::test]
async fn what_could_not_be_delivered_comes_later_even_after_a_restart() {
    let mut receiver = Receiver::start().await;
    receiver.broken.store(true, Ordering::SeqCst);
    let mut server = TestServer::with_webhooks(vec![receiver.webhook(&[Occasion::ExperimentFinished])]).await;
    server.submit(&experiment(&[1])).await;
    server.post("/experiments/1/cancel", &()).await;
    // It was told, and did not take it.
    while receiver.refused.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    server.kill().await;
    receiver.broken.store(false, Ordering::SeqCst);
    server.start_again().await;
    let delivered = receiver.next().await;
    assert_eq!(delivered.body["type"], "experiment_finished");
    assert_eq!(delivered.header("webhook-id"), receiver.refused.lock().unwrap()[0]);
    assert!(delivered.headers.get("webhook-signature").is_none());
}
