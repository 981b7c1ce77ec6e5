//! Databases of every earlier schema go on with all their rows.
//!
//! `fixtures/schema_N.sql` holds rows of schema N, for what that schema has and none before it had. Its comments that begin with
//! `>` are the lines of [`told`] that must come of them, whatever the schema is now. A database of schema N is made as it would be
//! in life: brought from schema to schema, with the rows that each left in it.

use std::collections::BTreeSet;
use std::path::Path;

use promptfield_core::chain::chain;
use promptfield_core::job::basis::Draw;
use promptfield_core::job::spec::{BasisHash, hex};

use super::*;

/// After everything in the fixtures, and before the kept answer is too old.
const NOW: Timestamp = Timestamp(6_000_000);
/// What the fixture of schema 5 calls its submission.
const KEY: &str = "nightly-7";

fn fixture(version: i64) -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/fixtures");
    fs_err::read_to_string(folder.join(format!("schema_{version}.sql"))).ok()
}

/// The schemas that a database in use may have, with their rows. The latest may have none of its own yet.
fn schemas() -> Vec<(i64, String)> {
    let versions = MIGRATIONS.iter().map(|migration| migration.version);
    let found = versions.filter_map(|version| match fixture(version) {
        None if version == known_schema() => None,
        None => panic!("there are no rows of schema {version}: write src/store/fixtures/schema_{version}.sql"),
        Some(text) => Some((version, text)),
    });
    found.collect()
}

/// Makes a database of the last of `schemas`.
async fn make(path: &Path, schemas: &[(i64, String)]) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(true);
    let mut connection = options.journal_mode(SqliteJournalMode::Wal).connect().await.unwrap();
    for (version, rows) in schemas {
        MIGRATIONS.run_direct(Some(*version), &mut connection, false).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(rows.clone())).execute(&mut connection).await.unwrap();
    }
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    for table in tables {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
        assert!(rows > 0, "the fixtures up to schema {:?} have no row of `{table}`", schemas.last().map(|last| last.0));
    }
    connection.close().await.unwrap();
}

/// What the comments of the fixtures promise.
fn promised(schemas: &[(i64, String)]) -> BTreeSet<String> {
    let lines = schemas.iter().flat_map(|(_, text)| text.lines());
    lines.filter_map(|line| line.strip_prefix("-- > ")).map(str::to_owned).collect()
}

fn or<T: ToString>(value: Option<T>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), |value| value.to_string())
}

fn told_of_state(state: &JobState) -> String {
    let name = state.name();
    match state {
        JobState::Queued { not_before } => format!("{name} until {}", not_before.0),
        JobState::Leased(lease) | JobState::Running(lease) => {
            format!("{name} by worker {}, token {}", lease.worker, lease.token.0)
        }
        JobState::Completed(None) | JobState::Skipped(None) => format!("{name}: files only"),
        JobState::Completed(Some(result)) | JobState::Skipped(Some(result)) => {
            let TestResult { total, correct, accuracy, error, macro_f1, calibration_error } = **result;
            let calibration = or(calibration_error, "none");
            format!("{name}: {correct} of {total}, {accuracy}, {error}, f1 {macro_f1}, calibration {calibration}")
        }
        JobState::Failed(failure) => format!("{name} ({}): {}", failure.class, failure.reason),
        JobState::Blocked | JobState::Cancelled => name.to_string(),
    }
}

