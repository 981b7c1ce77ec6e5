//! The scheduler under random commands, with its database played by [`Database`].

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::experiment::{Experiment, Known, matrix};
use crate::id::{FencingToken, Sequence};
use crate::job::backbone::Architecture;
use crate::job::basis::Finding;
use crate::job::outcome::{Failure, FailureClass, Manifest, Outcome, Progress, Seconds, TestResult};
use crate::job::spec::BasisHash;
use crate::protocol::Stage;
use crate::scheduler::machine_fault::Cause;

mod ends;
mod faults;
mod forecast;
mod memory;
mod pilots;
mod rerun;
mod unfinished;

const RESULT: TestResult =
    TestResult { total: 10, correct: 9, accuracy: 90.0, error: 10.0, macro_f1: 90.0, calibration_error: None };

fn experiment(name: &str, rest: &str) -> Command {
    experiment_by(None, name, rest)
}

fn experiment_by(by: Option<&str>, name: &str, rest: &str) -> Command {
    let known = Known::built_in();
    let text = format!("name = \"{name}\"\nprotocol = \"base_to_new\"\nbackbone = \"ViT-B/16\"\n{rest}");
    let experiment = Experiment::from_toml(&text, &known).unwrap();
    let jobs = matrix::expand(&experiment, &known).unwrap();
    Command::Submit { experiment: Box::new(experiment), jobs, by: by.map(str::to_owned) }
}

fn worker(name: &str) -> WorkerDescription {
    WorkerDescription {
        name: name.into(),
        host: "host".into(),
        output_root: "/out".into(),
        places: String::new(),
        slots: 2,
        devices: vec!["cpu".into()],
        backbones: vec!["ViT-B/16".into()],
        backbone_sha256: BTreeMap::new(),
        methods: BTreeMap::new(),
        version: "0".into(),
        labels: Vec::new(),
        memory_mib: None,
        pilot: None,
        time_left_ms: None,
    }
}

/// What the changes leave in a database.
#[derive(Default)]
struct Database {
    rows: Rows,
    /// How many results jobs have that count.
    results: BTreeMap<JobId, usize>,
    /// How many that don't count any more.
    superseded: BTreeMap<JobId, usize>,
}

impl Database {
    fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.rows.apply(&change).unwrap();
            match change {
                Change::ResultRecorded { job, .. } => *self.results.entry(job).or_default() += 1,
                Change::ResultSuperseded { job, .. } => {
                    assert_eq!(self.results.remove(&job), Some(1), "job {job} had no result");
                    *self.superseded.entry(job).or_default() += 1;
                }
                _ => {}
            }
        }
    }

    /// Whether the next attempt of a job may find a folder that doesn't count any more.
    fn is_afresh(&self, grant: &Grant) -> bool {
        let needs = grant.needs.as_ref().map(|(needs, _)| *needs);
        std::iter::once(grant.job).chain(needs).any(|job| self.superseded.contains_key(&job))
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
        Self::with(Policy::default())
    }

    fn with(policy: Policy) -> Self {
        Self { scheduler: Scheduler::new(policy), database: Database::default(), now: Timestamp(1_000_000) }
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
        self.register_as(worker(name))
    }

    fn register_as(&mut self, description: WorkerDescription) -> WorkerId {
        match self.apply(Command::Register(Box::new(description))) {
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
        Scheduler::restore(self.scheduler.policy.clone(), self.database.rows.clone(), self.now)
    }
}

fn held(grant: &Grant) -> Held {
    Held { lease: grant.lease, token: grant.token }
}

fn completes(grant: &Grant) -> Command {
    let outcome = Outcome { result: Some(RESULT), adopted: false, manifest: None };
    Command::Complete { held: held(grant), outcome: Box::new(outcome), evaluation: None, memory_mib: None }
}

/// A hash that is easy to tell.
const fn sha256(digit: u8) -> BasisHash {
    BasisHash([digit; 32])
}

/// A result that rests on this backbone, split and test list; 0 for a test list that the manifest doesn't say.
type On = (u8, u8, u8);

