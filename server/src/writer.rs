//! The one task that owns the scheduler and the database's write connection.
//!
//! It takes all requests that wait, carries them out in order, writes what they changed in one transaction, and only then
//! answers any of them: an answer means that the change is on the disk, and one fsync serves many requests. Then come the
//! looks at the state, which so see nothing that could still be undone.
//!
//! A commit that fails leaves the database as it was, and the scheduler ahead of it. So the scheduler is thrown away and
//! rebuilt from the database before anything else is done; everybody in that batch is told that nothing was stored.
//!
//! Workers that wait for a job are parked here. Looking for a job and going to sleep are one step of one task, so no wake-up
//! can be lost, and a job that becomes ready goes to the first who can run it in the very transaction that made it ready.

use std::collections::VecDeque;
use std::time::Duration;

use promptfield_core::chain::chain;
use promptfield_core::id::{Sequence, WorkerId};
use promptfield_core::scheduler::{Change, Command, Grant, Held, JobState, Policy, Rejection, Reply, Scheduler};
use promptfield_core::time::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::store::{Store, StoreError, Telemetry, Writes};

/// Requests that may wait; whoever comes next waits before the door.
const INBOX: usize = 4096;
/// Requests of one transaction.
const BATCH: usize = 1024;

/// Why a request changed nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The scheduler refuses.
    #[error(transparent)]
    Rejected(Rejection),
    /// The database could not be written.
    #[error("the database can't be written, and nothing was changed")]
    NotStored,
    /// The coordinator is stopping.
    #[error("the coordinator is stopping")]
    Stopping,
}

type Answer = oneshot::Sender<Result<Reply, WriteError>>;
/// The answers to several commands, or why none was carried out.
type Answers = oneshot::Sender<Result<Vec<Result<Reply, Rejection>>, WriteError>>;
/// A command, and what a running job reported with it.
pub(crate) type Reported = (Command, Option<Telemetry>);
type Look = Box<dyn FnOnce(&Scheduler, Timestamp) + Send>;

enum Request {
    /// A command.
    Apply(Command, Answer),
    /// What a worker says of several leases.
    ApplyAll(Vec<Reported>, Answers),
    /// A worker wants jobs, and waits for them.
    Poll(Poll),
    /// Can the database be written?
    Probe(Answer),
    /// Look at the state.
    Look(Look),
}

/// A worker that waits for a job.
struct Poll {
    worker: WorkerId,
    slots: usize,
    until: Instant,
    answer: Answer,
}

/// Sends requests to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    inbox: mpsc::Sender<Request>,
    sequence: watch::Receiver<Sequence>,
}

impl Writer {
    /// Starts the task. After `stop`, nobody waits for a job any more; after `close`, the task deals with what has come in
    /// and ends.
    pub(crate) fn start(
        store: Store,
        scheduler: Scheduler,
        policy: Policy,
        clock: Clock,
        stop: CancellationToken,
        close: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let (sequence, published) = watch::channel(scheduler.last_sequence());
        let task = Task {
            store,
            scheduler: Some(scheduler),
            policy,
            clock,
            stop,
            close,
            inbox,
            sequence,
            parked: VecDeque::new(),
            undelivered: Vec::new(),
        };
        (Self { inbox: sender, sequence: published }, tokio::spawn(task.run()))
    }

    /// Carries a command out.
    pub(crate) async fn apply(&self, command: Command) -> Result<Reply, WriteError> {
        self.ask(|answer| Request::Apply(command, answer)).await
    }

    /// Carries several commands out, each for itself, and keeps what jobs reported with those that were not refused.
    pub(crate) async fn apply_all(&self, reported: Vec<Reported>) -> Result<Vec<Result<Reply, Rejection>>, WriteError> {
        let (answers, replies) = oneshot::channel();
        self.inbox.send(Request::ApplyAll(reported, answers)).await.map_err(|_| WriteError::Stopping)?;
        replies.await.map_err(|_| WriteError::Stopping)?
    }

    /// Grants a worker jobs; waits up to `wait` for the first.
    pub(crate) async fn lease(&self, worker: WorkerId, slots: usize, wait: Duration) -> Result<Reply, WriteError> {
        let until = Instant::now() + wait;
        self.ask(|answer| Request::Poll(Poll { worker, slots, until, answer })).await
    }

    /// Finds out whether the database can be written, by writing to it.
    pub(crate) async fn probe(&self) -> Result<Reply, WriteError> {
        self.ask(Request::Probe).await
    }

