//! What the one writer does with the requests that it deals with together.
//!
//! A [`Batch`] carries commands out in order, gives back the leases that nobody took, lets time pass, and gives jobs to the
//! workers that wait for them. It stores nothing and answers nobody: whoever runs it commits what has changed, and answers only
//! then. Looking for a job and beginning to wait are one step, so no wake-up can be lost, and a job that becomes ready goes to
//! the first who can run it in the very batch that made it ready.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use super::{Change, Command, Grant, Held, JobState, Rejection, Reply, Scheduler, WorkerKind, WorkerState};
use crate::id::WorkerId;
use crate::time::Timestamp;

/// A worker that asks for jobs, and waits for them; `H` is how it's answered.
#[derive(Debug)]
pub struct Poll<H> {
    /// Who asks.
    pub worker: WorkerId,
    /// How many jobs it takes at most.
    pub slots: usize,
    /// How long it waits.
    pub until: Timestamp,
    /// How it's answered.
    pub asker: H,
}

/// What becomes of a poll, besides that it goes on waiting.
#[derive(Debug)]
pub enum Served {
    /// It was answered as soon as it asked.
    AtOnce(Result<Reply, Rejection>),
    /// A job became ready while it waited.
    Ready(Result<Reply, Rejection>),
    /// It has waited long enough, or its worker gets no more jobs.
    Ended(Result<Reply, Rejection>),
    /// There is no place left to wait in.
    Full,
}

/// Who may wait.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// So many polls at most.
    pub most: usize,
    /// Nobody waits any more.
    pub closes: bool,
}

/// What is done for a batch by whoever runs it; `H` is how a request is answered.
pub trait Recorder<H> {
    /// Carries a command out. `asker` is `None` for what no request asks for.
    fn apply(
        &mut self,
        scheduler: &mut Scheduler,
        _asker: Option<&H>,
        command: Command,
        now: Timestamp,
    ) -> (Vec<Change>, Result<Reply, Rejection>) {
        scheduler.apply(command, now)
    }

    /// Keeps what a command has changed, for the commit.
    fn record(&mut self, asker: Option<&H>, changes: Vec<Change>, reply: &Result<Reply, Rejection>);

    /// Whether nobody waits for the answer any more.
    fn is_gone(&self, asker: &H) -> bool;
}

/// Where a poll stands: those that end first come first.
type Place = (Timestamp, u64);

/// What one batch leaves to the next: the polls that wait, and the leases that nobody took.
#[derive(Debug)]
pub struct Waiting<H> {
    polls: BTreeMap<Place, (WorkerKind, Poll<H>)>,
    /// How many of them are of each kind.
    kinds: HashMap<WorkerKind, usize>,
    next: u64,
    undelivered: Vec<Held>,
}

impl<H> Default for Waiting<H> {
    fn default() -> Self {
        Self { polls: BTreeMap::new(), kinds: HashMap::new(), next: 0, undelivered: Vec::new() }
    }
}

impl<H> Waiting<H> {
    /// How many polls wait.
    pub fn len(&self) -> usize {
        self.polls.len()
    }

    /// Whether no poll waits.
    pub fn is_empty(&self) -> bool {
        self.polls.is_empty()
    }

    /// Notes jobs whose worker was gone when it was to be answered: the next batch gives them back.
    pub fn not_delivered(&mut self, grants: &[Grant]) {
        self.undelivered.extend(grants.iter().map(|Grant { lease, token, .. }| Held { lease: *lease, token: *token }));
    }

    /// When the next batch is due if no request comes before: `now` if there is something to do at once, `None` if there is nothing.
    pub fn due(&self, scheduler: Option<&Scheduler>, now: Timestamp) -> Option<Timestamp> {
        if !self.undelivered.is_empty() {
            return Some(now);
        }
        let first_end = self.polls.first_key_value().map(|((until, _), _)| *until);
        first_end.into_iter().chain(scheduler.and_then(Scheduler::next_alarm)).min()
    }

    /// Takes everybody out who waits, those first whose wait ends first.
    pub fn take_all(&mut self) -> impl Iterator<Item = H> + use<H> {
        self.kinds.clear();
        std::mem::take(&mut self.polls).into_values().map(|(_, poll)| poll.asker)
    }

    fn add(&mut self, kind: WorkerKind, poll: Poll<H>) {
        *self.kinds.entry(kind).or_default() += 1;
        self.polls.insert((poll.until, self.next), (kind, poll));
        self.next += 1;
    }

