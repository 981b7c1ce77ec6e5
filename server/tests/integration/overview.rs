//! What sums up: the catalogue, previews, forecasts, the matrix in few bytes, parts of tables, several jobs at once.

use promptfield_core::id::JobId;
use promptfield_core::method::{Declaration, Method, Methods};
use promptfield_core::scheduler::{Explanation, Forecast, JobStateName, Preview};
use promptfield_core::wire::api::overview::{Catalogue, Matrix};
use promptfield_core::wire::api::usage::Usage;
use promptfield_core::wire::api::{Changed, ExperimentSummary, Metrics};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{TestServer, experiment, problem, read, run_all};

#[tokio::test]
async fn the_catalogue_has_what_an_experiment_can_name() {
    let server = TestServer::start().await;
    let catalogue: Catalogue = server.json("/catalogue").await;
    let methods: Vec<Method> = catalogue.methods.iter().map(|method| method.key).collect();
    assert_eq!(methods, Methods::built_in().list().iter().map(Declaration::key).collect::<Vec<_>>());
    let zero_shot = catalogue.methods.iter().find(|method| method.key.key() == "zero_shot").unwrap();
    assert_eq!((zero_shot.label.as_str(), zero_shot.learns), ("CLIP (zero-shot)", false));
    let dtd = catalogue.datasets.iter().find(|dataset| dataset.key == "dtd").unwrap();
    assert_eq!((dtd.label.as_str(), dtd.classes), ("DescribableTextures", Some(47)));
    assert_eq!(catalogue.backbones, ["ViT-B/16"]);
    assert_eq!(catalogue.protocols[0].all.len(), 11);
    let kind =
        |name: &str| catalogue.hyperparameters.iter().find(|value| value.name == name).map(|value| value.kind.as_str());
    assert_eq!(
        [kind("lr"), kind("epochs"), kind("rep_layers"), kind("eval")],
        [Some("number"), Some("integer"), Some("array"), Some("object")]
    );
    let lr = catalogue.hyperparameters.iter().find(|value| value.name == "lr").unwrap();
    assert!(lr.description.contains("learning rate") && lr.methods.len() == 4, "{lr:?}");
}

#[tokio::test]
async fn a_preview_submits_nothing() {
    let server = TestServer::start().await;
    let preview: Preview = read(server.post("/experiments/preview", &experiment(&[1, 2])).await).await;
    assert_eq!((preview.jobs, preview.new, preview.device_ms, preview.unknown), (4, 4, None, 4));
    let list: Value = server.json("/experiments").await;
    assert_eq!(list["total"], 0);
    let mut bad = experiment(&[1]);
    bad["datasets"] = json!(["dtdd"]);
    let response = server.post("/experiments/preview", &bad).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem(response).await.errors[0].field, "datasets[0]");

    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    run_all(&server, worker, 2).await;
    let preview: Preview = read(server.post("/experiments/preview", &experiment(&[1, 2])).await).await;
    assert_eq!((preview.new, preview.counts.completed, preview.unknown), (2, 2, 0));
    assert!(preview.device_ms.is_some());
}

