//! One job's life on this worker: find its places, have it computed, keep its lease alive, deliver its end.
//!
//! Two futures run side by side: [`Job::work`] talks to the trainer, [`Job::keep_lease`] to the coordinator, with the
//! [`Outbox`] between them. A lease that turns out to be someone else's ends the work by [`Job::revoked`]; the worker's
//! shutdown does the same. A result is kept on disk ([`crate::spool`]) before anything else is done with it. When the work has
//! ended, what is left in the outbox is sent, and then the end: a job's log must be there before its result, since the lease
//! ends with it.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use promptfield_core::chain::chain;
use promptfield_core::id::WorkerId;
use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::job::outcome::{Failure, FailureClass, Manifest};
use promptfield_core::wire::api::{CompletionReport, FailureReport, LeaseGrant, ReleaseReport};
use promptfield_core::wire::trainer_job::TrainerJob;
use promptfield_core::wire::trainer_wire::{Reply, Request};
use tokio::sync::SetOnce;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::coordinator::Rejected;
use crate::devices::Device;
use crate::memory::Meter;
use crate::places::PlaceError;
use crate::report::{Outbox, SHORTEST_INTERVAL};
use crate::silence::shape_of;
use crate::trainer::{Flaw, Trainer, out_of_turn};
use crate::unfinished::Start;
use crate::{Agent, Options, evaluation, places, unfinished};

/// How long a trainer may take to stop a job that somebody else has now. A step on a slow CPU can be long.
const CANCEL_LIMIT: Duration = Duration::from_secs(30);
/// The same when the worker shuts down. Nothing but time is lost with a trainer that is killed.
const SHUTDOWN_CANCEL_LIMIT: Duration = Duration::from_secs(3);

/// How long what another machine has done of a job is waited for.
const TAKE_OVER_LIMIT: Duration = Duration::from_mins(5);

/// A lease in a slot's hands.
pub(crate) struct Job<'a> {
    agent: &'a Agent,
    device: &'a Device,
    /// The registration under which the lease was granted.
    worker: WorkerId,
    grant: LeaseGrant,
    outbox: Outbox,
    /// When the trainer last said something, once it has the job.
    heard: Mutex<Option<Instant>>,
    /// Measures, once a trainer has the job.
    meter: OnceLock<Meter<'a>>,
    /// How many epochs of the job the coordinator has, once that is known.
    kept_epochs: OnceLock<u32>,
    /// Set when the lease is no longer ours, with the coordinator's reason.
    revoked: SetOnce<String>,
}

/// How the work ended.
enum End {
    Completed(Box<CompletionReport>),
    Failed(FailureReport),
    /// It was broken off, by the shutdown or because the lease was revoked.
    Stopped,
}

/// What the coordinator thinks of the lease.
enum Standing {
    /// It's alive, for so many milliseconds.
    Ours { ttl_ms: i64 },
    /// The registration under which it was granted is gone, with the coordinator's reason.
    Orphaned(String),
    /// It's over, with the coordinator's reason.
    Revoked(String),
}

impl<'a> Job<'a> {
    pub(crate) fn new(agent: &'a Agent, device: &'a Device, worker: WorkerId, grant: LeaseGrant) -> Self {
        let (outbox, meter, revoked) = (Outbox::default(), OnceLock::new(), SetOnce::new());
        let kept_epochs = OnceLock::new();
        if grant.unfinished.is_none() {
            kept_epochs.get_or_init(|| 0);
        }
        let heard = Mutex::new(None);
        Self { agent, device, worker, grant, outbox, heard, meter, kept_epochs, revoked }
    }