    /// Finds out anew of what kinds they are: the pin of a backbone, or what is known of a worker's weights, changed.
    fn sort(&mut self, kind_of: impl Fn(WorkerId) -> Option<WorkerKind>) {
        self.kinds.clear();
        for (kind, poll) in self.polls.values_mut() {
            *kind = kind_of(poll.worker).unwrap_or(*kind);
            *self.kinds.entry(*kind).or_default() += 1;
        }
    }

    /// The first poll after a place, of a kind for which nothing was in vain yet.
    fn after(&self, place: Option<Place>, in_vain: &HashSet<WorkerKind>) -> Option<(Place, WorkerKind, &Poll<H>)> {
        if self.kinds.keys().all(|kind| in_vain.contains(kind)) {
            return None;
        }
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = self.polls.range((from, Bound::Unbounded));
        let found = rest.find(|(_, (kind, _))| !in_vain.contains(kind));
        found.map(|(place, (kind, poll))| (*place, *kind, poll))
    }

    fn take(&mut self, place: Place) -> Option<Poll<H>> {
        let (kind, poll) = self.polls.remove(&place)?;
        if let Some(count) = self.kinds.get_mut(&kind) {
            *count -= 1;
            if *count == 0 {
                self.kinds.remove(&kind);
            }
        }
        Some(poll)
    }

    fn take_of(&mut self, workers: &HashSet<WorkerId>) -> Vec<Poll<H>> {
        if workers.is_empty() {
            return Vec::new();
        }
        let theirs = self.polls.iter().filter(|(_, (_, poll))| workers.contains(&poll.worker));
        let places: Vec<Place> = theirs.map(|(place, _)| *place).collect();
        places.into_iter().filter_map(|place| self.take(place)).collect()
    }

    /// Takes one that has waited until `now`; any, when all must go.
    fn take_ended(&mut self, now: Timestamp, all: bool) -> Option<Poll<H>> {
        let (place, _) = self.polls.first_key_value().filter(|((until, _), _)| all || *until <= now)?;
        self.take(*place)
    }
}

/// Requests that are dealt with together.
#[derive(Debug)]
pub struct Batch<'a, H, R> {
    waiting: &'a mut Waiting<H>,
    polls: Vec<Poll<H>>,
    state: State<'a, R>,
}

/// The scheduler in the middle of a batch, with what the changes so far mean for those who wait.
#[derive(Debug)]
struct State<'a, R> {
    scheduler: &'a mut Scheduler,
    recorder: R,
    now: Timestamp,
    /// A job may have become ready.
    ready: bool,
    /// What workers can run may have changed.
    kinds: bool,
    /// Workers that get no more jobs from now on.
    dismissed: HashSet<WorkerId>,
}

impl<R> State<'_, R> {
    fn apply<H>(&mut self, asker: Option<&H>, command: Command, now: Timestamp) -> Result<Reply, Rejection>
    where
        R: Recorder<H>,
    {
        let (changes, reply) = self.recorder.apply(self.scheduler, asker, command, now);
        self.ready |= changes.iter().any(makes_ready);
        self.kinds |= changes.iter().any(changes_kinds);
        self.dismissed.extend(changes.iter().filter_map(dismisses));
        self.recorder.record(asker, changes, &reply);
        reply
    }

    fn lease<H>(&mut self, poll: &Poll<H>) -> Result<Reply, Rejection>
    where
        R: Recorder<H>,
    {
        self.apply(Some(&poll.asker), Command::Lease { worker: poll.worker, slots: poll.slots }, self.now)
    }
}

impl<'a, H, R: Recorder<H>> Batch<'a, H, R> {
    /// Begins with the leases that nobody took. `rebuilt` says that the scheduler is not the one of the last batch: then those who
    /// wait look again at what others did not get.
    pub fn begin(
        scheduler: &'a mut Scheduler,
        waiting: &'a mut Waiting<H>,
        recorder: R,
        now: Timestamp,
        rebuilt: bool,
    ) -> Self {
        let undelivered = std::mem::take(&mut waiting.undelivered);
        let (kinds, dismissed) = (false, HashSet::new());
        let state = State { scheduler, recorder, now, ready: rebuilt, kinds, dismissed };
        let mut batch = Self { waiting, polls: Vec::new(), state };
        for held in undelivered {
            // A refusal means that the lease has ended by other means.
            let _ = batch.apply(None, Command::Release { held, unfinished: None });
        }
        batch
    }

