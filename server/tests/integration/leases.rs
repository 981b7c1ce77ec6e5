//! Workers and their leases.

use promptfield_core::id::{FencingToken, JobId};
use promptfield_core::scheduler::{JobStateName, Policy, WorkerState};
use promptfield_core::wire::api::{
    LeaseGrant, LeaseReport, Page, ProgressReport, ReleaseReport, Report, ReportAnswer, ReportAnswers, Reports,
    WorkerSummary,
};
use reqwest::StatusCode;

use crate::support::{TestServer, at_step, completion, experiment, on, problem, read};

#[tokio::test]
async fn a_poll_ends_when_there_is_something_to_do() {
    let server = TestServer::start().await;
    let worker = server.register("w").await;
    let (leases, _) = tokio::join!(server.lease(worker, 5), async { server.submit(&experiment(&[1])).await });
    assert_eq!(leases.len(), 1);
    let (leases, _) = tokio::join!(server.lease(worker, 5), async { server.complete(&leases[0]).await });
    assert_eq!(leases[0].job, JobId(2));
}

#[tokio::test]
async fn a_poll_ends_when_its_time_is_up() {
    let server = TestServer::start().await;
    let worker = server.register("w").await;
    assert_eq!(server.lease_within(worker, 1, 0).await.len(), 0);
    assert_eq!(server.lease_within(worker, 1, 5).await.len(), 0);
}

#[tokio::test]
async fn a_late_worker_bounces_and_is_told_why() {
    let server = TestServer::with_policy(Policy { lease_ms: 1000, backoff_ms: 1, ..Policy::default() }).await;
    server.submit(&experiment(&[1])).await;
    let (slow, quick) = (server.register("slow").await, server.register("quick").await);
    let late = server.lease(slow, 1).await.remove(0);
    let again = server.lease(quick, 1).await.remove(0);
    assert_eq!(again.job, late.job);
    assert!(again.token > late.token);
    for response in
        [server.complete(&late).await, server.progress(&late, &at_step(&late, 1)).await, server.release(&late).await]
    {
        assert_eq!(response.status(), StatusCode::CONFLICT);
        let problem = problem(response).await;
        assert_eq!(problem.kind, "/problems/stale-lease");
        assert_eq!(
            problem.detail,
            format!("lease {} is no longer valid: job 1 was leased again, as {}", late.lease, again.lease)
        );
    }
    let forged = FencingToken(again.token.0 + 1);
    let response = server
        .post(
            &on(again.lease, "complete"),
            &promptfield_core::wire::api::CompletionReport { token: forged, ..completion(&again) },
        )
        .await;
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert_eq!(server.complete(&again).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_released_job_goes_to_the_next() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let (first, second) = (server.register("first").await, server.register("second").await);
    let grant = server.lease(first, 1).await.remove(0);
    assert_eq!(server.release(&grant).await.status(), StatusCode::NO_CONTENT);
    let taken = server.lease(second, 1).await.remove(0);
    assert_eq!(server.post(&format!("/workers/{second}/leave"), &()).await.status(), StatusCode::NO_CONTENT);
    let back = server.lease(first, 1).await.remove(0);
    assert_eq!((taken.job, back.job), (grant.job, grant.job));
    assert_eq!(server.job(grant.job).await.summary.failures, 0);
    let workers: Page<WorkerSummary> = server.json("/workers").await;
    assert_eq!(workers.items[1].state, WorkerState::Gone);
    assert_eq!(workers.items[0].jobs, [grant.job]);
}

#[tokio::test]
async fn the_list_of_workers_says_what_their_jobs_are_and_how_far_they_have_come() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1, 2])).await;
    let (busy, idle) = (server.register("busy").await, server.register("idle").await);
    let grants = server.lease(busy, 2).await;
    assert_eq!(server.progress(&grants[1], &at_step(&grants[1], 7)).await.status(), StatusCode::OK);
    let workers: Page<WorkerSummary> = server.json("/workers").await;
    let held = |worker| {
        let entry = workers.items.iter().find(|entry| entry.id == worker).unwrap();
        entry.held.iter().map(|job| (job.id, job.title.clone(), job.progress.step)).collect::<Vec<_>>()
    };
    let expected: Vec<_> =
        grants.iter().zip([0, 7]).map(|(grant, step)| (grant.job, grant.spec.title(), step)).collect();
    assert_eq!(held(busy), expected);
    assert_eq!(held(idle), []);
}