#[tokio::test]
async fn an_experiment_says_what_it_has_cost_and_when_it_will_be_done() {
    let mut server = TestServer::start().await;
    server.submit(&experiment(&[1, 2])).await;
    let forecast: Forecast = server.json("/experiments/1/forecast").await;
    let reason = Some("4 of its jobs can't run: no worker is connected".to_owned());
    let nothing = Forecast { spent_ms: 0, completed_last_hour: 0, remaining_ms: None, unknown: 4, eta: None, reason };
    assert_eq!(forecast, nothing);
    let worker = server.register("w").await;
    run_all(&server, worker, 3).await;
    let forecast: Forecast = server.json("/experiments/1/forecast").await;
    assert_eq!((forecast.completed_last_hour, forecast.unknown), (3, 0));
    assert!(forecast.eta.is_some() && forecast.remaining_ms.is_some() && forecast.reason.is_none(), "{forecast:?}");
    server.restart().await;
    let again: Forecast = server.json("/experiments/1/forecast").await;
    assert_eq!((again.unknown, again.remaining_ms), (0, forecast.remaining_ms), "it's known from the attempts");
    run_all(&server, worker, 1).await;
    let forecast: Forecast = server.json("/experiments/1/forecast").await;
    assert_eq!((forecast.completed_last_hour, forecast.remaining_ms, forecast.eta), (4, Some(0), None));
    let lasted: i64 = {
        let mut sum = 0;
        for job in 1..=4 {
            let attempt = server.job(JobId(job)).await.attempts.remove(0);
            sum += attempt.ended_at.unwrap().since(attempt.started_at);
        }
        sum
    };
    assert_eq!(forecast.spent_ms, lasted);
    assert_eq!(server.get("/experiments/2/forecast").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_no_worker_can_take_has_no_end_and_the_reason_is_that_of_its_jobs() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    run_all(&server, worker, 2).await;
    let mut document = experiment(&[2, 3]);
    document["labels"] = json!(["nobody"]);
    server.submit(&document).await;
    let forecast: Forecast = server.json("/experiments/2/forecast").await;
    let explained: Explanation = server.json("/jobs/3/explain").await;
    assert!(explained.because.contains("the label `nobody`"), "{explained:?}");
    assert_eq!((forecast.eta, forecast.unknown), (None, 0));
    assert_eq!(forecast.reason, Some(format!("4 of its jobs can't run: {}", explained.because)));
}

#[tokio::test]
async fn the_matrix_has_every_job_once() {
    let server = TestServer::start().await;
    let mut document = experiment(&[1, 2]);
    document["methods"] = json!(["alignednorm", "zero_shot"]);
    document["datasets"] = json!(["dtd", "eurosat"]);
    document["sweep"] = json!({"alpha": [0.5, 0.7]});
    server.submit(&document).await;
    let worker = server.register("w").await;
    run_all(&server, worker, 1).await;
    let summary: ExperimentSummary = server.json("/experiments/1").await;
    let matrix: Matrix = server.json("/experiments/1/matrix").await;
    assert_eq!(matrix.jobs.len(), summary.counts.total());
    assert_eq!(matrix.datasets, ["dtd", "eurosat"]);
    for job in &matrix.jobs {
        let shown = server.job(job.0).await;
        assert_eq!(
            (
                matrix.methods[job.1],
                matrix.datasets[job.2].as_str(),
                job.4,
                job.5,
                matrix.stages[job.6],
                matrix.states[job.7]
            ),
            (
                shown.spec.method,
                shown.spec.dataset.as_str(),
                shown.spec.shots,
                shown.spec.seed,
                shown.spec.stage,
                shown.summary.state
            )
        );
        // One that learns nothing stands for both values.
        let is_half = !shown.spec.learns() || shown.spec.hyper.number("alpha") == Some(0.5);
        assert_eq!(matrix.variants[job.3].contains("alpha=0.5"), is_half);
    }
    assert_eq!(server.get("/experiments/2/matrix").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_table_of_a_part_has_that_part_only() {
    let server = TestServer::start().await;
    let mut document = experiment(&[1, 2]);
    document["methods"] = json!(["alignednorm", "mmrl", "zero_shot"]);
    document["datasets"] = json!(["dtd", "eurosat"]);
    server.submit(&document).await;
    let rows = async |query: &str| -> Vec<String> {
        let csv = server.text(&format!("/experiments/1/results?format=csv&{query}")).await;
        csv.lines().skip(1).map(|line| line.split(',').take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(
        rows("methods=mmrl,zero_shot&datasets=dtd").await,
        ["dtd mmrl", "dtd zero_shot", "average mmrl", "average zero_shot"]
    );
    let counts = async |query: &str| -> Value {
        let results: Value = server.json(&format!("/experiments/1/results?{query}")).await;
        results["table"]["rows"].as_array().unwrap().iter().map(|row| row["base"]["jobs"]["queued"].clone()).collect()
    };
    assert_eq!(counts("datasets=dtd").await, json!([2, 2, 1]));
    // What learns nothing has no seed, and stays.
    assert_eq!(counts("datasets=dtd&seeds=2").await, json!([1, 1, 1]));
}

#[tokio::test]
async fn several_jobs_are_cancelled_and_tried_again_at_once() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1, 2])).await;
    let some = json!({"jobs": [1, 3]});
    let changed: Changed = read(server.post("/jobs/cancel", &some).await).await;
    assert_eq!(changed.changed, 4, "with the tests of their checkpoints");
    let changed: Changed = read(server.post("/jobs/retry", &json!({"jobs": [1]})).await).await;
    assert_eq!(changed.changed, 2);
    let response = server.post("/jobs/retry", &json!({"jobs": [3, 99]})).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(server.job(JobId(3)).await.summary.state, JobStateName::Cancelled, "all or none");
    let many: Vec<u64> = vec![1; 100_001];
    let response = server.post("/jobs/cancel", &json!({"jobs": many})).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem(response).await.errors[0].field, "jobs");
}

