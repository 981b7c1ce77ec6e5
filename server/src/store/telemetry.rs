//! What running jobs report: metric points and log lines. Each of a report's two parts is one statement.

use std::collections::BTreeMap;

use promptfield_core::id::LeaseId;
use promptfield_core::wire::api::{LogChunk, MetricPoint};
use sqlx::sqlite::SqliteConnection;

use super::{Doing, Reader, StoreError};

/// Of numbers as `[step, name, value]`: each is parsed once, however many a step has.
const INSERT_POINTS: &str = "INSERT INTO metric_point (attempt_id, step, name, value) \
     SELECT ?1, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?2) \
     WHERE true ON CONFLICT DO UPDATE SET value = excluded.value";
const INSERT_LINES: &str = "INSERT INTO log_line (attempt_id, line, text) \
     SELECT ?1, ?2 + key, value FROM json_each(?3) WHERE true ON CONFLICT DO NOTHING";
pub(super) const POINTS: &str =
    "SELECT step, name, value FROM metric_point WHERE attempt_id = ?1 AND step >= 0 ORDER BY step, name";
pub(super) const LINES_FROM: &str =
    "SELECT line, text FROM log_line WHERE attempt_id = ?1 AND line >= ?2 ORDER BY line LIMIT ?3";

/// An attempt's report.
#[derive(Debug)]
pub(crate) struct Telemetry {
    /// The attempt.
    pub(crate) lease: LeaseId,
    /// Numbers of training steps.
    pub(crate) metrics: Vec<MetricPoint>,
    /// Lines of its log.
    pub(crate) log: Option<LogChunk>,
}

impl Telemetry {
    pub(crate) fn is_empty(&self) -> bool {
        self.metrics.is_empty() && self.log.as_ref().is_none_or(|log| log.lines.is_empty())
    }
}

/// Adds a report. The same one again changes nothing: of a step the latest numbers stand, of a line the first text.
pub(super) async fn append(connection: &mut SqliteConnection, report: &Telemetry) -> Result<(), StoreError> {
    let attempt = report.lease.0.cast_signed();
    if !report.metrics.is_empty() {
        let numbers = report
            .metrics
            .iter()
            .flat_map(|MetricPoint { step, values }| values.iter().map(move |(name, value)| (step, name, value)));
        sqlx::query(INSERT_POINTS)
            .bind(attempt)
            .bind(serde_json::json!(numbers.collect::<Vec<_>>()).to_string())
            .execute(&mut *connection)
            .await
            .doing("insert metric points")?;
    }
    if let Some(log) = &report.log {
        sqlx::query(INSERT_LINES)
            .bind(attempt)
            .bind(log.first_line.cast_signed())
            .bind(serde_json::json!(log.lines).to_string())
            .execute(connection)
            .await
            .doing("insert log lines")?;
    }
    Ok(())
}

impl Reader {
    /// An attempt's metric points, by step.
    pub(crate) async fn metric_points(&self, attempt: LeaseId) -> Result<Vec<MetricPoint>, StoreError> {
        let query = sqlx::query_as::<_, (i64, String, f64)>(POINTS).bind(attempt.0.cast_signed());
        let rows = query.fetch_all(&self.pool).await.doing("read metric points")?;
        let steps = rows.chunk_by(|a, b| a.0 == b.0);
        let point = |rows: &[(i64, String, f64)]| {
            let values: BTreeMap<_, _> = rows.iter().map(|(_, name, value)| (name.clone(), *value)).collect();
            rows.first().map(|(step, ..)| MetricPoint { step: step.cast_unsigned(), values })
        };
        Ok(steps.filter_map(point).collect())
    }

    /// The lines of an attempt's log from `first` on, at most `limit`.
    pub(crate) async fn log_lines(
        &self,
        attempt: LeaseId,
        first: u64,
        limit: u32,
    ) -> Result<Vec<(u64, String)>, StoreError> {
        let query = sqlx::query_as::<_, (i64, String)>(LINES_FROM);
        let rows =
            query.bind(attempt.0.cast_signed()).bind(first.cast_signed()).bind(limit).fetch_all(&self.pool).await;
        Ok(rows.doing("read log lines")?.into_iter().map(|(line, text)| (line.cast_unsigned(), text)).collect())
    }
}
