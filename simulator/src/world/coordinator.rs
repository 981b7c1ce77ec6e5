//! The coordinator: the real scheduler behind a writer that works as the server's does.
//!
//! All requests that wait are carried out in order, what they changed is committed at once, and only then is anybody answered.
//! A commit takes its time and may fail; the coordinator may die at any moment, and starts again from the rows. [`Flaw`]s are
//! built in here, where the simulation stands in for the server.

use std::collections::{BTreeMap, HashSet, VecDeque};

use promptfield_core::id::{JobId, WorkerId};
use promptfield_core::job::backbone::Architecture;
use promptfield_core::job::basis::Finding;
use promptfield_core::job::outcome::{Failure, Manifest, Outcome, Progress, Seconds, TestResult};
use promptfield_core::job::spec::JobSpec;
use promptfield_core::protocol::Stage;
use promptfield_core::scheduler::machine_fault::Cause;
use promptfield_core::scheduler::{
    Change, Command, Grant, Held, JobState, Policy, Rejection, Reply, Rows, Scheduler, WorkerKind,
};
use promptfield_core::time::Timestamp;

use super::clients::POLL;
use super::{Event, Flaw, Line, Size, World};
use crate::audit::{Applied, Violation};
use crate::climate::wait;
use crate::plans::{BACKBONES, DATASETS};
use crate::wire::{Answer, Ask, Lacks, On, Request, Unable, Work, epoch};

/// Requests of one transaction.
const BATCH: usize = 1024;
/// The time that a commit usually takes.
const COMMIT: std::ops::RangeInclusive<i64> = 2..=8;
/// Batches between two inspections of the whole state of a small world.
const INSPECTED: u64 = 20;
const RESULT: TestResult =
    TestResult { total: 10, correct: 9, accuracy: 90.0, error: 10.0, macro_f1: 90.0, calibration_error: None };

/// A process that comes and goes, and a database that stays.
#[derive(Debug)]
pub(super) struct Coordinator {
    policy: Policy,
    flaw: Option<Flaw>,
    /// Counts up when it dies: what the process before had under way is gone.
    life: u32,
    up: bool,
    /// `None` after a commit that failed, until the next batch.
    scheduler: Option<Scheduler>,
    /// The database; `None` where nothing is ever read back.
    rows: Option<Rows>,
    inbox: VecDeque<Request>,
    /// Workers that wait for a job, the longest first.
    parked: VecDeque<Poll>,
    undelivered: Vec<Held>,
    committing: Option<Batch>,
    /// When it looks at the time next.
    wake: Option<i64>,
    any_spec: Option<JobSpec>,
}

#[derive(Clone, Copy, Debug)]
struct Poll {
    request: Request,
    worker: WorkerId,
    slots: usize,
    until: i64,
}

/// Requests that are dealt with together.
#[derive(Debug)]
struct Batch {
    at: Timestamp,
    applied: Vec<Applied>,
    answers: Vec<(Request, Answer)>,
    polls: Vec<Poll>,
    changes: usize,
    /// A job may have become ready.
    ready: bool,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Written,
    NotWritten,
    /// It is written, and the database says that it isn't.
    Denied,
    DiesBefore,
    DiesAfter,
}

impl Fate {
    const fn is_written(self) -> bool {
        matches!(self, Self::Written | Self::Denied | Self::DiesAfter)
    }
}

impl Coordinator {
    pub(super) fn new(policy: Policy, flaw: Option<Flaw>, reads_back: bool) -> Self {
        Self {
            policy,
            flaw,
            life: 0,
            up: true,
            scheduler: Some(Scheduler::new(policy)),
            rows: reads_back.then(Rows::default),
            inbox: VecDeque::new(),
            parked: VecDeque::new(),
            undelivered: Vec::new(),
            committing: None,
            wake: None,
            any_spec: None,
        }
    }

