//! A job's life as its readers see it.

use promptfield_core::id::JobId;
use promptfield_core::job::evaluation::{ClassCounts, Evaluation};
use promptfield_core::job::outcome::{FailureClass, TestResult};
use promptfield_core::scheduler::{AttemptEnd, Explanation, JobStateName, Policy};
use promptfield_core::wire::api::{Changed, CompletionReport, LogChunk, MetricPoint, Metrics, ProgressReport};
use reqwest::StatusCode;

use crate::support::{CHECKPOINT, TestServer, at_step, completion, evaluation, experiment, on, problem, read};

#[tokio::test]
async fn a_job_is_leased_reports_and_completes() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let (train, test) = (JobId(1), JobId(2));
    assert_eq!(server.job(test).await.needs, Some(train));
    let because = |job| {
        let server = &server;
        async move { server.json::<Explanation>(&format!("/jobs/{job}/explain")).await.because }
    };
    assert_eq!(because(train).await, "no worker is connected");
    assert_eq!(server.text("/jobs/1/log").await, "");
    let worker = server.register("w").await;
    let grant = server.lease(worker, 2).await.remove(0);
    assert_eq!((grant.job, grant.hash, &grant.checkpoint), (train, grant.spec.hash(), &None));
    assert_eq!(server.job(train).await.summary.state, JobStateName::Leased);
    let point = |step, loss: f64| MetricPoint { step, values: [("loss".to_owned(), loss)].into() };
    let lines = |first_line, lines: &[&str]| {
        Some(LogChunk { first_line, lines: lines.iter().map(|&line| line.into()).collect() })
    };
    let first = ProgressReport {
        metrics: vec![point(0, 2.0)],
        log: lines(0, &["epoch [1/2]", "loss 2.0"]),
        ..at_step(&grant, 1)
    };
    let second = ProgressReport { metrics: vec![point(1, 1.0)], log: lines(2, &["loss 1.0"]), ..at_step(&grant, 2) };
    for report in [&first, &first, &second] {
        assert_eq!(server.progress(&grant, report).await.status(), StatusCode::OK);
    }
    assert_eq!(server.text("/jobs/1/log").await, "epoch [1/2]\nloss 2.0\nloss 1.0\n");
    assert_eq!(server.json::<Metrics>("/jobs/1/metrics").await.points, [point(0, 2.0), point(1, 1.0)]);
    let running = server.job(train).await.summary;
    assert_eq!(
        (running.state, running.worker, running.progress.map(|progress| progress.step)),
        (JobStateName::Running, Some(worker), Some(2))
    );
    assert_eq!(because(train).await, "worker 1 has it, at step 2 of 100");
    // The same report twice is the same report.
    for _ in 0..2 {
        assert_eq!(server.complete(&grant).await.status(), StatusCode::NO_CONTENT);
    }
    let done = server.job(train).await;
    assert_eq!(
        (done.summary.state, done.summary.result.map(|result| result.correct)),
        (JobStateName::Completed, Some(180))
    );
    assert_eq!(done.manifest.map(|manifest| manifest.spec_hash), Some(grant.hash));
    let [attempt] = done.attempts.as_slice() else { panic!("{:?}", done.attempts) };
    assert_eq!((attempt.lease, attempt.worker, attempt.end), (grant.lease, worker, Some(AttemptEnd::Completed)));
    assert_eq!(because(train).await, "it has a result: 90.00 % of 200 images");
    let next = server.lease(worker, 2).await.remove(0);
    let checkpoint = next.checkpoint.unwrap();
    assert_eq!(
        (next.job, checkpoint.spec, checkpoint.sha256),
        (test, grant.spec, Some(grant.hash.to_string())),
        "{CHECKPOINT}"
    );
}

