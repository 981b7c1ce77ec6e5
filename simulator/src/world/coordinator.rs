//! The coordinator: the real scheduler behind the writer's real batches.
//!
//! All requests that wait are carried out in order, what they changed is committed at once, and only then is anybody answered.
//! A commit takes its time and may fail; the coordinator may die at any moment, and starts again from the rows. [`Flaw`]s are
//! built in here, where the simulation stands in for the server.

use std::collections::{BTreeMap, VecDeque};

use promptfield_core::id::JobId;
use promptfield_core::job::backbone::Architecture;
use promptfield_core::job::basis::Finding;
use promptfield_core::job::outcome::{Failure, Manifest, Outcome, Progress, Seconds, TestResult};
use promptfield_core::job::spec::JobSpec;
use promptfield_core::protocol::Stage;
use promptfield_core::scheduler::batch::{Batch, Poll, Recorder, Room, Served, Waiting};
use promptfield_core::scheduler::machine_fault::Cause;
use promptfield_core::scheduler::{Change, Command, Grant, Policy, Rejection, Reply, Rows, Scheduler};
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
    /// Workers that wait for a job.
    waiting: Waiting<Request>,
    committing: Option<Commit>,
    /// When it looks at the time next.
    wake: Option<i64>,
    any_spec: Option<JobSpec>,
}

/// A batch that was carried out, and awaits its commit.
#[derive(Debug)]
struct Commit {
    at: Timestamp,
    applied: Vec<Applied>,
    answers: Vec<(Request, Answer, Vec<Grant>)>,
    changes: usize,
    fate: Fate,
}

