//! What results rest on, and computing them again.

use promptfield_core::id::{JobId, WorkerId};
use promptfield_core::job::basis::{Changed as What, Finding};
use promptfield_core::job::outcome::{Failure, FailureClass, LeftOut};
use promptfield_core::job::spec::BasisHash;
use promptfield_core::scheduler::machine_fault::Cause;
use promptfield_core::scheduler::{Explanation, JobStateName, WorkerDescription};
use promptfield_core::wire::api::{
    Changed, CompletionReport, FailureReport, Findings, JobDetail, JobOutput, LeaseGrant, Page, PinnedBackbone,
    PinnedBackbones, Registered, Results,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{TestServer, completion, experiment, on, problem, read, run_all, worker};

const TRAIN: JobId = JobId(1);
const TEST: JobId = JobId(2);

async fn with_results(server: &TestServer) -> (WorkerId, Vec<LeaseGrant>) {
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grants = run_all(server, worker, 2).await;
    (worker, grants)
}

async fn results(server: &TestServer) -> Results {
    server.json("/experiments/1/results").await
}

async fn rerun(server: &TestServer, path: &str) -> usize {
    let response = server.post(path, &json!({})).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    response.json::<Changed>().await.unwrap().changed
}

async fn state(server: &TestServer, job: JobId) -> JobStateName {
    server.job(job).await.summary.state
}

async fn look(server: &TestServer, job: JobId, split: u8, test: u8) {
    let (split_sha256, test_sha256) = (BasisHash([split; 32]), BasisHash([test; 32]));
    let findings = vec![Finding { job, split_sha256, test_sha256, images_sha256: None }];
    let response = server.post("/jobs/findings", &Findings { findings }).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_job_is_computed_again_with_the_tests_of_its_checkpoint_and_nothing_is_lost() {
    let mut server = TestServer::start().await;
    let (worker, first) = with_results(&server).await;
    assert_eq!(rerun(&server, "/jobs/1/rerun").await, 2);
    assert_eq!(
        (state(&server, TRAIN).await, state(&server, TEST).await),
        (JobStateName::Queued, JobStateName::Blocked)
    );
    // Whatever comes late under the leases from before doesn't count.
    for grant in &first {
        assert_eq!(server.complete(grant).await.status(), StatusCode::CONFLICT);
    }
    server.restart().await;
    let again = run_all(&server, worker, 2).await;
    assert!(first.iter().all(|grant| !grant.afresh) && again.iter().all(|grant| grant.afresh));
    let JobDetail { summary, superseded, .. } = server.job(TRAIN).await;
    assert_eq!(summary.state, JobStateName::Completed);
    assert_eq!((superseded.len(), superseded[0].reason.as_str()), (1, "it is computed again"));
    assert!(superseded[0].manifest.is_some());
    assert_eq!(rerun(&server, "/jobs/2/rerun").await, 1);
    let grant = run_all(&server, worker, 1).await.remove(0);
    assert_eq!((grant.job, server.job(TEST).await.superseded.len()), (TEST, 2));
    server.restart().await;
    assert_eq!(server.job(TEST).await.superseded.len(), 2);
}

#[tokio::test]
async fn what_has_no_result_or_belongs_to_others_too_is_refused_by_name() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let refused = async |path: &str| {
        let response = server.post(path, &json!({})).await;
        (response.status(), problem(response).await)
    };
    let (status, no_result) = refused("/jobs/1/rerun").await;
    assert_eq!((status, no_result.kind.as_str()), (StatusCode::CONFLICT, "/problems/no-result"));
    assert!(no_result.detail.contains("job 1 is queued"), "{}", no_result.detail);
    assert_eq!(refused("/jobs/9/rerun").await.0, StatusCode::NOT_FOUND);
    assert_eq!(refused("/experiments/9/rerun").await.0, StatusCode::NOT_FOUND);
    assert_eq!(refused("/jobs/1/rerun?stale=true").await.1.errors[0].field, "stale");
    assert_eq!(refused("/jobs/1/rerun?shared=yes").await.1.errors[0].field, "shared");

    let worker = server.register("w").await;
    run_all(&server, worker, 2).await;
    let mut second = experiment(&[1, 2]);
    second["name"] = json!("y");
    server.submit(&second).await;
    let (status, shared) = refused("/experiments/1/rerun").await;
    assert_eq!((status, shared.kind.as_str()), (StatusCode::CONFLICT, "/problems/shared-jobs"));
    assert!(shared.detail.contains("experiment 2") && shared.detail.contains("--shared"), "{}", shared.detail);
    assert_eq!(state(&server, TRAIN).await, JobStateName::Completed);
    assert_eq!(rerun(&server, "/experiments/1/rerun?shared=true").await, 2);
}

#[tokio::test]
async fn a_result_is_stale_when_its_lists_are_read_as_others_and_the_table_says_so() {
    let mut server = TestServer::start().await;
    let (worker, _) = with_results(&server).await;
    assert!(results(&server).await.stale.is_empty());
    look(&server, TRAIN, 0x11, 0x22).await;
    assert!(results(&server).await.notes.is_empty(), "that is what the manifest says");
    look(&server, TRAIN, 0x33, 0x22).await;
    server.restart().await;
    let found = results(&server).await;
    let stale: Vec<_> = found.stale.iter().map(|stale| (stale.job, stale.stale.changed)).collect();
    assert_eq!(stale, [(TRAIN, What::Split), (TEST, What::Training)]);
    let because = "the split of `dtd` was 111111111111, and is 333333333333 now";
    assert_eq!(found.notes[0], format!("stale: job 2 (of its training, job 1, {because})"));
    assert_eq!(found.notes[1], format!("stale: job 1 ({because})"));
    assert_eq!(found.notes[2], "`promptfield rerun 1 --stale` computes what is stale again");
    for format in ["markdown", "latex"] {
        let text = server.get(&format!("/experiments/1/results?format={format}")).await.text().await.unwrap();
        assert!(text.contains(because), "{text}");
    }
    let explained: Explanation = server.json("/jobs/1/explain").await;
    assert!(explained.because.contains(because) && explained.because.contains("rerun --job 1"), "{explained:?}");
    assert_eq!(server.job(TRAIN).await.stale.unwrap().because, because);
    // What was computed again rests on what the manifest says now.
    assert_eq!(rerun(&server, "/experiments/1/rerun?stale=true").await, 2);
    run_all(&server, worker, 2).await;
    assert!(results(&server).await.stale.is_empty());
    // The test list is one for all seeds and methods.
    let mut second = experiment(&[2]);
    second["name"] = json!("y");
    server.submit(&second).await;
    run_all(&server, worker, 2).await;
    look(&server, JobId(4), 0x11, 0x44).await;
    assert_eq!(results(&server).await.stale[0].stale.changed, What::TestList);
}

#[tokio::test]
async fn a_backbones_name_stands_for_the_weights_of_its_first_result() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1, 2])).await;
    let named = |name: &str, byte: u8| {
        let backbone_sha256 = [("ViT-B/16".to_owned(), BasisHash([byte; 32]))].into();
        WorkerDescription { backbone_sha256, ..worker(name) }
    };
    let register =
        async |name: &str, byte: u8| read::<Registered>(server.post("/workers", &named(name, byte)).await).await.worker;
    let (right, other) = (register("right", 0).await, register("other", 7).await);
    run_all(&server, right, 1).await;
    assert!(server.lease_within(other, 1, 0).await.is_empty());
    let explained: Explanation = server.json("/jobs/2/explain").await;
    assert!(!explained.because.contains("other"), "one that can run it is here: {explained:?}");
    server.post(&format!("/workers/{right}/leave"), &json!({})).await;
    let explained: Explanation = server.json("/jobs/2/explain").await;
    assert!(
        explained.because.contains("000000000000") && explained.because.contains("worker `other` has 070707070707"),
        "{explained:?}"
    );
    let pins: PinnedBackbones = server.json("/backbones").await;
    assert_eq!(pins.backbones, [PinnedBackbone { backbone: "ViT-B/16".to_owned(), sha256: BasisHash([0; 32]) }]);
    let pin = PinnedBackbone { backbone: "ViT-B/16".to_owned(), sha256: BasisHash([7; 32]) };
    let response = server.request(Method::PUT, "/backbones").json(&pin).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let grant = server.lease(other, 1).await.remove(0);
    assert_eq!(grant.backbone_sha256, Some(BasisHash([7; 32])));
    assert_eq!(server.job(JobId(1)).await.stale.unwrap().changed, What::Backbone);
}

