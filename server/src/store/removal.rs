//! Taking away what is old.
//!
//! The oldest events go first, so that the log has no gaps but the one before its first event; and the newest always stays, since
//! its number tells the scheduler where to go on. What an attempt reported goes as a whole, once it has ended, in pieces; a row with
//! the number -1 stays in its place and says so.

use promptfield_core::id::LeaseId;
use promptfield_core::time::Timestamp;

use super::{Doing, Durability, Reader, Store, StoreError};

/// The most rows that go in one transaction: a few milliseconds.
pub(crate) const PIECE: u64 = 1000;

/// What goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Events before a time, and those before the newest so many.
    Events { before: Timestamp, rows: u64 },
    /// What an attempt reported, if it has ended.
    Reported(Reported, LeaseId),
}

/// What attempts report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// Lines.
    Log,
    /// Numbers.
    Metrics,
}

pub(super) const REMOVE_EVENTS: &str = "WITH oldest AS MATERIALIZED (SELECT sequence, at FROM event ORDER BY sequence LIMIT ?1), \
     last AS MATERIALIZED (SELECT max(sequence) AS sequence FROM event), \
     young AS MATERIALIZED (SELECT min(sequence) AS sequence FROM oldest WHERE at >= ?2) \
     DELETE FROM event WHERE sequence IN (SELECT oldest.sequence FROM oldest, last, young \
     WHERE oldest.sequence < last.sequence \
     AND (oldest.sequence <= last.sequence - ?3 OR young.sequence IS NULL OR oldest.sequence < young.sequence))";

/// The statements over one of the tables.
pub(super) struct Statements {
    /// Attempts after one that ended before a time and have rows.
    pub(super) ended: &'static str,
    pub(super) count: &'static str,
    pub(super) remove: &'static str,
    pub(super) mark: &'static str,
    pub(super) is_removed: &'static str,
}

/// Statements over a table whose rows have a number, and the rest of its key and of its columns.
macro_rules! statements {
    ($table:literal, $number:literal, $key:literal, $mark:literal) => {
        Statements {
            ended: concat!(
                "SELECT id FROM attempt WHERE id > ?1 AND ended_at < ?2 AND EXISTS (SELECT 1 FROM ",
                $table,
                " WHERE attempt_id = attempt.id AND ",
                $number,
                " >= 0) ORDER BY id LIMIT ?3",
            ),
            count: concat!("SELECT count(*) FROM ", $table, " WHERE ", $number, " >= 0"),
            remove: concat!(
                "DELETE FROM ",
                $table,
                " WHERE (",
                $key,
                ") IN (SELECT ",
                $key,
                " FROM ",
                $table,
                " WHERE attempt_id = (SELECT id FROM attempt WHERE id = ?1 AND ended_at IS NOT NULL) AND ",
                $number,
                " >= 0 ORDER BY ",
                $key,
                " LIMIT ?2)",
            ),
            mark: concat!(
                "INSERT INTO ",
                $table,
                " SELECT id, ",
                $mark,
                " FROM attempt WHERE id = ?1 AND ended_at IS NOT NULL ON CONFLICT DO NOTHING",
            ),
            is_removed: concat!("SELECT 1 FROM ", $table, " WHERE attempt_id = ?1 AND ", $number, " < 0"),
        }
    };
}

#[rustfmt::skip]
pub(super) const LOG: Statements = statements!("log_line", "line", "attempt_id, line", "-1, ''");
#[rustfmt::skip]
pub(super) const METRICS: Statements = statements!("metric_point", "step", "attempt_id, step, name", "-1, '', 0.0");

impl Reported {
    const fn statements(self) -> &'static Statements {
        match self {
            Self::Log => &LOG,
            Self::Metrics => &METRICS,
        }
    }
}

impl Store {
    /// Takes one piece away, the oldest first, and says how many rows it was: fewer than [`PIECE`] when that was all.
    pub(crate) async fn remove(&mut self, removal: Removal) -> Result<u64, StoreError> {
        self.wait_for(Durability::Normal).await?;
        self.execute("BEGIN IMMEDIATE").await.doing("begin to remove")?;
        let removed = self.delete(removal).await;
        self.end(removed).await
    }

    async fn delete(&mut self, removal: Removal) -> Result<u64, StoreError> {
        Ok(match removal {
            Removal::Events { before, rows } => sqlx::query(REMOVE_EVENTS)
                .bind(PIECE.cast_signed())
                .bind(before.0)
                .bind(i64::try_from(rows).unwrap_or(i64::MAX))
                .execute(&mut self.connection)
                .await
                .doing("remove old events")?
                .rows_affected(),
            Removal::Reported(reported, attempt) => {
                let (attempt, sql) = (attempt.0.cast_signed(), reported.statements());
                let query = sqlx::query(sql.remove).bind(attempt).bind(PIECE.cast_signed());
                let removed = query.execute(&mut self.connection).await.doing("remove what an attempt reported")?;
                let query = sqlx::query(sql.mark).bind(attempt);
                query.execute(&mut self.connection).await.doing("note what was removed")?;
                removed.rows_affected()
            }
        })
    }
}

impl Reader {
    /// The first attempts after one, at most `limit`, that ended before a time and of which there is something to remove.
    pub(crate) async fn ended_attempts(
        &self,
        reported: Reported,
        after: LeaseId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<LeaseId>, StoreError> {
        let query = sqlx::query_scalar::<_, i64>(reported.statements().ended);
        let query = query.bind(after.0.cast_signed()).bind(before.0).bind(limit);
        let attempts = query.fetch_all(&self.pool).await.doing("look for old attempts")?;
        Ok(attempts.into_iter().map(|id| LeaseId(id.cast_unsigned())).collect())
    }

    /// How many rows there are of what attempts reported. Reads all of them.
    pub(crate) async fn count_reported(&self, reported: Reported) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(reported.statements().count)
            .fetch_one(&self.pool)
            .await
            .doing("count what attempts reported")?;
        Ok(count.cast_unsigned())
    }

    /// Whether what an attempt reported isn't kept any more.
    pub(crate) async fn is_removed(&self, reported: Reported, attempt: LeaseId) -> Result<bool, StoreError> {
        let query = sqlx::query(reported.statements().is_removed).bind(attempt.0.cast_signed());
        let mark = query.fetch_optional(&self.pool).await.doing("look whether a report was removed")?;
        Ok(mark.is_some())
    }
}
