//! Statements over many rows.
//!
//! A statement costs the way to SQLite's thread and back, however little it does. So rows of one kind go together, up to [`MOST`]
//! in one statement. There is a text for each number of rows, which SQLite prepares once.

use std::sync::OnceLock;

use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};

use super::{Doing, StoreError};

/// Rows of one statement.
const MOST: usize = 64;

/// How many statements a connection keeps prepared: those of each number of rows of what is written most.
pub(super) const PREPARED: usize = 8 * MOST;

/// A statement of which a part repeats for each row.
pub(super) struct Bulk {
    doing: &'static str,
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    texts: [OnceLock<String>; MOST],
}

/// A query that takes values.
pub(super) type Binding<'q> = Query<'q, Sqlite, SqliteArguments>;

impl Bulk {
    /// A statement that says what it does, with what comes before the rows, a row, and what comes after them.
    pub(super) const fn new(doing: &'static str, head: &'static str, row: &'static str, tail: &'static str) -> Self {
        Self { doing, head, row, tail, texts: [const { OnceLock::new() }; MOST] }
    }

    fn text(&self, rows: usize) -> String {
        let Self { head, row, tail, .. } = self;
        format!("{head} VALUES {}{tail}", vec![*row; rows].join(", "))
    }

    /// Carries the statement out for all rows, each of which must change one row of the database.
    pub(super) async fn run<'q, R>(
        &'static self,
        connection: &mut SqliteConnection,
        rows: &'q [R],
        bind: impl Fn(Binding<'q>, &'q R) -> Binding<'q>,
    ) -> Result<(), StoreError> {
        for rows in rows.chunks(MOST) {
            let Some(text) = self.texts.get(rows.len() - 1) else { continue };
            let text = text.get_or_init(|| self.text(rows.len()));
            let query = rows.iter().fold(sqlx::query(text.as_str()), &bind);
            let changed = query.execute(&mut *connection).await.doing(self.doing)?.rows_affected();
            let expected = rows.len() as u64;
            if changed != expected {
                return Err(StoreError::NotAll { doing: self.doing, expected, changed });
            }
        }
        Ok(())
    }
}
