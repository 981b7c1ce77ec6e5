//! Checkpoints between machines that share nothing.

use promptfield_core::outcome::FailureClass;
use promptfield_core::scheduler::JobStateName;

use crate::support::{Coordinator, Host};

#[tokio::test]
async fn a_checkpoint_travels_to_a_machine_with_another_output_root() {
    let coordinator = Coordinator::start().await;
    let [train, test] = coordinator.submit("alignednorm").await;
    let one = Host::new("one", &coordinator);
    let (worker, mut trainer) = one.start_with_trainer().await;
    let training = trainer.hear_job().await;
    worker.shutdown.cancel();
    trainer.hear().await;
    trainer.complete(&training).await;
    worker.end().await.unwrap();
    coordinator.until(train, JobStateName::Completed).await;

    let other = Host::new("other", &coordinator);
    let (worker, mut trainer) = other.start_with_trainer().await;
    let testing = trainer.hear_job().await;
    let checkpoint = testing.job.checkpoint.clone().unwrap();
    assert!(checkpoint.starts_with(other.path()), "{}", checkpoint.display());
    assert_eq!(fs_err::read(checkpoint).unwrap(), training.checkpoint());
    trainer.complete(&testing).await;
    coordinator.until(test, JobStateName::Completed).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_damaged_copy_is_fetched_again() {
    let coordinator = Coordinator::start().await;
    let [_, test] = coordinator.submit("alignednorm").await;
    let one = Host::new("one", &coordinator);
    let (worker, mut trainer) = one.start_with_trainer().await;
    let training = trainer.do_job().await;
    trainer.hear_job().await;
    worker.shutdown.cancel();
    drop(trainer);
    worker.end().await.unwrap();

    let other = Host::new("other", &coordinator);
    let (worker, mut trainer) = other.start_with_trainer().await;
    let testing = trainer.hear_job().await;
    fs_err::write(testing.job.checkpoint.unwrap(), "damage").unwrap();
    drop(trainer);
    let mut trainer = other.ready_trainer().await;
    let testing = trainer.hear_job().await;
    assert_eq!(fs_err::read(testing.job.checkpoint.as_ref().unwrap()).unwrap(), training.checkpoint());
    trainer.complete(&testing).await;
    coordinator.until(test, JobStateName::Completed).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn output_roots_that_are_only_said_to_be_shared_are_found_out() {
    let coordinator = Coordinator::start().await;
    let [train, test] = coordinator.submit("alignednorm").await;
    let mut one = Host::new("one", &coordinator);
    one.options.machine.shared_output = Some(true);
    let (worker, mut trainer) = one.start_with_trainer().await;
    let training = trainer.hear_job().await;
    worker.shutdown.cancel();
    trainer.hear().await;
    trainer.complete(&training).await;
    worker.end().await.unwrap();
    coordinator.until(train, JobStateName::Completed).await;

    let mut other = Host::new("other", &coordinator);
    other.options.machine.shared_output = Some(true);
    let (worker, _trainer) = other.start_with_trainer().await;
    let failure = coordinator.until(test, JobStateName::Failed).await.summary.failure.unwrap();
    assert_eq!(failure.class, FailureClass::Missing);
    assert!(failure.reason.contains("`shared_output`"), "{}", failure.reason);
    worker.stop().await.unwrap();
}
