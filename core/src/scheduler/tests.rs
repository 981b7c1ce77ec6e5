//! The scheduler under random commands, with its database played by [`Database`].

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::dataset::Catalogue;
use crate::experiment::{Experiment, Known};
use crate::id::FencingToken;
use crate::matrix;
use crate::outcome::{Failure, FailureClass, TestResult};
use crate::trainer_wire::{Outcome, Progress};

const RESULT: TestResult =
    TestResult { total: 10, correct: 9, accuracy: 90.0, error: 10.0, macro_f1: 90.0, calibration_error: None };

fn experiment(name: &str, rest: &str) -> Command {
    let known = Known { datasets: Catalogue::built_in(), backbones: Vec::new() };
    let text = format!("name = \"{name}\"\nprotocol = \"base_to_new\"\nbackbone = \"ViT-B/16\"\n{rest}");
    let experiment = Experiment::from_toml(&text, &known).unwrap();
    let jobs = matrix::expand(&experiment, &known.datasets).unwrap();
    Command::Submit { experiment: Box::new(experiment), jobs }
}

fn worker(name: &str) -> WorkerDescription {
    WorkerDescription {
        name: name.into(),
        host: "host".into(),
        slots: 2,
        devices: vec!["cpu".into()],
        backbones: vec!["ViT-B/16".into()],
        version: "0".into(),
    }
}

/// What the changes leave in a database.
#[derive(Default)]
struct Database {
    rows: Rows,
    results: BTreeMap<JobId, usize>,
}

impl Database {
    fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::ExperimentAdded(record) => self.rows.experiments.push(record),
                Change::ExperimentCancelled { experiment, cancelled } => {
                    let row = self.rows.experiments.iter_mut().find(|row| row.id == experiment).unwrap();
                    row.cancelled = cancelled;
                }
                Change::JobAdded(record) => self.rows.jobs.push(*record),
                Change::JobLinked { experiment, job, variant } => self.rows.links.push((experiment, job, variant)),
                Change::JobChanged { job, state, failures } => {
                    let row = self.job(job);
                    row.state = state;
                    row.failures = failures;
                }
                Change::JobPriority { job, priority } => self.job(job).priority = priority,
                Change::AttemptStarted { lease, token, job, worker, .. } => {
                    self.rows.attempts.push((lease, job));
                    self.job(job).latest = Some(Attempt { held: Held { lease, token }, worker });
                }
                Change::AttemptEnded { .. } => {}
                Change::ResultRecorded { job, .. } => *self.results.entry(job).or_default() += 1,
                Change::Worker(record) => match self.rows.workers.iter_mut().find(|row| row.id == record.id) {
                    Some(row) => *row = record,
                    None => self.rows.workers.push(record),
                },
                Change::Event(event) => {
                    assert_eq!(event.sequence.0, self.rows.last_sequence.0 + 1, "the log has no gap");
                    self.rows.last_sequence = event.sequence;
                }
            }
        }
    }

    fn job(&mut self, id: JobId) -> &mut JobRecord {
        self.rows.jobs.iter_mut().find(|row| row.id == id).unwrap()
    }
}