/// Carries commands out as the world's coordinator does, right or wrong.
#[derive(Debug)]
struct Hand<'a> {
    world: &'a mut World,
    applied: Vec<Applied>,
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
            policy: policy.clone(),
            flaw,
            life: 0,
            up: true,
            scheduler: Some(Scheduler::new(policy)),
            rows: reads_back.then(Rows::default),
            inbox: VecDeque::new(),
            waiting: Waiting::default(),
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
        Some(Scheduler::restore(self.policy.clone(), rows, now))
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
        let rebuilt = self.coordinator.scheduler.is_none();
        let Some(mut scheduler) = self.coordinator.scheduler.take().or_else(|| self.coordinator.restored(at)) else {
            return Ok(());
        };
        if rebuilt {
            self.rebuilt(&scheduler)?;
        }
        let flaw = self.coordinator.flaw;
        let half_a_lease = self.coordinator.policy.lease_ms / 2;
        let mut waiting = std::mem::take(&mut self.coordinator.waiting);
        let mut answers = Vec::new();
        let hand = Hand { world: self, applied: Vec::new() };
        let mut batch = Batch::begin(&mut scheduler, &mut waiting, hand, at, rebuilt);
        for _ in 0..BATCH {
            let world = &mut *batch.recorder().world;
            let Some(request) = world.coordinator.inbox.pop_front() else { break };
            if let Ask::Lease { worker, slots } = request.ask {
                batch.poll(Poll { worker, slots, until: at.plus(POLL), asker: request });
            } else {
                let command = world.command(request.ask)?;
                let reply = batch.apply(Some(&request), command);
                answers.push((request, answer_of(&reply), Vec::new()));
            }
        }
        match flaw {
            Some(Flaw::NeverTicks) => {}
            Some(Flaw::EndsLeasesEarly) => batch.pass_time_until(at.plus(half_a_lease)),
            _ => batch.pass_time(),
        }
        let (Hand { applied, .. }, served) = batch.serve(Room { most: usize::MAX, closes: false });
        answers.extend(served.into_iter().map(|(request, served)| match served {
            Served::AtOnce(reply) | Served::Ready(reply) | Served::Ended(reply) => {
                let answer = answer_of(&reply);
                (request, answer, if let Ok(Reply::Granted(grants)) = reply { grants } else { Vec::new() })
            }
            Served::Full => (request, Answer::Unavailable, Vec::new()),
        }));
        (self.coordinator.waiting, self.coordinator.scheduler) = (waiting, Some(scheduler));
        let changes = applied.iter().map(|one| one.changes.len()).sum();
        if flaw == Some(Flaw::AnswersBeforeCommit) {
            self.reply(std::mem::take(&mut answers));
        }
        let mut commit = Commit { at, applied, answers, changes, fate: Fate::Written };
        if changes == 0 {
            return self.finish(commit);
        }
        commit.fate = self.fate();
        let slow = self.random.chance(self.climate.slow);
        let takes = if slow { 1..=self.climate.slowest.max(8) } else { COMMIT };
        let takes = self.random.between(takes);
        self.coordinator.committing = Some(commit);
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

    pub(super) fn commits(&mut self, life: u32) -> Result<(), Violation> {
        if life != self.coordinator.life {
            return Ok(());
        }
        let Some(commit) = self.coordinator.committing.take() else { return Ok(()) };
        self.finish(commit)
    }

    /// What becomes of a batch, and then the next one.
    fn finish(&mut self, commit: Commit) -> Result<(), Violation> {
        let Commit { at, applied, answers, fate, changes } = commit;
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
                for (request, ..) in answers {
                    self.answer(&request, Answer::Unavailable);
                }
            }
            Fate::DiesBefore | Fate::DiesAfter => {
                self.breaks_off(answers.into_iter().map(|(request, ..)| request).collect());
                self.coordinator_dies();
                return Ok(());
            }
        }
        if self.coordinator.inbox.is_empty() {
            self.set_alarm();
        } else {
            self.plan(0, Event::Wakes);
            self.coordinator.wake = Some(self.now);
        }
        Ok(())
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

    fn reply(&mut self, answers: Vec<(Request, Answer, Vec<Grant>)>) {
        for (request, answer, grants) in answers {
            if grants.is_empty() || !self.is_closed(&request) {
                self.answer(&request, answer);
            } else {
                self.coordinator.waiting.not_delivered(&grants);
            }
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
        let Coordinator { scheduler, waiting, flaw, .. } = &self.coordinator;
        let due = waiting.due(scheduler.as_ref().filter(|_| *flaw != Some(Flaw::NeverTicks)), self.time());
        let due = due.map(|due| due.0 - super::EPOCH);
        let rebuild = scheduler.is_none().then_some(self.now + 1);
        let Some(wake) = due.into_iter().chain(rebuild).min() else { return };
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
            if let Some(commit) = self.coordinator.committing.take() {
                self.breaks_off(commit.answers.into_iter().map(|(request, ..)| request).collect());
            }
            self.coordinator_dies();
        }
    }

    fn coordinator_dies(&mut self) {
        self.history.note(self.now, Line::CoordinatorDies);
        let Coordinator { life, up, scheduler, inbox, waiting, wake, .. } = &mut self.coordinator;
        *life += 1;
        *up = false;
        *scheduler = None;
        *wake = None;
        let unanswered = std::mem::take(inbox).into_iter().chain(std::mem::take(waiting).take_all());
        let unanswered = unanswered.collect();
        self.breaks_off(unanswered);
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
            Ask::Register(place) => Command::Register(Box::new(self.description(place))),
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

impl Recorder<Request> for Hand<'_> {
    fn apply(
        &mut self,
        scheduler: &mut Scheduler,
        _asker: Option<&Request>,
        mut command: Command,
        now: Timestamp,
    ) -> (Vec<Change>, Result<Reply, Rejection>) {
        let World { coordinator: Coordinator { flaw, .. }, audit, commands, .. } = &mut *self.world;
        if *flaw == Some(Flaw::TurnsWorkersAway) && matches!(command, Command::Lease { .. }) {
            return (Vec::new(), Ok(Reply::Granted(Vec::new())));
        }
        if let Command::Complete { held, .. } | Command::Fail { held, .. } = &mut command {
            let hears = match flaw {
                Some(Flaw::IgnoresTokens) => true,
                Some(Flaw::HearsFromBefore) => audit.is_from_before(*held),
                _ => false,
            };
            *held = audit.latest(held.lease).filter(|_| hears).unwrap_or(*held);
        }
        let again = match &command {
            Command::Complete { held, outcome, .. } if *flaw == Some(Flaw::RecordsTwice) => {
                Some((held.lease, outcome.result))
            }
            _ => None,
        };
        *commands += 1;
        let (mut changes, reply) = scheduler.apply(command, now);
        if let (Some((lease, result)), Ok(Reply::Done), true) = (again, &reply, changes.is_empty())
            && let Some(job) = audit.job_of(lease)
        {
            changes.push(Change::ResultRecorded { job, lease, result, manifest: None, evaluation: None });
        }
        if *flaw == Some(Flaw::DropsSuperseded) {
            changes.retain(|change| !matches!(change, Change::ResultSuperseded { .. }));
        }
        (changes, reply)
    }

    fn record(&mut self, asker: Option<&Request>, changes: Vec<Change>, reply: &Result<Reply, Rejection>) {
        if let Some(Request { caller, ask, .. }) = asker.copied() {
            let answer = answer_of(reply);
            self.world.history.note(self.world.now, Line::Applied { caller, ask, answer: &answer });
        }
        self.applied.push(Applied { ask: asker.map(|request| request.ask), changes, reply: reply.clone() });
    }

    fn is_gone(&self, request: &Request) -> bool {
        self.world.is_closed(request)
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