fn told_of_scheduler(scheduler: &Scheduler) -> Vec<String> {
    let mut told = Vec::new();
    for (record, counts) in scheduler.experiments() {
        let jobs = scheduler.jobs_of(record.id).map(|(job, variant)| match variant {
            "" => job.id.to_string(),
            variant => format!("{}[{variant}]", job.id),
        });
        let jobs = jobs.collect::<Vec<_>>().join(" ");
        let (id, name, at) = (record.id, &record.experiment.name, record.submitted_at.0);
        let (by, cancelled) =
            (or(record.submitted_by.as_ref(), "nobody"), if record.cancelled { ", cancelled" } else { "" });
        let hash = &record.hash.to_string()[62..];
        told.push(format!("experiment {id} `{name}`, submitted at {at} by {by}{cancelled}, hash {hash}, jobs {jobs}"));
        assert_eq!(counts.total(), record.experiment.seeds.len() * 2, "experiment {id}");
    }
    for (WorkerRecord { id, description, state, registered_at }, ..) in scheduler.workers() {
        let WorkerDescription {
            name,
            host,
            output_root,
            places,
            slots,
            devices,
            backbones,
            backbone_sha256,
            methods,
            version,
            labels,
            memory_mib,
            pilot,
            time_left_ms,
        } = description;
        assert_eq!((pilot, *time_left_ms), (&None, None), "there were no pilots");
        assert_eq!((output_root.as_str(), places.as_str()), ("", ""), "nor where anything lies");
        assert!(backbone_sha256.is_empty(), "workers didn't say which weights they have");
        assert!(methods.is_empty(), "nor which methods");
        let (devices, backbones) = (devices.join(", "), backbones.join(", "));
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        let memory = memory_mib.map(|memory| format!(" of {memory} MiB")).unwrap_or_default();
        told.push(format!(
            "worker {id} `{name}` on {host}, {state} since {}: {slots} slots on {devices}, with {backbones}, labels \
             {labels}{memory}, version {version}",
            registered_at.0
        ));
    }
    for job in (1..).map_while(|id| scheduler.job(JobId(id))) {
        // A job that turned out to be another one belongs to no experiment.
        let is_wanted = !scheduler.experiments_of(job.id).is_empty();
        assert!(
            job.hash == job.spec.to_spec().hash() || (!is_wanted && job.state == JobState::Cancelled),
            "job {}",
            job.id
        );
        let needs = job.needs.map(|needs| format!(", needs {needs}")).unwrap_or_default();
        let latest = job.latest().map(|attempt| format!(", latest {}", attempt.held.lease)).unwrap_or_default();
        told.push(format!(
            "job {}: {}, recipe {}{needs}, priority {}, failures {}, losses {}{latest}; {}",
            job.id,
            job.spec.to_spec().title(),
            job.recipe,
            job.priority,
            job.failures,
            job.losses,
            told_of_state(&job.state)
        ));
    }
    told
}

async fn told_of_job(reader: &Reader, job: JobId) -> Vec<String> {
    let mut told = Vec::new();
    let attempts = reader.attempts(job).await.unwrap();
    assert_eq!(reader.latest_attempt(job).await.unwrap(), Some(attempts.last().map(|attempt| attempt.lease)));
    for AttemptSummary { lease, worker, started_at, ended_at, end, failure } in attempts {
        let end = match (ended_at, end) {
            (Some(at), Some(end)) => format!(" to {}: {end}", at.0),
            _ => ": open".to_owned(),
        };
        let failure = failure.map(|failure| format!(" ({}): {}", failure.class, failure.reason)).unwrap_or_default();
        told.push(format!("attempt {lease} of job {job} by worker {worker} from {}{end}{failure}", started_at.0));
        for MetricPoint { step, values } in reader.metric_points(lease).await.unwrap() {
            let values = values.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
            told.push(format!("numbers of attempt {lease} at step {step}: {values}"));
        }
        let lines = reader.log_lines(lease, 0, 100).await.unwrap();
        told.extend(lines.iter().map(|(line, text)| format!("line {line} of attempt {lease}: {text}")));
    }
    if let Some(manifest) = reader.manifest(job).await.unwrap() {
        assert_eq!(manifest.spec_hash, manifest.spec.hash());
        let (version, device) = (&manifest.code_version, &manifest.device);
        let files = manifest.files.keys().cloned().collect::<Vec<_>>().join(", ");
        told.push(format!("manifest of job {job}: version {version} on {device}, files {files}"));
    }
    if let Some(Evaluation { classes, .. }) = reader.evaluation(job).await.unwrap() {
        let class = |class: &ClassCounts| {
            let ClassCounts { name, images, predicted, correct, confused } = class;
            format!("{name} {images} {predicted} {correct} {confused:?}")
        };
        let classes = classes.iter().map(class).collect::<Vec<_>>().join(", ");
        told.push(format!("evaluation of job {job}: {classes}"));
    }
    told
}

