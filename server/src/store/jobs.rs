//! Jobs and their states, and the recipes that many of them share.

use std::sync::Arc;

use futures_util::TryStreamExt;
use promptfield_core::id::{FencingToken, JobId, LeaseId, RecipeId, WorkerId};
use promptfield_core::job::outcome::{Failure, Progress, TestResult};
use promptfield_core::job::spec::{CompactSpec, Recipe, SpecHash};
use promptfield_core::scheduler::{Attempt, Held, JobChange, JobRecord, JobState, JobStateName, Lease};
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, StoreError, damaged, results};

static INSERT: Bulk = Bulk::new(
    "insert jobs",
    "INSERT INTO job (id, hash, recipe_id, stage, shots, seed, needs, priority, ready_at)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);
/// The columns of a failure become absent.
static SET_STATE: Bulk = Bulk::new(
    "change jobs",
    "REPLACE INTO job_state (job_id, state, priority, failures, losses, not_before, lease)",
    "(?, ?, ?, ?, ?, ?, ?)",
    "",
);
static SET_FAILED: Bulk = Bulk::new(
    "fail jobs",
    "REPLACE INTO job_state (job_id, state, priority, failures, losses, not_before, lease, failure_class, failure_reason)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);
static INSERT_RECIPE: Bulk = Bulk::new("insert recipes", "INSERT INTO recipe (id, document)", "(?, ?)", "");
const LOAD: &str = "SELECT id, hash, recipe_id, stage, shots, seed, needs, priority, ready_at FROM job ORDER BY id";
const LOAD_STATES: &str = "SELECT job_state.job_id, state, priority, failures, losses, not_before, job_state.failure_class, \
     job_state.failure_reason, lease, token, worker_id, started_at FROM job_state LEFT JOIN attempt ON attempt.id = lease ORDER BY job_state.job_id";
const LOAD_RECIPES: &str = "SELECT id, document FROM recipe ORDER BY id";

pub(super) async fn insert_recipes<'q>(
    connection: &mut SqliteConnection,
    recipes: &'q [(RecipeId, &'q Arc<Recipe>)],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, (id, recipe): &'q (RecipeId, &Arc<Recipe>)| {
        query.bind(id.0.cast_signed()).bind(serde_json::json!(recipe.as_ref()).to_string())
    };
    INSERT_RECIPE.run(connection, recipes, bind).await
}

/// Inserts new jobs, as they come: able to run from a certain time on, or blocked, and never tried.
pub(super) async fn insert<'q>(
    connection: &mut SqliteConnection,
    records: &'q [&'q JobRecord],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, record: &'q &JobRecord| {
        let ready_at = match record.state {
            JobState::Queued { not_before } => Some(not_before.0),
            _ => None,
        };
        query
            .bind(record.id.0.cast_signed())
            .bind(record.hash.0.as_slice())
            .bind(record.recipe.0.cast_signed())
            .bind(record.spec.stage.as_str())
            .bind(record.spec.shots)
            .bind(record.spec.seed.cast_signed())
            .bind(record.needs.map(|job| job.0.cast_signed()))
            .bind(record.priority)
            .bind(ready_at)
    };
    INSERT.run(connection, records, bind).await
}

/// Writes where jobs stand now. The lease and the result that belong to some states have tables of their own.
pub(super) async fn set_states<'q>(
    connection: &mut SqliteConnection,
    changes: &'q [&'q JobChange],
    failed: &'q [(&'q JobChange, &'q Failure)],
) -> Result<(), StoreError> {
    SET_STATE.run(connection, changes, |query, change| bind_state(query, change)).await?;
    let bind = |query: Binding<'q>, (change, failure): &'q (&JobChange, &Failure)| {
        bind_state(query, change).bind(failure.class.as_str()).bind(failure.reason.as_str())
    };
    SET_FAILED.run(connection, failed, bind).await
}

fn bind_state<'q>(query: Binding<'q>, change: &JobChange) -> Binding<'q> {
    let not_before = match change.state {
        JobState::Queued { not_before } => Some(not_before.0),
        _ => None,
    };
    query
        .bind(change.job.0.cast_signed())
        .bind(change.state.name().as_str())
        .bind(change.priority)
        .bind(change.failures)
        .bind(change.losses)
        .bind(not_before)
        .bind(change.latest.map(|attempt| attempt.held.lease.0.cast_signed()))
}

pub(super) async fn load_recipes(
    connection: &mut SqliteConnection,
) -> Result<Vec<(RecipeId, Arc<Recipe>)>, StoreError> {
    let rows: Vec<(i64, String)> =
        sqlx::query_as(LOAD_RECIPES).fetch_all(connection).await.doing("read the recipes")?;
    rows.into_iter()
        .enumerate()
        .map(|(place, (id, document))| {
            if id.cast_unsigned() != place as u64 + 1 {
                return Err(damaged("recipe", id)("an earlier one is missing"));
            }
            let recipe: Recipe = serde_json::from_str(&document).map_err(damaged("recipe", id))?;
            Ok((RecipeId(id.cast_unsigned()), Arc::new(recipe)))
        })
        .collect()
}

