//! What is refused, and in which words.

use promptfield_core::input::FieldError;
use promptfield_core::job::outcome::TestResult;
use promptfield_core::wire::api::{LogChunk, MetricPoint, Metrics, ProgressReport};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{TestServer, answer_to_announcement, at_step, completion, experiment, on, problem, worker};

/// Sends `body`, expects it to be refused, and gives the first reason back.
async fn refused(server: &TestServer, path: &str, body: &Value, status: StatusCode) -> FieldError {
    let response = server.post(path, body).await;
    assert_eq!(response.status(), status, "{path} {body}");
    let mut problem = problem(response).await;
    assert_eq!(problem.kind, "/problems/invalid-input");
    problem.errors.remove(0)
}

fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    *document.pointer_mut(pointer).unwrap() = value;
    document
}

#[tokio::test]
async fn a_wrong_experiment_names_field_value_and_what_is_right() {
    let server = TestServer::start().await;
    let base = experiment(&[1]);
    let mut extra = base.clone();
    extra["overrides"] = json!({"learning_rate": 1.0});
    let mut missing = base.clone();
    missing.as_object_mut().unwrap().remove("backbone");
    for (document, field, value, expected) in [
        (
            with(base.clone(), "/methods/0", json!("alinednorm")),
            "methods[0]",
            "alinednorm",
            "did you mean `alignednorm`?",
        ),
        (with(base.clone(), "/datasets/0", json!("dtdd")), "datasets[0]", "dtdd", "did you mean `dtd`?"),
        (with(base.clone(), "/seeds/0", json!("one")), "seeds[0]", "one", "whole number"),
        (with(base.clone(), "/backbone", json!("ViT-B/32")), "backbone", "ViT-B/32", "did you mean `ViT-B/16`?"),
        (
            with(base.clone(), "/protocol", json!("base_to_old")),
            "protocol",
            "base_to_old",
            "did you mean `base_to_new`?",
        ),
        (extra, "overrides", "learning_rate", "a known key"),
        (missing, "backbone", "nothing", "a value"),
    ] {
        let error = refused(&server, "/experiments", &document, StatusCode::UNPROCESSABLE_ENTITY).await;
        assert_eq!((error.field.as_str(), error.value.as_str()), (field, value));
        assert!(error.expected.contains(expected), "{error}");
    }
    let list: Value = server.json("/experiments").await;
    assert_eq!(list["total"], 0);
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let server = TestServer::start().await;
    let document = with(with(experiment(&[1]), "/methods/0", json!("x")), "/seeds", json!([1, 1]));
    let problem = problem(server.post("/experiments", &document).await).await;
    let fields: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(fields, ["methods[0]", "seeds"]);
}

#[tokio::test]
async fn what_is_not_json_is_refused() {
    let server = TestServer::start().await;
    let response = server.request(Method::POST, "/experiments").body("{\"name\": ").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(problem(response).await.errors[0].field, "body");
}