    /// Does the job. Gives the trainer back if it's alive.
    pub(crate) async fn run(self, trainer: Trainer) -> Option<Trainer> {
        let (lease, title) = (self.grant.lease, self.grant.title());
        tracing::info!(%lease, device = self.device.name, "lease {lease}: {title}");
        let (end, trainer) = tokio::select! {
            ended = async {
                let (end, trainer) = self.work(trainer).await;
                (self.hand_over(end).await, trainer)
            } => ended,
            never = self.keep_lease() => match never {},
        };
        let mut unfinished = None;
        if self.revoked.get().is_none() {
            let rest = self.agent.unless_shut_down(self.send_rest());
            (_, unfinished) = tokio::join!(rest, self.hand_over_unfinished(&end));
        }
        self.deliver(end, unfinished).await;
        trainer
    }

    async fn work(&self, mut trainer: Trainer) -> (End, Option<Trainer>) {
        let _busy = self.agent.busy();
        let machine = &self.agent.options.machine;
        let job = tokio::select! {
            job = places::trainer_job(&self.agent.coordinator, machine, &self.device.inside, &self.grant) => job,
            () = self.stop_wanted() => return (End::Stopped, Some(trainer)),
        };
        let job = match job {
            Ok(job) => job,
            Err(error) => return (self.not_placed(&error), Some(trainer)),
        };
        tokio::select! {
            () = self.take_over() => {}
            () = self.stop_wanted() => return (End::Stopped, Some(trainer)),
        }
        match self.compute(&mut trainer, job).await {
            Ok(end) => (end, Some(trainer)),
            Err(flaw) => {
                let stuck = matches!(flaw, Flaw::Stuck(_));
                let death = trainer.bury(flaw).await;
                // Whoever shuts down a machine often tells all its processes at once: the job isn't to blame.
                if stuck || self.agent.shutdown.is_cancelled() {
                    tracing::warn!("lease {}: {death}", self.grant.lease);
                    return (End::Stopped, None);
                }
                let memory_ran_out = death.was_killed() && self.meter.get().is_some_and(Meter::has_memory_run_out);
                let class = if memory_ran_out { FailureClass::OutOfMemory } else { FailureClass::TrainerDied };
                let failure = Failure { class, reason: death.to_string() };
                (self.failed(failure), None)
            }
        }
    }

    /// Has the trainer go on from where another machine was, if the coordinator has that. Without it, the job takes longer.
    async fn take_over(&self) {
        let Self { agent: Agent { coordinator, options: Options { machine, .. }, .. }, grant, .. } = self;
        let (Some(sha256), Ok(output)) = (&grant.unfinished, places::output_folder(machine, &grant.spec)) else {
            return;
        };
        let taking_over = unfinished::take_over(coordinator, &machine.output_root, &output, grant.hash, sha256);
        let lease = grant.lease;
        match timeout(TAKE_OVER_LIMIT, taking_over).await {
            Ok(Ok((start, epochs))) => {
                self.kept_epochs.get_or_init(|| epochs);
                if start == Start::Travelled {
                    tracing::info!(%lease, "lease {lease}: goes on after {epochs} epochs that were done elsewhere");
                }
            }
            Ok(Err(error)) => {
                if error.is_lasting() {
                    self.kept_epochs.get_or_init(|| 0);
                }
                tracing::warn!(%lease, "lease {lease}: what was done elsewhere is done again: {}", chain(&error));
            }
            Err(_) => {
                let seconds = TAKE_OVER_LIMIT.as_secs();
                tracing::warn!(%lease, "lease {lease}: what was done elsewhere didn't come within {seconds} s");
            }
        }
    }

