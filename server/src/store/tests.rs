//! The database against the scheduler that it is to bring back.

use std::collections::BTreeMap;

use promptfield_core::experiment::{Experiment, Known, matrix};
use promptfield_core::id::{ExperimentId, FencingToken, JobId, LeaseId, Sequence, WorkerId};
use promptfield_core::job::evaluation::{ClassCounts, Evaluation};
use promptfield_core::job::outcome::{Failure, FailureClass, Outcome, Progress, TestResult};
use promptfield_core::scheduler::machine_fault::Cause;
use promptfield_core::scheduler::pilot_records::{
    Launch, LauncherKind, Phase, PilotEnd, PilotRecord, PilotState, PoolSettings, PoolState, Sighting,
};
use promptfield_core::scheduler::{
    AttemptEnd, Command, Event, Grant, Held, JobChange, JobState, JobStateName, Need, Policy, Reply, Scheduler,
    Setback, WorkerDescription, WorkerRecord, WorkerState,
};
use promptfield_core::wire::api::{AttemptSummary, LogChunk, MetricPoint};
use proptest::prelude::*;
use sqlx::AssertSqlSafe;

use super::*;

mod earlier_schemas;

const CAUSES: [Cause; 6] = [
    Cause::OutputRoot,
    Cause::Dataset,
    Cause::Job,
    Cause::Method,
    Cause::Backbone,
    Cause::FolderInUse { holder: String::new(), host: None },
];
const START: Timestamp = Timestamp(1_000_000);

fn submit(seeds: &str) -> Command {
    let known = Known::built_in();
    let text = format!(
        "name = \"x\"\nprotocol = \"base_to_new\"\nbackbone = \"ViT-B/16\"\nmethods = [\"alignednorm\", \"zero_shot\"]\n\
         datasets = [\"dtd\"]\nseeds = {seeds}\npriority = {}\n[overrides.dtd]\nlr = 0.01\n[sweep]\nalpha = [0.5, 0.7]",
        seeds.len()
    );
    let experiment = Experiment::from_toml(&text, &known).unwrap();
    let jobs = matrix::expand(&experiment, &known).unwrap();
    Command::Submit { experiment: Box::new(experiment), jobs, by: (seeds.len() > 3).then(|| "ann".to_owned()) }
}

fn register(name: &str) -> Command {
    Command::Register(Box::new(WorkerDescription {
        name: name.into(),
        host: name.into(),
        output_root: "/out".into(),
        places: String::new(),
        slots: 2,
        devices: vec!["cpu".into(), "cuda:0".into()],
        backbones: vec!["ViT-B/16".into()],
        backbone_sha256: std::collections::BTreeMap::new(),
        methods: BTreeMap::new(),
        version: "0".into(),
        labels: vec!["a100".into()],
        memory_mib: (name == "a").then_some(40_000),
        pilot: None,
        time_left_ms: None,
    }))
}

fn outcome(adopted: bool) -> Box<Outcome> {
    // Numbers that have no short decimal form must come back bit for bit.
    let accuracy = 100.0 * 2.0 / 3.0;
    let result = TestResult {
        total: 3,
        correct: 2,
        accuracy,
        error: 100.0 - accuracy,
        macro_f1: 0.1 + 0.2,
        calibration_error: Some(0.7 + 0.1),
    };
    Box::new(Outcome { result: Some(result), adopted, manifest: None })
}

fn evaluation() -> Evaluation {
    let class = |name: &str, [images, predicted, correct]: [u64; 3], confused| ClassCounts {
        name: name.into(),
        images,
        predicted,
        correct,
        confused,
    };
    let classes = vec![class("it's a \"cat\"", [2, 1, 1], vec![(1, 1)]), class("caf\u{e9}", [1, 2, 1], Vec::new())];
    Evaluation { format: Evaluation::FORMAT, classes }
}

/// A scheduler with its database.
struct World {
    folder: tempfile::TempDir,
    store: Store,
    scheduler: Scheduler,
    now: Timestamp,
    grants: Vec<Grant>,
    events: Vec<Event>,
}

