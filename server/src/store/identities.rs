//! The step from schema 13 to 14: a job carries its own method's values only, and so has another identity.
//!
//! It runs in the transaction that brings the schema to 14, so that a process that ends anywhere in it leaves the old database. The
//! database is copied before.

use std::collections::{BTreeMap, HashMap};

use promptfield_core::input::from_value;
use promptfield_core::job::earlier;
use promptfield_core::job::spec::{CompactSpec, Recipe, RecipeHasher, SpecHash};
use promptfield_core::method::Methods;
use promptfield_core::protocol::Stage;
use sha2::{Digest as _, Sha256};
use sqlx::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, StoreError, damaged};

/// The schema that this step leads to.
pub(super) const SCHEMA: i64 = 14;

const RECIPES: &str = "SELECT id, document FROM recipe ORDER BY id";
const SET_RECIPE: &str = "UPDATE recipe SET document = ?2 WHERE id = ?1";
/// Trainings before the tests that need them.
const JOBS: &str = "SELECT id, hash, recipe_id, stage, shots, seed, needs FROM job ORDER BY needs IS NOT NULL, id";
const IDENTITIES: &str =
    "CREATE TEMPORARY TABLE identity (job_id INTEGER PRIMARY KEY, earlier TEXT, hash BLOB, text TEXT, spec TEXT)";
static NOTE: Bulk =
    Bulk::new("note identities", "INSERT INTO identity (job_id, earlier, hash, text, spec)", "(?, ?, ?, ?, ?)", "");
const SET_HASH: &str = "UPDATE job SET hash = ?2 WHERE id = ?1";
const SET_HASHES: &str = "UPDATE job SET hash = identity.hash FROM identity WHERE identity.job_id = job.id";
/// A manifest of another specification than its job's says so still.
const SET_MANIFESTS: [&str; 2] = [
    "UPDATE result SET manifest = json_set(manifest, '$.spec', json(identity.spec), '$.spec_hash', identity.text) \
     FROM identity WHERE identity.job_id = result.job_id AND manifest ->> '$.spec_hash' = identity.earlier",
    "UPDATE superseded_result SET manifest = json_set(manifest, '$.spec', json(identity.spec), '$.spec_hash', identity.text) \
     FROM identity WHERE identity.job_id = superseded_result.job_id AND manifest ->> '$.spec_hash' = identity.earlier",
];
const FORGET_IDENTITIES: &str = "DROP TABLE identity";
const RESULT_OF: &str = "SELECT attempt_id FROM result WHERE job_id = ?1";
const NEEDS: &str = "SELECT shape FROM need";
const SET_NEED: &str = "UPDATE OR REPLACE need SET shape = ?2 WHERE shape = ?1";
const LINKS: &str = "SELECT id, experiment_id, first_job, count, variant FROM experiment_jobs ORDER BY id";
const REMOVE_LINKS: &str = "DELETE FROM experiment_jobs";
static LINK: Bulk = Bulk::new(
    "link jobs anew",
    "INSERT INTO experiment_jobs (experiment_id, first_job, count, variant)",
    "(?, ?, ?, ?)",
    "",
);

/// What becomes of a job (`?1`) that turned out to be another one (`?2`). Its row stays, since jobs are numbered without gaps, and belongs
/// to no experiment.
const MERGE: [&str; 11] = [
    "INSERT INTO superseded_result (job_id, attempt_id, total, correct, accuracy, error, macro_f1, calibration_error, manifest, \
     evaluation, superseded_at, reason) SELECT ?2, attempt_id, total, correct, accuracy, error, macro_f1, calibration_error, manifest, \
     evaluation, (SELECT coalesce(ended_at, started_at) FROM attempt WHERE id = attempt_id), \
     'job ' || ?1 || ' was the same job under another identity' FROM result WHERE job_id = ?1",
    "DELETE FROM result WHERE job_id = ?1",
    "UPDATE superseded_result SET job_id = ?2 WHERE job_id = ?1",
    "UPDATE attempt SET ended_at = started_at, ending = 'cancelled' WHERE job_id = ?1 AND ended_at IS NULL",
    "UPDATE attempt SET job_id = ?2 WHERE job_id = ?1",
    "DELETE FROM unfinished WHERE job_id = ?1",
    "DELETE FROM spared WHERE job_id = ?1",
    "DELETE FROM setback WHERE job_id = ?1",
    "REPLACE INTO job_state (job_id, state, priority, failures, losses) SELECT id, 'cancelled', priority, 0, 0 FROM job WHERE id = ?1",
    "UPDATE job SET needs = ?2 WHERE needs = ?1",
    // What waited for this one, and needs one now that has its result, can run.
    "REPLACE INTO job_state (job_id, state, priority, failures, losses, not_before) \
     SELECT job.id, 'queued', coalesce(job_state.priority, job.priority), 0, 0, 0 \
     FROM job LEFT JOIN job_state ON job_state.job_id = job.id \
     WHERE job.needs = ?2 AND coalesce(job_state.state, iif(job.ready_at IS NULL, 'blocked', 'queued')) = 'blocked' \
     AND EXISTS (SELECT 1 FROM result WHERE result.job_id = ?2)",
];