type Unreadable = Box<dyn std::error::Error + Send + Sync>;
type Row = (i64, Vec<u8>, i64, String, u32, i64, Option<i64>, i32, Option<i64>);
type StateRow = (
    i64,
    String,
    i32,
    u32,
    u32,
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

/// Reads all jobs. Their identifiers have no gaps.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    recipes: &[(RecipeId, Arc<Recipe>)],
) -> Result<Vec<JobRecord>, StoreError> {
    let mut records: Vec<JobRecord> = Vec::new();
    let mut rows = sqlx::query_as::<_, Row>(LOAD).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await.doing("read the jobs")? {
        let id = row.0;
        records.push(as_it_came(row, recipes, &records).map_err(damaged("job", id))?);
    }
    drop(rows);
    let mut results = results::load(connection).await?;
    let mut rows = sqlx::query_as::<_, StateRow>(LOAD_STATES).fetch(connection);
    while let Some(row) = rows.try_next().await.doing("read where the jobs stand")? {
        let id = row.0;
        let record = usize::try_from(id - 1).ok().and_then(|place| records.get_mut(place));
        let record = record.ok_or("there is no such job").map_err(damaged("the state of job", id))?;
        let result = results.remove(&record.id);
        as_it_stands(record, row, result).map_err(damaged("job", id))?;
    }
    Ok(records)
}

/// A job without whatever has happened to it since.
fn as_it_came(row: Row, recipes: &[(RecipeId, Arc<Recipe>)], before: &[JobRecord]) -> Result<JobRecord, Unreadable> {
    let (id, hash, recipe, stage, shots, seed, needs, priority, ready_at) = row;
    if id.cast_unsigned() != before.len() as u64 + 1 {
        return Err("an earlier one is missing".into());
    }
    let found = usize::try_from(recipe - 1).ok().and_then(|place| recipes.get(place));
    let (recipe, document) = found.ok_or_else(|| format!("there is no recipe {recipe}"))?;
    let needs = needs.map(|job| JobId(job.cast_unsigned()));
    let trained_by = match needs {
        None => None,
        Some(needs) => Some(usize::try_from(needs.0)?.checked_sub(1).and_then(|place| before.get(place)))
            .map(|job| job.map(|job| job.hash).ok_or("the job that it needs comes after it"))
            .transpose()?,
    };
    Ok(JobRecord {
        id: JobId(id.cast_unsigned()),
        spec: CompactSpec {
            recipe: Arc::clone(document),
            stage: stage.parse()?,
            shots,
            seed: seed.cast_unsigned(),
            trained_by,
        },
        recipe: *recipe,
        hash: SpecHash(hash.try_into().map_err(|_| "its hash isn't 32 bytes long")?),
        needs,
        priority,
        state: ready_at.map_or(JobState::Blocked, |at| JobState::Queued { not_before: Timestamp(at) }),
        failures: 0,
        losses: 0,
        latest: None,
    })
}

/// Brings a job to where it stands.
fn as_it_stands(record: &mut JobRecord, row: StateRow, result: Option<TestResult>) -> Result<(), Unreadable> {
    let (_, state, priority, failures, losses, not_before, class, reason, id, token, worker, since) = row;
    let latest = match (id, token, worker) {
        (Some(id), Some(token), Some(worker)) => Some(attempt(id, token, worker)),
        (None, ..) => None,
        (Some(id), ..) => return Err(format!("there is no attempt {id}").into()),
    };
    let held = || {
        let (latest, since) = latest.zip(since).ok_or("it has no attempt")?;
        Ok::<_, Unreadable>(Box::new(lease(latest, since)))
    };
    let result = || match result.map(Box::new) {
        None if record.spec.stage.evaluates() => Err("it has no result"),
        result => Ok(result),
    };
    record.state = match state.parse()? {
        JobStateName::Blocked => JobState::Blocked,
        JobStateName::Queued => JobState::Queued { not_before: Timestamp(not_before.ok_or("it has no time")?) },
        JobStateName::Leased => JobState::Leased(held()?),
        JobStateName::Running => JobState::Running(held()?),
        JobStateName::Completed => JobState::Completed(result()?),
        JobStateName::Skipped => JobState::Skipped(result()?),
        JobStateName::Failed => {
            let (class, reason) = class.zip(reason).ok_or("its failure has no reason")?;
            JobState::Failed(Box::new(Failure { class: class.parse()?, reason }))
        }
        JobStateName::Cancelled => JobState::Cancelled,
    };
    record.priority = priority;
    record.failures = failures;
    record.losses = losses;
    record.latest = latest.map(Box::new);
    Ok(())
}

fn attempt(id: i64, token: i64, worker: i64) -> Attempt {
    let held = Held { lease: LeaseId(id.cast_unsigned()), token: FencingToken(token.cast_unsigned()) };
    Attempt { held, worker: WorkerId(worker.cast_unsigned()) }
}

/// An attempt's lease. Its end isn't in the database, since leases begin anew with the coordinator, and where the job stands is
/// heard from its worker.
fn lease(attempt: Attempt, since: i64) -> Lease {
    let Attempt { held: Held { lease: id, token }, worker } = attempt;
    let (since, deadline) = (Timestamp(since), Timestamp(0));
    Lease { id, token, worker, since, came_back: false, deadline, progress: Progress::default() }
}