impl World {
    async fn new() -> Self {
        Self::with(Policy::default()).await
    }

    async fn with(policy: Policy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("x.db")).await.unwrap();
        let scheduler = Scheduler::new(policy);
        Self { folder, store, scheduler, now: START, grants: Vec::new(), events: Vec::new() }
    }

    async fn apply(&mut self, command: Command) {
        let (changes, reply) = self.scheduler.apply(command, self.now);
        self.events.extend(changes.iter().filter_map(|change| match change {
            Change::Event(event) => Some(event.clone()),
            _ => None,
        }));
        self.store.write(&Writes { changes, ..Writes::default() }).await.unwrap();
        if let Ok(Reply::Granted(grants)) = reply {
            self.grants.extend(grants);
        }
    }

    async fn reader(&self) -> Reader {
        Reader::open(&self.folder.path().join("x.db")).await.unwrap()
    }

    fn held(&self, i: usize) -> Held {
        let nobody = Held { lease: LeaseId(99), token: FencingToken(99) };
        let grant = self.grants.get(i % self.grants.len().max(1));
        grant.map_or(nobody, |grant| Held { lease: grant.lease, token: grant.token })
    }

    fn command(&self, kind: usize, i: usize) -> Command {
        let worker = WorkerId((i % 8) as u64);
        match kind {
            0 => submit(["[1]", "[1, 2]", "[2, 3]", "[1, 2, 3]"][i % 4]),
            1 => register(["a", "b", "c"][i % 3]),
            2 | 3 => Command::Lease { worker, slots: 1 + i % 3 },
            4 => {
                let progress = Progress { epoch: i as u32 % 3, ..Progress::default() };
                Command::Progress { held: self.held(i), progress: i.is_multiple_of(2).then_some(progress) }
            }
            5 | 6 => {
                let (outcome, evaluation) =
                    (outcome(i.is_multiple_of(3)), i.is_multiple_of(2).then(|| Box::new(evaluation())));
                let memory_mib = (!i.is_multiple_of(5)).then_some(1_000 + i as u32);
                Command::Complete { held: self.held(i), outcome, evaluation, memory_mib }
            }
            7 => {
                let class = FailureClass::ALL[i % FailureClass::ALL.len()];
                Command::Fail {
                    held: self.held(i),
                    failure: Failure { class, reason: "it's broken".into() },
                    cause: (i.is_multiple_of(4)).then(|| CAUSES[i / 4 % CAUSES.len()].clone()),
                }
            }
            8 => {
                let unfinished = (!i.is_multiple_of(3)).then(|| format!("{i:064x}"));
                Command::Release { held: self.held(i), unfinished }
            }
            9 if i.is_multiple_of(2) => Command::Drain { worker },
            9 => Command::Leave { worker },
            10 => Command::CancelJobs(vec![JobId((i % 16) as u64)]),
            11 if i.is_multiple_of(2) => Command::CancelExperiment(ExperimentId((i % 4) as u64)),
            11 => Command::RetryExperiment(ExperimentId((i % 4) as u64)),
            12 => Command::RetryJobs(vec![JobId((i % 16) as u64)]),
            14.. => self.pilot_command(kind, i),
            _ => Command::Tick,
        }
    }

    /// Something that a person, a pilot or a cluster might say.
    fn pilot_command(&self, kind: usize, i: usize) -> Command {
        let launcher = LauncherKind::Slurm;
        let pilots: Vec<PilotRecord> = self.scheduler.pilots().cloned().collect();
        let pilot = pilots.get(i % pilots.len().max(1));
        let batch = pilot.map_or_else(|| format!("{:032x}", self.events.len()), |pilot| pilot.batch.clone());
        match (kind, pilot) {
            (14, _) => {
                let settings =
                    PoolSettings { setup: Some("module load \"x\"\n".into()), ..PoolSettings::new(launcher, 3) };
                Command::SetPool { name: "p".into(), settings: Box::new(settings), from_file: i.is_multiple_of(2) }
            }
            (15, _) if i.is_multiple_of(8) => Command::EndPool("p".into()),
            (15, _) => Command::Scale { launcher, batches: vec![format!("{:032x}", self.events.len())] },
            (16, _) if i.is_multiple_of(3) => {
                Command::Launched { batch, launch: Launch::Refused("it's \"full\"".into()) }
            }
            (16, _) => {
                let names = (0..3).map(|place| format!("{batch}_{place}")).collect();
                Command::Launched { batch, launch: Launch::Accepted(names) }
            }
            (17, Some(pilot)) => {
                let phase = [Phase::Running, Phase::Waiting, Phase::Over(PilotEnd::Failed)][i % 3];
                let launcher_id = pilot.launcher_id.clone().unwrap_or_else(|| "7".into());
                let (detail, node) = ("so \u{e9}".into(), i.is_multiple_of(2).then(|| "n1".into()));
                let sighting = Sighting { key: pilot.key(), launcher_id, phase, detail, node };
                Command::Sight { launcher, asked_at: self.now, seen: vec![sighting] }
            }
            (18, Some(pilot)) => {
                let Command::Register(description) = register("p") else { unreachable!() };
                let pilot = Some(pilot.key().to_string());
                Command::Register(Box::new(WorkerDescription { pilot, time_left_ms: Some(60_000), ..*description }))
            }
            _ => Command::Tick,
        }
    }
}

