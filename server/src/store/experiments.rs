//! Experiments, and which jobs they have.

use std::sync::Arc;

use futures_util::TryStreamExt;
use promptfield_core::experiment::Experiment;
use promptfield_core::id::{ExperimentId, JobId};
use promptfield_core::input::InvalidInput;
use promptfield_core::job::spec::SpecHash;
use promptfield_core::scheduler::{ExperimentRecord, Link};
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, StoreError, damaged, one};

static INSERT: Bulk = Bulk::new(
    "insert experiments",
    "INSERT INTO experiment (id, hash, name, document, submitted_at, submitted_by, cancelled)",
    "(?, ?, ?, ?, ?, ?, ?)",
    "",
);
static INSERT_LINK: Bulk = Bulk::new(
    "link jobs to experiments",
    "INSERT INTO experiment_jobs (experiment_id, first_job, count, variant)",
    "(?, ?, ?, ?)",
    "",
);
const SET_CANCELLED: &str = "UPDATE experiment SET cancelled = ?2 WHERE id = ?1";
const LOAD: &str = "SELECT id, hash, document, submitted_at, submitted_by, cancelled FROM experiment ORDER BY id";
const LOAD_LINKS: &str = "SELECT experiment_id, first_job, count, variant FROM experiment_jobs ORDER BY id";

pub(super) async fn insert<'q>(
    connection: &mut SqliteConnection,
    records: &'q [&'q ExperimentRecord],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, record: &'q &ExperimentRecord| {
        let experiment = record.experiment.as_ref();
        query
            .bind(record.id.0.cast_signed())
            .bind(record.hash.0.as_slice())
            .bind(&experiment.name)
            .bind(serde_json::json!(experiment).to_string())
            .bind(record.submitted_at.0)
            .bind(record.submitted_by.as_deref())
            .bind(record.cancelled)
    };
    INSERT.run(connection, records, bind).await
}

pub(super) async fn set_cancelled(
    connection: &mut SqliteConnection,
    experiment: ExperimentId,
    cancelled: bool,
) -> Result<(), StoreError> {
    let doing = "cancel or revive an experiment";
    let query = sqlx::query(SET_CANCELLED).bind(experiment.0.cast_signed()).bind(cancelled);
    one(query.execute(connection).await.doing(doing)?, doing)
}

pub(super) async fn insert_links<'q>(
    connection: &mut SqliteConnection,
    links: &'q [&'q Link],
) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, link: &'q &Link| {
        query
            .bind(link.experiment.0.cast_signed())
            .bind(link.first.0.cast_signed())
            .bind(link.count.cast_signed())
            .bind(link.variant.as_ref())
    };
    INSERT_LINK.run(connection, links, bind).await
}

pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Vec<ExperimentRecord>, StoreError> {
    type Row = (i64, Vec<u8>, String, i64, Option<String>, bool);
    let rows: Vec<Row> = sqlx::query_as(LOAD).fetch_all(connection).await.doing("read the experiments")?;
    rows.into_iter()
        .map(|(id, hash, document, submitted_at, submitted_by, cancelled)| {
            Ok(ExperimentRecord {
                id: ExperimentId(id.cast_unsigned()),
                hash: SpecHash(
                    hash.try_into().map_err(|_| "its hash isn't 32 bytes long").map_err(damaged("experiment", id))?,
                ),
                experiment: Arc::new(read(&document).map_err(damaged("experiment", id))?),
                submitted_at: Timestamp(submitted_at),
                submitted_by,
                cancelled,
            })
        })
        .collect()
}

/// Reads an experiment that was accepted once. The names that it uses may no longer be known to this coordinator; what it
/// asked for stays what it is.
fn read(document: &str) -> Result<Experiment, InvalidInput> {
    promptfield_core::input::from_json(document)
}

pub(super) async fn load_links(connection: &mut SqliteConnection) -> Result<Vec<Link>, StoreError> {
    sqlx::query_as(LOAD_LINKS)
        .fetch(connection)
        .map_ok(|(experiment, first, count, variant): (i64, i64, i64, String)| Link {
            experiment: ExperimentId(experiment.cast_unsigned()),
            first: JobId(first.cast_unsigned()),
            count: count.cast_unsigned(),
            variant: variant.into(),
        })
        .try_collect()
        .await
        .doing("read the experiments' jobs")
}
