//! A submission that has to be sent several times.

use promptfield_core::id::ExperimentId;
use promptfield_core::protocol::Protocol;
use promptfield_core::scheduler::Counts;
use promptfield_core::time::Timestamp;
use promptfield_core::wire::api::{ExperimentSummary, SubmitResponse};

use crate::fake::{Asked, Fake};
use crate::site::{Site, text};

fn key(asked: &Asked) -> String {
    assert_eq!(asked.head[0], "POST /api/v1/experiments HTTP/1.1");
    asked.header("idempotency-key").unwrap().to_owned()
}

fn submitted() -> String {
    let experiment = ExperimentSummary {
        id: ExperimentId(7),
        name: "demo".into(),
        protocol: Protocol::BaseToNew,
        submitted_at: Timestamp(0),
        submitted_by: None,
        cancelled: false,
        counts: Counts::default(),
    };
    serde_json::to_string(&SubmitResponse { created: true, experiment }).unwrap()
}

#[test]
fn every_try_of_a_submission_has_its_key_and_another_run_has_another() {
    let site = Site::with_only("");
    let fake = Fake::new();
    let url = fake.url();
    let coordinator = std::thread::spawn(move || {
        let mut keys = Vec::new();
        let asked = fake.asked();
        keys.push((key(&asked), asked.body.clone()));
        // It dies before it answers; then it has too much to do.
        drop(asked);
        for status in ["429 Too Many Requests", "503 Service Unavailable"] {
            let asked = fake.asked();
            keys.push((key(&asked), asked.body.clone()));
            asked.answer(status, "Retry-After: 0\r\n", "{}");
        }
        for _ in 0..3 {
            let asked = fake.asked();
            keys.push((key(&asked), asked.body.clone()));
            asked.answer("201 Created", "Content-Type: application/json\r\n", &submitted());
        }
        keys
    });
    let output = site.run(&["submit", "demo", "--coordinator", &url]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("experiment 7"), "{}", text(&output.stdout));
    let two = site.run(&["submit", "demo", "few_shot", "--coordinator", &url]);
    assert!(two.status.success(), "{}", text(&two.stderr));
    let keys = coordinator.join().unwrap();
    assert!(keys[..4].iter().all(|sent| *sent == keys[0]), "{keys:?}");
    assert!(keys[0].0 != keys[4].0 && keys[0].0 != keys[5].0 && keys[4].0 != keys[5].0, "{keys:?}");
}

#[test]
fn what_is_refused_is_not_sent_again() {
    let site = Site::with_only("");
    let fake = Fake::new();
    let url = fake.url();
    let coordinator = std::thread::spawn(move || fake.asked().answer("403 Forbidden", "", "{}"));
    let output = site.run(&["submit", "demo", "--coordinator", &url]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    coordinator.join().unwrap();
}