#[tokio::test]
async fn what_a_worker_had_of_a_job_goes_with_it() {
    let mut server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    assert_eq!(grant.unfinished, None);
    let release = |grant: &LeaseGrant, unfinished: &str| {
        let report = ReleaseReport { token: grant.token, unfinished: Some(unfinished.to_owned()) };
        (on(grant.lease, "release"), report)
    };
    for wrong in ["", &"A".repeat(64), &"a".repeat(63), "../../etc/passwd"] {
        let (path, report) = release(&grant, wrong);
        let response = server.post(&path, &report).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(problem(response).await.errors[0].field, "unfinished");
    }
    let kept = "0a".repeat(32);
    let (path, report) = release(&grant, &kept);
    assert_eq!(server.post(&path, &report).await.status(), StatusCode::NO_CONTENT);
    server.restart().await;
    let worker = server.register("w").await;
    let again = server.lease(worker, 1).await.remove(0);
    assert_eq!((again.job, again.unfinished), (grant.job, Some(kept)));
}

#[tokio::test]
async fn a_draining_worker_gets_nothing_new() {
    let server = TestServer::start().await;
    let worker = server.register("w").await;
    assert_eq!(server.post(&format!("/workers/{worker}/drain"), &()).await.status(), StatusCode::NO_CONTENT);
    server.submit(&experiment(&[1])).await;
    assert_eq!(server.lease_within(worker, 1, 0).await.len(), 0);
}

#[tokio::test]
async fn a_worker_that_is_not_registered_is_told_to_do_so() {
    let server = TestServer::start().await;
    let first = server.register("w").await;
    let second = server.register("w").await;
    for path in [format!("/workers/{first}/lease"), "/workers/77/lease".to_owned()] {
        let response = server.post(&path, &promptfield_core::wire::api::LeaseRequest { slots: 1, wait_ms: 0 }).await;
        assert_eq!(response.status(), StatusCode::GONE);
        let problem = problem(response).await;
        assert_eq!(problem.kind, "/problems/unknown-worker");
        assert!(problem.detail.ends_with("register anew"), "{}", problem.detail);
    }
    assert_eq!(server.lease_within(second, 1, 0).await.len(), 0);
}

#[tokio::test]
async fn reports_on_several_leases_are_answered_each_for_itself() {
    use ReportAnswer::{Done, Refused, Renewed};
    let server = TestServer::start().await;
    server.submit(&experiment(&[1, 2, 3, 4])).await;
    let worker = server.register("w").await;
    let leases = server.lease(worker, 4).await;
    let [done, forged, alive, released] = leases.as_slice() else { panic!("{leases:?}") };
    let says = |grant: &LeaseGrant, report| LeaseReport { lease: grant.lease, report };
    let complete = |grant: &LeaseGrant| says(grant, Report::Complete(Box::new(completion(grant))));
    let mut lie = completion(forged);
    lie.token = FencingToken(forged.token.0 + 1);
    let mut nonsense = completion(alive);
    nonsense.outcome.result.as_mut().unwrap().correct = 1 << 40;
    let beat = ProgressReport { token: alive.token, progress: None, metrics: Vec::new(), log: None };
    let reports = vec![
        complete(done),
        says(forged, Report::Complete(Box::new(lie))),
        says(alive, Report::Complete(Box::new(nonsense))),
        says(alive, Report::Progress(beat)),
        says(released, Report::Release(ReleaseReport { token: released.token, unfinished: None })),
        complete(done),
    ];
    let response = server.post("/leases/reports", &Reports { reports }).await;
    let ReportAnswers { answers } = read(response).await;
    let [Done, Refused(stale), Refused(invalid), Renewed(_), Done, Done] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!((stale.status, stale.kind.as_str()), (409, "/problems/stale-lease"));
    assert_eq!((invalid.status, invalid.errors[0].field.as_str()), (422, "outcome.result.correct"));
    for (grant, state) in [
        (done, JobStateName::Completed),
        (forged, JobStateName::Leased),
        (alive, JobStateName::Leased),
        (released, JobStateName::Queued),
    ] {
        assert_eq!(server.job(grant.job).await.summary.state, state);
    }
}
