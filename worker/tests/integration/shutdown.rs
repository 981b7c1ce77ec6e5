//! Shutting down in good order, in bounded time.

use std::time::{Duration, Instant};

use promptfield_core::scheduler::{AttemptEnd, JobStateName};
use promptfield_core::wire::trainer_wire::Request;

use crate::support::{Coordinator, Host};

const BOUND: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_running_job_is_stopped_and_given_back() {
    let coordinator = Coordinator::start().await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    worker.shutdown.cancel();
    trainer.obey_cancel(&running).await;
    assert_eq!(trainer.hear().await, None, "its stdin is closed");
    drop(trainer);
    worker.end().await.unwrap();

    let detail = coordinator.job(base).await;
    assert_eq!((detail.summary.state, detail.summary.failures), (JobStateName::Queued, 0));
    assert_eq!(detail.attempts[0].end, Some(AttemptEnd::Released));
    assert!(coordinator.job(new).await.attempts.is_empty());
}

#[tokio::test]
async fn a_job_that_is_just_done_is_delivered() {
    let coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    worker.shutdown.cancel();
    assert_eq!(trainer.hear().await, Some(Request::Cancel { id: running.id }));
    trainer.complete(&running).await;
    worker.end().await.unwrap();
    assert_eq!(coordinator.job(base).await.summary.state, JobStateName::Completed);
}

#[tokio::test]
async fn a_trainer_that_dies_meanwhile_costs_no_attempt() {
    let coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    worker.shutdown.cancel();
    assert_eq!(trainer.hear().await, Some(Request::Cancel { id: running.id }));
    trainer.kill();
    worker.end().await.unwrap();
    let detail = coordinator.job(base).await;
    assert_eq!((detail.summary.failures, detail.attempts[0].end), (0, Some(AttemptEnd::Released)));
}

#[tokio::test]
async fn a_cancelled_job_that_does_not_stop_does_not_hold_it_up() {
    let coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    coordinator.cancel(base).await;
    trainer.progress(&running, 1).await;
    assert_eq!(trainer.hear().await, Some(Request::Cancel { id: running.id }));
    let began = Instant::now();
    worker.stop().await.unwrap();
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
}

#[tokio::test]
async fn neither_a_stuck_trainer_nor_a_dead_coordinator_holds_it_up() {
    let mut coordinator = Coordinator::start().await;
    coordinator.submit("zero_shot").await;
    let mut host = Host::new("a", &coordinator);
    host.options.slots = 2;
    let worker = host.start();
    let [mut stuck, mut done] = [host.trainer().await, host.trainer().await];
    for trainer in [&mut stuck, &mut done] {
        trainer.ready(&["cpu"]).await;
    }
    stuck.hear_job().await;
    let running = done.hear_job().await;
    coordinator.stop().await;
    done.complete(&running).await;
    let began = Instant::now();
    worker.stop().await.unwrap();
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    drop((stuck, done));
}

#[tokio::test]
async fn a_worker_that_never_found_its_coordinator_ends_at_once() {
    let mut coordinator = Coordinator::start().await;
    coordinator.stop().await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    worker.shutdown.cancel();
    assert_eq!(trainer.hear().await, None);
    drop(trainer);
    worker.end().await.unwrap();
}