/// What can be seen of a scheduler from outside, without what a restart begins anew.
fn seen(scheduler: &Scheduler) -> impl PartialEq + std::fmt::Debug + use<> {
    let timeless = |state: &JobState| {
        let mut state = state.clone();
        if let JobState::Leased(lease) | JobState::Running(lease) = &mut state {
            (lease.since, lease.deadline, lease.progress) = (START, START, Progress::default());
            lease.came_back = false;
        }
        state
    };
    let experiments: Vec<_> = scheduler
        .experiments()
        .map(|(record, counts)| {
            let jobs: Vec<_> = scheduler
                .jobs_of(record.id)
                .map(|(job, variant)| {
                    let mut job = job.clone();
                    job.state = timeless(&job.state);
                    (job, variant.to_owned())
                })
                .collect();
            (record.clone(), *counts, jobs)
        })
        .collect();
    let workers: Vec<_> = scheduler.workers().map(|(record, _, jobs)| (record.clone(), jobs.clone())).collect();
    (experiments, workers, scheduler.last_sequence())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// After any commands, the database brings back the scheduler that wrote it.
    #[test]
    fn the_database_brings_the_state_back(actions in proptest::collection::vec((0..19_usize, 0..64_usize), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            world.apply(submit("[1, 2]")).await;
            world.apply(register("a")).await;
            for (kind, i) in actions {
                if kind == 13 {
                    world.now = world.now.plus(i64::try_from(i).unwrap() * 1000);
                }
                world.apply(world.command(kind, i)).await;
            }
            let rows = world.store.load().await.unwrap();
            let mut restored = Scheduler::restore(Policy::default(), rows, world.now);
            prop_assert_eq!(restored.violations(), Vec::<String>::new());
            prop_assert_eq!(seen(&restored), seen(&world.scheduler));
            prop_assert_eq!(restored.essence(), world.scheduler.essence());
            prop_assert_eq!(world.reader().await.events_after(Sequence(0), 100_000).await.unwrap(), world.events);
            // Both go on in the same way, but for what a host was warm for, which is forgotten.
            let mut both = |command: Command| {
                let live = world.scheduler.apply(command.clone(), world.now);
                let again = restored.apply(command, world.now);
                prop_assert_eq!(&live, &again);
                Ok(live.1)
            };
            let Ok(Reply::Registered(next)) = both(register("next"))? else { panic!("not registered") };
            both(Command::Lease { worker: next, slots: 100 })?.unwrap();
            Ok(())
        })?;
    }
}

