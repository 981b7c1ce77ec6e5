//! Submitting, lists, results, cancelling and retrying.

use promptfield_core::results::tables::ResultTable;
use promptfield_core::scheduler::JobStateName;
use promptfield_core::wire::api::{
    Changed, ExperimentSummary, JobSummary, LeaseGrant, Page, Results, SubmitResponse, WorkerSummary,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{TestServer, experiment, problem, read, run_all};

#[tokio::test]
async fn submitting_twice_is_submitting_once() {
    let server = TestServer::start().await;
    let response = server.post("/experiments", &experiment(&[1, 2])).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert_eq!(response.headers()["location"], "/api/v1/experiments/1");
    let first: SubmitResponse = read(response).await;
    assert_eq!((first.created, first.experiment.counts.queued, first.experiment.counts.blocked), (true, 2, 2));
    let response = server.post("/experiments", &experiment(&[1, 2])).await;
    assert_eq!(response.status(), StatusCode::OK);
    let again: SubmitResponse = read(response).await;
    assert_eq!(again, SubmitResponse { created: false, ..first.clone() });
    let wider = server.submit(&experiment(&[1, 2, 3])).await;
    assert_eq!(
        (wider.experiment.counts.total(), server.job(promptfield_core::id::JobId(6)).await.summary.title.as_str()),
        (6, "test alignednorm on dtd, 16 shots, seed 3")
    );
    let list: Page<ExperimentSummary> = server.json("/experiments").await;
    assert_eq!((list.total, list.next), (2, None));
    assert_eq!(list.items[0], first.experiment);
    // Of the wider one, seed 3 is its own.
    let wanted = [1, 6].map(|job| server.job(promptfield_core::id::JobId(job)));
    let wanted = futures_util::future::join_all(wanted).await;
    assert_eq!(wanted[0].experiments.len() + wanted[1].experiments.len(), 2 + 1);
    let shown: Value = server.json("/experiments/1").await;
    assert_eq!(shown["experiment"]["seeds"], json!([1, 2]));
    assert_eq!(shown["name"], "x");
}

#[tokio::test]
async fn jobs_come_in_pages_and_by_state() {
    let server = TestServer::start().await;
    let mut document = experiment(&[1, 2, 3]);
    document["datasets"] = json!(["dtd", "eurosat"]);
    server.submit(&document).await;
    let (mut cursor, mut titles) = (String::new(), Vec::new());
    loop {
        let page: Page<JobSummary> = server.json(&format!("/experiments/1/jobs?limit=5{cursor}")).await;
        assert_eq!(page.total, 12);
        titles.extend(page.items.into_iter().map(|job| job.title));
        let Some(next) = page.next else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(titles.len(), 12);
    assert_eq!(titles[0], "train alignednorm on dtd, 16 shots, seed 1");
    assert_eq!(titles[11], "test alignednorm on eurosat, 16 shots, seed 3");
    let other: Page<JobSummary> = server.json("/experiments/1/jobs?method=mmrl").await;
    let own: Page<JobSummary> = server.json("/experiments/1/jobs?method=alignednorm&dataset=dtd").await;
    assert_eq!((other.total, own.total), (0, 6));
    let blocked: Page<JobSummary> = server.json("/experiments/1/jobs?state=blocked&dataset=eurosat").await;
    assert_eq!(blocked.total, 3);
    assert!(blocked.items.iter().all(|job| job.state == JobStateName::Blocked && job.dataset == "eurosat"));
}

#[tokio::test]
async fn jobs_of_a_sweep_say_their_values_wherever_they_are_named() {
    let server = TestServer::start().await;
    let mut document = experiment(&[1]);
    document["methods"] = json!(["alignednorm", "zero_shot"]);
    document["sweep"] = json!({"alpha": [0.5, 0.7], "beta": [0.25]});
    server.submit(&document).await;
    let jobs = async |query: &str| server.json::<Page<JobSummary>>(&format!("/experiments/1/jobs{query}")).await;
    let titles =
        async |query: &str| -> Vec<String> { jobs(query).await.items.into_iter().map(|job| job.title).collect() };
    let own = [
        "train alignednorm on dtd, 16 shots, seed 1, alpha=0.7 beta=0.25",
        "test alignednorm on dtd, 16 shots, seed 1, alpha=0.7 beta=0.25",
    ];
    // What learns nothing is the same for every value, and stands for each.
    let both = ["zero_shot on dtd, base classes", "zero_shot on dtd, new classes"];
    let all = titles("").await;
    assert_eq!(all.len(), 6);
    assert!(own.iter().chain(&both).all(|title| all.iter().any(|listed| listed == title)), "{all:?}");
    let query = "?variant=alpha%3D0.7+beta%3D0.25";
    assert_eq!(titles(query).await, [own, both].concat());
    assert_eq!(titles(&format!("{query}&method=alignednorm&stage=test&shots=16")).await, own[1..]);
    assert_eq!(titles("?shots=0&stage=train").await, both[..1]);
    let shown: Value = server.json("/experiments/1").await;
    assert_eq!(shown["variants"], json!(["alpha=0.5 beta=0.25", "alpha=0.7 beta=0.25"]));
    let job = jobs(&format!("{query}&method=alignednorm")).await.items.remove(0);
    assert_eq!(job.variant, "alpha=0.7 beta=0.25");
    assert_eq!(server.job(job.id).await.summary.title, own[0]);
    let refused = problem(server.get("/experiments/1/jobs?variant=alpha%3D0.7").await).await;
    assert!(refused.detail.contains("alpha=0.7 beta=0.25"), "{}", refused.detail);

    let worker = server.register("w").await;
    let mut leased: Vec<String> = server.lease(worker, 8).await.iter().map(LeaseGrant::title).collect();
    leased.sort();
    assert!(leased.iter().any(|title| title == own[0]), "{leased:?}");
    let workers: Page<WorkerSummary> = server.json("/workers").await;
    let mut held: Vec<String> = workers.items[0].held.iter().map(|job| job.title.clone()).collect();
    held.sort();
    assert_eq!(held, leased);
}

#[tokio::test]
async fn the_table_fills_up_and_is_printed_in_every_format() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1, 2])).await;
    assert!(server.text("/experiments/1/results?format=markdown").await.contains("| dtd | AlignedNorm | – | – | – |"));
    let worker = server.register("w").await;
    run_all(&server, worker, 4).await;
    assert_eq!(
        server.text("/experiments/1/results?format=markdown").await,
        "| Data set | Method | Base | New | H |\n| --- | --- | --- | --- | --- |\n\
         | dtd | AlignedNorm | 90.00 ± 0.00 | 90.00 ± 0.00 | 90.00 ± 0.00 |\n"
    );
    let csv = server.get("/experiments/1/results?format=csv").await;
    assert_eq!(csv.headers()["content-type"], "text/csv; charset=utf-8");
    assert!(csv.text().await.unwrap().contains("\ndtd,alignednorm,16,,90,0,2,90,0,2,90,0,2\n"));
    assert!(server.text("/experiments/1/results?format=latex").await.contains("90.00 $\\pm$ 0.00"));
    let results: Results = server.json("/experiments/1/results").await;
    assert_eq!(results.experiment.counts.completed, 4);
    let ResultTable::BaseToNew(table) = results.table else { panic!("{:?}", results.table) };
    assert_eq!(table.rows[0].base.summary.map(|summary| summary.n), Some(2));
}