    pub(super) fn explain(&self, job: JobId, now: Timestamp) -> String {
        let explained = self.scheduler.as_ref().map(|scheduler| scheduler.explain(job, now));
        match explained {
            Some(Ok(explanation)) => explanation.because,
            Some(Err(rejection)) => rejection.to_string(),
            None => "there is no coordinator".to_owned(),
        }
    }

    fn restored(&self, now: Timestamp) -> Option<Scheduler> {
        let mut rows = self.rows.clone()?;
        if self.flaw == Some(Flaw::ForgetsAJob)
            && let Some(forgotten) = rows.jobs.pop()
        {
            for link in &mut rows.links {
                link.count -= u64::from(link.jobs().next_back() == Some(forgotten.id));
            }
        }
        if self.flaw == Some(Flaw::ForgetsWhatItLearned) {
            rows.needs.clear();
        }
        if self.flaw == Some(Flaw::ForgetsWhatWasSuperseded) {
            rows.superseded.clear();
        }
        if self.flaw == Some(Flaw::ForgetsFaults) {
            rows.faults.clear();
        }
        if self.flaw == Some(Flaw::ForgetsWhatWasRead) {
            rows.readings.clear();
        }
        Some(Scheduler::restore(self.policy, rows, now))
    }
}

impl World {
    pub(super) fn arrives(&mut self, request: Request) -> Result<(), Violation> {
        if self.is_cut_off(request.caller) {
            self.history.note(self.now, Line::Lost { caller: request.caller, ask: request.ask });
        } else if self.coordinator.up {
            self.coordinator.inbox.push_back(request);
            if self.coordinator.committing.is_none() {
                self.batch()?;
            }
        } else {
            self.answer(&request, Answer::Unavailable);
        }
        Ok(())
    }

    pub(super) fn wakes(&mut self) -> Result<(), Violation> {
        if self.coordinator.wake != Some(self.now) {
            return Ok(());
        }
        self.coordinator.wake = None;
        if self.coordinator.up && self.coordinator.committing.is_none() { self.batch() } else { Ok(()) }
    }

    /// Carries out what waits, and begins to commit.
    fn batch(&mut self) -> Result<(), Violation> {
        let at = self.time();
        // After a failure, those who wait look again at what the others did not get.
        let rebuilt = self.coordinator.scheduler.is_none();
        let Some(mut scheduler) = self.coordinator.scheduler.take().or_else(|| self.coordinator.restored(at)) else {
            return Ok(());
        };
        if rebuilt {
            self.rebuilt(&scheduler)?;
        }
        let mut batch = Batch {
            at,
            applied: Vec::new(),
            answers: Vec::new(),
            polls: Vec::new(),
            changes: 0,
            ready: rebuilt,
            fate: Fate::Written,
        };
        for Held { lease, token } in std::mem::take(&mut self.coordinator.undelivered) {
            // A refusal means that the lease has ended by other means.
            self.apply(
                &mut scheduler,
                &mut batch,
                None,
                Command::Release { held: Held { lease, token }, unfinished: None },
            );
        }
        for _ in 0..BATCH {
            let Some(request) = self.coordinator.inbox.pop_front() else { break };
            if let Ask::Lease { worker, slots } = request.ask {
                batch.polls.push(Poll { request, worker, slots, until: self.now + POLL });
            } else {
                let command = self.command(request.ask)?;
                let answer = self.apply(&mut scheduler, &mut batch, Some(request), command);
                batch.answers.push((request, answer));
            }
        }
        self.let_time_pass(&mut scheduler, &mut batch);
        self.serve_polls(&mut scheduler, &mut batch);
        self.coordinator.scheduler = Some(scheduler);
        if self.coordinator.flaw == Some(Flaw::AnswersBeforeCommit) {
            self.reply(std::mem::take(&mut batch.answers));
        }
        if batch.changes == 0 {
            return self.finish(batch);
        }
        batch.fate = self.fate();
        let slow = self.random.chance(self.climate.slow);
        let takes = if slow { 1..=self.climate.slowest.max(8) } else { COMMIT };
        let takes = self.random.between(takes);
        self.coordinator.committing = Some(batch);
        self.plan(takes, Event::Commits { life: self.coordinator.life });
        Ok(())
    }