    /// Carries a command out, of the request that `asker` stands for if any does.
    pub fn apply(&mut self, asker: Option<&H>, command: Command) -> Result<Reply, Rejection> {
        self.state.apply(asker, command, self.state.now)
    }

    /// A worker asks for jobs: it's served when everybody else was heard.
    pub fn poll(&mut self, poll: Poll<H>) {
        self.polls.push(poll);
    }

    /// The state as the commands so far have made it.
    pub const fn scheduler(&self) -> &Scheduler {
        self.state.scheduler
    }

    /// What keeps the changes.
    pub const fn recorder(&mut self) -> &mut R {
        &mut self.state.recorder
    }

    /// Lets time pass, up to the batch's own. It passes after everyone was heard: no lease ends while its renewal is among the
    /// requests.
    pub fn pass_time(&mut self) {
        self.pass_time_until(self.state.now);
    }

    /// Lets time pass up to a moment, which a clock that is wrong may say.
    pub fn pass_time_until(&mut self, until: Timestamp) {
        if self.state.scheduler.next_alarm().is_some_and(|alarm| alarm <= until) {
            // A tick is never refused.
            let _ = self.state.apply(None, Command::Tick, until);
            self.state.ready = true;
        }
    }

    /// Gives jobs to those who wait for them, and lets the others wait on. Returns what keeps the changes, and who is to be answered.
    pub fn serve(self, room: Room) -> (R, Vec<(H, Served)>) {
        let Self { waiting, polls, mut state } = self;
        let mut served = Vec::new();
        if state.kinds {
            waiting.sort(|worker| state.scheduler.kind_of(worker));
        }
        if state.ready {
            serve_waiting(waiting, &mut state, &mut served);
        }
        while let Some(poll) = waiting.take_ended(state.now, room.closes) {
            served.push((poll.asker, Served::Ended(Ok(Reply::Granted(Vec::new())))));
        }
        for poll in waiting.take_of(&state.dismissed) {
            let reply = state.lease(&poll);
            served.push((poll.asker, Served::Ended(reply)));
        }
        for poll in polls {
            let reply = state.lease(&poll);
            let waits = grants_nothing(&reply) && poll.until > state.now && !room.closes;
            let takes_jobs = waits && state.scheduler.takes_jobs(poll.worker);
            match state.scheduler.kind_of(poll.worker).filter(|_| takes_jobs) {
                Some(kind) if waiting.len() < room.most => waiting.add(kind, poll),
                Some(_) => served.push((poll.asker, Served::Full)),
                None => served.push((poll.asker, Served::AtOnce(reply))),
            }
        }
        (state.recorder, served)
    }
}

/// Asks for those who wait, the longest first, but not all: once one that holds nothing gets nothing, no other of its kind is
/// asked for.
fn serve_waiting<H, R: Recorder<H>>(waiting: &mut Waiting<H>, state: &mut State<'_, R>, served: &mut Vec<(H, Served)>) {
    let mut in_vain = HashSet::new();
    let mut last = None;
    while let Some((place, kind, poll)) = waiting.after(last, &in_vain) {
        last = Some(place);
        if state.recorder.is_gone(&poll.asker) {
            waiting.take(place);
            continue;
        }
        let reply = state.lease(poll);
        if !grants_nothing(&reply) {
            served.extend(waiting.take(place).map(|poll| (poll.asker, Served::Ready(reply))));
        } else if state.scheduler.speaks_for_its_kind(poll.worker) {
            in_vain.insert(kind);
        }
    }
}

fn grants_nothing(reply: &Result<Reply, Rejection>) -> bool {
    matches!(reply, Ok(Reply::Granted(grants)) if grants.is_empty())
}

fn dismisses(change: &Change) -> Option<WorkerId> {
    match change {
        Change::Worker(record) if record.state != WorkerState::Active => Some(record.id),
        _ => None,
    }
}

fn changes_kinds(change: &Change) -> bool {
    match change {
        Change::Worker(record) => record.state == WorkerState::Active,
        Change::BackbonePinned { .. } => true,
        _ => false,
    }
}

fn makes_ready(change: &Change) -> bool {
    match change {
        Change::JobsAdded(jobs) => jobs.iter().any(|job| matches!(job.state, JobState::Queued { .. })),
        Change::JobChanged(change) => matches!(change.state, JobState::Queued { .. }),
        // Perhaps more of them fit now, or another worker is right for them.
        Change::NeedChanged { .. } | Change::BackbonePinned { .. } | Change::MachineFault { .. } => true,
        _ => false,
    }
}
