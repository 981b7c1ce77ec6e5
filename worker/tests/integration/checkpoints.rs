//! Checkpoints between machines that share nothing.

use promptfield_core::job::layout;
use promptfield_core::job::outcome::{Failure, FailureClass};
use promptfield_core::job::spec::BasisHash;
use promptfield_core::method::Methods;
use promptfield_core::scheduler::JobStateName;
use promptfield_core::scheduler::machine_fault::Cause;
use promptfield_core::wire::api::JobDetail;
use promptfield_core::wire::trainer_wire::Reply;

use crate::support::host::BACKBONE;
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
    let (worker, mut trainer) = other.start_with_trainer().await;
    // The training is done again, here, and its earlier result kept with the reason.
    let training = trainer.hear_job().await;
    assert!(training.job.checkpoint.is_none() && training.job.afresh);
    let JobDetail { superseded, .. } = coordinator.job(train).await;
    assert!(superseded[0].reason.contains("`shared_output`"), "{}", superseded[0].reason);
    let failed = coordinator.job(test).await.attempts.remove(0).failure.unwrap();
    assert_eq!(failed.class, FailureClass::Missing);
    trainer.complete(&training).await;
    let testing = trainer.hear_job().await;
    trainer.complete(&testing).await;
    coordinator.until(test, JobStateName::Completed).await;
    worker.stop().await.unwrap();
}

/// One bit of the checkpoint in the training's own folder is another: the copy that the coordinator has is tested.
#[tokio::test]
async fn a_checkpoint_that_was_changed_where_it_lies_is_not_tested() {
    let coordinator = Coordinator::start().await;
    let [_, test] = coordinator.submit("alignednorm").await;
    let host = Host::new("one", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let training = trainer.hear_job().await;
    worker.shutdown.cancel();
    trainer.hear().await;
    trainer.complete(&training).await;
    worker.end().await.unwrap();
    let name = layout::checkpoint(training.job.method, Methods::built_in()).unwrap();
    let mut changed = training.checkpoint();
    changed[0] ^= 1;
    fs_err::write(training.job.output.join(name), changed).unwrap();

    let (worker, mut trainer) = host.start_with_trainer().await;
    let testing = trainer.hear_job().await;
    let checkpoint = testing.job.checkpoint.clone().unwrap();
    assert!(!checkpoint.starts_with(&training.job.output), "{}", checkpoint.display());
    assert_eq!(fs_err::read(checkpoint).unwrap(), training.checkpoint());
    trainer.complete(&testing).await;
    coordinator.until(test, JobStateName::Completed).await;
    worker.stop().await.unwrap();
}

/// A trainer that finds other weights than the lease asks for says which; the job then goes to others.
#[tokio::test]
async fn other_weights_send_a_job_to_others() {
    let coordinator = Coordinator::start().await;
    let [train, _] = coordinator.submit("alignednorm").await;
    let host = Host::new("one", &coordinator);
    coordinator.pin(BasisHash([1; 32])).await;
    let (worker, mut trainer) = host.start_with_trainer().await;
    let training = trainer.hear_job().await;
    assert_eq!(training.job.backbone_sha256, Some(BasisHash([1; 32])));
    let failure = Failure { class: FailureClass::Missing, reason: "other weights".to_owned() };
    let cause = Some(Cause::OtherBackbone { sha256: BasisHash([7; 32]) });
    trainer.say(&Reply::Failed { id: training.id, failure, cause }).await;
    // It isn't counted as failed, and this worker doesn't get it again.
    let job = coordinator.until(train, JobStateName::Queued).await;
    assert_eq!(job.summary.failures, 0);
    worker.stop().await.unwrap();
    let other = Host::new("other", &coordinator);
    let (worker, mut trainer) = other.start_with_trainer().await;
    let training = trainer.hear_job().await;
    trainer.complete(&training).await;
    coordinator.until(train, JobStateName::Completed).await;
    worker.stop().await.unwrap();
}

/// What a trainer says of the machine's weights is what the worker registers; what can't be used isn't offered.
#[tokio::test]
async fn a_worker_registers_with_the_identities_of_its_weights_and_methods() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::new("one", &coordinator);
    let other = host.options.machine.backbones[BACKBONE].clone();
    host.options.machine.backbones.insert("broken".to_owned(), other);
    let worker = host.start();
    let mut trainer = host.trainer().await;
    let (devices, unusable) = (vec!["cpu".to_owned()], [("broken".to_owned(), "it is cut off".to_owned())].into());
    let backbone_sha256 = [(BACKBONE.to_owned(), BasisHash([7; 32]))].into();
    let version = promptfield_core::VERSION.to_owned();
    let methods = [("coop".parse().unwrap(), BasisHash([5; 32]))].into();
    trainer.say(&Reply::Ready { version, devices, methods, backbone_sha256, unusable }).await;
    let registered = coordinator.until_registered("one").await;
    let registered = coordinator.worker(registered).await;
    assert_eq!(registered.description.backbones, [BACKBONE]);
    assert_eq!(registered.description.backbone_sha256[BACKBONE], BasisHash([7; 32]));
    assert_eq!(registered.description.methods, [("coop".parse().unwrap(), BasisHash([5; 32]))].into());
    worker.stop().await.unwrap();
}