/// A job of a method that this version doesn't know is brought back, and waits.
#[tokio::test]
async fn a_method_that_is_not_known_any_more_keeps_nothing_from_starting() {
    let mut world = World::new().await;
    world.apply(submit("[1]")).await;
    world.apply(register("a")).await;
    let gone = "UPDATE recipe SET document = json_set(document, '$.method', 'gone')";
    sqlx::query(gone).execute(&mut world.store.connection).await.unwrap();
    let mut restored = Scheduler::restore(Policy::default(), world.store.load().await.unwrap(), world.now);
    assert_eq!(restored.violations(), Vec::<String>::new());
    let job = restored.job(JobId(1)).unwrap();
    assert_eq!(job.spec.to_spec().title(), "train gone on dtd, 16 shots, seed 1");
    let because = restored.explain(JobId(1), world.now).unwrap().because;
    assert!(because.starts_with("this coordinator doesn't know its method `gone`"), "{because}");
    let worker = restored.workers().next().unwrap().0.id;
    let (_, reply) = restored.apply(Command::Lease { worker, slots: 1 }, world.now);
    assert_eq!(reply.unwrap(), Reply::Granted(Vec::new()));
}

#[tokio::test]
async fn what_was_learned_of_memory_is_brought_back() {
    let mut world = World::new().await;
    for command in [submit("[1, 2]"), register("b"), Command::Lease { worker: WorkerId(1), slots: 4 }] {
        world.apply(command).await;
    }
    assert_eq!(world.grants.len(), 4);
    let failure = Failure { class: FailureClass::OutOfMemory, reason: "too large".into() };
    world.apply(Command::Fail { held: world.held(0), failure, cause: None }).await;
    for (i, memory_mib) in [(1, 700), (2, 900)] {
        let (held, outcome) = (world.held(i), outcome(false));
        world.apply(Command::Complete { held, outcome, evaluation: None, memory_mib: Some(memory_mib) }).await;
    }
    let rows = world.store.load().await.unwrap();
    assert_eq!(rows.needs.values().copied().collect::<Vec<_>>(), [Need { memory_mib: Some(900), together: Some(3) }]);
    assert_eq!(rows.spared, [world.grants[0].job].into());
    let restored = Scheduler::restore(Policy::default(), rows, world.now);
    assert_eq!(restored.essence(), world.scheduler.essence());
}

#[tokio::test]
async fn what_jobs_report_is_kept_once() {
    let mut world = World::new().await;
    world.apply(submit("[1]")).await;
    world.apply(register("a")).await;
    world.apply(Command::Lease { worker: WorkerId(1), slots: 1 }).await;
    let lease = world.grants[0].lease;
    let point = |step, loss| MetricPoint { step, values: [("loss".to_owned(), loss), ("lr".to_owned(), 0.1)].into() };
    let report = |metrics, first_line, lines: &[&str]| Telemetry {
        lease,
        metrics,
        log: Some(LogChunk { first_line, lines: lines.iter().map(|&line| line.to_owned()).collect() }),
    };
    let telemetry = vec![
        report(vec![point(0, 2.5), point(1, 2.0)], 0, &["zero", "one \"quoted\" \u{e9}\u{1f600}"]),
        report(vec![point(1, 1.5)], 1, &["one again", "two", ""]),
    ];
    world.store.write(&Writes { telemetry, ..Writes::default() }).await.unwrap();
    let reader = world.reader().await;
    assert_eq!(reader.metric_points(lease).await.unwrap(), [point(0, 2.5), point(1, 1.5)]);
    let lines = reader.log_lines(lease, 1, 10).await.unwrap();
    assert_eq!(lines, [(1, "one \"quoted\" \u{e9}\u{1f600}".to_owned()), (2, "two".to_owned()), (3, String::new())]);
    assert_eq!(reader.log_lines(lease, 0, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn changes_wait_for_the_disk_and_reports_alone_do_not() {
    let mut world = World::new().await;
    world.apply(submit("[1]")).await;
    world.apply(register("a")).await;
    world.apply(Command::Lease { worker: WorkerId(1), slots: 1 }).await;
    let report = || Telemetry { lease: LeaseId(1), metrics: Vec::new(), log: None };
    let (normal, full) = (1, 2);
    for (readiness, expected) in [(None, normal), (Some(START), full), (None, normal)] {
        let writes = Writes { telemetry: vec![report()], readiness, ..Writes::default() };
        world.store.write(&writes).await.unwrap();
        let synchronous: i64 =
            sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut world.store.connection).await.unwrap();
        assert_eq!(synchronous, expected);
    }
    world.apply(Command::CancelJobs(vec![JobId(1)])).await;
    let synchronous: i64 =
        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut world.store.connection).await.unwrap();
    assert_eq!(synchronous, full);
}

#[tokio::test]
async fn a_statement_that_fails_undoes_the_whole_batch() {
    let mut world = World::new().await;
    world.apply(submit("[1]")).await;
    let before = world.store.load().await.unwrap();
    let raised = |id| {
        let job = world.scheduler.job(JobId(1)).unwrap();
        let (state, failures, losses) = (job.state.clone(), job.failures, job.losses);
        let change = JobChange { job: JobId(id), state, priority: 100, failures, losses, latest: None };
        Change::JobChanged(Box::new(change))
    };
    let changes = vec![raised(1), raised(1_000)];
    let error = world.store.write(&Writes { changes, ..Writes::default() }).await.unwrap_err();
    assert!(matches!(error, StoreError::Failed { doing: "change jobs", .. }), "{error:?}");
    assert_eq!(world.store.load().await.unwrap(), before);
    world.apply(register("a")).await;
}

#[tokio::test]
async fn a_database_of_a_later_version_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let mut store = Store::open(&path).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, '', 1, x'', 0)",
    )
    .execute(&mut store.connection)
    .await
    .unwrap();
    store.close().await.unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9999, .. }), "{error:?}");
    assert!(
        error.to_string().starts_with("the database has schema 9999, and this version of Promptfield knows"),
        "{error}"
    );
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    fs_err::write(&path, "not a database, but long enough to be looked at as one").unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert_eq!(error.to_string(), "can't open the database");
}