    fn fate(&mut self) -> Fate {
        let climate = self.climate.clone();
        let fates = [
            (climate.unwritten, Fate::NotWritten),
            (climate.doubtful, Fate::Denied),
            (climate.dies_before, Fate::DiesBefore),
            (climate.dies_after, Fate::DiesAfter),
        ];
        let drawn = fates.into_iter().find(|(chance, _)| self.random.chance(*chance));
        drawn.map_or(Fate::Written, |(_, fate)| fate)
    }

    fn apply(
        &mut self,
        scheduler: &mut Scheduler,
        batch: &mut Batch,
        request: Option<Request>,
        mut command: Command,
    ) -> Answer {
        let flaw = self.coordinator.flaw;
        if flaw == Some(Flaw::IgnoresTokens)
            && let Command::Complete { held, .. } | Command::Fail { held, .. } = &mut command
        {
            *held = self.audit.latest(held.lease).unwrap_or(*held);
        }
        if flaw == Some(Flaw::HearsFromBefore)
            && let Command::Complete { held, .. } | Command::Fail { held, .. } = &mut command
            && self.audit.is_from_before(*held)
        {
            *held = self.audit.latest(held.lease).unwrap_or(*held);
        }
        let again = match &command {
            Command::Complete { held, outcome, .. } if flaw == Some(Flaw::RecordsTwice) => {
                Some((held.lease, outcome.result))
            }
            _ => None,
        };
        self.commands += 1;
        let (mut changes, reply) = scheduler.apply(command, batch.at);
        if let (Some((lease, result)), Ok(Reply::Done), true) = (again, &reply, changes.is_empty())
            && let Some(job) = self.audit.job_of(lease)
        {
            changes.push(Change::ResultRecorded { job, lease, result, manifest: None, evaluation: None });
        }
        if flaw == Some(Flaw::DropsSuperseded) {
            changes.retain(|change| !matches!(change, Change::ResultSuperseded { .. }));
        }
        for change in &changes {
            batch.ready |= makes_ready(change);
        }
        batch.changes += changes.len();
        let answer = answer_of(&reply);
        if let Some(Request { caller, ask, .. }) = request {
            self.history.note(self.now, Line::Applied { caller, ask, answer: &answer });
        }
        batch.applied.push(Applied { ask: request.map(|request| request.ask), changes, reply });
        answer
    }

    /// Time passes after everyone was heard: no lease ends while its renewal waits in the inbox.
    fn let_time_pass(&mut self, scheduler: &mut Scheduler, batch: &mut Batch) {
        let at = batch.at;
        let ticks = match self.coordinator.flaw {
            Some(Flaw::NeverTicks) => return,
            Some(Flaw::EndsLeasesEarly) => at.plus(self.coordinator.policy.lease_ms / 2),
            _ => at,
        };
        if scheduler.next_alarm().is_some_and(|alarm| alarm <= ticks) {
            batch.at = ticks;
            self.apply(scheduler, batch, None, Command::Tick);
            batch.at = at;
            batch.ready = true;
        }
    }

    /// Gives jobs to those who wait for them, the longest first, and parks the others. Of those who can run the same jobs, and
    /// want any, nobody asks after one got nothing.
    fn serve_polls(&mut self, scheduler: &mut Scheduler, batch: &mut Batch) {
        let mut in_vain = HashSet::new();
        let mut kept = VecDeque::new();
        let kinds = self.kinds_of_workers();
        while let Some(poll) = self.coordinator.parked.front().copied() {
            let asks = batch.ready && in_vain.len() < kinds;
            if !asks && poll.until > self.now {
                break;
            }
            self.coordinator.parked.pop_front();
            if self.is_closed(&poll.request) {
                continue;
            }
            self.serve(scheduler, batch, poll, asks, &mut in_vain, &mut kept);
        }
        while let Some(poll) = kept.pop_back() {
            self.coordinator.parked.push_front(poll);
        }
        for poll in std::mem::take(&mut batch.polls) {
            let mut parks = VecDeque::new();
            self.serve(scheduler, batch, poll, true, &mut HashSet::new(), &mut parks);
            self.coordinator.parked.append(&mut parks);
        }
    }

