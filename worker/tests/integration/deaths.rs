//! Trainers that die, and trainers that talk nonsense.

use std::time::Duration;

use promptfield_core::id::JobId;
use promptfield_core::job::outcome::{Failure, FailureClass};
use promptfield_core::scheduler::{AttemptEnd, JobStateName};
use promptfield_core::wire::trainer_wire::Reply;
use promptfield_worker::WorkerError;

use crate::support::{Coordinator, Host};

/// The failure of a job's only failed attempt, which a completed one followed.
async fn failure_before_the_result(coordinator: &Coordinator, job: JobId) -> Failure {
    let detail = coordinator.until(job, JobStateName::Completed).await;
    let ends: Vec<_> = detail.attempts.iter().map(|attempt| attempt.end).collect();
    assert_eq!(ends, [Some(AttemptEnd::Failed), Some(AttemptEnd::Completed)]);
    detail.attempts[0].failure.clone().unwrap()
}

#[tokio::test]
async fn a_killed_trainer_costs_one_attempt() {
    let coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    trainer.complain("something is about to happen").await;
    // Said after the complaint: once it has arrived, so has the complaint.
    trainer.progress(&running, 1).await;
    coordinator.until(base, JobStateName::Running).await;
    trainer.kill();

    let mut next = host.ready_trainer().await;
    next.do_job().await;
    next.do_job().await;
    let failure = failure_before_the_result(&coordinator, base).await;
    assert_eq!(failure.class, FailureClass::TrainerDied);
    assert!(failure.reason.contains("signal: 9"), "{}", failure.reason);
    assert!(failure.reason.contains("something is about to happen"), "{}", failure.reason);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_trainer_that_says_nothing_is_replaced() {
    let coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    let mut host = Host::new("a", &coordinator);
    host.options.silence = Some(Duration::from_millis(200));
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    // It works on, and then it's stuck; its process lives.
    trainer.say(&Reply::Working { id: running.id }).await;

    let mut next = host.ready_trainer().await;
    next.do_job().await;
    next.do_job().await;
    let failure = failure_before_the_result(&coordinator, base).await;
    assert_eq!(failure.class, FailureClass::TrainerDied);
    assert!(failure.reason.contains("said nothing for 0 seconds and was stopped"), "{}", failure.reason);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_trainer_that_writes_garbage_is_replaced() {
    let coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    trainer.hear_job().await;
    trainer.say_line("Segmentation fault").await;

    let mut next = host.ready_trainer().await;
    next.do_job().await;
    next.do_job().await;
    let failure = failure_before_the_result(&coordinator, base).await;
    assert_eq!(failure.class, FailureClass::TrainerDied);
    assert!(failure.reason.contains("`Segmentation fault`"), "{}", failure.reason);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_reply_for_another_job_is_not_taken_for_this_one() {
    let coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    let outcome = Box::new(running.finish());
    trainer.say(&Reply::Completed { id: running.id + 1, outcome }).await;

    let mut next = host.ready_trainer().await;
    next.do_job().await;
    next.do_job().await;
    let failure = failure_before_the_result(&coordinator, base).await;
    assert!(failure.reason.contains("out of turn"), "{}", failure.reason);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn an_idle_trainer_that_dies_costs_no_attempt() {
    let coordinator = Coordinator::start().await;
    let host = Host::new("a", &coordinator);
    let (worker, trainer) = host.start_with_trainer().await;
    coordinator.until_registered("a").await;
    trainer.kill();
    let mut next = host.ready_trainer().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    next.do_job().await;
    let detail = coordinator.until(base, JobStateName::Completed).await;
    assert_eq!(detail.attempts.len(), 1);
    next.do_job().await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_trainer_that_cannot_start_is_reported_in_its_own_words() {
    let coordinator = Coordinator::start().await;
    let host = Host::new("a", &coordinator);
    let worker = host.start();
    let mut trainer = host.trainer().await;
    trainer.complain("error while loading shared libraries: libtorch.so").await;
    trainer.exit(127).await;
    let Err(WorkerError::Trainer { slot: 0, source }) = worker.end().await else { panic!("it should have failed") };
    let reason = source.to_string();
    assert!(reason.contains("127") && reason.contains("libtorch.so"), "{reason}");
}

#[tokio::test]
async fn a_trainer_of_another_version_is_refused() {
    let coordinator = Coordinator::start().await;
    let host = Host::new("a", &coordinator);
    let worker = host.start();
    let mut trainer = host.trainer().await;
    let ready = serde_json::json!({"type": "ready", "version": "0.0.1", "devices": ["cpu"]});
    trainer.say_line(&ready.to_string()).await;
    let Err(WorkerError::Trainer { source, .. }) = worker.end().await else { panic!("it should have failed") };
    assert!(source.to_string().contains("version 0.0.1"), "{source}");
}

#[tokio::test]
async fn a_slot_whose_trainers_keep_dying_at_once_stops_the_worker() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::new("a", &coordinator);
    host.options.slots = 2;
    let worker = host.start();
    let [mut first, mut second] = [host.trainer().await, host.trainer().await];
    first.ready(&["cpu"]).await;
    second.ready(&["cpu"]).await;
    coordinator.until_registered("a").await;
    first.kill();
    for _ in 0..4 {
        host.trainer().await.exit(3).await;
    }
    assert_eq!(second.hear().await, None, "the other slot ends too");
    let Err(WorkerError::Trainer { source, .. }) = worker.end().await else { panic!("it should have failed") };
    assert!(source.to_string().contains("exit status: 3"), "{source}");
}
