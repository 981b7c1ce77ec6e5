//! Results, with their manifests and their numbers by class.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::TryStreamExt;
use promptfield_core::id::{JobId, LeaseId};
use promptfield_core::job::basis::Basis;
use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::job::outcome::{LeftOut, Manifest, TestResult};
use promptfield_core::job::spec::BasisHash;
use promptfield_core::time::Timestamp;
use promptfield_core::wire::api::Superseded;
use serde::de::DeserializeOwned;
use sqlx::sqlite::SqliteConnection;

use super::basis::hash;
use super::bulk::{Binding, Bulk};
use super::{Doing, Reader, StoreError, damaged, one};

/// A second result for a job violates the table's key.
static INSERT: Bulk = Bulk::new(
    "insert results",
    "INSERT INTO result (job_id, attempt_id, total, correct, accuracy, error, macro_f1, calibration_error, manifest, evaluation, \
     backbone_sha256, split_sha256, test_sha256, left_out)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "",
);
const LOAD: &str = "SELECT job_id, total, correct, accuracy, error, macro_f1, calibration_error FROM result";
const LOAD_BASES: &str = "SELECT job_id, backbone_sha256, split_sha256, test_sha256 FROM result \
     WHERE backbone_sha256 IS NOT NULL OR split_sha256 IS NOT NULL OR test_sha256 IS NOT NULL";
const SUPERSEDE: &str = "INSERT INTO superseded_result (job_id, attempt_id, total, correct, accuracy, error, macro_f1, calibration_error, \
     manifest, evaluation, superseded_at, reason) SELECT job_id, attempt_id, total, correct, accuracy, error, macro_f1, \
     calibration_error, manifest, evaluation, ?2, ?3 FROM result WHERE job_id = ?1";
const REMOVE: &str = "DELETE FROM result WHERE job_id = ?1";
const LOAD_SUPERSEDED: &str = "SELECT DISTINCT job_id FROM superseded_result";
const SUPERSEDED: &str = "SELECT total, correct, accuracy, error, macro_f1, calibration_error, manifest, superseded_at, reason \
     FROM superseded_result WHERE job_id = ?1 ORDER BY id";
const LEFT_OUT: &str = "SELECT job_id, left_out FROM result WHERE left_out IS NOT NULL ORDER BY job_id";
pub(super) const MANIFEST: &str = "SELECT manifest FROM result WHERE job_id = ?1";
pub(super) const EVALUATION: &str = "SELECT evaluation FROM result WHERE job_id = ?1";
pub(super) const FILE_OF_JOB: &str = "SELECT file.value ->> 'sha256' FROM result, json_each(result.manifest, '$.files') AS file \
     WHERE result.job_id = ?1 AND file.key = ?2";

/// A job's result.
pub(super) struct NewResult<'a> {
    pub(super) job: JobId,
    pub(super) lease: LeaseId,
    pub(super) result: Option<&'a TestResult>,
    pub(super) manifest: Option<&'a Manifest>,
    pub(super) evaluation: Option<&'a Evaluation>,
}

pub(super) async fn insert<'q>(connection: &mut SqliteConnection, new: &'q [NewResult<'q>]) -> Result<(), StoreError> {
    let bind = |query: Binding<'q>, new: &'q NewResult<'q>| {
        let NewResult { job, lease, result, manifest, evaluation } = new;
        let left_out = manifest.map(|manifest| &manifest.left_out).filter(|left_out| !left_out.is_empty());
        let basis = manifest.map(Basis::of).unwrap_or_default();
        let of = |part: fn(&Basis) -> Option<BasisHash>| part(&basis).map(|hash| hash.0.to_vec());
        query
            .bind(job.0.cast_signed())
            .bind(lease.0.cast_signed())
            .bind(result.map(|result| result.total.cast_signed()))
            .bind(result.map(|result| result.correct.cast_signed()))
            .bind(result.map(|result| result.accuracy))
            .bind(result.map(|result| result.error))
            .bind(result.map(|result| result.macro_f1))
            .bind(result.and_then(|result| result.calibration_error))
            .bind(manifest.map(|manifest| serde_json::json!(manifest).to_string()))
            .bind(evaluation.map(|evaluation| serde_json::json!(evaluation).to_string()))
            .bind(of(|basis| basis.backbone))
            .bind(of(|basis| basis.split))
            .bind(of(|basis| basis.test))
            .bind(left_out.map(|left_out| serde_json::json!(left_out).to_string()))
    };
    INSERT.run(connection, new, bind).await
}

