//! Attempts: each try of a job, and how it ended.

use promptfield_core::id::{FencingToken, JobId, LeaseId, WorkerId};
use promptfield_core::job::outcome::Failure;
use promptfield_core::scheduler::AttemptEnd;
use promptfield_core::time::Timestamp;
use promptfield_core::wire::api::AttemptSummary;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, Reader, StoreError, damaged};

static INSERT: Bulk = Bulk::new(
    "insert attempts",
    "INSERT INTO attempt (id, token, job_id, worker_id, started_at)",
    "(?, ?, ?, ?, ?)",
    "",
);
/// An attempt that was given up may report its end later; the later word stands.
static SET_END: Bulk = Bulk::new(
    "end attempts",
    "WITH word (id, ended_at, ending, failure_class, failure_reason) AS (",
    "(?, ?, ?, ?, ?)",
    ") UPDATE attempt SET ended_at = word.ended_at, ending = word.ending, failure_class = word.failure_class, \
     failure_reason = word.failure_reason FROM word WHERE attempt.id = word.id",
);
const LAST: &str = "SELECT coalesce(max(id), 0) FROM attempt";
pub(super) const OF_JOB: &str = "SELECT id, worker_id, started_at, ended_at, ending, failure_class, failure_reason FROM attempt \
     WHERE job_id = ?1 ORDER BY id";
pub(super) const LATEST_OF_JOB: &str =
    "SELECT (SELECT max(id) FROM attempt WHERE job_id = job.id) FROM job WHERE id = ?1";

/// An attempt begins.
pub(super) struct Start {
    pub(super) lease: LeaseId,
    pub(super) token: FencingToken,
    pub(super) job: JobId,
    pub(super) worker: WorkerId,
    pub(super) at: Timestamp,
}

/// An attempt ends.
pub(super) struct End<'a> {
    pub(super) at: Timestamp,
    pub(super) how: AttemptEnd,
    pub(super) failure: Option<&'a Failure>,
}

/// Inserts attempts, which have not ended yet.
pub(super) async fn insert<'q>(connection: &mut SqliteConnection, starts: &'q [Start]) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, start: &'q Start| {
        let Start { lease, token, job, worker, at } = start;
        query
            .bind(lease.0.cast_signed())
            .bind(token.0.cast_signed())
            .bind(job.0.cast_signed())
            .bind(worker.0.cast_signed())
            .bind(at.0)
    };
    INSERT.run(connection, starts, bind).await
}

pub(super) async fn set_ends<'q>(
    connection: &mut SqliteConnection,
    ends: &'q [(LeaseId, End<'q>)],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, (lease, end): &'q (LeaseId, End<'q>)| {
        query
            .bind(lease.0.cast_signed())
            .bind(end.at.0)
            .bind(end.how.as_str())
            .bind(end.failure.map(|failure| failure.class.as_str()))
            .bind(end.failure.map(|failure| failure.reason.as_str()))
    };
    SET_END.run(connection, ends, bind).await
}

/// The greatest lease.
pub(super) async fn last(connection: &mut SqliteConnection) -> Result<LeaseId, StoreError> {
    let last: i64 = sqlx::query_scalar(LAST).fetch_one(connection).await.doing("read the last attempt")?;
    Ok(LeaseId(last.cast_unsigned()))
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
