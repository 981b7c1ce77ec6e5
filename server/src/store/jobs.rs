//! Jobs and their states, and the recipes that many of them share.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use promptfield_core::id::{FencingToken, JobId, LeaseId, RecipeId, WorkerId};
use promptfield_core::outcome::{Failure, TestResult};
use promptfield_core::scheduler::{Attempt, Held, JobChange, JobRecord, JobState, JobStateName, Lease};
use promptfield_core::spec::{CompactSpec, Recipe, SpecHash};
use promptfield_core::time::Timestamp;
use promptfield_core::trainer_wire::Progress;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, bulk};
use super::{Doing, StoreError, damaged, results};

bulk! {
    INSERT, "insert jobs",
    "INSERT INTO job (id, hash, recipe_id, stage, shots, seed, needs, state, not_before, failure_class, failure_reason, priority, \
     failures, losses, lease, token, worker_id)", 17, ""
}
bulk! {
    UPDATE, "change jobs",
    "WITH now (id, state, not_before, failure_class, failure_reason, priority, failures, losses, lease, token, worker_id) AS (", 11,
    ") UPDATE job SET state = now.state, not_before = now.not_before, failure_class = now.failure_class, \
     failure_reason = now.failure_reason, priority = now.priority, failures = now.failures, losses = now.losses, \
     lease = now.lease, token = now.token, worker_id = now.worker_id FROM now WHERE job.id = now.id"
}
bulk! { INSERT_RECIPE, "insert recipes", "INSERT INTO recipe (id, document)", 2, "" }
const LOAD: &str = "SELECT id, hash, recipe_id, stage, shots, seed, needs, state, not_before, priority, failures, losses, lease, \
     token, worker_id FROM job ORDER BY id";
const LOAD_FAILURES: &str = "SELECT id, failure_class, failure_reason FROM job WHERE state = 'failed'";
const LOAD_RECIPES: &str = "SELECT id, document FROM recipe ORDER BY id";

/// Binds a state's columns. The lease and the result that belong to some states have tables of their own.
fn bind_state<'q>(query: Binding<'q>, state: &'q JobState) -> Binding<'q> {
    let not_before = match state {
        JobState::Queued { not_before } => Some(not_before.0),
        _ => None,
    };
    let failure = match state {
        JobState::Failed(failure) => Some(failure),
        _ => None,
    };
    query
        .bind(state.name().as_str())
        .bind(not_before)
        .bind(failure.map(|failure| failure.class.as_str()))
        .bind(failure.map(|failure| failure.reason.as_str()))
}

fn bind_latest(query: Binding<'_>, latest: Option<Attempt>) -> Binding<'_> {
    query
        .bind(latest.map(|attempt| attempt.held.lease.0.cast_signed()))
        .bind(latest.map(|attempt| attempt.held.token.0.cast_signed()))
        .bind(latest.map(|attempt| attempt.worker.0.cast_signed()))
}

pub(super) async fn insert_recipes<'q>(
    connection: &mut SqliteConnection,
    recipes: &'q [(RecipeId, &'q Arc<Recipe>)],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, (id, recipe): &'q (RecipeId, &Arc<Recipe>)| {
        query.bind(id.0.cast_signed()).bind(serde_json::json!(recipe.as_ref()).to_string())
    };
    INSERT_RECIPE.run(connection, recipes, bind).await
}

pub(super) async fn insert<'q>(
    connection: &mut SqliteConnection,
    records: &'q [&'q JobRecord],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, record: &'q &JobRecord| {
        let query = query
            .bind(record.id.0.cast_signed())
            .bind(record.hash.0.as_slice())
            .bind(record.recipe.0.cast_signed())
            .bind(record.spec.stage.as_str())
            .bind(record.spec.shots)
            .bind(record.spec.seed.cast_signed())
            .bind(record.needs.map(|job| job.0.cast_signed()));
        let query = bind_state(query, &record.state).bind(record.priority).bind(record.failures).bind(record.losses);
        bind_latest(query, record.latest())
    };
    INSERT.run(connection, records, bind).await
}