/// A scheduler with its database and a clock.
struct World {
    scheduler: Scheduler,
    database: Database,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        let now = Timestamp(1_000_000);
        Self { scheduler: Scheduler::new(Policy::default()), database: Database::default(), now }
    }

    fn apply(&mut self, command: Command) -> Result<Reply, Rejection> {
        let (changes, reply) = self.scheduler.apply(command, self.now);
        if reply.is_err() {
            assert!(changes.is_empty(), "a rejected command changes nothing");
        }
        self.database.write(changes);
        assert_eq!(self.scheduler.violations(), Vec::<String>::new());
        reply
    }

    fn pass(&mut self, milliseconds: i64) {
        self.now = self.now.plus(milliseconds);
        self.apply(Command::Tick).unwrap();
    }

    fn register(&mut self, name: &str) -> WorkerId {
        match self.apply(Command::Register(worker(name))) {
            Ok(Reply::Registered(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    fn lease(&mut self, worker: WorkerId, slots: usize) -> Vec<Grant> {
        match self.apply(Command::Lease { worker, slots }) {
            Ok(Reply::Granted(grants)) => grants,
            other => panic!("{other:?}"),
        }
    }

    fn submit(&mut self, command: Command) -> Submitted {
        match self.apply(command) {
            Ok(Reply::Submitted(submitted)) => submitted,
            other => panic!("{other:?}"),
        }
    }

    fn state(&self, job: JobId) -> JobStateName {
        self.scheduler.job(job).unwrap().state.name()
    }

    fn restored(&self) -> Scheduler {
        Scheduler::restore(Policy::default(), self.database.rows.clone(), self.now)
    }
}

fn held(grant: &Grant) -> Held {
    Held { lease: grant.lease, token: grant.token }
}

fn completes(grant: &Grant) -> Command {
    let outcome = Outcome { result: RESULT, adopted: false, manifest: None };
    Command::Complete { held: held(grant), outcome: Box::new(outcome), evaluation: None }
}

fn fails(grant: &Grant, class: FailureClass) -> Command {
    Command::Fail { held: held(grant), failure: Failure { class, reason: "it broke".into() } }
}

const ONE_SEED: &str = "methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]";

#[test]
fn a_matrix_runs_to_its_end_in_order() {
    let mut world = World::new();
    let submitted = world.submit(experiment("x", ONE_SEED));
    assert_eq!((submitted.created, submitted.counts.queued, submitted.counts.blocked), (true, 1, 1));
    let worker = world.register("w");
    let grants = world.lease(worker, 5);
    let [train] = grants.as_slice() else { panic!("{grants:?}") };
    world.apply(completes(train)).unwrap();
    let tests = world.lease(worker, 5);
    let [test] = tests.as_slice() else { panic!("{tests:?}") };
    assert_eq!(test.needs.as_deref(), Some(train.spec.as_ref()));
    world.apply(completes(test)).unwrap();
    let (_, counts) = world.scheduler.experiment(submitted.experiment).unwrap();
    assert_eq!((counts.completed, counts.open()), (2, 0));
}

#[test]
fn submitting_again_changes_nothing_and_shared_jobs_are_shared() {
    let mut world = World::new();
    let first = world.submit(experiment("x", ONE_SEED));
    let again = world.submit(experiment("x", ONE_SEED));
    assert_eq!((again.created, again.experiment), (false, first.experiment));
    let wider = world.submit(experiment("y", "methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2]"));
    assert_eq!((wider.counts.total(), world.database.rows.jobs.len()), (4, 4));
}

#[test]
fn a_lost_worker_s_job_runs_again_and_the_late_one_bounces() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let (slow, quick) = (world.register("slow"), world.register("quick"));
    let late = world.lease(slow, 1).remove(0);
    world.pass(30_000);
    assert_eq!(world.state(late.job), JobStateName::Queued);
    world.pass(1_000);
    let again = world.lease(quick, 1).remove(0);
    assert!(again.token > late.token);
    let error = world.apply(completes(&late)).unwrap_err();
    assert!(error.to_string().contains(&format!("leased again, as {}", again.lease)), "{error}");
    world.apply(completes(&again)).unwrap();
    world.apply(completes(&again)).unwrap();
    assert_eq!(world.database.results[&again.job], 1);
}

#[test]
fn a_worker_that_was_cut_off_goes_on_if_nobody_took_its_job() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let worker = world.register("w");
    let grant = world.lease(worker, 1).remove(0);
    world.pass(40_000);
    assert_eq!(world.state(grant.job), JobStateName::Queued);
    world.apply(Command::Progress { held: held(&grant), progress: Some(Progress::default()) }).unwrap();
    assert_eq!(world.state(grant.job), JobStateName::Running);
    assert_eq!(world.lease(worker, 1), Vec::new());
    world.pass(40_000);
    world.apply(completes(&grant)).unwrap();
    assert_eq!(world.state(grant.job), JobStateName::Completed);
}

#[test]
fn failures_back_off_and_end_at_the_fifth() {
    let mut world = World::new();
    let id = world.submit(experiment("x", ONE_SEED)).experiment;
    let worker = world.register("w");
    for (attempt, wait) in [1_000, 2_000, 4_000, 8_000].into_iter().enumerate() {
        let grant = world.lease(worker, 1).remove(0);
        world.apply(fails(&grant, FailureClass::TrainerDied)).unwrap();
        world.pass(wait - 1);
        assert_eq!(world.lease(worker, 1), Vec::new(), "attempt {attempt}");
        world.pass(1);
    }
    let grant = world.lease(worker, 1).remove(0);
    world.apply(fails(&grant, FailureClass::TrainerDied)).unwrap();
    let (_, counts) = world.scheduler.experiment(id).unwrap();
    assert_eq!(counts.failed, 2, "the test falls with its training");
    let because = world.scheduler.explain(grant.job, world.now).unwrap().because;
    assert_eq!(because, "failed 5 times, the last time because: it broke");
    assert_eq!(world.apply(Command::RetryJob(grant.job)), Ok(Reply::Changed(2)));
    assert_eq!(world.scheduler.job(grant.job).map(|job| job.failures), Some(0), "a person's retry starts afresh");
    assert_eq!(world.lease(worker, 5).len(), 1);
}

#[test]
fn bad_data_is_not_tried_again() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let worker = world.register("w");
    let grant = world.lease(worker, 1).remove(0);
    world.apply(fails(&grant, FailureClass::BadData)).unwrap();
    assert_eq!(world.state(grant.job), JobStateName::Failed);
}