    /// Hands over what a job that is given back has done, if others can't reach it here: its artefact. Without it, they do it
    /// again.
    async fn hand_over_unfinished(&self, end: &End) -> Option<String> {
        let Self { agent: Agent { coordinator, options: Options { machine, .. }, .. }, grant, .. } = self;
        if !matches!(end, End::Stopped) || machine.shared_output == Some(true) {
            return None;
        }
        let known = *self.kept_epochs.get()?;
        let output = places::output_folder(machine, &grant.spec).ok()?;
        let handing_over = unfinished::hand_over(coordinator, &output, grant.hash, known);
        let lease = grant.lease;
        match timeout_at(self.agent.hands_over_until(), handing_over).await {
            Ok(Ok(Some((sha256, epochs)))) => {
                tracing::info!(%lease, "lease {lease}: {epochs} epochs are handed over");
                return Some(sha256);
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%lease, "lease {lease}: what was done can't be handed over: {}", chain(&error));
            }
            Err(_) => tracing::warn!(%lease, "lease {lease}: there was no time to hand over what was done"),
        }
        None
    }

    /// Has the trainer compute the job, and listens until it has ended.
    async fn compute(&self, trainer: &mut Trainer, job: TrainerJob) -> Result<End, Flaw> {
        let ours = self.grant.lease.0;
        if let Some(process) = trainer.process() {
            self.meter.get_or_init(|| Meter::start(&self.agent.gauge, process, &self.device.name));
        }
        trainer.send(&Request::Run { id: ours, job: Box::new(job) }).await?;
        let shape = shape_of(&self.grant.spec);
        let mut last_step: Option<(u64, Instant)> = None;
        self.hear();
        let mut stop_wanted = pin!(self.stop_wanted());
        let mut stopping = false;
        // Begins when it's polled for the first time.
        let mut patience = pin!(self.patience());
        loop {
            let reply = tokio::select! {
                reply = trainer.reply() => reply?,
                () = sleep_until(self.silent_until(&shape)), if !stopping => {
                    return Err(Flaw::Silent(self.silence_limit(&shape)));
                }
                () = &mut stop_wanted, if !stopping => {
                    trainer.send(&Request::Cancel { id: ours }).await?;
                    stopping = true;
                    continue;
                }
                limit = &mut patience, if stopping => return Err(Flaw::Stuck(limit)),
            };
            self.hear();
            match reply {
                Reply::Progress { id, progress } if id == ours => {
                    let (now, step) = (Instant::now(), progress.step);
                    if let Some((before, at)) = last_step.filter(|(before, _)| *before < step) {
                        let steps = u32::try_from(step - before).unwrap_or(u32::MAX);
                        self.agent.steps.note(&shape, (now - at) / steps);
                    }
                    last_step = Some((step, now));
                    self.outbox.progress(progress);
                }
                Reply::Working { id } if id == ours => {}
                Reply::Metrics { id, step, values } if id == ours => self.outbox.metrics(step, values),
                Reply::Log { id, line } if id == ours => self.outbox.log(line),
                Reply::Completed { id, outcome } if id == ours => {
                    let memory_mib = self.meter.get().and_then(Meter::most_mib);
                    let (token, outcome) = (self.grant.token, *outcome);
                    let report = CompletionReport { token, outcome, evaluation: None, memory_mib };
                    return Ok(End::Completed(Box::new(report)));
                }
                Reply::Failed { id, failure, cause } if id == ours => {
                    let token = self.grant.token;
                    return Ok(End::Failed(FailureReport { token, failure, cause }));
                }
                Reply::Cancelled { id } if id == ours && stopping => return Ok(End::Stopped),
                other => return Err(out_of_turn(&other)),
            }
        }
    }

    /// The trainer has said something.
    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long the trainer may be silent.
    fn silence_limit(&self, shape: &str) -> Duration {
        self.agent.options.silence.unwrap_or_else(|| self.agent.steps.limit(shape))
    }

    fn silent_until(&self, shape: &str) -> Instant {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.unwrap_or_else(Instant::now) + self.silence_limit(shape)
    }

    /// How long the trainer has been silent.
    fn silence(&self) -> Duration {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map(|heard| heard.elapsed()).unwrap_or_default()
    }

    /// Returns when the work should be broken off.
    async fn stop_wanted(&self) {
        tokio::select! {
            reason = self.revoked.wait() => {
                tracing::info!("lease {} is over, its job is stopped: {reason}", self.grant.lease);
            }
            () = self.agent.shutdown.cancelled() => {}
        }
    }

    /// Returns when a trainer has had enough time to stop, with that time.
    async fn patience(&self) -> Duration {
        tokio::select! {
            () = sleep(CANCEL_LIMIT) => CANCEL_LIMIT,
            () = async {
                self.agent.shutdown.cancelled().await;
                sleep(SHUTDOWN_CANCEL_LIMIT).await;
            } => SHUTDOWN_CANCEL_LIMIT,
        }
    }

    /// Checks a completed job, keeps its report, and hands its checkpoint to the coordinator, if the others can't reach it
    /// here.
    async fn hand_over(&self, end: End) -> End {
        let End::Completed(mut report) = end else { return end };
        // What another tool completed costs nothing to find again.
        let Some(manifest) = &report.outcome.manifest else { return End::Completed(report) };
        if manifest.spec_hash != self.grant.hash {
            let reason = format!("the trainer computed {} instead of {}", manifest.spec_hash, self.grant.hash);
            return self.failed(Failure { class: FailureClass::Bug, reason });
        }
        report.evaluation = self.evaluation(manifest).await;
        let Agent { coordinator, options: Options { machine, .. }, spool, .. } = self.agent;
        spool.keep(self.grant.lease, &report).await;
        let handed_over = places::hand_over(coordinator, machine, &self.grant.spec, report.outcome.manifest.as_ref());
        tokio::select! {
            result = self.agent.unless_shut_down(handed_over) => match result {
                Some(Ok(())) => End::Completed(report),
                Some(Err(error)) => self.not_placed(&error),
                // The folder stays complete: whoever gets the job here finds it, and hands the checkpoint over then.
                None => End::Stopped,
            },
            _ = self.revoked.wait() => End::Stopped,
        }
    }

    /// Reports what there is, and that the lease is alive if there is nothing. Ends only by being dropped.
    async fn keep_lease(&self) -> Infallible {
        let mut standing = Standing::Ours { ttl_ms: self.grant.ttl_ms };
        let mut ttl_ms = self.grant.ttl_ms;
        loop {
            match &standing {
                Standing::Ours { ttl_ms: renewed } => ttl_ms = *renewed,
                // The lease went with the registration. The job may still be finished before anybody else gets it; whether
                // somebody has is asked with every heartbeat.
                Standing::Orphaned(reason) => {
                    let renewed = self.agent.renew(self.worker, reason).await;
                    if let Err(rejected) = renewed {
                        tracing::warn!("registering anew failed: {}", chain(&rejected));
                    }
                }
                Standing::Revoked(reason) => {
                    // It was set before only if this is the second answer of the same kind.
                    let _ = self.revoked.set(reason.clone());
                    std::future::pending::<()>().await;
                }
            }
            let now = Instant::now();
            tokio::select! {
                () = sleep_until(self.agent.next_beat(now, heartbeat(ttl_ms))) => {}
                () = async {
                    sleep_until(self.agent.next_beat(now, SHORTEST_INTERVAL)).await;
                    self.outbox.filled().await;
                }, if matches!(standing, Standing::Ours { .. }) => {}
            }
            standing = self.report().await;
        }
    }

    /// Sends what is left in the outbox.
    async fn send_rest(&self) {
        while !self.outbox.is_empty() {
            match self.report().await {
                Standing::Ours { .. } => {}
                Standing::Orphaned(reason) | Standing::Revoked(reason) => {
                    tracing::debug!("lease {}: the rest of the log is dropped: {reason}", self.grant.lease);
                    return;
                }
            }
        }
    }

    /// Sends one report, and hears where the lease stands.
    async fn report(&self) -> Standing {
        let Self { agent: Agent { coordinator, .. }, outbox, grant, .. } = self;
        if let Some(meter) = self.meter.get() {
            meter.look();
        }
        let report = outbox.report(grant.token, self.silence());
        let standing = match coordinator.until_answered(|| coordinator.progress(grant.lease, &report)).await {
            Ok(renewed) => Standing::Ours { ttl_ms: renewed.ttl_ms },
            Err(Rejected::UnknownWorker(reason)) => return Standing::Orphaned(reason),
            Err(Rejected::Stale(reason) | Rejected::NotFound(reason)) => return Standing::Revoked(reason),
            // What can't be taken now can't be taken later; it costs its numbers, not the job.
            Err(rejected) => {
                tracing::warn!("lease {}: a report was dropped: {}", grant.lease, chain(&rejected));
                Standing::Ours { ttl_ms: grant.ttl_ms }
            }
        };
        outbox.acknowledge(&report);
        standing
    }

    /// The numbers by class in the job's folder. Without them the result still counts.
    async fn evaluation(&self, manifest: &Manifest) -> Option<Evaluation> {
        let folder = places::output_folder(&self.agent.options.machine, &self.grant.spec).ok()?;
        evaluation::read(&folder, manifest).await.unwrap_or_else(|error| {
            tracing::warn!("lease {}: the numbers by class are left out: {}", self.grant.lease, chain(&error));
            None
        })
    }

    async fn deliver(&self, end: End, unfinished: Option<String>) {
        let (lease, token) = (self.grant.lease, self.grant.token);
        let title = self.grant.title();
        let Agent { coordinator, spool, .. } = self.agent;
        if self.revoked.get().is_some() {
            spool.forget(lease).await;
            return;
        }
        let delivered = async {
            match end {
                End::Completed(report) => {
                    let how = if report.outcome.adopted { "was complete already" } else { "completed" };
                    match coordinator.until_answered(|| coordinator.complete(lease, &report)).await {
                        // It would be refused again after another attempt.
                        Err(refused @ Rejected::Refused { .. }) => {
                            let failure = Failure { class: FailureClass::Bug, reason: refused.to_string() };
                            self.fail(FailureReport { token, failure, cause: None }).await?;
                        }
                        answer => {
                            answer?;
                            let result = report.outcome.result.as_ref();
                            let numbers =
                                result.map_or_else(String::new, |result| format!(", {:.2} %", result.accuracy));
                            tracing::info!(%lease, "lease {lease}: {title} {how}{numbers}");
                        }
                    }
                }
                End::Failed(report) => self.fail(report).await?,
                End::Stopped => {
                    let report = ReleaseReport { token, unfinished };
                    coordinator.until_answered(|| coordinator.release(lease, &report)).await?;
                    tracing::info!(%lease, "lease {lease}: {title} released");
                }
            }
            Ok::<(), Rejected>(())
        };
        let is_over = match self.agent.unless_shut_down(delivered).await {
            Some(Ok(())) => true,
            Some(Err(rejected)) => {
                // An output folder that is complete stays, and is found when the job comes again.
                tracing::warn!(%lease, "lease {lease}: its end was refused: {}", chain(&rejected));
                rejected.is_final()
            }
            None => {
                tracing::warn!(%lease, "lease {lease}: shut down before the coordinator could hear of its end");
                false
            }
        };
        if is_over {
            spool.forget(lease).await;
        }
    }

    /// The end of a job that failed here, for whatever reason.
    const fn failed(&self, failure: Failure) -> End {
        let token = self.grant.token;
        End::Failed(FailureReport { token, failure, cause: None })
    }

    /// The end of a job that this machine can't begin, or whose checkpoint it can't hand over.
    fn not_placed(&self, error: &PlaceError) -> End {
        End::Failed(FailureReport { token: self.grant.token, failure: error.failure(), cause: error.cause() })
    }

    async fn fail(&self, report: FailureReport) -> Result<(), Rejected> {
        let lease = self.grant.lease;
        self.agent.coordinator.until_answered(|| self.agent.coordinator.fail(lease, &report)).await?;
        let Failure { class, reason } = &report.failure;
        tracing::warn!(%lease, "lease {lease}: {} failed ({class}): {reason}", self.grant.title());
        Ok(())
    }
}

/// A third of a lease, so that two reports may be lost.
fn heartbeat(ttl_ms: i64) -> Duration {
    Duration::from_millis(ttl_ms.max(3) as u64 / 3)
}