    /// Looks at the state. The writer does nothing else meanwhile: clone what is needed and be gone.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Scheduler, Timestamp) -> T + Send + 'static,
    ) -> Result<T, WriteError> {
        let (answer, seen) = oneshot::channel();
        let look = Box::new(move |scheduler: &Scheduler, now| {
            // Who asked may be gone.
            let _ = answer.send(look(scheduler, now));
        });
        self.inbox.send(Request::Look(look)).await.map_err(|_| WriteError::Stopping)?;
        seen.await.map_err(|_| WriteError::NotStored)
    }

    /// The last event that is on the disk.
    pub(crate) fn sequence(&self) -> watch::Receiver<Sequence> {
        self.sequence.clone()
    }

    async fn ask(&self, request: impl FnOnce(Answer) -> Request) -> Result<Reply, WriteError> {
        let (answer, reply) = oneshot::channel();
        self.inbox.send(request(answer)).await.map_err(|_| WriteError::Stopping)?;
        reply.await.map_err(|_| WriteError::Stopping)?
    }
}

struct Task {
    store: Store,
    /// `None` after a commit that failed, until the database could be read again.
    scheduler: Option<Scheduler>,
    policy: Policy,
    clock: Clock,
    stop: CancellationToken,
    close: CancellationToken,
    inbox: mpsc::Receiver<Request>,
    sequence: watch::Sender<Sequence>,
    /// Workers that wait for a job, the longest first.
    parked: VecDeque<Poll>,
    /// Leases whose worker was gone when the answer was ready.
    undelivered: Vec<Held>,
}

/// What becomes of the requests that are dealt with together.
#[derive(Default)]
struct Batch {
    writes: Writes,
    answers: Vec<(Answer, Result<Reply, Rejection>)>,
    several: Vec<(Answers, Vec<Result<Reply, Rejection>>)>,
    looks: Vec<Look>,
    polls: Vec<Poll>,
    /// A job may have become ready.
    ready: bool,
}

impl Batch {
    fn apply(&mut self, scheduler: &mut Scheduler, command: Command, now: Timestamp) -> Result<Reply, Rejection> {
        let (changes, reply) = scheduler.apply(command, now);
        self.ready |= changes.iter().any(makes_ready);
        self.writes.changes.extend(changes);
        reply
    }
}

fn makes_ready(change: &Change) -> bool {
    match change {
        Change::JobAdded(job) => matches!(job.state, JobState::Queued { .. }),
        Change::JobChanged(change) => matches!(change.state, JobState::Queued { .. }),
        _ => false,
    }
}