#[tokio::test]
async fn a_worker_whose_weights_are_others_gives_its_job_to_others_uncounted() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let fail = async |grant: &LeaseGrant, cause| {
        let failure = Failure { class: FailureClass::Missing, reason: "it isn't the one".into() };
        let report = FailureReport { token: grant.token, failure, cause: Some(cause) };
        assert_eq!(server.post(&on(grant.lease, "fail"), &report).await.status(), StatusCode::NO_CONTENT);
    };
    let grant = server.lease(worker, 1).await.remove(0);
    assert_eq!(server.complete(&grant).await.status(), StatusCode::NO_CONTENT);
    let grant = server.lease(worker, 1).await.remove(0);
    fail(&grant, Cause::OtherBackbone { sha256: BasisHash([9; 32]) }).await;
    let job = server.job(TEST).await;
    assert_eq!((job.summary.state, job.summary.failures), (JobStateName::Queued, 0));
    assert!(server.lease_within(worker, 1, 0).await.is_empty());
    // A checkpoint that is lost is made again.
    let second = server.register("v").await;
    let grant = server.lease(second, 1).await.remove(0);
    fail(&grant, Cause::Checkpoint).await;
    assert_eq!(
        (state(&server, TRAIN).await, state(&server, TEST).await),
        (JobStateName::Queued, JobStateName::Blocked)
    );
    let grants = run_all(&server, second, 2).await;
    assert_eq!((grants[0].job, grants[0].afresh, grants[1].job), (TRAIN, true, TEST));
    assert!(server.job(TRAIN).await.superseded[0].reason.contains("job 2 can't test its checkpoint"));
}

