//! Jobs from lease to result.

use promptfield_core::job::outcome::FailureClass;
use promptfield_core::job::spec::SpecHash;
use promptfield_core::scheduler::{AttemptEnd, JobStateName};
use promptfield_core::wire::trainer_wire::Reply;

use crate::support::{Coordinator, Host};

#[tokio::test]
async fn jobs_run_to_their_results() {
    let coordinator = Coordinator::start().await;
    let [train, test] = coordinator.submit("alignednorm").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;

    let training = trainer.hear_job().await;
    assert_eq!(training.job.device, "cpu");
    assert_eq!(training.job.data_root, host.options.machine.data_root);
    assert_eq!(training.job.checkpoint, None);
    let output = host.output("base2new/train_base/caltech101/shots_16/ALIGNEDNORM/vit_b16/seed1");
    assert_eq!(training.job.output, output);
    for step in 0..200 {
        trainer.metrics(&training, step).await;
    }
    trainer.log(&training, "epoch [1/1]").await;
    trainer.progress(&training, 3).await;
    let running = coordinator.until(train, JobStateName::Running).await;
    assert_eq!(running.summary.progress.map(|progress| progress.step), Some(3));
    trainer.log(&training, "=> result").await;
    trainer.complete(&training).await;

    let devices = coordinator.devices(coordinator.until_registered("a").await).await;
    let [device] = devices.as_slice() else { panic!("{devices:?}") };
    assert_eq!(device.device, "cpu");
    assert!(device.memory_mib.iter().flatten().any(|memory| *memory > 0), "{device:?}");

    let testing = trainer.do_job().await;
    assert_eq!(testing.job.checkpoint, Some(output), "the training folder, where it lies");
    coordinator.until(test, JobStateName::Completed).await;
    worker.stop().await.unwrap();

    for job in [train, test] {
        let detail = coordinator.job(job).await;
        assert_eq!(detail.summary.result.map(|result| result.correct), Some(75));
        assert_eq!(
            detail.attempts.iter().map(|attempt| attempt.end).collect::<Vec<_>>(),
            [Some(AttemptEnd::Completed)]
        );
    }
    assert_eq!(coordinator.log(train).await, ["epoch [1/1]", "=> result"]);
    let steps = coordinator.steps(train).await;
    assert!((1..=100).contains(&steps.len()) && steps.is_sorted(), "{steps:?}");
}