fn completes_on(grant: &Grant, on: On) -> Command {
    reports(grant, on, false)
}

fn reports(grant: &Grant, (backbone, split, test): On, adopted: bool) -> Command {
    let manifest = Manifest {
        format: if test == 0 { 1 } else { Manifest::FORMAT },
        spec: grant.spec.to_spec(),
        spec_hash: grant.hash,
        weights_sha256: sha256(backbone).to_string(),
        architecture: Architecture::OPENAI,
        assumed: Vec::new(),
        split_sha256: sha256(split).to_string(),
        test_sha256: (test > 0).then(|| sha256(test).to_string()),
        checkpoint_sha256: None,
        left_out: Vec::new(),
        code_version: "0".into(),
        device: "cpu".into(),
        threads: 1,
        result: Some(RESULT),
        started_at: Timestamp(0),
        seconds: Seconds::default(),
        files: BTreeMap::new(),
    };
    let outcome = Outcome { result: Some(RESULT), adopted, manifest: Some(manifest) };
    Command::Complete { held: held(grant), outcome: Box::new(outcome), evaluation: None, memory_mib: None }
}

/// What a machine finds of a job's lists.
fn looks(job: u64, split: u8, test: u8) -> Command {
    let (split_sha256, test_sha256) = (sha256(split), sha256(test));
    Command::Look(vec![Finding { job: JobId(job), split_sha256, test_sha256, images_sha256: None }])
}

fn pins(backbone: &str, digit: u8) -> Command {
    Command::Pin { backbone: backbone.into(), sha256: sha256(digit) }
}

/// The checkpoint that a job was to test is lost.
fn lacks_checkpoint(grant: &Grant) -> Command {
    let failure = Failure { class: FailureClass::Missing, reason: "no checkpoint".into() };
    Command::Fail { held: held(grant), failure, cause: Some(Cause::Checkpoint) }
}

/// The machine has these weights, and not those that the job asks for.
fn lacks_backbone(grant: &Grant, digit: u8) -> Command {
    let failure = Failure { class: FailureClass::Missing, reason: "other weights".into() };
    let cause = Some(Cause::OtherBackbone { sha256: sha256(digit) });
    Command::Fail { held: held(grant), failure, cause }
}

fn fails(grant: &Grant, class: FailureClass) -> Command {
    Command::Fail { held: held(grant), failure: Failure { class, reason: "it broke".into() }, cause: None }
}

const ONE_SEED: &str = "methods = [\"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]";