/// The columns of an evaluation's numbers, which are all there or all absent.
#[derive(sqlx::FromRow)]
struct Numbers {
    total: Option<i64>,
    correct: Option<i64>,
    accuracy: Option<f64>,
    error: Option<f64>,
    macro_f1: Option<f64>,
    calibration_error: Option<f64>,
}

impl Numbers {
    fn result(self) -> Option<TestResult> {
        Some(TestResult {
            total: self.total?.cast_unsigned(),
            correct: self.correct?.cast_unsigned(),
            accuracy: self.accuracy?,
            error: self.error?,
            macro_f1: self.macro_f1?,
            calibration_error: self.calibration_error,
        })
    }
}

/// All numbers, by job.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<HashMap<JobId, TestResult>, StoreError> {
    #[derive(sqlx::FromRow)]
    struct Row {
        job_id: i64,
        #[sqlx(flatten)]
        numbers: Numbers,
    }
    sqlx::query_as(LOAD)
        .fetch(connection)
        .try_filter_map(|Row { job_id, numbers }| {
            std::future::ready(Ok(numbers.result().map(|result| (JobId(job_id.cast_unsigned()), result))))
        })
        .try_collect()
        .await
        .doing("read the results")
}

/// Takes a job's result away, and keeps it among the superseded ones.
pub(super) async fn supersede(
    connection: &mut SqliteConnection,
    job: JobId,
    at: Timestamp,
    reason: &str,
) -> Result<(), StoreError> {
    let id = job.0.cast_signed();
    let kept = sqlx::query(SUPERSEDE).bind(id).bind(at.0).bind(reason).execute(&mut *connection).await;
    one(kept.doing("keep a superseded result")?, "keep a superseded result")?;
    let removed = sqlx::query(REMOVE).bind(id).execute(connection).await.doing("take a superseded result away")?;
    one(removed, "take a superseded result away")
}

/// The jobs of which a result was superseded, whether or not they have a new one.
pub(super) async fn load_superseded(connection: &mut SqliteConnection) -> Result<BTreeSet<JobId>, StoreError> {
    let rows: Vec<i64> =
        sqlx::query_scalar(LOAD_SUPERSEDED).fetch_all(connection).await.doing("read which jobs are computed again")?;
    Ok(rows.into_iter().map(|job| JobId(job.cast_unsigned())).collect())
}

/// What the results rest on, as far as their manifests say it.
pub(super) async fn load_bases(connection: &mut SqliteConnection) -> Result<BTreeMap<JobId, Basis>, StoreError> {
    type Row = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);
    let rows: Vec<Row> = sqlx::query_as(LOAD_BASES).fetch_all(connection).await.doing("read what results rest on")?;
    let basis = |(job, backbone, split, test): Row| {
        let of = |bytes: Option<Vec<u8>>| bytes.map(hash).transpose().map_err(damaged("the result of job", job));
        let basis = Basis { backbone: of(backbone)?, split: of(split)?, test: of(test)? };
        Ok((JobId(job.cast_unsigned()), basis))
    };
    rows.into_iter().map(basis).collect()
}

impl Reader {
    /// The classes that results leave out, by job; few have any.
    pub(crate) async fn left_out(&self) -> Result<HashMap<JobId, Vec<LeftOut>>, StoreError> {
        let query = sqlx::query_as(LEFT_OUT).fetch_all(&self.pool);
        let rows: Vec<(i64, String)> = query.await.doing("read which classes are left out")?;
        let left_out = |(job, text): (i64, String)| {
            let classes = serde_json::from_str(&text).map_err(damaged("what is left out by job", job))?;
            Ok((JobId(job.cast_unsigned()), classes))
        };
        rows.into_iter().map(left_out).collect()
    }

    /// A job's earlier results, oldest first.
    pub(crate) async fn superseded(&self, job: JobId) -> Result<Vec<Superseded>, StoreError> {
        #[derive(sqlx::FromRow)]
        struct Row {
            #[sqlx(flatten)]
            numbers: Numbers,
            manifest: Option<String>,
            superseded_at: i64,
            reason: String,
        }
        let id = job.0.cast_signed();
        let query = sqlx::query_as(SUPERSEDED).bind(id).fetch_all(&self.pool);
        let rows: Vec<Row> = query.await.doing("read superseded results")?;
        let result = |Row { numbers, manifest, superseded_at, reason }: Row| {
            let manifest = manifest.map(|text| serde_json::from_str(&text)).transpose();
            let manifest = manifest.map_err(damaged("a superseded manifest of job", id))?;
            Ok(Superseded { result: numbers.result(), manifest, at: Timestamp(superseded_at), reason })
        };
        rows.into_iter().map(result).collect()
    }

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
