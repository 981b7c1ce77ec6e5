//! Attempts: each try of a job, and how it ended.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use promptfield_core::api::AttemptSummary;
use promptfield_core::id::{FencingToken, JobId, LeaseId, WorkerId};
use promptfield_core::outcome::Failure;
use promptfield_core::scheduler::{Attempt, AttemptEnd, Held};
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::{Doing, Reader, StoreError, damaged, one};

const INSERT: &str = "INSERT INTO attempt (id, token, job_id, worker_id, started_at) VALUES (?1, ?2, ?3, ?4, ?5)";
const SET_END: &str =
    "UPDATE attempt SET ended_at = ?2, ending = ?3, failure_class = ?4, failure_reason = ?5 WHERE id = ?1";
const LOAD: &str = "SELECT id, token, job_id, worker_id FROM attempt ORDER BY id";
pub(super) const OF_JOB: &str = "SELECT id, worker_id, started_at, ended_at, ending, failure_class, failure_reason FROM attempt \
     WHERE job_id = ?1 ORDER BY id";
pub(super) const LATEST_OF_JOB: &str =
    "SELECT (SELECT max(id) FROM attempt WHERE job_id = job.id) FROM job WHERE id = ?1";

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    lease: LeaseId,
    token: FencingToken,
    job: JobId,
    worker: WorkerId,
    at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(INSERT)
        .bind(lease.0.cast_signed())
        .bind(token.0.cast_signed())
        .bind(job.0.cast_signed())
        .bind(worker.0.cast_signed())
        .bind(at.0)
        .execute(connection)
        .await
        .doing("insert an attempt")
        .map(drop)
}

/// An attempt that was given up may report its end later; the later word stands.
pub(super) async fn set_end(
    connection: &mut SqliteConnection,
    lease: LeaseId,
    at: Timestamp,
    end: AttemptEnd,
    failure: Option<&Failure>,
) -> Result<(), StoreError> {
    let doing = "end an attempt";
    let query = sqlx::query(SET_END)
        .bind(lease.0.cast_signed())
        .bind(at.0)
        .bind(end.as_str())
        .bind(failure.map(|failure| failure.class.as_str()))
        .bind(failure.map(|failure| failure.reason.as_str()));
    one(query.execute(connection).await.doing(doing)?, doing)
}

/// Every attempt with its job, and each job's latest.
pub(super) async fn load(
    connection: &mut SqliteConnection,
) -> Result<(Vec<(LeaseId, JobId)>, HashMap<JobId, Attempt>), StoreError> {
    let mut rows = sqlx::query_as(LOAD).fetch(connection);
    let (mut attempts, mut latest) = (Vec::new(), HashMap::new());
    while let Some((id, token, job, worker)) = rows.try_next().await.doing("read the attempts")? {
        let (id, token, job, worker): (i64, i64, i64, i64) = (id, token, job, worker);
        let (lease, job) = (LeaseId(id.cast_unsigned()), JobId(job.cast_unsigned()));
        let held = Held { lease, token: FencingToken(token.cast_unsigned()) };
        attempts.push((lease, job));
        latest.insert(job, Attempt { held, worker: WorkerId(worker.cast_unsigned()) });
    }
    Ok((attempts, latest))
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    worker_id: i64,
    started_at: i64,
    ended_at: Option<i64>,
    ending: Option<String>,
    failure_class: Option<String>,
    failure_reason: Option<String>,
}

impl Row {
    fn summary(self) -> Result<AttemptSummary, StoreError> {
        let id = self.id;
        let end = self.ending.map(|end| end.parse()).transpose().map_err(damaged("attempt", id))?;
        let failure = match (self.failure_class, self.failure_reason) {
            (Some(class), Some(reason)) => {
                Some(Failure { class: class.parse().map_err(damaged("attempt", id))?, reason })
            }
            _ => None,
        };
        Ok(AttemptSummary {
            lease: LeaseId(id.cast_unsigned()),
            worker: WorkerId(self.worker_id.cast_unsigned()),
            started_at: Timestamp(self.started_at),
            ended_at: self.ended_at.map(Timestamp),
            end,
            failure,
        })
    }
}

impl Reader {
    /// A job's attempts, oldest first.
    pub(crate) async fn attempts(&self, job: JobId) -> Result<Vec<AttemptSummary>, StoreError> {
        let query = sqlx::query_as::<_, Row>(OF_JOB).bind(job.0.cast_signed());
        let rows = query.fetch_all(&self.pool).await.doing("read a job's attempts")?;
        rows.into_iter().map(Row::summary).collect()
    }

    /// A job's latest attempt, if it has one; `None` without such a job.
    pub(crate) async fn latest_attempt(&self, job: JobId) -> Result<Option<Option<LeaseId>>, StoreError> {
        let latest: Option<Option<i64>> = sqlx::query_scalar(LATEST_OF_JOB)
            .bind(job.0.cast_signed())
            .fetch_optional(&self.pool)
            .await
            .doing("read a job's latest attempt")?;
        Ok(latest.map(|attempt| attempt.map(|id| LeaseId(id.cast_unsigned()))))
    }
}