#[tokio::test]
async fn the_published_numbers_stand_beside_the_table() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    run_all(&server, worker, 2).await;
    assert!(!server.text("/experiments/1/results?format=markdown").await.contains("published"));
    let markdown = server.text("/experiments/1/results?format=markdown&compare=published").await;
    assert!(
        markdown.contains(
            "| dtd | AlignedNorm | 90.00 | 90.00 | 90.00 |\n|  | published | 84.63 (+5.37) | 65.23 (+24.77) | 73.67 (+16.33) |\n"
        ),
        "{markdown}"
    );
    assert!(markdown.contains("\npublished: AlignedNorm (ICML 2026)"), "{markdown}");
    let results: Results = server.json("/experiments/1/results?compare=published").await;
    let ResultTable::BaseToNew(table) = results.table else { panic!("{:?}", results.table) };
    assert_eq!(table.rows[0].published.map(|comparison| comparison.new.published), Some(65.23));

    server.submit(&json!({
        "name": "few", "protocol": "few_shot", "methods": ["alignednorm"], "datasets": ["dtd"], "backbone": "ViT-B/16",
    })).await;
    let response = server.get("/experiments/2/results?compare=published").await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let error = problem(response).await.errors.remove(0);
    assert_eq!((error.field.as_str(), error.value.as_str()), ("compare", "published"));
    assert!(error.expected.contains("`base_to_new`, which is what there is"), "{error}");
}

#[tokio::test]
async fn an_experiment_is_cancelled_and_taken_up_again() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let cancelled: Changed = read(server.post("/experiments/1/cancel", &()).await).await;
    assert_eq!(cancelled.changed, 2);
    let shown: ExperimentSummary = server.json("/experiments/1").await;
    assert_eq!((shown.cancelled, shown.counts.cancelled), (true, 2));
    let again: Changed = read(server.post("/experiments/1/cancel", &()).await).await;
    assert_eq!(again.changed, 0);
    let retried: Changed = read(server.post("/experiments/1/retry", &()).await).await;
    assert_eq!(retried.changed, 2);
    let worker = server.register("w").await;
    run_all(&server, worker, 2).await;
    let shown: ExperimentSummary = server.json("/experiments/1").await;
    assert_eq!((shown.cancelled, shown.counts.completed), (false, 2));
}
