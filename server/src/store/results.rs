//! Results, with their manifests and their numbers by class.

use promptfield_core::evaluation::Evaluation;
use promptfield_core::id::{JobId, LeaseId};
use promptfield_core::outcome::{Manifest, TestResult};
use promptfield_core::spec::SpecHash;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteConnection;

use super::{Doing, Reader, StoreError, damaged};

const INSERT: &str = "INSERT INTO result (job_id, attempt_id, total, correct, accuracy, error, macro_f1, \
     calibration_error, manifest, evaluation) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
pub(super) const MANIFEST: &str = "SELECT manifest FROM result WHERE job_id = ?1";
pub(super) const EVALUATION: &str = "SELECT evaluation FROM result WHERE job_id = ?1";
pub(super) const FILE_OF_SPEC: &str = "SELECT file.value ->> 'sha256' FROM job JOIN result ON result.job_id = job.id, \
     json_each(result.manifest, '$.files') AS file WHERE job.hash = ?1 AND file.key = ?2";

/// A second result for a job violates the table's key.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    job: JobId,
    lease: LeaseId,
    result: &TestResult,
    manifest: Option<&Manifest>,
    evaluation: Option<&Evaluation>,
) -> Result<(), StoreError> {
    sqlx::query(INSERT)
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
        .execute(connection)
        .await
        .doing("insert a result")
        .map(drop)
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

    /// SHA-256 of a file that the job with this specification made.
    pub(crate) async fn file_of(&self, spec: SpecHash, path: &str) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar(FILE_OF_SPEC)
            .bind(spec.0.to_vec())
            .bind(path)
            .fetch_optional(&self.pool)
            .await
            .doing("read a file's hash")
    }
}