    fn serve(
        &mut self,
        scheduler: &mut Scheduler,
        batch: &mut Batch,
        poll: Poll,
        asks: bool,
        in_vain: &mut HashSet<WorkerKind>,
        kept: &mut VecDeque<Poll>,
    ) {
        let Poll { request, worker, slots, .. } = poll;
        let kind = scheduler.kind_of(worker);
        let asks = asks && self.coordinator.flaw != Some(Flaw::TurnsWorkersAway);
        let answer = if asks && kind.is_none_or(|kind| !in_vain.contains(&kind)) {
            self.apply(scheduler, batch, Some(request), Command::Lease { worker, slots })
        } else {
            Answer::Granted(Vec::new())
        };
        if !matches!(&answer, Answer::Granted(works) if works.is_empty()) {
            batch.answers.push((request, answer));
            return;
        }
        if asks && scheduler.speaks_for_its_kind(worker) {
            in_vain.extend(kind);
        }
        if poll.until > self.now {
            kept.push_back(poll);
        } else {
            batch.answers.push((request, answer));
        }
    }

    pub(super) fn commits(&mut self, life: u32) -> Result<(), Violation> {
        if life != self.coordinator.life {
            return Ok(());
        }
        let Some(batch) = self.coordinator.committing.take() else { return Ok(()) };
        self.finish(batch)
    }

    /// What becomes of a batch, and then the next one.
    fn finish(&mut self, batch: Batch) -> Result<(), Violation> {
        let Batch { at, applied, answers, fate, changes, .. } = batch;
        if fate.is_written() {
            self.write(&applied, at)?;
        }
        let written = Line::Written { changes, sequence: self.audit.last_sequence().0 };
        match fate {
            Fate::Written => {
                if changes > 0 {
                    self.history.note(self.now, written);
                }
                self.check(at)?;
                self.reply(answers);
            }
            Fate::NotWritten | Fate::Denied => {
                let line = if fate == Fate::Denied { Line::WrittenButDenied } else { Line::NotWritten };
                self.history.note(self.now, line);
                if self.coordinator.flaw != Some(Flaw::KeepsWhatWasNotWritten) {
                    self.coordinator.scheduler = None;
                }
                // Refusals too: they may rest on changes that were not written.
                self.reply(answers.into_iter().map(|(request, _)| (request, Answer::Unavailable)).collect());
            }
            Fate::DiesBefore | Fate::DiesAfter => {
                self.breaks_off(answers.into_iter().map(|(request, _)| request).collect());
                self.coordinator_dies();
                return Ok(());
            }
        }
        if self.coordinator.inbox.is_empty() && self.coordinator.undelivered.is_empty() {
            self.set_alarm();
            Ok(())
        } else {
            self.plan(0, Event::Wakes);
            self.coordinator.wake = Some(self.now);
            Ok(())
        }
    }

    /// The batch is in the database.
    fn write(&mut self, applied: &[Applied], at: Timestamp) -> Result<(), Violation> {
        self.commits += 1;
        for one in applied {
            self.audit.written(one, at)?;
            if let Some(rows) = &mut self.coordinator.rows {
                one.changes.iter().try_for_each(|change| rows.apply(change))?;
            }
        }
        Ok(())
    }