/// All that the store gives of a database, in lines that don't depend on the schema.
async fn told(store: &mut Store, reader: &Reader, scheduler: &Scheduler) -> BTreeSet<String> {
    let mut told = told_of_scheduler(scheduler);
    for job in (1..).map(JobId).take_while(|job| scheduler.job(*job).is_some()) {
        told.extend(told_of_job(reader, job).await);
    }
    let events = reader.events_after(Sequence(0), 1000).await.unwrap();
    assert_eq!(events.last().map(|event| event.sequence), Some(scheduler.last_sequence()));
    told.extend(events.iter().map(|event| format!("event {}", serde_json::json!(event))));
    let rows = store.load().await.unwrap();
    told.extend(rows.needs.iter().map(|(shape, Need { memory_mib, together })| {
        format!("need of `{shape}`: {} MiB, {} together", or(*memory_mib, "unknown"), or(*together, "any"))
    }));
    told.extend(rows.spared.iter().map(|job| format!("job {job} was spared")));
    told.extend(rows.pools.values().map(|pool| {
        let (settings, by) = (&pool.settings, if pool.from_file { "by the file" } else { "by hand" });
        format!(
            "pool `{}` ({}, at most {}), set {by}, {} because {}: {} submissions failed, {} pilots crashed, not before {}",
            pool.name,
            settings.launcher,
            settings.max,
            pool.state,
            or(pool.reason.as_ref(), "of nothing"),
            pool.failed_submissions,
            pool.crashes,
            pool.not_before.0
        )
    }));
    told.extend(rows.pilots.values().map(|pilot| {
        let (detail, launcher_id) = (or(pilot.detail.as_ref(), "nothing"), or(pilot.launcher_id.as_ref(), "nothing"));
        format!(
            "pilot {} of `{}`: {}.{}, {} ({detail}), asked for at {} as {launcher_id}, on {}",
            pilot.id,
            pilot.pool,
            &pilot.batch[30..],
            pilot.index,
            pilot.state,
            pilot.submitted_at.0,
            or(pilot.node.as_ref(), "none")
        )
    }));
    told.extend(
        rows.unfinished.iter().map(|(job, sha256)| format!("job {job} goes on from artefact {}", &sha256[60..])),
    );
    told.extend(rows.faults.values().map(|fault| {
        let (kind, name) = fault.what.parts();
        format!(
            "host `{}` ({}) can't use {kind} {name}: {} ({}), found at {}, {} times, next trial at {} by attempt {}",
            fault.host,
            fault.places,
            fault.failure.class,
            fault.failure.reason,
            fault.found_at.0,
            fault.times,
            fault.next_trial.0,
            or(fault.trial, "none")
        )
    }));
    told.extend(rows.setbacks.iter().map(|(job, Setback { epochs, counted, waits, holder })| {
        let counted = if *counted { "counted" } else { "not counted" };
        let holder = holder.as_ref().map_or_else(String::new, |holder| {
            format!(" for {} (on {})", holder.words, or(holder.host.as_ref(), "nowhere"))
        });
        format!("job {job} was broken off after {epochs} epochs, {counted}, and waited {waits} times{holder}")
    }));
    told.extend(rows.readings.iter().map(|(Draw { dataset, classes, shots, seed }, reading)| {
        let short = |hash: BasisHash| hash.to_string()[..4].to_owned();
        format!(
            "read of {dataset}, {classes}, {shots} shots, seed {seed}: split {}, test list {}, images {}, at {}",
            short(reading.split),
            short(reading.test),
            or(reading.images.map(short), "none"),
            reading.at.0
        )
    }));
    let pinned =
        |(name, sha256): (&String, &BasisHash)| format!("backbone `{name}` is pinned to {}", &sha256.to_string()[..4]);
    told.extend(rows.pins.iter().map(pinned));
    for job in &rows.superseded {
        let earlier = reader.superseded(*job).await.unwrap();
        told.extend(earlier.iter().map(|earlier| {
            let had = |result: TestResult| format!("{} of {}", result.correct, result.total);
            let had = earlier.result.map_or_else(|| "files only".to_owned(), had);
            format!("job {job} had {had} until {}, when {}", earlier.at.0, earlier.reason)
        }));
    }
    // What the fixtures call their webhook.
    if let Some(told_up_to) = reader.told([7; 32]).await.unwrap() {
        told.push(format!("webhook {} was told up to {told_up_to}", hex(&[7; 32])));
    }
    for TokenRecord { hash, token } in store.load_tokens().await.unwrap() {
        let scopes = token.scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let [ends, revoked, used] =
            [token.expires_at, token.revoked_at, token.last_used_at].map(|time| or(time.map(|time| time.0), "never"));
        let (id, name, hash, made) = (token.id, token.name, &hex(&hash)[62..], token.created_at.0);
        told.push(format!(
            "token {id} `{name}` ({scopes}), hash {hash}, made at {made}, ends {ends}, revoked {revoked}, used {used}"
        ));
    }
    if let Some(KeptAnswer { key, answer, .. }) = store.answer_of(KEY, NOW).await.unwrap() {
        let (experiment, created) = (answer.experiment, if answer.created { ", created" } else { "" });
        told.push(format!(
            "key `{}`, body {}, answered with experiment {} `{}`{created}: {} blocked, {} queued",
            key.name,
            &hex(&key.body)[62..],
            experiment.id,
            experiment.name,
            experiment.counts.blocked,
            experiment.counts.queued
        ));
    }
    told.into_iter().collect()
}