#[test]
fn rows_refuse_what_does_not_follow() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let mut rows = world.database.rows.clone();
    let (job, last) = (JobId(3), rows.last_sequence);
    let change = JobChange { job, state: JobState::Blocked, priority: 1, failures: 0, losses: 0, latest: None };
    assert_eq!(rows.apply(&Change::JobChanged(Box::new(change))), Err(Misfit::NoJob(job)));
    let again = Change::JobsAdded(vec![rows.jobs[0].clone()]);
    assert_eq!(rows.apply(&again), Err(Misfit::OutOfOrder { what: "job", id: 1, last: 2 }));
    let found = Sequence(last.0 + 2);
    let kind = EventKind::ExperimentCancelled { experiment: ExperimentId(1) };
    let event = Change::Event(Event { sequence: found, at: world.now, kind });
    assert_eq!(rows.apply(&event), Err(Misfit::OutOfOrder { what: "event", id: found.0, last: last.0 }));
    assert_eq!(rows, world.database.rows);
}

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
    assert_eq!(test.needs.as_ref(), Some(&(train.job, train.spec.clone())));
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
fn a_heartbeat_that_comes_after_its_lease_s_end_takes_nothing_back() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    for end in [
        |grant: &Grant| Command::Release { held: held(grant), unfinished: None },
        |grant: &Grant| fails(grant, FailureClass::TrainerDied),
        |grant: &Grant| Command::CancelJobs(vec![grant.job]),
    ] {
        let worker = world.register("w");
        let grant = world.lease(worker, 1).remove(0);
        world.apply(end(&grant)).unwrap();
        let retried = world.apply(Command::RetryJobs(vec![grant.job]));
        let late = world.apply(Command::Progress { held: held(&grant), progress: None });
        assert!(matches!(late, Err(Rejection::Stale { .. })), "{late:?} after {retried:?}");
        world.pass(60_000);
        assert_eq!(world.state(grant.job), JobStateName::Queued);
    }
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
    assert_eq!(world.apply(Command::RetryJobs(vec![grant.job])), Ok(Reply::Changed(2)));
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
        world.apply(Command::Release { held: held(&grant), unfinished: None }).unwrap();
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
fn cancelling_a_training_job_leaves_no_test_waiting_for_it() {
    let mut world = World::new();
    let transfer = |name: &str, target: &str| {
        let known = Known::built_in();
        let text = format!(
            "name = \"{name}\"\nprotocol = \"cross_dataset\"\nbackbone = \"ViT-B/16\"\nmethods = [\"alignednorm\"]\n\
             seeds = [1]\ndatasets = [\"{target}\"]"
        );
        let experiment = Experiment::from_toml(&text, &known).unwrap();
        let jobs = matrix::expand(&experiment, &known).unwrap();
        Command::Submit { experiment: Box::new(experiment), jobs, by: None }
    };
    let first = world.submit(transfer("x", "dtd")).experiment;
    let second = world.submit(transfer("y", "eurosat")).experiment;
    let (training, test) = (JobId(1), JobId(2));
    assert_eq!(world.apply(Command::CancelExperiment(first)), Ok(Reply::Changed(1)));
    assert_eq!(world.apply(Command::RetryJobs(vec![test])), Ok(Reply::Changed(1)));
    assert_eq!(world.apply(Command::CancelExperiment(second)), Ok(Reply::Changed(3)));
    assert_eq!([training, test].map(|job| world.state(job)), [JobStateName::Cancelled; 2]);
}

#[test]
fn jobs_run_by_priority_then_by_what_they_unblock() {
    let mut world = World::new();
    world.submit(experiment("x", "methods = [\"zero_shot\", \"alignednorm\"]\ndatasets = [\"dtd\"]\nseeds = [1]"));
    world.submit(experiment("y", "priority = 5\nmethods = [\"mmrlpp\"]\ndatasets = [\"dtd\"]\nseeds = [1]"));
    let worker = world.register("w");
    let order: Vec<_> = world.lease(worker, 9).into_iter().map(|grant| grant.spec.recipe.method.to_string()).collect();
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
    world.apply(Command::Register(Box::new(other))).unwrap();
    assert_eq!(because(&world, 1), "none of the 1 connected workers has the backbone `ViT-B/16`");
    world.register("able");
    assert_eq!(
        because(&world, 1),
        "0 jobs stand before it (0 of greater priority, 0 of its own experiment), for 2 slots of 1 workers"
    );
}

/// A worker runs the methods that it says it has, by the declarations that this coordinator has of them.
#[test]
fn a_worker_gets_jobs_of_the_methods_that_it_can_run() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    let because = |world: &World| world.scheduler.explain(JobId(1), world.now).unwrap().because;
    let method: crate::method::Method = "alignednorm".parse().unwrap();
    let has = |name: &str, method, sha256| {
        let methods = BTreeMap::from([(method, BasisHash(sha256))]);
        Command::Register(Box::new(WorkerDescription { methods, ..worker(name) }))
    };
    let own = crate::method::Methods::built_in().get(method).unwrap().sha256();
    for (name, has) in
        [("other", has("other", method, [7; 32])), ("without", has("without", "coop".parse().unwrap(), own))]
    {
        let Reply::Registered(worker) = world.apply(has).unwrap() else { unreachable!() };
        assert!(world.lease(worker, 1).is_empty(), "{name}");
    }
    assert_eq!(because(&world), "none of the 2 workers that have its backbone can run the method `alignednorm`");
    let Reply::Registered(worker) = world.apply(has("able", method, own)).unwrap() else { unreachable!() };
    assert_eq!(world.lease(worker, 1).len(), 1);
}