#[test]
fn a_worker_started_again_frees_what_it_held() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let first = world.register("w");
    let grant = world.lease(first, 1).remove(0);
    let second = world.register("w");
    assert_eq!(world.apply(Command::Lease { worker: first, slots: 1 }), Err(Rejection::NoWorker(first)));
    world.pass(1_000);
    assert_eq!(world.lease(second, 1)[0].job, grant.job);
}

#[test]
fn a_released_job_is_not_a_failure() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let worker = world.register("w");
    for _ in 0..10 {
        let grant = world.lease(worker, 1).remove(0);
        world.apply(Command::Release { held: held(&grant) }).unwrap();
    }
    assert_eq!(world.scheduler.job(JobId(1)).unwrap().failures, 0);
}

#[test]
fn cancelling_spares_what_another_experiment_wants() {
    let mut world = World::new();
    let first = world.submit(experiment("x", ONE_SEED)).experiment;
    let second =
        world.submit(experiment("y", "methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1, 2]")).experiment;
    assert_eq!(world.apply(Command::CancelExperiment(first)), Ok(Reply::Changed(0)));
    let worker = world.register("w");
    let grant = world.lease(worker, 1).remove(0);
    assert_eq!(world.apply(Command::CancelExperiment(second)), Ok(Reply::Changed(4)));
    assert!(matches!(world.apply(completes(&grant)), Err(Rejection::Stale { .. })));
    assert_eq!(world.apply(Command::RetryExperiment(first)), Ok(Reply::Changed(2)));
}

#[test]
fn jobs_run_by_priority_then_by_what_they_unblock() {
    let mut world = World::new();
    world.submit(experiment("x", "methods = [\"zero_shot\", \"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]"));
    world.submit(experiment("y", "priority = 5\nmethods = [\"mmrlpp\"]\ndatasets = [\"dtd\"]\nseeds = [1]"));
    let worker = world.register("w");
    let order: Vec<_> = world.lease(worker, 9).into_iter().map(|grant| grant.spec.method.key()).collect();
    assert_eq!(order, ["mmrlpp", "alignednorm", "zero_shot", "zero_shot"]);
}

#[test]
fn waiting_is_explained() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let because = |world: &World, job| world.scheduler.explain(JobId(job), world.now).unwrap().because;
    assert_eq!(because(&world, 1), "no worker is connected");
    assert_eq!(because(&world, 2), "it needs the checkpoint of job 1, which is queued");
    let mut other = worker("w");
    other.backbones = vec!["clip-mini".into()];
    world.apply(Command::Register(other)).unwrap();
    assert_eq!(because(&world, 1), "none of the 1 connected workers has the backbone `ViT-B/16`");
    world.register("able");
    assert_eq!(because(&world, 1), "0 jobs stand before it, for 2 slots of 1 workers");
}

/// A random action; numbers are taken modulo what exists.
#[derive(Clone, Debug)]
enum Action {
    Submit(usize),
    Register(usize),
    Lease(usize, usize),
    Progress(usize),
    Complete(usize, bool),
    Fail(usize, usize),
    Release(usize),
    Drain(usize),
    Leave(usize),
    CancelJob(usize),
    CancelExperiment(usize),
    RetryJob(usize),
    RetryExperiment(usize),
    Pass(i64),
    Forge(usize),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        1 => (0..4_usize).prop_map(Action::Submit),
        2 => (0..3_usize).prop_map(Action::Register),
        8 => (0..8_usize, 0..4_usize).prop_map(|(worker, slots)| Action::Lease(worker, slots)),
        4 => (0..64_usize).prop_map(Action::Progress),
        6 => (0..64_usize, any::<bool>()).prop_map(|(grant, adopted)| Action::Complete(grant, adopted)),
        3 => (0..64_usize, 0..8_usize).prop_map(|(grant, class)| Action::Fail(grant, class)),
        2 => (0..64_usize).prop_map(Action::Release),
        1 => (0..8_usize).prop_map(Action::Drain),
        1 => (0..8_usize).prop_map(Action::Leave),
        1 => (0..16_usize).prop_map(Action::CancelJob),
        1 => (0..4_usize).prop_map(Action::CancelExperiment),
        1 => (0..16_usize).prop_map(Action::RetryJob),
        1 => (0..4_usize).prop_map(Action::RetryExperiment),
        4 => (0..50_000_i64).prop_map(Action::Pass),
        1 => (0..64_usize).prop_map(Action::Forge),
    ]
}

