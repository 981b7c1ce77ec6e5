//! Experiments, and which jobs they have.

use std::sync::Arc;

use futures_util::TryStreamExt;
use promptfield_core::dataset::{Catalogue, DatasetDefinition};
use promptfield_core::experiment::{Experiment, Known};
use promptfield_core::id::{ExperimentId, JobId};
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::ExperimentRecord;
use promptfield_core::spec::SpecHash;
use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::{Doing, StoreError, damaged, one};

const INSERT: &str =
    "INSERT INTO experiment (id, hash, name, document, submitted_at, cancelled) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const SET_CANCELLED: &str = "UPDATE experiment SET cancelled = ?2 WHERE id = ?1";
const INSERT_LINK: &str = "INSERT INTO experiment_job (experiment_id, job_id, variant) VALUES (?1, ?2, ?3)";
const LOAD: &str = "SELECT id, hash, document, submitted_at, cancelled FROM experiment ORDER BY id";
const LOAD_LINKS: &str = "SELECT experiment_id, job_id, variant FROM experiment_job ORDER BY id";

pub(super) async fn insert(connection: &mut SqliteConnection, record: &ExperimentRecord) -> Result<(), StoreError> {
    let experiment = record.experiment.as_ref();
    sqlx::query(INSERT)
        .bind(record.id.0.cast_signed())
        .bind(record.hash.0.as_slice())
        .bind(&experiment.name)
        .bind(serde_json::json!(experiment).to_string())
        .bind(record.submitted_at.0)
        .bind(record.cancelled)
        .execute(connection)
        .await
        .doing("insert an experiment")
        .map(drop)
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

pub(super) async fn insert_link(
    connection: &mut SqliteConnection,
    experiment: ExperimentId,
    job: JobId,
    variant: &str,
) -> Result<(), StoreError> {
    sqlx::query(INSERT_LINK)
        .bind(experiment.0.cast_signed())
        .bind(job.0.cast_signed())
        .bind(variant)
        .execute(connection)
        .await
        .doing("link a job to an experiment")
        .map(drop)
}

pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Vec<ExperimentRecord>, StoreError> {
    let rows: Vec<(i64, Vec<u8>, String, i64, bool)> =
        sqlx::query_as(LOAD).fetch_all(connection).await.doing("read the experiments")?;
    rows.into_iter()
        .map(|(id, hash, document, submitted_at, cancelled)| {
            Ok(ExperimentRecord {
                id: ExperimentId(id.cast_unsigned()),
                hash: SpecHash(
                    hash.try_into().map_err(|_| "its hash isn't 32 bytes long").map_err(damaged("experiment", id))?,
                ),
                experiment: Arc::new(read(&document).map_err(damaged("experiment", id))?),
                submitted_at: Timestamp(submitted_at),
                cancelled,
            })
        })
        .collect()
}

/// Reads an experiment that was accepted once. The names that it uses may no longer be known to this coordinator; what it
/// asked for stays what it is.
fn read(document: &str) -> Result<Experiment, InvalidInput> {
    let value: serde_json::Value = promptfield_core::input::from_json(document)?;
    let mut datasets = Catalogue::built_in();
    for key in value["datasets"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str) {
        if datasets.get(key).is_err() {
            datasets.add(DatasetDefinition {
                key: key.to_owned(),
                label: None,
                folder: key.to_owned(),
                images: String::new(),
                split: None,
                template: "{}".to_owned(),
            })?;
        }
    }
    Experiment::from_json(value, &Known { datasets, backbones: Vec::new() })
}

pub(super) async fn load_links(
    connection: &mut SqliteConnection,
) -> Result<Vec<(ExperimentId, JobId, String)>, StoreError> {
    sqlx::query_as(LOAD_LINKS)
        .fetch(connection)
        .map_ok(|(experiment, job, variant): (i64, i64, String)| {
            (ExperimentId(experiment.cast_unsigned()), JobId(job.cast_unsigned()), variant)
        })
        .try_collect()
        .await
        .doing("read the experiments' jobs")
}