/// Every table and index, as it was made.
async fn schema(store: &mut Store) -> Vec<(String, String, Option<String>)> {
    sqlx::query_as("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")
        .fetch_all(&mut store.connection)
        .await
        .unwrap()
}

async fn goes_on(schemas: &[(i64, String)], current: &[(String, String, Option<String>)]) {
    let version = schemas.last().map(|last| last.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    make(&path, schemas).await;

    let mut store = Store::open(&path).await.unwrap();
    assert_eq!(schema(&mut store).await, current, "schema {version:?}");
    let strays = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut store.connection).await.unwrap();
    assert!(strays.is_empty(), "schema {version:?}: {} rows refer to nothing", strays.len());
    let health = Health::look(&path, Care::Full).await.unwrap();
    assert_eq!((health.schema, health.damage), (known_schema(), Vec::new()));

    let scheduler = Scheduler::restore(Policy::default(), store.load().await.unwrap(), NOW);
    assert_eq!(scheduler.violations(), Vec::<String>::new());
    let reader = Reader::open(&path).await.unwrap();
    let (told, promised) = (told(&mut store, &reader, &scheduler).await, promised(schemas));
    let (lost, made_up) = (promised.difference(&told), told.difference(&promised));
    let (lost, made_up): (Vec<_>, Vec<_>) = (lost.collect(), made_up.collect());
    assert!(lost.is_empty() && made_up.is_empty(), "schema {version:?}: lost {lost:#?}, made up {made_up:#?}");
    reader.close().await;

    // The job that ran when the earlier version ended is completed by its worker, and what it was granted is new.
    let mut world = World { folder, store, scheduler, now: NOW, grants: Vec::new(), events: Vec::new() };
    let held = Held { lease: LeaseId(2), token: FencingToken(6) };
    let evaluation = Some(Box::new(evaluation()));
    world
        .apply(Command::Complete { held, outcome: outcome(false), evaluation: evaluation.clone(), memory_mib: None })
        .await;
    world.apply(submit("[1]")).await;
    world.apply(register("z")).await;
    let leasing = world.scheduler.workers().map(|(worker, ..)| worker.id).last().unwrap();
    let before = world.store.load().await.unwrap().last_lease;
    world.apply(Command::Lease { worker: leasing, slots: 1 }).await;
    assert_eq!(world.grants.iter().map(|grant| grant.lease.0).collect::<Vec<_>>(), [before.0 + 1]);
    assert_eq!(world.scheduler.job(JobId(2)).unwrap().state.name(), JobStateName::Completed);
    assert_eq!(world.reader().await.evaluation(JobId(2)).await.unwrap().map(Box::new), evaluation);
    let restored = Scheduler::restore(Policy::default(), world.store.load().await.unwrap(), NOW);
    assert_eq!(seen(&restored), seen(&world.scheduler));
}

#[tokio::test]
async fn a_database_of_every_earlier_schema_goes_on_with_its_rows() {
    let mut fresh = World::new().await.store;
    let current = schema(&mut fresh).await;
    let schemas = schemas();
    assert!(!schemas.is_empty());
    for last in 1..=schemas.len() {
        goes_on(&schemas[..last], &current).await;
    }
}

/// The step to schema 14 is whole or not at all, and leaves a copy of what was there.
#[tokio::test]
async fn a_database_that_can_not_be_brought_to_new_identities_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let schemas: Vec<_> = schemas().into_iter().filter(|(version, _)| *version < identities::SCHEMA).collect();
    make(&path, &schemas).await;
    let change = async |statement: &'static str| {
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        sqlx::query(statement).execute(&mut connection).await.unwrap();
        let schema: i64 = sqlx::query_scalar(backup::SCHEMA).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        schema
    };
    change("UPDATE recipe SET document = json_set(document, '$.hyper.epochs', 'many') WHERE id = 5").await;
    for _ in 0..2 {
        let error = chain(&Store::open(&path).await.unwrap_err());
        assert_eq!(
            error,
            "can't understand recipe 5 in the database: `hyper.epochs`: `\"many\"` is not valid: expected a whole number from 1 to 1000000"
        );
    }
    let copied = Health::look(&folder.path().join("x.db.schema-13"), Care::Full).await.unwrap();
    assert_eq!((copied.schema, copied.damage), (identities::SCHEMA - 1, Vec::new()));
    let schema = change("UPDATE recipe SET document = json_set(document, '$.hyper.epochs', 50) WHERE id = 5").await;
    assert_eq!(schema, identities::SCHEMA - 1);
    Store::open(&path).await.unwrap().close().await.unwrap();
    assert_eq!(Health::look(&path, Care::Full).await.unwrap().schema, known_schema());
}
