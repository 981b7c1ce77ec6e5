//! How long attempts took.

use std::collections::HashMap;

use promptfield_core::id::{JobId, WorkerId};
use promptfield_core::scheduler::{Spent, Took};
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::{Doing, Reader, StoreError};

/// How far back it's looked for how long jobs take, in attempts.
const RECENT: i64 = 20_000;
const HOUR_MS: i64 = 3_600_000;

/// What an attempt only found tells nothing of how long it takes.
pub(super) const DURATIONS: &str = "SELECT job.recipe_id, job.stage, job.shots, job.id, ended_at - started_at FROM attempt \
     CROSS JOIN job ON job.id = attempt.job_id CROSS JOIN job_state ON job_state.job_id = job.id \
     WHERE attempt.id > (SELECT max(id) FROM attempt) - ?1 AND ending = 'completed' AND job_state.state = 'completed'";
/// What goes on is at an end now.
pub(super) const HELD: &str = "SELECT worker_id, started_at, coalesce(ended_at, ?2) FROM attempt \
     WHERE id > (SELECT max(id) FROM attempt) - ?1 AND coalesce(ended_at, ?2) > ?3";
/// An attempt that goes on counts up to now.
pub(super) const SPENT: &str = "SELECT coalesce(sum(max(coalesce(ended_at, ?3) - started_at, 0)), 0), \
     count(*) FILTER (WHERE ending = 'completed' AND ended_at > ?4) \
     FROM attempt WHERE job_id BETWEEN ?1 AND ?2";

/// How long the latest attempts took that ended with a result, added up for jobs that are each other's like.
pub(super) async fn durations(connection: &mut SqliteConnection) -> Result<Vec<Took>, StoreError> {
    let query = sqlx::query_as::<_, (i64, String, i64, i64, i64)>(DURATIONS).bind(RECENT);
    let rows = query.fetch_all(connection).await.doing("read how long attempts took")?;
    let mut took: HashMap<_, Took> = HashMap::new();
    for (recipe, stage, shots, job, took_ms) in rows {
        let new = || Took { job: JobId(job.cast_unsigned()), attempts: 0, total_ms: 0 };
        let alike = took.entry((recipe, stage, shots)).or_insert_with(new);
        alike.attempts += 1;
        alike.total_ms += took_ms;
    }
    Ok(took.into_values().collect())
}

impl Reader {
    /// When which workers had a job since a time, from the latest attempts.
    pub(crate) async fn held(
        &self,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<(WorkerId, Timestamp, Timestamp)>, StoreError> {
        let query = sqlx::query_as::<_, (i64, i64, i64)>(HELD).bind(RECENT).bind(now.0).bind(since.0);
        let rows = query.fetch_all(&self.pool).await.doing("read when workers had jobs")?;
        let held = |(worker, begin, end): (i64, i64, i64)| {
            (WorkerId(worker.cast_unsigned()), Timestamp(begin), Timestamp(end))
        };
        Ok(rows.into_iter().map(held).collect())
    }

    /// What jobs have cost up to now, which are given as runs of first and last.
    pub(crate) async fn spent(&self, runs: &[(JobId, JobId)], now: Timestamp) -> Result<Spent, StoreError> {
        let mut spent = Spent::default();
        for (first, last) in runs {
            let query = sqlx::query_as::<_, (i64, i64)>(SPENT)
                .bind(first.0.cast_signed())
                .bind(last.0.cast_signed())
                .bind(now.0)
                .bind(now.0 - HOUR_MS);
            let (device_ms, completed) = query.fetch_one(&self.pool).await.doing("read what jobs have cost")?;
            spent.device_ms += device_ms;
            spent.completed_last_hour += completed.cast_unsigned();
        }
        Ok(spent)
    }
}
