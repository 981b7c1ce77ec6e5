//! What a collector of traces gets.

use std::process::Command;

use crate::fake::Fake;
use crate::site::{Running, Site, text};

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_request_s_span_is_exported_at_the_end_at_the_latest() {
    let site = Site::with_only("[coordinator]\nlisten = \"127.0.0.1:0\"\n");
    let collector = Fake::new();
    // Longer than the test takes: what comes, comes at the end.
    let mut command = site.command(&["serve"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()).env("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=lab");
    let running = Running::by(command);
    let collected = std::thread::spawn(move || {
        let asked = collector.asked();
        let (head, tenant) = (asked.head[0].clone(), asked.header("x-tenant").map(str::to_owned));
        let body = asked.body.clone();
        asked.answer("200 OK", "", "");
        (head, tenant, body)
    });
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let request =
        reqwest::Client::new().get(format!("{}/api/v1/healthz", running.url)).header("x-request-id", "deploy-7");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 204);
    let signal = Command::new("kill").args(["-INT", &running.child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let output = running.finish();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (head, tenant, body) = collected.join().unwrap();
    assert_eq!((head.as_str(), tenant.as_deref()), ("POST /v1/traces HTTP/1.1", Some("lab")));
    for part in ["promptfield", "request", "deploy-7", "/api/v1/healthz"] {
        assert!(contains(&body, part), "{part}: {}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn an_address_that_is_none_is_named() {
    let site = Site::with_only("[coordinator]\nlisten = \"127.0.0.1:0\"\n");
    let output = site.command(&["serve"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", "not an address").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("can't export traces to not an address"), "{}", text(&output.stderr));
}