/// Every name that the code can write is one that the schema allows, and no other.
#[tokio::test]
async fn the_schema_names_the_states_that_the_code_has() {
    let mut store = World::new().await.store;
    let schema: Vec<String> = sqlx::query_scalar("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        .fetch_all(&mut store.connection)
        .await
        .unwrap();
    let list = |names: Vec<&str>| format!("('{}')", names.join("', '"));
    for names in [
        list(JobStateName::ALL.iter().map(|name| name.as_str()).collect()),
        list(FailureClass::ALL.iter().map(|name| name.as_str()).collect()),
        list(WorkerState::ALL.iter().map(|name| name.as_str()).collect()),
        list(AttemptEnd::ALL.iter().map(|name| name.as_str()).collect()),
        list(PoolState::ALL.iter().map(|name| name.as_str()).collect()),
        list(PilotState::ALL.iter().map(|name| name.as_str()).collect()),
    ] {
        assert!(schema.iter().any(|sql| sql.contains(&names)), "no CHECK lists {names}");
    }
}

/// What is asked often is found by an index, without a scan or a sort.
#[tokio::test]
async fn readers_use_the_indexes() {
    let mut store = World::new().await.store;
    for sql in [
        attempts::OF_JOB,
        attempts::LATEST_OF_JOB,
        cost::DURATIONS,
        cost::HELD,
        cost::SPENT,
        results::EVALUATION,
        events::AFTER,
        keys::EXPIRE,
        keys::FIND,
        webhooks::OF,
        pilots::LATEST,
        results::MANIFEST,
        results::FILE_OF_JOB,
        telemetry::POINTS,
        telemetry::LINES_FROM,
        removal::LOG.remove,
        removal::LOG.is_removed,
        removal::METRICS.remove,
        removal::METRICS.is_removed,
    ] {
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
            .fetch_all(&mut store.connection)
            .await
            .unwrap();
        assert!(!plan.is_empty());
        for (.., step) in plan {
            // A manifest's files are walked inside one document.
            let scans = step.starts_with("SCAN") && !step.starts_with("SCAN file VIRTUAL TABLE");
            assert!(!scans && !step.contains("TEMP B-TREE"), "{sql}: {step}");
        }
    }
}