/// An experiment over so many seeds.
fn seeds(name: &str, method: &str, seeds: std::ops::RangeInclusive<u64>, more: &str) -> String {
    let seeds: Vec<_> = seeds.collect();
    format!("# {name}\nmethods = [\"{method}\"]\ndatasets = [\"dtd\"]\nseeds = {seeds:?}\n{more}")
}

#[test]
fn users_and_their_experiments_get_equal_shares() {
    let mut world = World::new();
    let mut of =
        |by, name, method| world.submit(experiment_by(Some(by), name, &seeds(name, method, 1..=20, ""))).experiment;
    let (first, second, third) = (of("ann", "x", "alignednorm"), of("ann", "y", "mmrl"), of("bob", "z", "coop"));
    let worker = world.register("w");
    assert_eq!(world.lease(worker, 12).len(), 12);
    let running = |id| world.scheduler.experiment(id).unwrap().1.held();
    assert_eq!((running(first), running(second), running(third)), (3, 3, 6));
}

#[test]
fn an_experiment_s_limit_holds_and_is_given_as_the_reason() {
    let mut world = World::new();
    world.submit(experiment("x", &seeds("x", "alignednorm", 1..=5, "max_running = 2")));
    let worker = world.register("w");
    let granted = world.lease(worker, 9);
    assert_eq!(granted.len(), 2);
    let waiting = world.scheduler.jobs.iter().find(|job| job.record.state.name() == JobStateName::Queued).unwrap();
    let because = world.scheduler.explain(waiting.record.id, world.now).unwrap().because;
    assert_eq!(because, "its experiment 1 runs 2 jobs, as many as its `max_running` allows");
    world.apply(completes(&granted[0])).unwrap();
    assert_eq!(world.lease(worker, 9).len(), 1);
}

#[test]
fn labels_are_asked_for_and_missed_by_name() {
    let mut world = World::new();
    world.submit(experiment("x", &seeds("x", "alignednorm", 1..=1, "labels = [\"a100\"]")));
    let plain = world.register("plain");
    assert_eq!(world.lease(plain, 2), Vec::new());
    let because = world.scheduler.explain(JobId(1), world.now).unwrap().because;
    assert_eq!(because, "none of the 1 connected workers has the backbone `ViT-B/16` and the label `a100`");
    let able = world.register_as(WorkerDescription { labels: vec!["north".into(), "a100".into()], ..worker("able") });
    assert_eq!(world.lease(able, 2).len(), 1);
}

#[test]
fn jobs_go_where_their_data_set_and_their_checkpoint_are_warm() {
    let mut world = World::new();
    let text = "methods = [\"alignednorm\"]\ndatasets = [\"dtd\", \"eurosat\", \"ucf101\"]\nseeds = [1, 2, 3]";
    world.submit(experiment("x", text));
    let (one, other) = (world.register("one"), world.register("other"));
    let mut at = |worker| {
        let grant = world.lease(worker, 1).remove(0);
        world.apply(completes(&grant)).unwrap();
        (grant.spec.recipe.dataset.clone(), grant.spec.seed, grant.spec.stage)
    };
    let first = (at(one), at(other));
    assert_ne!(first.0.0, first.1.0, "workers spread over the data sets");
    for _ in 0..2 {
        assert_eq!((at(one).0, at(other).0), (first.0.0.clone(), first.1.0.clone()), "and stay at theirs");
    }
    let third: Vec<_> = (0..3).map(|_| at(one)).collect();
    assert!(third.iter().all(|job| job.0 == third[0].0 && job.2 == Stage::Train), "{third:?}");
    let tests: Vec<_> = (0..2).map(|_| at(one)).collect();
    assert!(tests.iter().all(|job| job.0 != first.1.0), "a checkpoint is tested where it was made: {tests:?}");
}

