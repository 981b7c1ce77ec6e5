//! From which artefacts jobs go on that were given back.

use std::collections::BTreeMap;

use promptfield_core::id::JobId;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, StoreError};

static UPSERT: Bulk = Bulk::new(
    "insert or change what jobs go on from",
    "INSERT INTO unfinished (job_id, sha256)",
    "(?, ?)",
    " ON CONFLICT (job_id) DO UPDATE SET sha256 = excluded.sha256",
);
const REMOVE: &str = "DELETE FROM unfinished WHERE job_id = ?";
const LOAD: &str = "SELECT job_id, sha256 FROM unfinished";

pub(super) async fn keep<'q>(
    connection: &mut SqliteConnection,
    kept: &'q [(JobId, &'q str)],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, (job, sha256): &'q (JobId, &'q str)| query.bind(job.0.cast_signed()).bind(*sha256);
    UPSERT.run(connection, kept, bind).await
}

/// Removes what is there; what came and went in one batch isn't.
pub(super) async fn remove(connection: &mut SqliteConnection, jobs: &[JobId]) -> Result<(), StoreError> {
    for job in jobs {
        let query = sqlx::query(REMOVE).bind(job.0.cast_signed());
        query.execute(&mut *connection).await.doing("remove what a job went on from")?;
    }
    Ok(())
}

pub(super) async fn load(connection: &mut SqliteConnection) -> Result<BTreeMap<JobId, String>, StoreError> {
    let rows: Vec<(i64, String)> =
        sqlx::query_as(LOAD).fetch_all(connection).await.doing("read what jobs go on from")?;
    Ok(rows.into_iter().map(|(job, sha256)| (JobId(job.cast_unsigned()), sha256)).collect())
}
