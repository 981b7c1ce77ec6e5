//! A slot: one trainer process, one job at a time.
//!
//! Each slot asks for jobs itself, by a long poll, only while it is free. A trainer that dies while it waits is replaced at
//! once; if several in a row can't even be started, the slot gives up, and the worker with it.

use std::pin::pin;
use std::time::Duration;

use backon::Retryable as _;
use promptfield_client::Patience;
use promptfield_core::id::WorkerId;
use promptfield_core::wire::api::LeaseGrant;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use crate::coordinator::{PATIENCE, Rejected};
use crate::devices::Device;
use crate::job::Job;
use crate::trainer::{Flaw, Trainer, out_of_turn};
use crate::{Agent, WorkerError, start_trainer};

/// How long a request for jobs waits for one.
const POLL: Duration = Duration::from_secs(20);
/// The shortest time between two polls: a coordinator that gives this worker no more jobs answers at once.
const SHORTEST_POLL: Duration = Duration::from_secs(1);
/// So many trainers that don't get as far as `ready`, one after the other, are enough.
const MOST_FAILED_STARTS: usize = 4;

/// Runs jobs on `device` until the worker shuts down or takes no more, beginning with a trainer that was started already.
pub(crate) async fn run(agent: &Agent, slot: usize, device: &Device, first: Trainer) -> Result<(), WorkerError> {
    let mut trainer = first;
    loop {
        let mut leasing = pin!(lease(agent));
        let (worker, grant) = loop {
            tokio::select! {
                biased;
                () = agent.wants_no_more() => {
                    trainer.stop().await;
                    return Ok(());
                }
                flaw = idle(&mut trainer) => {
                    let death = trainer.bury(flaw).await;
                    tracing::warn!(slot, "an idle trainer is lost: {death}");
                    let Some(next) = restart(agent, slot).await? else { return Ok(()) };
                    trainer = next;
                }
                leased = &mut leasing => break leased.map_err(|source| WorkerError::Refused { source })?,
            }
        };
        let span = tracing::info_span!("job", lease = %grant.lease, job = %grant.job, title = grant.title());
        let alive = match Job::new(agent, device, worker, grant).run(trainer).instrument(span).await {
            Some(trainer) => Some(trainer),
            None => restart(agent, slot).await?,
        };
        let Some(next) = alive else { return Ok(()) };
        trainer = next;
    }
}

/// Waits for a job, and for the coordinator.
async fn lease(agent: &Agent) -> Result<(WorkerId, LeaseGrant), Rejected> {
    loop {
        let worker = agent.registration.current().await;
        let asked = Instant::now();
        match agent.coordinator.until_answered(|| agent.coordinator.client.lease(worker, 1, POLL)).await {
            Ok(answer) => {
                if answer.draining && agent.options.pilot.is_some() {
                    agent.drain.cancel();
                }
                if let Some(grant) = answer.leases.into_iter().next() {
                    return Ok((worker, grant));
                }
                sleep_until(asked + SHORTEST_POLL).await;
            }
            Err(Rejected::UnknownWorker(reason)) => agent.renew(worker, &reason).await?,
            Err(other) => return Err(other),
        }
    }
}

/// Listens to a trainer that has nothing to say.
async fn idle(trainer: &mut Trainer) -> Flaw {
    match trainer.reply().await {
        Ok(reply) => out_of_turn(&reply),
        Err(flaw) => flaw,
    }
}

/// Starts another trainer; `None` when the worker shuts down meanwhile.
async fn restart(agent: &Agent, slot: usize) -> Result<Option<Trainer>, WorkerError> {
    let start = || start_trainer(&agent.options, &agent.trainer, &agent.slices, slot, false);
    let starting = start
        .retry(Patience { most: Some(MOST_FAILED_STARTS - 1), ..PATIENCE }.pauses())
        .notify(|death, _| tracing::warn!(slot, "a trainer could not be started: {death}"));
    tokio::select! {
        started = starting => match started {
            Ok((trainer, _)) => Ok(Some(trainer)),
            Err(source) => Err(WorkerError::Trainer { slot, source }),
        },
        () = agent.wants_no_more() => Ok(None),
    }
}