#[tokio::test]
async fn adopted_folders_and_classes_that_are_left_out_are_named_below_the_table() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    let mut report = CompletionReport { evaluation: None, ..completion(&grant) };
    (report.outcome.manifest, report.outcome.adopted) = (None, true);
    assert_eq!(server.post(&on(grant.lease, "complete"), &report).await.status(), StatusCode::NO_CONTENT);
    let grant = server.lease(worker, 1).await.remove(0);
    let mut report = completion(&grant);
    let left_out = LeftOut { class: "dotted".to_owned(), images: 3 };
    report.outcome.manifest.as_mut().unwrap().left_out.push(left_out);
    assert_eq!(server.post(&on(grant.lease, "complete"), &report).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        results(&server).await.notes,
        [
            "adopted: job 1, from folders that another tool completed",
            "dtd: class `dotted` has no training image, and its 3 test images are left out"
        ]
    );
    assert!(server.job(TRAIN).await.summary.adopted && !server.job(TEST).await.summary.adopted);
    let outputs: Page<JobOutput> = server.json("/experiments/1/outputs").await;
    let outputs: Vec<_> = outputs.items.iter().map(|it| (it.job, it.host.as_deref(), it.manifest.is_some())).collect();
    assert_eq!(outputs, [(TRAIN, Some("host"), false), (TEST, Some("host"), true)]);
}
