//! Workers' registrations.

use std::collections::BTreeMap;

use promptfield_core::id::WorkerId;
use promptfield_core::scheduler::{WorkerDescription, WorkerRecord};
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, StoreError, damaged};

/// What a worker said of itself stays as it is; it registers anew to say something else. Which weights it has is also heard from
/// its jobs.
static UPSERT: Bulk = Bulk::new(
    "insert or change workers",
    "INSERT INTO worker (id, name, host, output_root, places, slots, devices, backbones, backbone_sha256, methods, version, labels, memory_mib, pilot, time_left_ms, \
     state, registered_at)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    " ON CONFLICT (id) DO UPDATE SET state = excluded.state, backbone_sha256 = excluded.backbone_sha256",
);
const LOAD: &str = "SELECT id, name, host, output_root, places, slots, devices, backbones, backbone_sha256, methods, version, labels, memory_mib, pilot, time_left_ms, state, \
     registered_at FROM worker WHERE NOT forgotten ORDER BY id";
const LAST: &str = "SELECT coalesce(max(id), 0) FROM worker";
/// What names a worker keeps its row, and so does the greatest number.
const FORGET: &str = "UPDATE worker SET forgotten = 1 WHERE id = ?";
const REMOVE: &str = "DELETE FROM worker WHERE id = ?1 AND id < (SELECT max(id) FROM worker)";

pub(super) async fn upsert<'q>(
    connection: &mut SqliteConnection,
    records: &'q [&'q WorkerRecord],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, record: &'q &WorkerRecord| {
        let description = &record.description;
        query
            .bind(record.id.0.cast_signed())
            .bind(&description.name)
            .bind(&description.host)
            .bind(&description.output_root)
            .bind(&description.places)
            .bind((description.slots as u64).cast_signed())
            .bind(serde_json::json!(description.devices).to_string())
            .bind(serde_json::json!(description.backbones).to_string())
            .bind(serde_json::json!(description.backbone_sha256).to_string())
            .bind(serde_json::json!(description.methods).to_string())
            .bind(&description.version)
            .bind(serde_json::json!(description.labels).to_string())
            .bind(description.memory_mib.map(u64::cast_signed))
            .bind(description.pilot.as_deref())
            .bind(description.time_left_ms)
            .bind(record.state.as_str())
            .bind(record.registered_at.0)
    };
    UPSERT.run(connection, records, bind).await
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    name: String,
    host: String,
    output_root: String,
    places: String,
    slots: i64,
    devices: String,
    backbones: String,
    backbone_sha256: String,
    methods: String,
    version: String,
    labels: String,
    memory_mib: Option<i64>,
    pilot: Option<String>,
    time_left_ms: Option<i64>,
    state: String,
    registered_at: i64,
}

impl Row {
    fn record(self) -> Result<WorkerRecord, StoreError> {
        let id = self.id;
        Ok(WorkerRecord {
            id: WorkerId(id.cast_unsigned()),
            description: WorkerDescription {
                name: self.name,
                host: self.host,
                output_root: self.output_root,
                places: self.places,
                slots: self.slots.cast_unsigned() as usize,
                devices: serde_json::from_str(&self.devices).map_err(damaged("worker", id))?,
                backbones: serde_json::from_str(&self.backbones).map_err(damaged("worker", id))?,
                backbone_sha256: serde_json::from_str(&self.backbone_sha256).map_err(damaged("worker", id))?,
                methods: serde_json::from_str(&self.methods).map_err(damaged("worker", id))?,
                version: self.version,
                labels: serde_json::from_str(&self.labels).map_err(damaged("worker", id))?,
                memory_mib: self.memory_mib.map(i64::cast_unsigned),
                pilot: self.pilot,
                time_left_ms: self.time_left_ms,
            },
            state: self.state.parse().map_err(damaged("worker", id))?,
            registered_at: Timestamp(self.registered_at),
        })
    }
}

pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Vec<WorkerRecord>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(LOAD).fetch_all(connection).await.doing("read the workers")?;
    rows.into_iter().map(Row::record).collect()
}

pub(super) async fn last(connection: &mut SqliteConnection) -> Result<WorkerId, StoreError> {
    let last: i64 = sqlx::query_scalar(LAST).fetch_one(connection).await.doing("read the last worker")?;
    Ok(WorkerId(last.cast_unsigned()))
}

/// Lists workers no longer; by each, whether anything names it.
pub(super) async fn forget(
    connection: &mut SqliteConnection,
    workers: &BTreeMap<WorkerId, bool>,
) -> Result<(), StoreError> {
    for (worker, used) in workers {
        for statement in std::iter::once(FORGET).chain((!used).then_some(REMOVE)) {
            let query = sqlx::query(statement).bind(worker.0.cast_signed());
            query.execute(&mut *connection).await.doing("forget a worker")?;
        }
    }
    Ok(())
}