#[test]
fn a_host_goes_on_with_the_images_that_it_has_just_seen() {
    let mut world = World::new();
    let text =
        "methods = [\"alignednorm\", \"mmrl\", \"zero_shot\"]\ndatasets = [\"dtd\", \"eurosat\"]\nseeds = [1, 2]";
    world.submit(experiment("x", text));
    let (one, beside) = (world.register("one"), world.register("beside"));
    let far = world.register_as(WorkerDescription { host: "far".into(), ..worker("far") });
    let mut seen = |worker| {
        let spec = world.lease(worker, 1).remove(0).spec;
        (spec.recipe.method.key().to_owned(), spec.recipe.dataset.clone(), spec.seed)
    };
    let job = |method: &str, dataset: &str, seed| (method.to_owned(), dataset.to_owned(), seed);
    assert_eq!(seen(one), job("alignednorm", "dtd", 1));
    assert_eq!(seen(far), job("alignednorm", "eurosat", 1), "another machine takes other images");
    assert_eq!(
        seen(beside),
        job("mmrl", "dtd", 1),
        "the same machine takes the same, rather than a place where nobody is"
    );
    assert_eq!(seen(far), job("mmrl", "eurosat", 1));
    assert_eq!(seen(one), job("alignednorm", "dtd", 2));
    assert_eq!(seen(one), job("mmrl", "dtd", 2));
}

#[test]
fn other_batches_are_other_images() {
    let mut world = World::new();
    let text = "methods = [\"mmrl\", \"mmrlpp\"]\ndatasets = [\"dtd\"]\nseeds = [1]\n[sweep]\ntrain_batch = [4, 2]";
    world.submit(experiment("x", text));
    let one = world.register("one");
    let mut seen = || {
        let recipe = world.lease(one, 1).remove(0).spec.recipe;
        (recipe.method.key().to_owned(), recipe.hyper.count("train_batch").unwrap())
    };
    let (first, second) = (seen(), seen());
    assert_eq!((first.1, second.1), (4, 4), "{first:?} {second:?}");
    assert_ne!(first.0, second.0);
}

#[test]
fn a_job_that_took_workers_along_runs_alone_and_ends_at_the_limit() {
    let mut world = World::new();
    world.submit(experiment("x", ONE_SEED));
    world.submit(experiment("y", "methods = [\"mmrl\"]\ndatasets = [\"eurosat\"]\nseeds = [1, 2, 3]"));
    let poison = JobId(1);
    for loss in 1..=5 {
        let worker = world.register("w");
        world.pass(120_000);
        let worker = if world.scheduler.workers[&worker].is_here() { worker } else { world.register("w") };
        let grants = world.lease(worker, 4);
        assert!(grants.iter().any(|grant| grant.job == poison), "{grants:?}");
        if loss > 2 {
            assert_eq!(grants.len(), 1, "after two losses it gets a worker for itself");
        }
        // Its death: the process is started again under the same name.
        let again = world.register("w");
        for grant in world.lease(again, 4) {
            world.apply(Command::Release { held: held(&grant), unfinished: None }).unwrap();
        }
    }
    assert_eq!(world.state(poison), JobStateName::Failed);
    let because = world.scheduler.explain(poison, world.now).unwrap().because;
    assert_eq!(because, "failed 5 times, the last time because: the worker was started again");
}

#[test]
fn a_job_waits_in_little_memory() {
    assert!(size_of::<jobs::JobEntry>() <= 208, "{}", size_of::<jobs::JobEntry>());
    assert_eq!(size_of::<JobState>(), 16);
}