#[derive(sqlx::FromRow)]
struct JobRow {
    id: i64,
    hash: Vec<u8>,
    recipe_id: i64,
    stage: String,
    shots: u32,
    seed: i64,
    needs: Option<i64>,
}

/// A job's new identity, and its specification as JSON.
struct Identity {
    job: i64,
    earlier: String,
    hash: SpecHash,
    spec: String,
}

/// Brings every recipe, identity and manifest to its new form.
pub(super) async fn update(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let methods = Methods::built_in();
    let rows: Vec<(i64, String)> =
        sqlx::query_as(RECIPES).fetch_all(&mut *connection).await.doing("read the recipes")?;
    let mut recipes = BTreeMap::new();
    let mut configs = HashMap::new();
    for (id, text) in rows {
        let mut document: serde_json::Value = serde_json::from_str(&text).map_err(damaged("recipe", id))?;
        let had = document["config"].clone();
        if earlier::is_earlier(&document) {
            earlier::update(&mut document, methods).map_err(damaged("recipe", id))?;
        }
        configs.insert(id, (had, document["config"].clone()));
        recipes.insert(id, document);
    }
    let jobs: Vec<JobRow> = sqlx::query_as(JOBS).fetch_all(&mut *connection).await.doing("read the jobs")?;
    let recipe_of: HashMap<i64, i64> = jobs.iter().map(|job| (job.id, job.recipe_id)).collect();
    // The test of a checkpoint lies under its training's configuration, which the test's own values don't tell.
    for job in &jobs {
        let Some((had, has)) = job.needs.and_then(|needs| configs.get(recipe_of.get(&needs)?)) else { continue };
        if let Some(recipe) = recipes.get_mut(&job.recipe_id).filter(|recipe| recipe["config"] == *had) {
            recipe["config"] = has.clone();
        }
    }
    for (id, recipe) in &recipes {
        let query = sqlx::query(SET_RECIPE).bind(id).bind(recipe.to_string());
        query.execute(&mut *connection).await.doing("change a recipe")?;
    }
    let identities = identify(&jobs, recipes)?;
    let merged = same_jobs(connection, &identities).await?;
    // Of two jobs of one identity, the one that goes makes room for the other: its own becomes a hash of what it was.
    for identity in identities.iter().filter(|identity| merged.contains_key(&identity.job)) {
        let query = sqlx::query(SET_HASH).bind(identity.job).bind(Sha256::digest(&identity.earlier).to_vec());
        query.execute(&mut *connection).await.doing("change identities")?;
    }
    sqlx::query(IDENTITIES).execute(&mut *connection).await.doing("note identities")?;
    let staying: Vec<&Identity> = identities.iter().filter(|identity| !merged.contains_key(&identity.job)).collect();
    NOTE.run(connection, &staying, bind_identity).await?;
    for statement in std::iter::once(SET_HASHES).chain(SET_MANIFESTS).chain([FORGET_IDENTITIES]) {
        sqlx::query(statement).execute(&mut *connection).await.doing("change identities")?;
    }
    for (job, kept) in &merged {
        for statement in MERGE {
            let query = sqlx::query(statement).bind(job).bind(kept);
            query.execute(&mut *connection).await.doing("merge two jobs of one identity")?;
        }
    }
    if !merged.is_empty() {
        link_anew(connection, &merged).await?;
    }
    sort_shapes(connection).await
}

fn bind_identity<'q>(query: Binding<'q>, identity: &'q &'q Identity) -> Binding<'q> {
    let Identity { job, earlier, hash, spec } = *identity;
    query.bind(job).bind(earlier).bind(hash.0.as_slice()).bind(hash.to_string()).bind(spec)
}

