//! What was learned of the memory that jobs take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use promptfield_core::id::JobId;
use promptfield_core::scheduler::Need;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, StoreError};

static UPSERT: Bulk = Bulk::new(
    "insert or change what jobs need",
    "INSERT INTO need (shape, memory_mib, together)",
    "(?, ?, ?)",
    " ON CONFLICT (shape) DO UPDATE SET memory_mib = excluded.memory_mib, together = excluded.together",
);
/// A second row for a job violates the table's key.
static SPARE: Bulk = Bulk::new("insert spared jobs", "INSERT INTO spared (job_id)", "(?)", "");
const LOAD: &str = "SELECT shape, memory_mib, together FROM need";
const LOAD_SPARED: &str = "SELECT job_id FROM spared";

pub(super) async fn upsert<'q>(
    connection: &mut SqliteConnection,
    needs: &'q [(&'q str, Need)],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, (shape, need): &'q (&'q str, Need)| {
        query.bind(*shape).bind(need.memory_mib).bind(need.together)
    };
    UPSERT.run(connection, needs, bind).await
}

pub(super) async fn spare(connection: &mut SqliteConnection, jobs: &[JobId]) -> Result<(), StoreError> {
    SPARE.run(connection, jobs, |query, job| query.bind(job.0.cast_signed())).await
}

pub(super) async fn load(connection: &mut SqliteConnection) -> Result<BTreeMap<Arc<str>, Need>, StoreError> {
    type Row = (String, Option<u32>, Option<u32>);
    let rows: Vec<Row> = sqlx::query_as(LOAD).fetch_all(connection).await.doing("read what jobs need")?;
    let need = |(shape, memory_mib, together): Row| (shape.into(), Need { memory_mib, together });
    Ok(rows.into_iter().map(need).collect())
}

pub(super) async fn load_spared(connection: &mut SqliteConnection) -> Result<BTreeSet<JobId>, StoreError> {
    let jobs: Vec<i64> = sqlx::query_scalar(LOAD_SPARED).fetch_all(connection).await.doing("read the spared jobs")?;
    Ok(jobs.into_iter().map(|job| JobId(job.cast_unsigned())).collect())
}