/// A random action; numbers are taken modulo what exists.
#[derive(Clone, Debug)]
enum Action {
    Submit(usize),
    Register(usize),
    Lease(usize, usize),
    Progress(usize),
    Complete(usize, bool, u32),
    Fail(usize, usize),
    Release(usize, bool),
    Drain(usize),
    Leave(usize),
    CancelJob(usize),
    CancelExperiment(usize),
    RetryJob(usize),
    RetryExperiment(usize),
    Pass(i64),
    Forge(usize),
    /// A completion that rests on something.
    Rests(usize, bool, On),
    /// A machine that lacks the checkpoint, or has other weights.
    Lacks(usize, u8),
    /// An attempt that fails by its machine, or finds its folder in another's hands.
    Unable(usize, usize),
    Recheck(usize),
    RerunJob(usize, bool),
    RerunExperiment(usize, bool, bool),
    Look(usize, u8, u8),
    Pin(u8),
    /// Something of a pool or its pilots.
    Pilots(usize, usize),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        1 => (0..4_usize).prop_map(Action::Submit),
        2 => (0..3_usize).prop_map(Action::Register),
        8 => (0..8_usize, 0..4_usize).prop_map(|(worker, slots)| Action::Lease(worker, slots)),
        4 => (0..64_usize).prop_map(Action::Progress),
        6 => (0..64_usize, any::<bool>(), 0..3_u32)
            .prop_map(|(grant, adopted, memory)| Action::Complete(grant, adopted, memory)),
        3 => (0..64_usize, 0..8_usize).prop_map(|(grant, class)| Action::Fail(grant, class)),
        2 => (0..64_usize, any::<bool>()).prop_map(|(grant, unfinished)| Action::Release(grant, unfinished)),
        1 => (0..8_usize).prop_map(Action::Drain),
        1 => (0..8_usize).prop_map(Action::Leave),
        1 => (0..16_usize).prop_map(Action::CancelJob),
        1 => (0..4_usize).prop_map(Action::CancelExperiment),
        1 => (0..16_usize).prop_map(Action::RetryJob),
        1 => (0..4_usize).prop_map(Action::RetryExperiment),
        4 => (0..50_000_i64).prop_map(Action::Pass),
        1 => (0..64_usize).prop_map(Action::Forge),
        6 => (0..64_usize, any::<bool>(), (1..3_u8, 1..3_u8, 0..3_u8))
            .prop_map(|(grant, adopted, on)| Action::Rests(grant, adopted, on)),
        2 => (0..64_usize, 0..3_u8).prop_map(|(grant, weights)| Action::Lacks(grant, weights)),
        6 => (0..64_usize, 0..6_usize).prop_map(|(grant, cause)| Action::Unable(grant, cause)),
        1 => (0..4_usize).prop_map(Action::Recheck),
        2 => (0..16_usize, any::<bool>()).prop_map(|(job, shared)| Action::RerunJob(job, shared)),
        2 => (0..4_usize, any::<bool>(), any::<bool>())
            .prop_map(|(experiment, stale, shared)| Action::RerunExperiment(experiment, stale, shared)),
        2 => (0..16_usize, 1..3_u8, 1..3_u8).prop_map(|(job, split, test)| Action::Look(job, split, test)),
        1 => (1..3_u8).prop_map(Action::Pin),
        4 => (0..8_usize, 0..64_usize).prop_map(|(what, which)| Action::Pilots(what, which)),
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
        Action::Register(which) => {
            let memory_mib = (which > 0).then_some(5_000);
            // One says which weights it has.
            let backbone_sha256 = (which == 2).then(|| ("ViT-B/16".to_owned(), sha256(2))).into_iter().collect();
            let name = format!("w{which}");
            let host = format!("h{which}");
            Command::Register(Box::new(WorkerDescription { host, backbone_sha256, memory_mib, ..self::worker(&name) }))
        }
        Action::Lease(i, slots) => Command::Lease { worker: worker(i), slots },
        Action::Progress(i) => {
            let progress = Progress { epoch: i as u32 % 4, ..Progress::default() };
            Command::Progress { held: of(i), progress: (i % 2 == 0).then_some(progress) }
        }
        Action::Complete(i, adopted, memory) => {
            let outcome = Outcome { result: Some(RESULT), adopted, manifest: None };
            let memory_mib = (memory > 0).then_some(3_000 * memory);
            Command::Complete { held: of(i), outcome: Box::new(outcome), evaluation: None, memory_mib }
        }
        Action::Fail(i, class) => {
            let class = FailureClass::ALL[class % FailureClass::ALL.len()];
            Command::Fail { held: of(i), failure: Failure { class, reason: "random".into() }, cause: None }
        }
        Action::Release(i, unfinished) => {
            Command::Release { held: of(i), unfinished: unfinished.then(|| format!("{i:064x}")) }
        }
        Action::Drain(i) => Command::Drain { worker: worker(i) },
        Action::Leave(i) => Command::Leave { worker: worker(i) },
        Action::CancelJob(i) => Command::CancelJobs(vec![JobId(i as u64)]),
        Action::CancelExperiment(i) => Command::CancelExperiment(ExperimentId(i as u64)),
        Action::RetryJob(i) => Command::RetryJobs(vec![JobId(i as u64)]),
        Action::RetryExperiment(i) => Command::RetryExperiment(ExperimentId(i as u64)),
        Action::Rests(i, adopted, on) => grant(i).map_or(Command::Tick, |grant| reports(grant, on, adopted)),
        Action::Lacks(i, 0) => grant(i).map_or(Command::Tick, lacks_checkpoint),
        Action::Lacks(i, digit) => grant(i).map_or(Command::Tick, |grant| lacks_backbone(grant, digit)),
        Action::Unable(i, cause) => grant(i).map_or(Command::Tick, |grant| faults::fails_by(grant, cause)),
        Action::Recheck(i) => Command::Recheck { host: (i < 3).then(|| format!("h{i}")) },
        Action::RerunJob(i, shared) => Command::RerunJobs { jobs: vec![JobId(i as u64)], shared },
        Action::RerunExperiment(i, stale, shared) => Command::RerunExperiment {
            experiment: ExperimentId(i as u64),
            which: if stale { RerunWhich::Stale } else { RerunWhich::All },
            shared,
        },
        Action::Look(i, split, test) => looks(i as u64, split, test),
        Action::Pin(digit) => pins("ViT-B/16", digit),
        Action::Pass(_) | Action::Pilots(..) => Command::Tick,
        Action::Forge(i) => {
            let Held { lease, token } = of(i);
            let held = Held { lease, token: FencingToken(token.0 + 1) };
            let outcome = Outcome { result: Some(RESULT), adopted: false, manifest: None };
            Command::Complete { held, outcome: Box::new(outcome), evaluation: None, memory_mib: None }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// No order of commands, times and lies breaks an invariant, records a second result while the first counts, or leaves rows
    /// from which the state can't be rebuilt; and whatever happened, willing workers bring every job to an end.
    #[test]
    fn nothing_is_lost_or_done_twice(
        actions in proptest::collection::vec(action(), 1..120),
    ) {
        let mut world = World::new();
        let mut grants: Vec<Grant> = Vec::new();
        for action in &actions {
            if let Action::Pass(milliseconds) = action {
                world.pass(*milliseconds);
            } else if let Action::Pilots(what, which) = action {
                let command = pilots::random(&world, *what, *which);
                // Refused or not.
                let _ = world.apply(command);
            } else if let Ok(Reply::Granted(granted)) = world.apply(command(action, &grants)) {
                for grant in &granted {
                    prop_assert_eq!(grant.afresh, world.database.is_afresh(grant), "job {}", grant.job);
                }
                grants.extend(granted);
            }
            let restored = world.restored();
            prop_assert_eq!(restored.violations(), Vec::<String>::new());
            prop_assert_eq!(restored.essence(), world.scheduler.essence());
            for (job, results) in &world.database.results {
                prop_assert_eq!(*results, 1, "job {}", job);
                prop_assert!(world.scheduler.job(*job).unwrap().state.name().is_done());
                prop_assert_eq!(restored.why_stale(*job), world.scheduler.why_stale(*job));
            }
        }
        let worker = world.register("willing");
        for _ in 0..200 {
            for grant in world.lease(worker, 4) {
                world.apply(completes(&grant)).unwrap();
            }
            world.pass(10_000);
        }
        for record in world.scheduler.jobs.iter().map(|entry| &entry.record) {
            prop_assert!(record.state.name().is_final(), "job {} is {}", record.id, record.state.name());
            prop_assert_eq!(record.state.name().is_done(), world.database.results.contains_key(&record.id));
        }
    }
}