/// The new identity of each job, in the order of `jobs`.
fn identify(jobs: &[JobRow], recipes: BTreeMap<i64, serde_json::Value>) -> Result<Vec<Identity>, StoreError> {
    let read = |(id, document)| {
        let recipe: Recipe = from_value(document).map_err(damaged("recipe", id))?;
        Ok((id, (RecipeHasher::new(&recipe), std::sync::Arc::new(recipe))))
    };
    let recipes = recipes.into_iter().map(read).collect::<Result<HashMap<_, _>, StoreError>>()?;
    let mut hashes: HashMap<i64, SpecHash> = HashMap::with_capacity(jobs.len());
    let mut identities = Vec::with_capacity(jobs.len());
    for job in jobs {
        let missing = || damaged("job", job.id)("what it points at isn't there");
        let (hasher, recipe) = recipes.get(&job.recipe_id).ok_or_else(missing)?;
        let trained_by = job.needs.map(|needs| hashes.get(&needs).copied().ok_or_else(missing)).transpose()?;
        let stage: Stage = job.stage.parse().map_err(damaged("job", job.id))?;
        let (shots, seed) = (job.shots, job.seed.cast_unsigned());
        let hash = hasher.hash(stage, shots, seed, trained_by);
        hashes.insert(job.id, hash);
        let spec = CompactSpec { recipe: std::sync::Arc::clone(recipe), stage, shots, seed, trained_by }.to_spec();
        let earlier = promptfield_core::job::spec::hex(&job.hash);
        identities.push(Identity { job: job.id, earlier, hash, spec: serde_json::json!(spec).to_string() });
    }
    Ok(identities)
}

/// The jobs that have the identity of another one, each with the one that stays: of those with a result the one that had it first, or
/// else the first.
async fn same_jobs(
    connection: &mut SqliteConnection,
    identities: &[Identity],
) -> Result<BTreeMap<i64, i64>, StoreError> {
    let mut by_hash: HashMap<SpecHash, Vec<i64>> = HashMap::with_capacity(identities.len());
    for identity in identities {
        by_hash.entry(identity.hash).or_default().push(identity.job);
    }
    let mut merged = BTreeMap::new();
    for jobs in by_hash.into_values().filter(|jobs| jobs.len() > 1) {
        let mut ranked = Vec::new();
        for job in jobs {
            let query = sqlx::query_scalar(RESULT_OF).bind(job).fetch_optional(&mut *connection);
            let attempt: Option<i64> = query.await.doing("read a result")?;
            ranked.push((attempt.is_none(), attempt, job));
        }
        ranked.sort_unstable();
        let jobs = ranked.iter().map(|(.., job)| *job);
        merged.extend(jobs.skip(1).map(|job| (job, ranked[0].2)));
    }
    Ok(merged)
}

/// Jobs of an experiment that follow each other: the experiment, the first job, how many, and the sweep's values.
type Run = (i64, i64, i64, String);

fn bind_link<'q>(query: Binding<'q>, (experiment, first, count, variant): &'q Run) -> Binding<'q> {
    query.bind(experiment).bind(first).bind(count).bind(variant)
}

/// Links the experiments to the jobs that stay.
async fn link_anew(connection: &mut SqliteConnection, merged: &BTreeMap<i64, i64>) -> Result<(), StoreError> {
    let rows: Vec<(i64, i64, i64, i64, String)> =
        sqlx::query_as(LINKS).fetch_all(&mut *connection).await.doing("read the experiments' jobs")?;
    let mut links: Vec<Run> = Vec::new();
    for (_, experiment, first, count, variant) in rows {
        let start = links.len();
        for job in first..first + count {
            let stays = merged.get(&job).copied().unwrap_or(job);
            match links[start..].last_mut() {
                Some((_, first, count, _)) if *first + *count == stays => *count += 1,
                _ => links.push((experiment, stays, 1, variant.clone())),
            }
        }
    }
    sqlx::query(REMOVE_LINKS).execute(&mut *connection).await.doing("link jobs anew")?;
    LINK.run(connection, &links, bind_link).await
}

/// The values that decide how much memory jobs take stand in the order of their names.
async fn sort_shapes(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let shapes: Vec<String> = sqlx::query_scalar(NEEDS).fetch_all(&mut *connection).await.doing("read the shapes")?;
    for shape in shapes {
        let (mut values, words): (Vec<&str>, Vec<&str>) = shape.split(' ').partition(|word| word.contains('='));
        values.sort_unstable();
        let sorted = words.into_iter().chain(values).collect::<Vec<_>>().join(" ");
        if sorted != shape {
            let query = sqlx::query(SET_NEED).bind(&shape).bind(sorted);
            query.execute(&mut *connection).await.doing("change a shape")?;
        }
    }
    Ok(())
}
