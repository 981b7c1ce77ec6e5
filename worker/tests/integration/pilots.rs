//! Workers that were started on demand.

use std::time::Duration;

use promptfield_core::scheduler::pilot_records::PilotState;
use promptfield_core::scheduler::{AttemptEnd, JobStateName, WorkerState};
use promptfield_worker::{Pilot, Rejected, WorkerError};

use crate::support::{Coordinator, Host};

/// A host of a pilot that the coordinator knows.
async fn pilot(coordinator: &Coordinator, lead: Duration) -> Host {
    let mut host = Host::new("pilot", coordinator);
    let key = coordinator.pilot().await.key().to_string();
    let leave_after = Duration::from_mins(10);
    host.options.pilot = Some(Pilot { key, leave_after, lead, time_left: None });
    host
}

#[tokio::test]
async fn a_pilot_near_its_end_finishes_what_it_has_and_takes_no_more() {
    let coordinator = Coordinator::start_with_pilot().await;
    let [base, new] = coordinator.submit("zero_shot").await;
    let host = pilot(&coordinator, Duration::from_mins(5)).await;
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    let id = coordinator.until_registered("pilot").await;
    assert_eq!(coordinator.pilot().await.worker, Some(id));
    worker.ending.cancel();
    coordinator.until_worker(id, WorkerState::Draining).await;
    trainer.complete(&running).await;
    assert_eq!(trainer.hear().await, None, "its stdin is closed");
    drop(trainer);
    worker.end().await.unwrap();
    assert_eq!(coordinator.job(base).await.summary.state, JobStateName::Completed);
    assert!(coordinator.job(new).await.attempts.is_empty());
}

#[tokio::test]
async fn what_a_pilot_has_no_time_to_finish_is_given_back() {
    let coordinator = Coordinator::start_with_pilot().await;
    let [base, _] = coordinator.submit("zero_shot").await;
    // Less than what giving back takes.
    let host = pilot(&coordinator, Duration::from_secs(1)).await;
    let (worker, mut trainer) = host.start_with_trainer().await;
    let running = trainer.hear_job().await;
    worker.ending.cancel();
    trainer.obey_cancel(&running).await;
    assert_eq!(trainer.hear().await, None);
    drop(trainer);
    worker.end().await.unwrap();
    let detail = coordinator.job(base).await;
    assert_eq!((detail.summary.state, detail.summary.failures), (JobStateName::Queued, 0));
    assert_eq!(detail.attempts[0].end, Some(AttemptEnd::Released));
}

#[tokio::test]
async fn a_pilot_whose_time_is_known_is_gone_when_it_is_up() {
    let coordinator = Coordinator::start_with_pilot().await;
    coordinator.submit("zero_shot").await;
    let mut host = pilot(&coordinator, Duration::from_secs(30)).await;
    host.options.pilot.as_mut().unwrap().time_left = Some(Duration::from_secs(25));
    let (worker, trainer) = host.start_with_trainer().await;
    // It's less than the lead: it takes none.
    drop(trainer);
    worker.end().await.unwrap();
    let id = coordinator.until_registered("pilot").await;
    let left = coordinator.worker(id).await.description.time_left_ms.unwrap();
    assert!((1..=25_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_pilot_that_is_told_to_leave_goes() {
    let coordinator = Coordinator::start_with_pilot().await;
    let host = pilot(&coordinator, Duration::from_mins(5)).await;
    let (worker, _trainer) = host.start_with_trainer().await;
    let id = coordinator.until_registered("pilot").await;
    coordinator.drain(id).await;
    worker.end().await.unwrap();
    assert_eq!(coordinator.worker(id).await.state, WorkerState::Gone);
}

#[tokio::test]
async fn a_pilot_that_nobody_wants_ends_before_it_does_anything() {
    let coordinator = Coordinator::start_with_pilot().await;
    let mut host = pilot(&coordinator, Duration::from_mins(5)).await;
    host.options.pilot.as_mut().unwrap().key = format!("{}.0", "0".repeat(32));
    let (worker, _trainer) = host.start_with_trainer().await;
    match worker.end().await {
        Err(WorkerError::Refused { source: Rejected::Stale(reason) }) => {
            assert!(reason.contains("isn't wanted"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pilot_does_not_wait_for_ever_for_a_coordinator() {
    let mut coordinator = Coordinator::start_with_pilot().await;
    let mut host = pilot(&coordinator, Duration::from_mins(5)).await;
    host.options.pilot.as_mut().unwrap().leave_after = Duration::from_secs(1);
    let (worker, _trainer) = host.start_with_trainer().await;
    coordinator.until_registered("pilot").await;
    assert_eq!(coordinator.pilot().await.state, PilotState::Running);
    coordinator.stop().await;
    worker.end().await.unwrap();
    // One that comes when it's gone already doesn't wait either.
    let (worker, _trainer) = host.start_with_trainer().await;
    assert!(matches!(worker.end().await, Err(WorkerError::OutOfReach { seconds: 1 })));
}