impl Task {
    async fn run(mut self) {
        let mut requests = Vec::with_capacity(BATCH);
        let (stop, close) = (self.stop.clone(), self.close.clone());
        loop {
            let wake = self.wake_at();
            tokio::select! {
                received = self.inbox.recv_many(&mut requests, BATCH) => if received == 0 { break },
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                () = stop.cancelled(), if !self.parked.is_empty() => {}
                () = close.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
            }
            self.batch(&mut requests).await;
        }
        if let Err(error) = self.store.close().await {
            tracing::error!(error = chain(&error), "can't close the database");
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        if !self.undelivered.is_empty() {
            return Some(Instant::now());
        }
        let alarm = self.scheduler.as_ref().and_then(Scheduler::next_alarm).map(|alarm| self.clock.instant(alarm));
        self.parked.iter().map(|poll| poll.until).chain(alarm).min()
    }

    async fn batch(&mut self, requests: &mut Vec<Request>) {
        // After a failure, those who wait look again at what the others did not get.
        let mut batch = Batch { ready: self.scheduler.is_none(), ..Batch::default() };
        let Some(mut scheduler) = self.scheduler().await else {
            refuse(requests.drain(..));
            refuse(self.parked.drain(..).map(Request::Poll));
            return;
        };
        let now = self.clock.now();
        for held in self.undelivered.drain(..) {
            // A refusal means that the lease has ended by other means.
            let _ = batch.apply(&mut scheduler, Command::Release { held }, now);
        }
        for request in requests.drain(..) {
            match request {
                Request::Apply(command, answer) => {
                    let reply = batch.apply(&mut scheduler, command, now);
                    batch.answers.push((answer, reply));
                }
                Request::ApplyAll(reported, answers) => {
                    let mut replies = Vec::with_capacity(reported.len());
                    for (command, telemetry) in reported {
                        let reply = batch.apply(&mut scheduler, command, now);
                        batch.writes.telemetry.extend(telemetry.filter(|_| reply.is_ok()));
                        replies.push(reply);
                    }
                    batch.several.push((answers, replies));
                }
                Request::Poll(poll) => batch.polls.push(poll),
                Request::Probe(answer) => {
                    batch.writes.readiness = Some(now);
                    batch.answers.push((answer, Ok(Reply::Done)));
                }
                Request::Look(look) => batch.looks.push(look),
            }
        }
        // Time passes after everyone was heard: no lease ends while its renewal waits in the inbox.
        if scheduler.next_alarm().is_some_and(|alarm| alarm <= now) {
            let _ = batch.apply(&mut scheduler, Command::Tick, now);
            batch.ready = true;
        }
        self.serve_polls(&mut scheduler, &mut batch, now);
        self.finish(scheduler, batch, now).await;
    }

    /// The scheduler, rebuilt from the database if it was thrown away; `None` if the database can't be read either.
    async fn scheduler(&mut self) -> Option<Scheduler> {
        if let Some(scheduler) = self.scheduler.take() {
            return Some(scheduler);
        }
        match self.store.load().await {
            Ok(rows) => {
                tracing::info!("the state was rebuilt from the database");
                Some(Scheduler::restore(self.policy, rows, self.clock.now()))
            }
            Err(error) => {
                tracing::error!(error = chain(&error), "can't rebuild the state from the database");
                None
            }
        }
    }

    /// Gives jobs to those who wait for them, the longest first, and parks the others.
    fn serve_polls(&mut self, scheduler: &mut Scheduler, batch: &mut Batch, now: Timestamp) {
        let instant = Instant::now();
        let parked = std::mem::take(&mut self.parked).into_iter().map(|poll| (poll, batch.ready));
        let polls: Vec<(Poll, bool)> =
            parked.chain(std::mem::take(&mut batch.polls).into_iter().map(|poll| (poll, true))).collect();
        for (poll, look) in polls {
            if poll.answer.is_closed() {
                continue;
            }
            let reply = if look {
                let command = Command::Lease { worker: poll.worker, slots: poll.slots };
                batch.apply(scheduler, command, now)
            } else {
                Ok(Reply::Granted(Vec::new()))
            };
            let nothing = matches!(&reply, Ok(Reply::Granted(grants)) if grants.is_empty());
            if nothing && poll.until > instant && !self.stop.is_cancelled() {
                self.parked.push_back(poll);
            } else {
                batch.answers.push((poll.answer, reply));
            }
        }
    }

    /// Commits, then answers.
    async fn finish(&mut self, scheduler: Scheduler, batch: Batch, now: Timestamp) {
        let stored = if batch.writes.is_empty() { Ok(()) } else { self.store.write(&batch.writes).await };
        if let Err(error) = stored {
            not_stored(&error, batch);
            return;
        }
        self.sequence.send_if_modified(|last| {
            let modified = *last != scheduler.last_sequence();
            *last = scheduler.last_sequence();
            modified
        });
        for (answer, reply) in batch.answers {
            if let Err(Ok(Reply::Granted(grants))) = answer.send(reply.map_err(WriteError::Rejected)) {
                self.undelivered
                    .extend(grants.iter().map(|Grant { lease, token, .. }| Held { lease: *lease, token: *token }));
            }
        }
        for (answers, replies) in batch.several {
            // Who asked may be gone.
            let _ = answers.send(Ok(replies));
        }
        for look in batch.looks {
            look(&scheduler, now);
        }
        self.scheduler = Some(scheduler);
    }
}

/// Answers a batch whose commit failed.
fn not_stored(error: &StoreError, batch: Batch) {
    tracing::error!(error = chain(error), "can't write to the database; {} requests are refused", batch.answers.len());
    for (answer, _) in batch.answers {
        // Refusals too: they may rest on changes that were not stored.
        let _ = answer.send(Err(WriteError::NotStored));
    }
    for (answers, _) in batch.several {
        let _ = answers.send(Err(WriteError::NotStored));
    }
}

/// Answers requests while there is no state to ask.
fn refuse(requests: impl Iterator<Item = Request>) {
    for request in requests {
        let answer = match request {
            Request::ApplyAll(_, answers) => {
                let _ = answers.send(Err(WriteError::NotStored));
                continue;
            }
            Request::Apply(_, answer) | Request::Probe(answer) | Request::Poll(Poll { answer, .. }) => answer,
            // Its sender sees that it was dropped.
            Request::Look(_) => continue,
        };
        // Who asked may be gone.
        let _ = answer.send(Err(WriteError::NotStored));
    }
}

#[cfg(test)]
mod tests;