#[tokio::test]
async fn a_worker_says_who_it_is() {
    let server = TestServer::start().await;
    for (pointer, value, field) in [
        ("/name", json!(" "), "name"),
        ("/slots", json!(0), "slots"),
        ("/slots", json!(-1), "slots"),
        ("/backbones", json!([]), "backbones"),
        ("/version", json!("0.0.9"), "version"),
        ("/version", json!("1.1.0"), "version"),
        ("/version", json!(""), "version"),
    ] {
        let error =
            refused(&server, "/workers", &with(json!(worker("w")), pointer, value), StatusCode::UNPROCESSABLE_ENTITY)
                .await;
        assert_eq!(error.field, field);
    }
    // A worker of another patch works with this coordinator, and one that is refused hears both versions.
    let patched = with(json!(worker("w")), "/version", json!(format!("{}9", promptfield_core::VERSION)));
    assert_eq!(server.post("/workers", &patched).await.status(), StatusCode::CREATED);
    // The minor version before this one has another wire format: docs/operations.md, "Upgrading".
    let before = with(json!(worker("w")), "/version", json!("0.1.0"));
    let error = refused(&server, "/workers", &before, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!((error.field.as_str(), error.value.as_str()), ("version", "0.1.0"));
    assert!(error.expected.contains(promptfield_core::VERSION), "{error}");
    let other = with(json!(worker("w")), "/version", json!("9.9.9"));
    let error = refused(&server, "/workers", &other, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert!(error.value == "9.9.9" && error.expected.contains(promptfield_core::VERSION), "{error}");
}

#[tokio::test]
async fn the_numbers_of_a_report_are_bounded_and_many_of_them_are_taken() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    let path = on(grant.lease, "progress");
    let point = |step: u64, names: usize| {
        let values = (0..names).map(|name| (format!("m{name}"), 1.0)).collect();
        MetricPoint { step, values }
    };
    let report = |metrics: Vec<MetricPoint>| ProgressReport { metrics, ..at_step(&grant, 1) };
    let long = MetricPoint { step: 7, values: [("n".repeat(201), 1.0)].into() };
    for (metrics, field) in [
        (vec![point(1, 10), point(2, 1_001)], "metrics[1].values"),
        (vec![long], "metrics[0].values"),
        (vec![point(1 << 60, 1)], "metrics[0].step"),
        ((0..101).map(|step| point(step, 1_000)).collect(), "metrics"),
    ] {
        let error = refused(&server, &path, &json!(report(metrics)), StatusCode::UNPROCESSABLE_ENTITY).await;
        assert_eq!(error.field, field, "{error}");
    }
    let most: Vec<MetricPoint> = (0..50).map(|step| point(step, 1_000)).collect();
    assert_eq!(server.post(&path, &report(most.clone())).await.status(), StatusCode::OK);
    let kept: Metrics = server.json("/jobs/1/metrics").await;
    assert_eq!(kept.points, most);
}

#[tokio::test]
async fn a_result_must_make_sense() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    let report = json!(completion(&grant));
    let path = on(grant.lease, "complete");
    let file = json!({"sha256": "0".repeat(64), "bytes": 1});
    for (pointer, value, field) in [
        ("/outcome/result/total", json!(0), "outcome.result.total"),
        ("/outcome/result", json!(null), "outcome.result"),
        ("/memory_mib", json!(0), "memory_mib"),
        ("/memory_mib", json!((1 << 24) + 1), "memory_mib"),
        ("/outcome/result/correct", json!(201), "outcome.result.correct"),
        ("/outcome/result/correct", json!(-1), "outcome.result.correct"),
        ("/outcome/result/macro_f1", json!(101.0), "outcome.result.macro_f1"),
        ("/outcome/result/accuracy", json!(null), "outcome.result.accuracy"),
        ("/outcome/result/calibration_error", json!(-0.1), "outcome.result.calibration_error"),
        ("/outcome/result/total", json!(201), "evaluation.classes"),
        ("/evaluation/classes/1/images", json!(81), "evaluation.classes[1].images"),
        ("/evaluation/classes/0/correct", json!("x"), "evaluation.classes[0].correct"),
        ("/evaluation/classes/0/confused/0", json!([3, 10]), "evaluation.classes[0].confused[0][0]"),
        ("/evaluation/format", json!(2), "evaluation.format"),
        ("/outcome/manifest/spec_hash", json!("0".repeat(64)), "outcome.manifest.spec_hash"),
        ("/outcome/result/accuracy", json!(91.0), "outcome.result.accuracy"),
        ("/outcome/result/error", json!(11.0), "outcome.result.error"),
        ("/outcome/manifest/result/macro_f1", json!(12.0), "outcome.manifest.result"),
        ("/outcome/manifest/format", json!(3), "outcome.manifest.format"),
        ("/outcome/manifest/format", json!(0), "outcome.manifest.format"),
        ("/outcome/manifest/spec/seed", json!(77), "outcome.manifest.spec_hash"),
        ("/outcome/manifest/weights_sha256", json!("12"), "outcome.manifest.weights_sha256"),
        ("/outcome/manifest/split_sha256", json!("X".repeat(64)), "outcome.manifest.split_sha256"),
        ("/outcome/manifest/test_sha256", json!(""), "outcome.manifest.test_sha256"),
        ("/outcome/manifest/files", json!({"../log.txt": file}), "outcome.manifest.files"),
        ("/outcome/manifest/files", json!({"/etc/passwd": file}), "outcome.manifest.files"),
        ("/outcome/manifest/files", json!({"a//b": file}), "outcome.manifest.files"),
        ("/outcome/manifest/files", json!({"a": {"sha256": "../x", "bytes": 1}}), "outcome.manifest.files.a.sha256"),
    ] {
        let error =
            refused(&server, &path, &with(report.clone(), pointer, value), StatusCode::UNPROCESSABLE_ENTITY).await;
        assert_eq!(error.field, field, "{error}");
    }
    let huge = TestResult {
        total: u64::MAX,
        correct: u64::MAX,
        accuracy: 100.0,
        error: 0.0,
        macro_f1: 100.0,
        calibration_error: None,
    };
    let error =
        refused(&server, &path, &with(report, "/outcome/result", json!(huge)), StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(error.field, "outcome.result.total");
    assert_eq!(server.complete(&grant).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn numbers_that_no_database_holds_are_refused() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    let report = ProgressReport {
        metrics: vec![MetricPoint { step: u64::MAX, values: [("loss".to_owned(), 1.0)].into() }],
        ..at_step(&grant, 1)
    };
    let error = refused(&server, &on(grant.lease, "progress"), &json!(report), StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(error.field, "metrics[0].step");
    let log = Some(LogChunk { first_line: u64::MAX, lines: vec![String::new()] });
    let report = ProgressReport { log, ..at_step(&grant, 1) };
    let error = refused(&server, &on(grant.lease, "progress"), &json!(report), StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(error.field, "log.first_line");
}

#[tokio::test]
async fn queries_and_paths_are_checked() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    for (path, field) in [
        ("/experiments/x", "id"),
        ("/jobs/-1/log", "id"),
        ("/experiments/1/jobs?state=done", "state"),
        ("/experiments/1/results?seeds=1,2", "seeds"),
        ("/experiments/1/results?methods=mmrl", "methods"),
        ("/experiments/1/results?datasets=", "datasets"),
        ("/jobs/1/metrics?most=1", "most"),
        ("/workers/usage?hours=0", "hours"),
        ("/experiments/1/jobs?dataset=dtdd", "dataset"),
        ("/experiments/1/jobs?method=mmrll", "method"),
        ("/experiments/1/jobs?variant=alpha=0.5", "variant"),
        ("/experiments/1/jobs?stage=training", "stage"),
        ("/experiments/1/jobs?shots=3", "shots"),
        ("/experiments/1/jobs?shots=many", "shots"),
        ("/jobs/1/log?attempt=1", "attempt"),
        ("/jobs/1/log?attempt=latest", "attempt"),
        ("/experiments/1/jobs?limit=0", "limit"),
        ("/experiments/1/jobs?cursor=1", "cursor"),
        ("/experiments/1/results?format=pdf", "format"),
        ("/experiments/1/results?compare=mine", "compare"),
        ("/artefacts/ABC", "sha256"),
    ] {
        let response = server.get(path).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
        let problem = problem(response).await;
        assert_eq!(problem.kind, "/problems/unreadable-request");
        assert_eq!(problem.errors[0].field, field, "{path}: {problem:?}");
    }
    let response = server.get("/experiments/1/jobs?stat=queued").await;
    assert!(problem(response).await.detail.contains("did you mean `state`?"));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = TestServer::start().await;
    for path in [
        "/experiments/1",
        "/experiments/1/jobs",
        "/experiments/1/results",
        "/jobs/1",
        "/jobs/1/log",
        "/jobs/1/evaluation",
        "/jobs/1/metrics",
        "/jobs/1/explain",
    ] {
        let response = server.get(path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(problem(response).await.kind, "/problems/not-found");
    }
    for path in ["/experiments/1/cancel", "/experiments/1/retry", "/jobs/1/cancel", "/jobs/1/retry"] {
        assert_eq!(server.post(path, &()).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_route_names_the_one_that_may_be_meant() {
    let server = TestServer::start().await;
    for (path, near) in [
        ("/experiment", "(did you mean `/api/v1/experiments`?)"),
        ("/experiments/3/job", "(did you mean `/api/v1/experiments/3/jobs`?)"),
        ("/jobs/7/logs", "(did you mean `/api/v1/jobs/7/log`?)"),
        ("/worker/1/lease", "(did you mean `/api/v1/workers/1/lease`?)"),
        ("/helthz", "(did you mean `/api/v1/healthz`?)"),
        ("/0", "`/api/v1/docs` shows those that there are"),
    ] {
        let response = server.get(path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        let problem = problem(response).await;
        assert_eq!(problem.kind, "/problems/not-found");
        assert!(problem.detail.contains(near), "{}", problem.detail);
    }
}

#[tokio::test]
async fn a_problem_s_type_leads_to_what_it_means() {
    let server = TestServer::start().await;
    let problem = problem(server.get("/jobs/7").await).await;
    let response = reqwest::get(format!("http://{}{}", server.address, problem.kind)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.text().await.unwrap().starts_with("## `not-found` (404)"));
}

#[tokio::test]
async fn a_client_s_own_request_id_comes_back() {
    let server = TestServer::start().await;
    let response = server.request(Method::GET, "/jobs/7").header("x-request-id", "deploy-7").send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "deploy-7");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["instance"], "deploy-7");
}

#[tokio::test]
async fn a_wrong_method_is_named() {
    let server = TestServer::start().await;
    let response = server.request(Method::DELETE, "/experiments").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    let mut allowed: Vec<_> = response.headers()["allow"].to_str().unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    let problem = problem(response).await;
    assert_eq!(
        (problem.kind.as_str(), problem.detail.as_str()),
        ("/problems/method-not-allowed", "`/api/v1/experiments` can't be asked with DELETE")
    );
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_comes() {
    let server = TestServer::start().await;
    let answer = answer_to_announcement(&server, "POST /api/v1/experiments", (16 << 20) + 1).await;
    assert_eq!(answer, "HTTP/1.1 413 Payload Too Large");
    let put = format!("PUT /api/v1/artefacts/{}", "0".repeat(64));
    assert_eq!(answer_to_announcement(&server, &put, (1 << 30) + 1).await, "HTTP/1.1 413 Payload Too Large");
}

#[tokio::test]
async fn names_that_a_terminal_would_act_on_are_refused() {
    let server = TestServer::start().await;
    let described = |change: &dyn Fn(&mut Value)| {
        let mut description = json!(worker("w"));
        change(&mut description);
        description
    };
    for name in ["\u{1b}]0;x\u{7}", "a\nb", "\u{9b}2J", "\u{202e}x", "\0", &"試".repeat(201), ""] {
        for (path, body, field) in [
            ("/experiments", with(experiment(&[1]), "/name", json!(name)), "name"),
            ("/experiments/preview", with(experiment(&[1]), "/name", json!(name)), "name"),
            ("/tokens", json!({"name": name, "scopes": ["read"]}), "name"),
            ("/workers", described(&|w| w["name"] = name.into()), "name"),
            ("/workers", described(&|w| w["host"] = name.into()), "host"),
            ("/workers", described(&|w| w["devices"] = json!(["cpu", name])), "devices[1]"),
            ("/workers", described(&|w| w["backbones"] = json!([name])), "backbones[0]"),
            ("/workers", described(&|w| w["labels"] = json!([name])), "labels[0]"),
            ("/workers", described(&|w| w["backbone_sha256"] = json!({name: "0".repeat(64)})), "backbone_sha256"),
        ] {
            let error = refused(&server, path, &body, StatusCode::UNPROCESSABLE_ENTITY).await;
            assert_eq!(error.field, field, "{path} {name:?}");
        }
        let pin = json!({"backbone": name, "sha256": "0".repeat(64)});
        let answer = server.request(Method::PUT, "/backbones").json(&pin).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    // As many characters as are said, in whatever script.
    let name = "試".repeat(200);
    server.submit(&with(experiment(&[1]), "/name", json!(name))).await;
    let response = server.post("/workers", &described(&|w| w["host"] = name.clone().into())).await;
    assert_eq!(response.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_worker_s_lists_are_bounded() {
    let server = TestServer::start().await;
    for field in ["devices", "backbones", "labels"] {
        let names: Vec<String> = (0..2_000).map(|i| format!("n{i}")).collect();
        let description = with(json!(worker("w")), &format!("/{field}"), json!(names));
        let error = refused(&server, "/workers", &description, StatusCode::UNPROCESSABLE_ENTITY).await;
        assert_eq!((error.field.as_str(), error.value.as_str()), (field, "2000 entries"));
    }
}

#[tokio::test]
async fn what_is_said_twice_or_not_at_all_is_refused() {
    let server = TestServer::start().await;
    let document = experiment(&[1]).to_string();
    let twice = document.replacen('{', "{\"priority\": 1, \"priority\": 2, ", 1);
    let worker = json!(worker("w")).to_string().replacen('{', "{\"slots\": 1, ", 1);
    for (path, body, key) in [
        ("/experiments", &twice, "priority"),
        ("/experiments/preview", &twice, "priority"),
        ("/workers", &worker, "slots"),
    ] {
        let response = server.request(Method::POST, path).body(body.clone()).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let error = problem(response).await.errors.remove(0);
        assert_eq!((error.value.as_str(), error.expected.as_str()), (key, "each key once"), "{path}");
    }
    let response = server.get("/workers?limit=1&limit=2").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(problem(response).await.errors[0].value, "limit");
    let mut swept = experiment(&[1]);
    swept["sweep"] = json!({"alpha": [0.5, null]});
    let error = refused(&server, "/experiments", &swept, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!((error.field.as_str(), error.value.as_str()), ("sweep.alpha[1]", "null"));
}

#[tokio::test]
async fn numbers_that_no_identifier_is_are_refused() {
    let server = TestServer::start().await;
    let beyond = (1_u64 << 63).to_string();
    for path in ["/experiments", "/jobs"] {
        assert_eq!(server.get(&format!("{path}/{beyond}")).await.status(), StatusCode::BAD_REQUEST);
        let most = i64::MAX;
        assert_eq!(server.get(&format!("{path}/{most}")).await.status(), StatusCode::NOT_FOUND);
    }
    let body = json!({"token": 1_u64 << 63});
    let error = refused(&server, "/leases/1/release", &body, StatusCode::UNPROCESSABLE_ENTITY).await;
    assert_eq!(error.field, "token");
    assert!(error.expected.ends_with("from 0 to 9223372036854775807"), "{error}");
}