#[tokio::test]
async fn a_worker_that_states_no_memory_has_its_machine_s() {
    let coordinator = Coordinator::start().await;
    for (name, stated) in [("a", Some(12_345)), ("b", None)] {
        let mut host = Host::new(name, &coordinator);
        host.options.memory_mib = stated;
        let (worker, _trainer) = host.start_with_trainer().await;
        let id = coordinator.until_registered(name).await;
        let found = coordinator.worker(id).await.description.memory_mib;
        assert!(found.is_some_and(|found| found > 0 && stated.is_none_or(|stated| stated == found)), "{found:?}");
        worker.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_failure_is_reported_with_its_reason_and_the_next_job_runs() {
    let coordinator = Coordinator::start().await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    trainer.fail(&running, FailureClass::BadData, "`a.jpg` is truncated").await;
    trainer.do_job().await;
    coordinator.until(new, JobStateName::Completed).await;
    worker.stop().await.unwrap();
    let failure = coordinator.job(base).await.summary.failure.unwrap();
    assert_eq!((failure.class, failure.reason.as_str()), (FailureClass::BadData, "`a.jpg` is truncated"));
}

#[tokio::test]
async fn a_result_of_another_specification_is_a_bug() {
    let coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    let mut outcome = running.finish();
    outcome.manifest.as_mut().unwrap().spec_hash = SpecHash([7; 32]);
    trainer.say(&Reply::Completed { id: running.id, outcome: Box::new(outcome) }).await;
    let failure = coordinator.until(base, JobStateName::Failed).await.summary.failure.unwrap();
    assert_eq!(failure.class, FailureClass::Bug);
    assert!(failure.reason.contains(&"07".repeat(32)), "{}", failure.reason);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_result_that_the_coordinator_refuses_fails_the_job() {
    let coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    let mut outcome = running.finish();
    outcome.result.as_mut().unwrap().total = 0;
    trainer.say(&Reply::Completed { id: running.id, outcome: Box::new(outcome) }).await;
    let failure = coordinator.until(base, JobStateName::Failed).await.summary.failure.unwrap();
    assert_eq!(failure.class, FailureClass::Bug);
    assert!(failure.reason.contains("total"), "{}", failure.reason);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_report_that_the_coordinator_refuses_costs_the_report_only() {
    let coordinator = Coordinator::start().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    trainer.metrics(&running, u64::MAX).await;
    trainer.complete(&running).await;
    trainer.do_job().await;
    let detail = coordinator.until(base, JobStateName::Completed).await;
    assert_eq!(detail.attempts.len(), 1);
    assert!(coordinator.steps(base).await.is_empty());
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_machine_lacks_is_named_by_its_setting() {
    let coordinator = Coordinator::start().await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    fs_err::remove_dir(&host.options.machine.data_root).unwrap();
    let (worker, _trainer) = host.start_with_trainer().await;
    for job in [base, new] {
        let failure = coordinator.until(job, JobStateName::Failed).await.summary.failure.unwrap();
        assert_eq!(failure.class, FailureClass::Missing);
        assert!(failure.reason.contains("`data_root`"), "{}", failure.reason);
    }
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_cancelled_job_is_stopped() {
    let coordinator = Coordinator::start().await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    coordinator.cancel(base).await;
    // The answer to the next report says so.
    trainer.progress(&running, 1).await;
    trainer.obey_cancel(&running).await;
    trainer.do_job().await;
    coordinator.until(new, JobStateName::Completed).await;
    worker.stop().await.unwrap();
    assert_eq!(coordinator.job(base).await.summary.state, JobStateName::Cancelled);
}

#[tokio::test]
async fn slots_are_spread_over_the_devices() {
    let coordinator = Coordinator::start().await;
    let mut host = Host::new("a", &coordinator);
    host.options.slots = 2;
    let worker = host.start();
    let mut trainers = [host.trainer().await, host.trainer().await];
    for trainer in &mut trainers {
        trainer.ready(&["cpu", "cuda:0", "cuda:1"]).await;
    }
    coordinator.submit("zero_shot").await;
    let mut devices = [trainers[0].hear_job().await.job.device, trainers[1].hear_job().await.job.device];
    devices.sort();
    assert_eq!(devices, ["cuda:0", "cuda:1"]);
    drop(trainers);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn each_slice_of_a_gpu_has_a_trainer_of_its_own() {
    let coordinator = Coordinator::start().await;
    coordinator.submit("zero_shot").await;
    let mut host = Host::new("a", &coordinator);
    host.options.slots = 2;
    host.options.visible_gpus = Some("MIG-aa,MIG-bb".into());
    let worker = host.start();
    let mut trainers = [host.trainer().await, host.trainer().await];
    trainers.sort_by_key(|trainer| trainer.gpus.clone());
    assert_eq!(trainers.each_ref().map(|trainer| trainer.gpus.as_str()), ["MIG-aa", "MIG-bb"]);
    for trainer in &mut trainers {
        trainer.ready(&["cpu", "cuda:0"]).await;
    }
    let [first, second] = &mut trainers;
    let (device, gpus) = tokio::select! {
        running = first.hear_job() => (running.job.device, "MIG-aa"),
        running = second.hear_job() => (running.job.device, "MIG-bb"),
    };
    assert_eq!(device, "cuda:0", "to the trainer of {gpus}");
    let id = coordinator.until_registered("a").await;
    assert_eq!(coordinator.worker(id).await.description.devices, ["MIG-aa", "MIG-bb"]);
    drop(trainers);
    worker.stop().await.unwrap();
}