    fn check(&mut self, at: Timestamp) -> Result<(), Violation> {
        let Some(scheduler) = &self.coordinator.scheduler else { return Ok(()) };
        self.audit.compare_touched(scheduler)?;
        if self.settings.size == Size::Small && self.commits.is_multiple_of(INSPECTED) {
            self.audit.inspect(scheduler, self.coordinator.rows.as_ref(), at)?;
        }
        Ok(())
    }

    /// Everything there is, at a moment at which nothing is under way but perhaps time that has not passed yet.
    pub(super) fn inspect(&self) -> Result<(), Violation> {
        let Some(scheduler) = &self.coordinator.scheduler else { return Ok(()) };
        if self.coordinator.committing.is_some() {
            return Ok(());
        }
        let rows = self.coordinator.rows.as_ref().filter(|_| self.settings.size == Size::Small);
        self.audit.inspect(scheduler, rows, self.time())
    }

    fn reply(&mut self, answers: Vec<(Request, Answer)>) {
        for (request, answer) in answers {
            if let Answer::Granted(works) = &answer
                && self.is_closed(&request)
            {
                let held = works.iter().map(|work| Held { lease: work.lease, token: work.token });
                self.coordinator.undelivered.extend(held);
                continue;
            }
            self.answer(&request, answer);
        }
    }

    fn answer(&mut self, request: &Request, answer: Answer) {
        let Request { call, attempt, caller, ask } = *request;
        let [first, second] = self.deliveries(caller, ask);
        if let Some(delay) = second {
            self.plan(delay, Event::Answered { call, attempt, caller, answer: answer.clone() });
        }
        if let Some(delay) = first {
            self.plan(delay, Event::Answered { call, attempt, caller, answer });
        }
    }

    /// Looks at the time again when something is due.
    fn set_alarm(&mut self) {
        let alarm = self.coordinator.scheduler.as_ref().and_then(Scheduler::next_alarm);
        let alarm = alarm.filter(|_| self.coordinator.flaw != Some(Flaw::NeverTicks));
        let alarm = alarm.map(|alarm| alarm.0 - super::EPOCH);
        let poll = self.coordinator.parked.front().map(|poll| poll.until);
        let rebuild = self.coordinator.scheduler.is_none().then_some(self.now + 1);
        let Some(wake) = alarm.into_iter().chain(poll).chain(rebuild).min() else { return };
        let wake = wake.max(self.now + 1);
        if self.coordinator.wake.is_none_or(|earlier| wake < earlier || earlier < self.now) {
            self.coordinator.wake = Some(wake);
            self.plan(wake - self.now, Event::Wakes);
        }
    }

    pub(super) fn next_death(&mut self) {
        let delay = wait(&mut self.random, self.climate.between_deaths);
        self.plan(delay, Event::Dies);
    }

    /// The coordinator dies at a moment of its own.
    pub(super) fn dies(&mut self) {
        if self.calm_since.is_some() {
            return;
        }
        self.next_death();
        if self.coordinator.up {
            if let Some(batch) = self.coordinator.committing.take() {
                self.breaks_off(batch.answers.into_iter().map(|(request, _)| request).collect());
            }
            self.coordinator_dies();
        }
    }

    fn coordinator_dies(&mut self) {
        self.history.note(self.now, Line::CoordinatorDies);
        let Coordinator { life, up, scheduler, inbox, parked, undelivered, wake, .. } = &mut self.coordinator;
        *life += 1;
        *up = false;
        *scheduler = None;
        *wake = None;
        undelivered.clear();
        let waiting =
            std::mem::take(inbox).into_iter().chain(std::mem::take(parked).into_iter().map(|poll| poll.request));
        let waiting = waiting.collect();
        self.breaks_off(waiting);
        let absent = if self.calm_since.is_some() { 1_000 } else { self.climate.longest_absence };
        let absent = self.random.between(100..=absent.max(100));
        self.plan(absent, Event::Revives);
    }

