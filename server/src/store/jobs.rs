//! Jobs and their states.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use promptfield_core::id::{JobId, LeaseId};
use promptfield_core::outcome::{Failure, TestResult};
use promptfield_core::scheduler::{Attempt, JobRecord, JobState, JobStateName, Lease};
use promptfield_core::spec::SpecHash;
use promptfield_core::time::Timestamp;
use promptfield_core::trainer_wire::Progress;
use sqlx::sqlite::SqliteConnection;

use super::{Doing, Reader, StoreError, damaged, one};

const INSERT: &str = "INSERT INTO job (id, hash, spec, needs, priority, state, failures, not_before, failure_class, failure_reason) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const SET_STATE: &str =
    "UPDATE job SET state = ?2, failures = ?3, not_before = ?4, failure_class = ?5, failure_reason = ?6 WHERE id = ?1";
const SET_PRIORITY: &str = "UPDATE job SET priority = ?2 WHERE id = ?1";
const LOAD: &str = "SELECT job.id, job.hash, job.spec, job.needs, job.priority, job.state, job.failures, job.not_before, \
     job.failure_class, job.failure_reason, result.total, result.correct, result.accuracy, result.error, result.macro_f1, \
     result.calibration_error FROM job LEFT JOIN result ON result.job_id = job.id ORDER BY job.id";
pub(super) const HASH_OF_LEASE: &str =
    "SELECT job.hash FROM attempt JOIN job ON job.id = attempt.job_id WHERE attempt.id = ?1";

/// A state's columns.
struct Columns<'a> {
    state: &'static str,
    not_before: Option<i64>,
    failure: Option<&'a Failure>,
}

impl<'a> From<&'a JobState> for Columns<'a> {
    fn from(state: &'a JobState) -> Self {
        let not_before = match state {
            JobState::Queued { not_before } => Some(not_before.0),
            _ => None,
        };
        let failure = match state {
            JobState::Failed(failure) => Some(failure),
            _ => None,
        };
        Self { state: state.name().as_str(), not_before, failure }
    }
}

pub(super) async fn insert(connection: &mut SqliteConnection, record: &JobRecord) -> Result<(), StoreError> {
    let columns = Columns::from(&record.state);
    sqlx::query(INSERT)
        .bind(record.id.0.cast_signed())
        .bind(record.hash.0.as_slice())
        .bind(serde_json::json!(record.spec.as_ref()).to_string())
        .bind(record.needs.map(|job| job.0.cast_signed()))
        .bind(record.priority)
        .bind(columns.state)
        .bind(record.failures)
        .bind(columns.not_before)
        .bind(columns.failure.map(|failure| failure.class.as_str()))
        .bind(columns.failure.map(|failure| failure.reason.as_str()))
        .execute(connection)
        .await
        .doing("insert a job")
        .map(drop)
}

/// The lease and the result that belong to some states have tables of their own.
pub(super) async fn set_state(
    connection: &mut SqliteConnection,
    job: JobId,
    state: &JobState,
    failures: u32,
) -> Result<(), StoreError> {
    let (doing, columns) = ("change a job's state", Columns::from(state));
    let query = sqlx::query(SET_STATE)
        .bind(job.0.cast_signed())
        .bind(columns.state)
        .bind(failures)
        .bind(columns.not_before)
        .bind(columns.failure.map(|failure| failure.class.as_str()))
        .bind(columns.failure.map(|failure| failure.reason.as_str()));
    one(query.execute(connection).await.doing(doing)?, doing)
}

pub(super) async fn set_priority(
    connection: &mut SqliteConnection,
    job: JobId,
    priority: i32,
) -> Result<(), StoreError> {
    let doing = "change a job's priority";
    let query = sqlx::query(SET_PRIORITY).bind(job.0.cast_signed()).bind(priority);
    one(query.execute(connection).await.doing(doing)?, doing)
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    hash: Vec<u8>,
    spec: String,
    needs: Option<i64>,
    priority: i32,
    state: String,
    failures: u32,
    not_before: Option<i64>,
    failure_class: Option<String>,
    failure_reason: Option<String>,
    total: Option<i64>,
    correct: Option<i64>,
    accuracy: Option<f64>,
    error: Option<f64>,
    macro_f1: Option<f64>,
    calibration_error: Option<f64>,
}

