//! Results on their way: whoever dies meanwhile, each is recorded once, and no job is computed twice.

use promptfield_core::id::JobId;
use promptfield_core::scheduler::{AttemptEnd, JobStateName};

use crate::support::puppet::{self, Puppet};
use crate::support::{Coordinator, Host, Wire, evaluation, host};

#[tokio::test]
async fn a_result_whose_answer_was_lost_is_there_once() {
    let mut coordinator = Coordinator::start().await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let wire = Wire::to(&coordinator).await;
    let mut host = Host::new("a", &coordinator);
    host.options.coordinator = wire.url();
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    wire.lose_answers();
    trainer.complete(&running).await;
    let before = coordinator.until(base, JobStateName::Completed).await;
    assert_eq!(host.undelivered().len(), 1, "nobody has told the worker");
    coordinator.stop().await;
    coordinator.restart().await;
    wire.mend();

    let next = trainer.do_job().await;
    assert_ne!(next.job.output, running.job.output);
    coordinator.until(new, JobStateName::Completed).await;
    assert_eq!(coordinator.job(base).await, before);
    assert_eq!(before.attempts.len(), 1);
    worker.stop().await.unwrap();
    assert_eq!(host.undelivered(), [""; 0]);
}

/// A worker with a result, and nobody there to take it.
struct Undelivered {
    coordinator: Coordinator,
    jobs: [JobId; 2],
    host: Host,
    worker: host::Running,
    trainer: Puppet,
    running: puppet::Running,
}

impl Undelivered {
    async fn result(method: &str) -> Self {
        let mut coordinator = Coordinator::start().await;
        let jobs = coordinator.submit(method).await;
        let host = Host::new("a", &coordinator);
        let (worker, mut trainer) = host.start_with_trainer().await;
        let running = trainer.hear_job().await;
        coordinator.stop().await;
        trainer.complete(&running).await;
        host.until_undelivered().await;
        Self { coordinator, jobs, host, worker, trainer, running }
    }
}

/// The report as it's kept on the worker's disk, while the coordinator is away.
#[tokio::test]
async fn a_completion_says_how_much_memory_the_trainer_took() {
    let Undelivered { mut coordinator, jobs: [train, _], host, worker, trainer: _trainer, running: _ } =
        Undelivered::result("alignednorm").await;
    let memory_mib = host.undelivered_report()["memory_mib"].as_u64();
    assert!(memory_mib.is_some_and(|memory_mib| (1..1_000).contains(&memory_mib)), "{memory_mib:?} MiB of a puppet");
    coordinator.restart().await;
    coordinator.until(train, JobStateName::Completed).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_worker_delivers_what_it_had_when_it_starts_again() {
    let Undelivered { mut coordinator, jobs: [train, test], host, worker, trainer: _trainer, running: training } =
        Undelivered::result("alignednorm").await;
    worker.kill().await;
    coordinator.restart().await;

    let (worker, mut trainer) = host.start_with_trainer().await;
    let testing = trainer.do_job().await;
    assert!(testing.job.checkpoint.is_some(), "the job that comes next is the test");
    coordinator.until(test, JobStateName::Completed).await;
    let detail = coordinator.job(train).await;
    assert_eq!(detail.summary.state, JobStateName::Completed);
    let ends: Vec<_> = detail.attempts.iter().map(|attempt| attempt.end).collect();
    assert_eq!(ends, [Some(AttemptEnd::Completed)]);
    assert_eq!(coordinator.evaluation(train).await, Some(evaluation()));
    assert_eq!(coordinator.checkpoint(&detail).await, training.checkpoint(), "it was handed over first");
    worker.stop().await.unwrap();
    assert_eq!(host.undelivered(), [""; 0]);
}

#[tokio::test]
async fn a_worker_that_was_stopped_without_its_coordinator_delivers_later() {
    let Undelivered { mut coordinator, jobs: [base, new], host, worker, trainer: _trainer, .. } =
        Undelivered::result("zero_shot").await;
    worker.stop().await.unwrap();

    // It waits with what it has, as with everything else.
    let (worker, mut trainer) = host.start_with_trainer().await;
    coordinator.restart().await;
    trainer.do_job().await;
    coordinator.until(new, JobStateName::Completed).await;
    let detail = coordinator.job(base).await;
    assert_eq!((detail.summary.state, detail.attempts.len()), (JobStateName::Completed, 1));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_result_that_comes_too_late_is_dropped_and_its_folder_stays() {
    let Undelivered { mut coordinator, jobs: [base, new], host, worker, trainer: _trainer, running } =
        Undelivered::result("zero_shot").await;
    worker.kill().await;
    coordinator.restart().await;
    // Its job is given to somebody else.
    coordinator.register(&host).await;
    let other = Host::new("b", &coordinator);
    let (other_worker, mut other_trainer) = other.start_with_trainer().await;
    other_trainer.do_job().await;
    other_trainer.do_job().await;
    let before =
        [coordinator.until(base, JobStateName::Completed).await, coordinator.until(new, JobStateName::Completed).await];
    other_worker.stop().await.unwrap();

    let (worker, _trainer) = host.start_with_trainer().await;
    host.until_delivered().await;
    worker.stop().await.unwrap();
    assert_eq!([coordinator.job(base).await, coordinator.job(new).await], before);
    assert!(running.job.output.join("manifest.json").is_file());
}

#[tokio::test]
async fn a_damaged_report_is_set_aside_and_holds_nothing_up() {
    let coordinator = Coordinator::start().await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let host = Host::new("a", &coordinator);
    host.leave_undelivered("1.json", "{\"lease\":1,\"report\":{\"tok");
    host.leave_undelivered("2.partial", "{\"lease\":2");
    let (worker, mut trainer) = host.start_with_trainer().await;
    trainer.do_job().await;
    trainer.do_job().await;
    for job in [base, new] {
        let detail = coordinator.until(job, JobStateName::Completed).await;
        assert_eq!(detail.attempts.len(), 1);
    }
    worker.stop().await.unwrap();
    assert_eq!(host.undelivered(), ["1.json.damaged"]);
}