    /// Connections break. Most clients see it; some wait until their patience ends.
    fn breaks_off(&mut self, requests: Vec<Request>) {
        for request in requests {
            if self.random.chance(800) {
                self.answer(&request, Answer::Unavailable);
            }
        }
    }

    pub(super) fn revives(&mut self) -> Result<(), Violation> {
        let Some(scheduler) = self.coordinator.restored(self.time()) else { return Ok(()) };
        self.history.note(self.now, Line::CoordinatorStarts);
        self.coordinator.up = true;
        self.rebuilt(&scheduler)?;
        self.coordinator.scheduler = Some(scheduler);
        self.set_alarm();
        Ok(())
    }

    /// A state was rebuilt from the rows: it must be what was written.
    fn rebuilt(&mut self, scheduler: &Scheduler) -> Result<(), Violation> {
        self.restores += 1;
        self.audit.restarted();
        self.audit.compare_all(scheduler)?;
        match self.settings.size {
            Size::Small => self.audit.inspect(scheduler, self.coordinator.rows.as_ref(), self.time()),
            Size::Large { .. } => Ok(()),
        }
    }

    fn command(&mut self, ask: Ask) -> Result<Command, Violation> {
        let held = ask.held().unwrap_or(crate::wire::NO_LEASE);
        Ok(match ask {
            Ask::Submit(plan) => {
                let (experiment, jobs) = self.plans.get(plan)?;
                let by = Some(["ann", "bob"][plan % 2].to_owned());
                Command::Submit { experiment: Box::new(experiment), jobs, by }
            }
            Ask::Register(place) => Command::Register(self.description(place)),
            Ask::Lease { worker, slots, .. } => Command::Lease { worker, slots },
            Ask::Progress { step, .. } => {
                // The first word of a job that is still being prepared renews its lease only.
                let counts_all = self.coordinator.flaw == Some(Flaw::CountsEveryLoss);
                let epoch = if counts_all { 0 } else { epoch(step) };
                let progress = (step > 0).then_some(Progress { epoch, epochs: 1_000, step, steps: 1_000, silent_s: 0 });
                Command::Progress { held, progress }
            }
            Ask::Complete { adopted, memory_mib, on, .. } => {
                let manifest = match on {
                    Some(on) => Some(manifest(self.any_spec()?, on)),
                    None => None,
                };
                let outcome = Outcome { result: Some(RESULT), adopted, manifest };
                Command::Complete { held, outcome: Box::new(outcome), evaluation: None, memory_mib }
            }
            Ask::Fail { class, lacks, .. } => {
                let failure = Failure { class, reason: "it was to fail".to_owned() };
                let cause = match lacks {
                    Lacks::Nothing => None,
                    Lacks::Checkpoint => Some(Cause::Checkpoint),
                    Lacks::Backbone(sha256) => Some(Cause::OtherBackbone { sha256 }),
                    Lacks::Machine(_) if self.coordinator.flaw == Some(Flaw::BlamesJobs) => None,
                    Lacks::Machine(Unable::OutputRoot) => Some(Cause::OutputRoot),
                    Lacks::Machine(Unable::Dataset(_)) => Some(Cause::Dataset),
                    Lacks::Machine(Unable::Backbone(_)) => Some(Cause::Backbone),
                    Lacks::Machine(Unable::Job) => Some(Cause::Job),
                    Lacks::Folder => Some(Cause::FolderInUse { holder: "somebody".to_owned(), host: None }),
                };
                Command::Fail { held, failure, cause }
            }
            Ask::Release { .. } => Command::Release { held, unfinished: None },
            Ask::Drain(worker) => Command::Drain { worker },
            Ask::Leave(worker) => Command::Leave { worker },
            Ask::CancelJob(job) => Command::CancelJobs(vec![job]),
            Ask::CancelExperiment(experiment) => Command::CancelExperiment(experiment),
            Ask::RetryJob(job) => Command::RetryJobs(vec![job]),
            Ask::RetryExperiment(experiment) => Command::RetryExperiment(experiment),
            Ask::RerunJob { job, shared } => Command::RerunJobs { jobs: vec![job], shared },
            Ask::RerunExperiment { experiment, which, shared } => {
                Command::RerunExperiment { experiment, which, shared }
            }
            Ask::Recheck(place) => Command::Recheck { host: Some(format!("host {place}")) },
            Ask::Look { job, lists } => Command::Look(vec![Finding {
                job,
                split_sha256: lists.split,
                test_sha256: lists.test,
                images_sha256: None,
            }]),
            Ask::Pin { backbone, weights } => {
                Command::Pin { backbone: BACKBONES[backbone].to_owned(), sha256: weights }
            }
        })
    }