type Unreadable = Box<dyn std::error::Error + Send + Sync>;

impl Row {
    fn record(self, latest: Option<Attempt>) -> Result<JobRecord, Unreadable> {
        let state = self.state(latest)?;
        Ok(JobRecord {
            id: JobId(self.id.cast_unsigned()),
            spec: Arc::new(serde_json::from_str(&self.spec)?),
            hash: SpecHash(self.hash.try_into().map_err(|_| "its hash isn't 32 bytes long")?),
            needs: self.needs.map(|job| JobId(job.cast_unsigned())),
            priority: self.priority,
            state,
            failures: self.failures,
            latest,
        })
    }

    fn state(&self, latest: Option<Attempt>) -> Result<JobState, Unreadable> {
        Ok(match self.state.parse()? {
            JobStateName::Blocked => JobState::Blocked,
            JobStateName::Queued => {
                JobState::Queued { not_before: Timestamp(self.not_before.ok_or("it has no time")?) }
            }
            JobStateName::Leased => JobState::Leased(lease(latest)?),
            JobStateName::Running => JobState::Running(lease(latest)?),
            JobStateName::Completed => JobState::Completed(self.result()?),
            JobStateName::Skipped => JobState::Skipped(self.result()?),
            JobStateName::Failed => JobState::Failed(Failure {
                class: self.failure_class.as_deref().ok_or("its failure has no class")?.parse()?,
                reason: self.failure_reason.clone().ok_or("its failure has no reason")?,
            }),
            JobStateName::Cancelled => JobState::Cancelled,
        })
    }

    fn result(&self) -> Result<TestResult, Unreadable> {
        let missing = "it has no result";
        Ok(TestResult {
            total: self.total.ok_or(missing)?.cast_unsigned(),
            correct: self.correct.ok_or(missing)?.cast_unsigned(),
            accuracy: self.accuracy.ok_or(missing)?,
            error: self.error.ok_or(missing)?,
            macro_f1: self.macro_f1.ok_or(missing)?,
            calibration_error: self.calibration_error,
        })
    }
}

/// The lease of the latest attempt. Its end isn't in the database, since leases begin anew with the coordinator, and where
/// the job stands is heard from its worker.
fn lease(latest: Option<Attempt>) -> Result<Lease, Unreadable> {
    let Attempt { held, worker } = latest.ok_or("it has no attempt")?;
    Ok(Lease { id: held.lease, token: held.token, worker, deadline: Timestamp(0), progress: Progress::default() })
}

pub(super) async fn load(
    connection: &mut SqliteConnection,
    latest: &HashMap<JobId, Attempt>,
) -> Result<Vec<JobRecord>, StoreError> {
    let mut rows = sqlx::query_as::<_, Row>(LOAD).fetch(connection);
    let mut records = Vec::new();
    while let Some(row) = rows.try_next().await.doing("read the jobs")? {
        let id = row.id;
        let latest = latest.get(&JobId(id.cast_unsigned())).copied();
        records.push(row.record(latest).map_err(damaged("job", id))?);
    }
    Ok(records)
}

impl Reader {
    /// The identity of the job that a lease was granted for.
    pub(crate) async fn hash_of_lease(&self, lease: LeaseId) -> Result<Option<SpecHash>, StoreError> {
        let hash: Option<Vec<u8>> = sqlx::query_scalar(HASH_OF_LEASE)
            .bind(lease.0.cast_signed())
            .fetch_optional(&self.pool)
            .await
            .doing("read a lease's job")?;
        let Some(hash) = hash else { return Ok(None) };
        let hash = hash.try_into().map_err(|_| "its job's hash isn't 32 bytes long");
        Ok(Some(SpecHash(hash.map_err(damaged("attempt", lease.0.cast_signed()))?)))
    }
}
