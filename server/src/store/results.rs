//! Results, with their manifests and their numbers by class.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use promptfield_core::evaluation::Evaluation;
use promptfield_core::id::{JobId, LeaseId};
use promptfield_core::outcome::{Manifest, TestResult};
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteConnection;

use super::bulk::{Binding, Bulk};
use super::{Doing, Reader, StoreError, damaged};

/// A second result for a job violates the table's key.
static INSERT: Bulk = Bulk::new(
    "insert results",
    "INSERT INTO result (job_id, attempt_id, total, correct, accuracy, error, macro_f1, calibration_error, manifest, evaluation)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);
const LOAD: &str = "SELECT job_id, total, correct, accuracy, error, macro_f1, calibration_error FROM result";
pub(super) const MANIFEST: &str = "SELECT manifest FROM result WHERE job_id = ?1";
pub(super) const EVALUATION: &str = "SELECT evaluation FROM result WHERE job_id = ?1";
pub(super) const FILE_OF_JOB: &str = "SELECT file.value ->> 'sha256' FROM result, json_each(result.manifest, '$.files') AS file \
     WHERE result.job_id = ?1 AND file.key = ?2";

/// A job's result.
pub(super) struct NewResult<'a> {
    pub(super) job: JobId,
    pub(super) lease: LeaseId,
    pub(super) result: &'a TestResult,
    pub(super) manifest: Option<&'a Manifest>,
    pub(super) evaluation: Option<&'a Evaluation>,
}

pub(super) async fn insert<'q>(connection: &mut SqliteConnection, new: &'q [NewResult<'q>]) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, new: &'q NewResult<'q>| {
        let NewResult { job, lease, result, manifest, evaluation } = new;
        query
            .bind(job.0.cast_signed())
            .bind(lease.0.cast_signed())
            .bind(result.total.cast_signed())
            .bind(result.correct.cast_signed())
            .bind(result.accuracy)
            .bind(result.error)
            .bind(result.macro_f1)
            .bind(result.calibration_error)
            .bind(manifest.map(|manifest| serde_json::json!(manifest).to_string()))
            .bind(evaluation.map(|evaluation| serde_json::json!(evaluation).to_string()))
    };
    INSERT.run(connection, new, bind).await
}

/// All results, by job.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<HashMap<JobId, TestResult>, StoreError> {
    type Row = (i64, i64, i64, f64, f64, f64, Option<f64>);
    sqlx::query_as(LOAD)
        .fetch(connection)
        .map_ok(|(job, total, correct, accuracy, error, macro_f1, calibration_error): Row| {
            let (total, correct) = (total.cast_unsigned(), correct.cast_unsigned());
            let result = TestResult { total, correct, accuracy, error, macro_f1, calibration_error };
            (JobId(job.cast_unsigned()), result)
        })
        .try_collect()
        .await
        .doing("read the results")
}

impl Reader {
    /// Where a job's numbers come from.
    pub(crate) async fn manifest(&self, job: JobId) -> Result<Option<Manifest>, StoreError> {
        self.document(job, MANIFEST, "read a manifest", "the manifest of job").await
    }

    /// A job's numbers by class.
    pub(crate) async fn evaluation(&self, job: JobId) -> Result<Option<Evaluation>, StoreError> {
        self.document(job, EVALUATION, "read an evaluation", "the evaluation of job").await
    }

    /// A document that a job's result may have.
    async fn document<D: DeserializeOwned>(
        &self,
        job: JobId,
        select: &'static str,
        doing: &'static str,
        what: &'static str,
    ) -> Result<Option<D>, StoreError> {
        let id = job.0.cast_signed();
        let text: Option<Option<String>> =
            sqlx::query_scalar(select).bind(id).fetch_optional(&self.pool).await.doing(doing)?;
        let document = text.flatten().map(|text| serde_json::from_str(&text)).transpose();
        document.map_err(damaged(what, id))
    }

    /// SHA-256 of a file that a job made.
    pub(crate) async fn file_of(&self, job: JobId, path: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar(FILE_OF_JOB)
            .bind(job.0.cast_signed())
            .bind(path.to_owned())
            .fetch_optional(&self.pool)
            .await
            .doing("read a file's hash")
    }
}