fn command(action: &Action, grants: &[Grant]) -> Command {
    let grant = |i: usize| grants.get(i % grants.len().max(1));
    let of = |i: usize| grant(i).map_or(Held { lease: LeaseId(99), token: FencingToken(99) }, held);
    let worker = |i: usize| WorkerId(i as u64);
    match *action {
        Action::Submit(which) => {
            let seeds = ["[1]", "[1, 2]", "[2, 3]", "[1, 2, 3]"][which];
            let rest = format!(
                "priority = {which}\nmethods = [\"alignednorm\", \"zero_shot\"]\ndatasets = [\"dtd\"]\nseeds = {seeds}"
            );
            experiment("random", &rest)
        }
        Action::Register(which) => Command::Register(self::worker(&format!("w{which}"))),
        Action::Lease(i, slots) => Command::Lease { worker: worker(i), slots },
        Action::Progress(i) => Command::Progress { held: of(i), progress: (i % 2 == 0).then(Progress::default) },
        Action::Complete(i, adopted) => {
            let outcome = Outcome { result: RESULT, adopted, manifest: None };
            Command::Complete { held: of(i), outcome: Box::new(outcome), evaluation: None }
        }
        Action::Fail(i, class) => {
            let class = FailureClass::ALL[class % FailureClass::ALL.len()];
            Command::Fail { held: of(i), failure: Failure { class, reason: "random".into() } }
        }
        Action::Release(i) => Command::Release { held: of(i) },
        Action::Drain(i) => Command::Drain { worker: worker(i) },
        Action::Leave(i) => Command::Leave { worker: worker(i) },
        Action::CancelJob(i) => Command::CancelJob(JobId(i as u64)),
        Action::CancelExperiment(i) => Command::CancelExperiment(ExperimentId(i as u64)),
        Action::RetryJob(i) => Command::RetryJob(JobId(i as u64)),
        Action::RetryExperiment(i) => Command::RetryExperiment(ExperimentId(i as u64)),
        Action::Pass(_) => Command::Tick,
        Action::Forge(i) => {
            let Held { lease, token } = of(i);
            let held = Held { lease, token: FencingToken(token.0 + 1) };
            let outcome = Outcome { result: RESULT, adopted: false, manifest: None };
            Command::Complete { held, outcome: Box::new(outcome), evaluation: None }
        }
    }
}

/// The parts of a state that a restart must bring back.
fn essence(scheduler: &Scheduler) -> impl PartialEq + std::fmt::Debug + use<> {
    let jobs: Vec<_> = scheduler
        .jobs
        .values()
        .map(|entry| {
            let state = match &entry.record.state {
                JobState::Leased(lease) | JobState::Running(lease) => {
                    let timeless = Lease { deadline: Timestamp(0), progress: Progress::default(), ..lease.clone() };
                    (entry.record.state.name(), JobState::Leased(timeless))
                }
                state => (state.name(), state.clone()),
            };
            let record = JobRecord { state: state.1, ..entry.record.clone() };
            (state.0, record, entry.dependents.clone(), entry.experiments.clone())
        })
        .collect();
    let experiments: Vec<_> =
        scheduler.experiments.values().map(|entry| (entry.record.clone(), entry.jobs.clone(), entry.counts)).collect();
    let workers: Vec<_> = scheduler.workers.values().map(|entry| (entry.record.clone(), entry.held.clone())).collect();
    let ready: BTreeSet<_> = scheduler.ready.clone();
    (jobs, experiments, workers, ready, scheduler.next_lease, scheduler.next_sequence)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// No order of commands, times and lies breaks an invariant, records a result twice, or leaves rows from which the
    /// state can't be rebuilt; and whatever happened, willing workers bring every job to an end.
    #[test]
    fn nothing_is_lost_or_done_twice(actions in proptest::collection::vec(action(), 1..120)) {
        let mut world = World::new();
        let mut grants: Vec<Grant> = Vec::new();
        for action in &actions {
            if let Action::Pass(milliseconds) = action {
                world.pass(*milliseconds);
            } else if let Ok(Reply::Granted(granted)) = world.apply(command(action, &grants)) {
                grants.extend(granted);
            }
            let restored = world.restored();
            prop_assert_eq!(restored.violations(), Vec::<String>::new());
            prop_assert_eq!(essence(&restored), essence(&world.scheduler));
            for (job, results) in &world.database.results {
                prop_assert_eq!(*results, 1, "job {}", job);
                prop_assert!(world.scheduler.job(*job).unwrap().state.name().is_done());
            }
        }
        let worker = world.register("willing");
        for _ in 0..200 {
            for grant in world.lease(worker, 4) {
                world.apply(completes(&grant)).unwrap();
            }
            world.pass(10_000);
        }
        for record in world.scheduler.jobs.values().map(|entry| &entry.record) {
            prop_assert!(record.state.name().is_final(), "job {} is {}", record.id, record.state.name());
            prop_assert_eq!(record.state.name().is_done(), world.database.results.contains_key(&record.id));
        }
    }
}