#[tokio::test]
async fn a_long_curve_comes_thinned() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    let points: Vec<Value> = (0..300).map(|step| json!({"step": step, "values": {"loss": 1.0}})).collect();
    let report = json!({"token": grant.token, "metrics": points});
    assert_eq!(server.post(&format!("/leases/{}/progress", grant.lease), &report).await.status(), StatusCode::OK);
    let whole: Metrics = server.json("/jobs/1/metrics").await;
    let thin: Metrics = server.json("/jobs/1/metrics?most=10").await;
    assert_eq!((whole.points.len(), thin.points.len()), (300, 10));
    assert_eq!((thin.points[0].step, thin.points[9].step), (0, 299));
}

#[tokio::test]
async fn workers_say_how_many_of_their_slots_they_used() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1, 2])).await;
    let idle = server.register("idle").await;
    let nobody: Usage = server.json("/workers/usage").await;
    assert_eq!((nobody.interval_ms, nobody.workers.len()), (900_000, 0));
    let worker = server.register("w").await;
    server.lease(worker, 2).await;
    // Half a millisecond at least has passed, of an hour's last interval.
    let used = loop {
        let usage: Usage = server.json("/workers/usage?hours=1").await;
        if let Some(used) = usage.workers.into_iter().next() {
            break used;
        }
    };
    assert!(used.worker == worker && used.worker != idle);
    assert_eq!(used.busy.len(), 96);
    assert!(used.busy[95] > 0.0 && used.busy[..95].iter().all(|busy| *busy < 0.001), "{:?}", used.busy);
}

#[tokio::test]
async fn workers_say_what_their_devices_are_at() {
    let server = TestServer::start().await;
    let worker = server.register("w").await;
    let load = |busy: f64| json!({"devices": [{"device": "cuda:0", "busy_percent": busy, "memory_mib": 900, "memory_total_mib": 24_000}]});
    let path = format!("/workers/{worker}/load");
    assert_eq!(server.post(&path, &load(42.0)).await.status(), StatusCode::NO_CONTENT);
    let usage: Usage = server.json("/workers/usage").await;
    let device = &usage.workers[0].devices[0];
    let last = |place: usize| (device.busy_percent[place], device.memory_mib[place]);
    // An interval may have ended between the two.
    let seen = [last(94), last(95)];
    assert!(seen.contains(&(Some(42.0), Some(900))), "{device:?}");
    assert_eq!((device.device.as_str(), device.memory_total_mib), ("cuda:0", Some(24_000)));

    let response = server.post(&path, &load(100.5)).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem(response).await.errors[0].field, "devices[0].busy_percent");
    server.post(&format!("/workers/{worker}/leave"), &()).await;
    assert_eq!(server.post(&path, &load(1.0)).await.status(), StatusCode::GONE);
}
