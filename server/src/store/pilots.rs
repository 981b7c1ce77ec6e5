//! Pools and their pilots.

use std::collections::BTreeMap;

use promptfield_core::id::{PilotId, WorkerId};
use promptfield_core::scheduler::pilot_records::{PilotRecord, PoolRecord};
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, Reader, StoreError, damaged};

static UPSERT_POOLS: Bulk = Bulk::new(
    "insert or change pools",
    "INSERT INTO pool (name, settings, from_file, state, reason, failed_submissions, crashes, not_before)",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
    " ON CONFLICT (name) DO UPDATE SET settings = excluded.settings, from_file = excluded.from_file, state = excluded.state, \
     reason = excluded.reason, failed_submissions = excluded.failed_submissions, crashes = excluded.crashes, \
     not_before = excluded.not_before",
);
/// What a pilot was asked for as never changes.
static UPSERT: Bulk = Bulk::new(
    "insert or change pilots",
    "INSERT INTO pilot (id, pool, batch, place, launcher_id, state, detail, node, submitted_at, ended_at, worker_id)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    " ON CONFLICT (id) DO UPDATE SET launcher_id = excluded.launcher_id, state = excluded.state, detail = excluded.detail, \
     node = excluded.node, ended_at = excluded.ended_at, worker_id = excluded.worker_id",
);
const POOLS: &str =
    "SELECT name, settings, from_file, state, reason, failed_submissions, crashes, not_before FROM pool";
const THERE: &str = "SELECT id, pool, batch, place, launcher_id, state, detail, node, submitted_at, ended_at, worker_id \
     FROM pilot WHERE state NOT IN ('ended', 'failed')";
const LAST: &str = "SELECT coalesce(max(id), 0) FROM pilot";
pub(super) const LATEST: &str = "SELECT id, pool, batch, place, launcher_id, state, detail, node, submitted_at, ended_at, \
     worker_id FROM pilot WHERE id < ?1 AND (?2 IS NULL OR pool = ?2) ORDER BY id DESC LIMIT ?3";
const INSTANCE: &str = "SELECT name FROM instance";

pub(super) async fn upsert_pools<'q>(
    connection: &mut SqliteConnection,
    records: &'q [&'q PoolRecord],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, record: &'q &PoolRecord| {
        query
            .bind(&record.name)
            .bind(serde_json::json!(record.settings).to_string())
            .bind(record.from_file)
            .bind(record.state.as_str())
            .bind(record.reason.as_deref())
            .bind(record.failed_submissions)
            .bind(record.crashes)
            .bind(record.not_before.0)
    };
    UPSERT_POOLS.run(connection, records, bind).await
}

pub(super) async fn upsert<'q>(
    connection: &mut SqliteConnection,
    records: &'q [&'q PilotRecord],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, record: &'q &PilotRecord| {
        query
            .bind(record.id.0.cast_signed())
            .bind(&record.pool)
            .bind(&record.batch)
            .bind(record.index)
            .bind(record.launcher_id.as_deref())
            .bind(record.state.as_str())
            .bind(record.detail.as_deref())
            .bind(record.node.as_deref())
            .bind(record.submitted_at.0)
            .bind(record.ended_at.map(|at| at.0))
            .bind(record.worker.map(|worker| worker.0.cast_signed()))
    };
    UPSERT.run(connection, records, bind).await
}

#[derive(sqlx::FromRow)]
struct PoolRow {
    name: String,
    settings: String,
    from_file: bool,
    state: String,
    reason: Option<String>,
    failed_submissions: u32,
    crashes: u32,
    not_before: i64,
}

type Unreadable = Box<dyn std::error::Error + Send + Sync>;

impl PoolRow {
    fn record(self) -> Result<PoolRecord, StoreError> {
        let unreadable =
            |name: &str, source: Unreadable| StoreError::Damaged { what: format!("pool `{name}`"), source };
        Ok(PoolRecord {
            settings: serde_json::from_str(&self.settings).map_err(|error| unreadable(&self.name, error.into()))?,
            state: self
                .state
                .parse()
                .map_err(|error: promptfield_core::input::InvalidInput| unreadable(&self.name, error.into()))?,
            name: self.name,
            from_file: self.from_file,
            reason: self.reason,
            failed_submissions: self.failed_submissions,
            crashes: self.crashes,
            not_before: Timestamp(self.not_before),
        })
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    pool: String,
    batch: String,
    place: u32,
    launcher_id: Option<String>,
    state: String,
    detail: Option<String>,
    node: Option<String>,
    submitted_at: i64,
    ended_at: Option<i64>,
    worker_id: Option<i64>,
}

impl Row {
    fn record(self) -> Result<PilotRecord, StoreError> {
        Ok(PilotRecord {
            id: PilotId(self.id.cast_unsigned()),
            pool: self.pool,
            batch: self.batch,
            index: self.place,
            launcher_id: self.launcher_id,
            state: self.state.parse().map_err(damaged("pilot", self.id))?,
            detail: self.detail,
            node: self.node,
            submitted_at: Timestamp(self.submitted_at),
            ended_at: self.ended_at.map(Timestamp),
            worker: self.worker_id.map(|worker| WorkerId(worker.cast_unsigned())),
        })
    }
}

pub(super) async fn load_pools(connection: &mut SqliteConnection) -> Result<BTreeMap<String, PoolRecord>, StoreError> {
    let rows: Vec<PoolRow> = sqlx::query_as(POOLS).fetch_all(connection).await.doing("read the pools")?;
    rows.into_iter().map(|row| Ok((row.name.clone(), row.record()?))).collect()
}

/// Those that aren't over.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<BTreeMap<PilotId, PilotRecord>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(THERE).fetch_all(connection).await.doing("read the pilots")?;
    rows.into_iter().map(|row| Ok((PilotId(row.id.cast_unsigned()), row.record()?))).collect()
}

pub(super) async fn last(connection: &mut SqliteConnection) -> Result<PilotId, StoreError> {
    let last: i64 = sqlx::query_scalar(LAST).fetch_one(connection).await.doing("read the last pilot")?;
    Ok(PilotId(last.cast_unsigned()))
}

pub(super) async fn instance(connection: &mut SqliteConnection) -> Result<String, StoreError> {
    sqlx::query_scalar(INSTANCE).fetch_one(connection).await.doing("read this coordinator's name")
}

impl Reader {
    /// The latest pilots before one, the latest first; those that are over too.
    pub(crate) async fn pilots_before(
        &self,
        id: PilotId,
        pool: Option<&str>,
        limit: u32,
    ) -> Result<Vec<PilotRecord>, StoreError> {
        let before = i64::try_from(id.0).unwrap_or(i64::MAX);
        let query = sqlx::query_as::<_, Row>(LATEST).bind(before).bind(pool).bind(limit);
        let rows = query.fetch_all(&self.pool).await.doing("read the latest pilots")?;
        rows.into_iter().map(Row::record).collect()
    }
}
