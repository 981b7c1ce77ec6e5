//! Coordinators that go away, and coordinators that forget.

use promptfield_core::scheduler::{AttemptEnd, JobStateName, Policy};

use crate::support::{Coordinator, Host};

#[tokio::test]
async fn a_job_goes_on_without_a_coordinator_and_reports_later() {
    let mut coordinator = Coordinator::start().await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    trainer.log(&running, "before").await;
    trainer.progress(&running, 1).await;
    coordinator.until(base, JobStateName::Running).await;

    coordinator.stop().await;
    trainer.log(&running, "meanwhile").await;
    trainer.progress(&running, 2).await;
    trainer.complete(&running).await;
    coordinator.restart().await;

    trainer.do_job().await;
    coordinator.until(new, JobStateName::Completed).await;
    let detail = coordinator.job(base).await;
    let ends: Vec<_> = detail.attempts.iter().map(|attempt| attempt.end).collect();
    assert_eq!(ends, [Some(AttemptEnd::Completed)]);
    assert_eq!(coordinator.log(base).await, ["before", "meanwhile"]);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_waits_for_its_coordinator() {
    let mut coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    coordinator.stop().await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    coordinator.restart().await;
    trainer.do_job().await;
    coordinator.until(base, JobStateName::Completed).await;
    trainer.do_job().await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_forgotten_worker_registers_anew_and_still_delivers() {
    // The job comes back to the queue when its worker is given up; nobody else gets it in the time of this test.
    let coordinator = Coordinator::start_with(Policy { backoff_ms: 60_000, ..Policy::default() }).await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    coordinator.register(&host).await;
    trainer.progress(&running, 1).await;
    trainer.complete(&running).await;

    trainer.do_job().await;
    let detail = coordinator.until(new, JobStateName::Completed).await;
    assert_eq!(detail.attempts[0].worker.0, 3, "the worker, the other one of its name, the worker again");
    assert_eq!(coordinator.job(base).await.summary.state, JobStateName::Completed);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_that_somebody_else_has_now_is_stopped() {
    let coordinator = Coordinator::start().await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    coordinator.register(&host).await;
    let other = Host::new("b", &coordinator);
    let (other_worker, mut other_trainer) = other.start_with_trainer().await;
    // The other host gets both jobs, in any order.
    other_trainer.do_job().await;
    other_trainer.do_job().await;
    coordinator.until(base, JobStateName::Completed).await;
    coordinator.until(new, JobStateName::Completed).await;

    trainer.progress(&running, 1).await;
    trainer.obey_cancel(&running).await;
    worker.stop().await.unwrap();
    other_worker.stop().await.unwrap();
    let detail = coordinator.job(base).await;
    let ends: Vec<_> = detail.attempts.iter().map(|attempt| attempt.end).collect();
    assert_eq!(ends, [Some(AttemptEnd::Failed), Some(AttemptEnd::Completed)]);
}