pub(super) async fn update<'q>(
    connection: &mut SqliteConnection,
    changes: &'q [&'q JobChange],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, change: &'q &JobChange| {
        let query = bind_state(query.bind(change.job.0.cast_signed()), &change.state);
        bind_latest(query.bind(change.priority).bind(change.failures).bind(change.losses), change.latest)
    };
    UPDATE.run(connection, changes, bind).await
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
type Row = (
    i64,
    Vec<u8>,
    i64,
    String,
    u32,
    i64,
    Option<i64>,
    String,
    Option<i64>,
    i32,
    u32,
    u32,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

/// Reads all jobs. Their identifiers have no gaps.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    recipes: &[(RecipeId, Arc<Recipe>)],
) -> Result<Vec<JobRecord>, StoreError> {
    let mut results = results::load(connection).await?;
    let mut failures = load_failures(connection).await?;
    let mut rows = sqlx::query_as::<_, Row>(LOAD).fetch(connection);
    let mut records: Vec<JobRecord> = Vec::new();
    while let Some(row) = rows.try_next().await.doing("read the jobs")? {
        let id = row.0;
        let job = JobId(id.cast_unsigned());
        let ending = (results.remove(&job), failures.remove(&job));
        records.push(record(row, recipes, &records, ending).map_err(damaged("job", id))?);
    }
    Ok(records)
}

async fn load_failures(connection: &mut SqliteConnection) -> Result<HashMap<JobId, Failure>, StoreError> {
    let rows: Vec<(i64, String, String)> =
        sqlx::query_as(LOAD_FAILURES).fetch_all(connection).await.doing("read the jobs' failures")?;
    rows.into_iter()
        .map(|(id, class, reason)| {
            let class = class.parse().map_err(damaged("job", id))?;
            Ok((JobId(id.cast_unsigned()), Failure { class, reason }))
        })
        .collect()
}

fn record(
    row: Row,
    recipes: &[(RecipeId, Arc<Recipe>)],
    before: &[JobRecord],
    (result, failure): (Option<TestResult>, Option<Failure>),
) -> Result<JobRecord, Unreadable> {
    let (id, hash, recipe, stage, shots, seed, needs, state, not_before, ..) = row;
    let (.., priority, failures, losses, lease, token, worker) = row;
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
    let latest = match (lease, token, worker) {
        (Some(lease), Some(token), Some(worker)) => Some(Attempt {
            held: Held { lease: LeaseId(lease.cast_unsigned()), token: FencingToken(token.cast_unsigned()) },
            worker: WorkerId(worker.cast_unsigned()),
        }),
        _ => None,
    };
    let result = || result.map(Box::new).ok_or("it has no result");
    let state = match state.parse()? {
        JobStateName::Blocked => JobState::Blocked,
        JobStateName::Queued => JobState::Queued { not_before: Timestamp(not_before.ok_or("it has no time")?) },
        JobStateName::Leased => JobState::Leased(held(latest)?),
        JobStateName::Running => JobState::Running(held(latest)?),
        JobStateName::Completed => JobState::Completed(result()?),
        JobStateName::Skipped => JobState::Skipped(result()?),
        JobStateName::Failed => JobState::Failed(failure.map(Box::new).ok_or("its failure has no reason")?),
        JobStateName::Cancelled => JobState::Cancelled,
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
        state,
        failures,
        losses,
        latest: latest.map(Box::new),
    })
}

/// The lease of the latest attempt. Its end isn't in the database, since leases begin anew with the coordinator, and where
/// the job stands is heard from its worker.
fn held(latest: Option<Attempt>) -> Result<Box<Lease>, Unreadable> {
    let Attempt { held: Held { lease: id, token }, worker } = latest.ok_or("it has no attempt")?;
    Ok(Box::new(Lease { id, token, worker, deadline: Timestamp(0), progress: Progress::default() }))
}