    /// The specification that all manifests name: only what a result rests on is looked at.
    fn any_spec(&mut self) -> Result<JobSpec, Violation> {
        if self.coordinator.any_spec.is_none() {
            let (_, jobs) = self.plans.get(0)?;
            self.coordinator.any_spec = jobs.first().map(|job| job.spec.to_spec());
        }
        let missing = || promptfield_core::input::InvalidInput::new("plan", 0, "a plan with a job");
        self.coordinator.any_spec.clone().ok_or_else(|| missing().into())
    }
}

/// The manifest of a folder whose numbers rest on this.
fn manifest(spec: JobSpec, On { weights, lists, says_test }: On) -> Manifest {
    Manifest {
        format: if says_test { Manifest::FORMAT } else { 1 },
        spec_hash: spec.hash(),
        spec,
        weights_sha256: weights.to_string(),
        architecture: Architecture::OPENAI,
        assumed: Vec::new(),
        split_sha256: lists.split.to_string(),
        test_sha256: says_test.then(|| lists.test.to_string()),
        checkpoint_sha256: None,
        left_out: Vec::new(),
        code_version: promptfield_core::VERSION.to_owned(),
        device: "cpu".to_owned(),
        threads: 1,
        result: Some(RESULT),
        started_at: Timestamp(0),
        seconds: Seconds::default(),
        files: BTreeMap::new(),
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

fn answer_of(reply: &Result<Reply, Rejection>) -> Answer {
    match reply {
        Ok(Reply::Submitted(submitted)) => Answer::Submitted {
            experiment: submitted.experiment,
            created: submitted.created,
            jobs: submitted.counts.total(),
        },
        Ok(Reply::Registered(worker)) => Answer::Registered(*worker),
        Ok(Reply::Granted(grants)) => Answer::Granted(grants.iter().map(work_of).collect()),
        Ok(Reply::Renewed { ttl_ms }) => Answer::Renewed { ttl_ms: *ttl_ms },
        Ok(Reply::Changed(jobs)) => Answer::Changed(*jobs),
        Ok(Reply::Done | Reply::Steps(_)) => Answer::Done,
        Err(Rejection::Stale { .. } | Rejection::UnwantedPilot(_)) => Answer::Stale,
        Err(Rejection::NoWorker(_)) => Answer::NoWorker,
        Err(Rejection::NoResult { .. } | Rejection::Shared { .. } | Rejection::NameTaken { .. }) => Answer::Refused,
        Err(Rejection::NoExperiment(_) | Rejection::NoJob(_) | Rejection::NoPool(_)) => Answer::NotFound,
    }
}

fn work_of(grant: &Grant) -> Work {
    Work {
        lease: grant.lease,
        token: grant.token,
        job: grant.job,
        trains: grant.spec.stage == Stage::Train,
        tests: grant.needs.is_some(),
        dataset: place(&DATASETS, &grant.spec.recipe.dataset),
        backbone: place(&BACKBONES, &grant.spec.recipe.backbone),
        pinned: grant.backbone_sha256,
        afresh: grant.afresh,
        ttl_ms: grant.ttl_ms,
    }
}

/// Where a name stands; in a large world there are more data sets, of which nothing changes.
fn place(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).unwrap_or_default()
}