#[tokio::test]
async fn a_job_s_numbers_by_class_are_kept_with_its_result() {
    let mut server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let none = async |server: &TestServer| {
        let response = server.get("/jobs/1/evaluation").await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        problem(response).await.detail
    };
    assert_eq!(none(&server).await, "job 1 has no numbers by class: it has no result yet");
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    let report = CompletionReport { evaluation: None, ..completion(&grant) };
    assert_eq!(server.post(&on(grant.lease, "complete"), &report).await.status(), StatusCode::NO_CONTENT);
    assert!(none(&server).await.ends_with("by another tool or an earlier version"));
    let grant = server.lease(worker, 1).await.remove(0);
    assert_eq!(server.complete(&grant).await.status(), StatusCode::NO_CONTENT);
    server.restart().await;
    assert_eq!(server.json::<Evaluation>("/jobs/2/evaluation").await, evaluation());
    let result = server.job(JobId(2)).await.summary.result.unwrap();
    assert_eq!(result.calibration_error, Some(3.25));
}

/// Everything wrong, each image in a cell of its own: no document of `ImageNet` is longer.
#[tokio::test]
async fn the_longest_document_of_imagenet_is_taken() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    let class = |label: u32| {
        let mut confused: Vec<(u32, u64)> = (1..=50).map(|i| ((label + i) % 1000, 1)).collect();
        confused.sort_unstable();
        ClassCounts { name: "yellow garden spider".into(), images: 50, predicted: 50, correct: 0, confused }
    };
    let evaluation = Evaluation { format: Evaluation::FORMAT, classes: (0..1000).map(class).collect() };
    let mut report = CompletionReport { evaluation: Some(evaluation.clone()), ..completion(&grant) };
    let result =
        TestResult { total: 50_000, correct: 0, accuracy: 0.0, error: 100.0, ..report.outcome.result.unwrap() };
    report.outcome.result = Some(result);
    report.outcome.manifest.as_mut().unwrap().result = Some(result);
    assert_eq!(server.post(&on(grant.lease, "complete"), &report).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.json::<Evaluation>("/jobs/1/evaluation").await, evaluation);
}

#[tokio::test]
async fn a_failure_backs_off_and_runs_again() {
    let server =
        TestServer::with_policy(Policy { backoff_ms: 5, longest_backoff_ms: 5, most_failures: 3, ..Policy::default() })
            .await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    for attempt in 1..=3 {
        let grant = server.lease(worker, 1).await.remove(0);
        assert_eq!(grant.job, JobId(1), "attempt {attempt}");
        assert_eq!(server.fail(&grant, FailureClass::TrainerDied, "signal 9").await.status(), StatusCode::NO_CONTENT);
    }
    let failed = server.job(JobId(1)).await;
    assert_eq!((failed.summary.state, failed.attempts.len()), (JobStateName::Failed, 3));
    assert_eq!(failed.summary.failure.unwrap().reason, "failed 3 times, the last time because: signal 9");
    let dependent = server.job(JobId(2)).await.summary;
    assert_eq!(dependent.failure.map(|failure| failure.class), Some(FailureClass::Dependency));
    let retried: Changed = read(server.post("/jobs/1/retry", &()).await).await;
    assert_eq!(retried.changed, 2);
    let grant = server.lease(worker, 1).await.remove(0);
    assert_eq!(server.complete(&grant).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.job(JobId(1)).await.summary.failures, 0);
}

#[tokio::test]
async fn what_is_wrong_with_the_data_is_not_tried_again() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    server.fail(&grant, FailureClass::BadData, "`cat.jpg` ends in the middle").await;
    let explained: Explanation = server.json("/jobs/1/explain").await;
    assert_eq!((explained.state, explained.because.as_str()), (JobStateName::Failed, "`cat.jpg` ends in the middle"));
}

#[tokio::test]
async fn a_job_is_cancelled_under_its_worker() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    let cancelled: Changed = read(server.post("/jobs/1/cancel", &()).await).await;
    assert_eq!(cancelled.changed, 2);
    let response = server.progress(&grant, &at_step(&grant, 1)).await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert_eq!(server.job(JobId(1)).await.attempts[0].end, Some(AttemptEnd::Cancelled));
}
