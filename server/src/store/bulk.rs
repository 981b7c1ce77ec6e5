//! Statements over many rows.
//!
//! A statement costs the way to SQLite's thread and back, however little it does. So rows of one kind go together, up to
//! [`MOST`] in one statement; what is left over goes in smaller ones, so that few texts have to be prepared.

use std::sync::LazyLock;

use sqlx::Sqlite;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};

use super::{Doing, StoreError};

/// Rows of one statement.
const MOST: usize = 64;
const SIZES: [usize; 3] = [MOST, 8, 1];

/// A statement of which a part repeats for each row.
pub(super) struct Bulk {
    doing: &'static str,
    texts: LazyLock<[String; 3], Box<dyn FnOnce() -> [String; 3] + Send>>,
}

/// A query that takes values.
pub(super) type Binding<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Declares a [`Bulk`] statement: what it does, its head, how many values a row has, its tail.
macro_rules! bulk {
    ($(#[$doc:meta])* $name:ident, $doing:literal, $head:literal, $columns:literal, $tail:literal) => {
        $(#[$doc])*
        pub(super) static $name: std::sync::LazyLock<$crate::store::bulk::Bulk> =
            std::sync::LazyLock::new(|| $crate::store::bulk::Bulk::new($doing, $head, $columns, $tail));
    };
}
pub(super) use bulk;

impl Bulk {
    pub(super) fn new(doing: &'static str, head: &'static str, columns: usize, tail: &'static str) -> Self {
        let text = move |rows: usize| {
            let row = format!("({})", vec!["?"; columns].join(", "));
            format!("{head} VALUES {}{tail}", vec![row; rows].join(", "))
        };
        Self { doing, texts: LazyLock::new(Box::new(move || SIZES.map(text))) }
    }

    /// Carries the statement out for all rows, each of which must change one row of the database.
    pub(super) async fn run<'q, R>(
        &'static self,
        connection: &mut SqliteConnection,
        rows: &'q [R],
        bind: impl Fn(Binding<'q>, &'q R) -> Binding<'q>,
    ) -> Result<(), StoreError> {
        let mut rest = rows;
        for (size, text) in SIZES.into_iter().zip(self.texts.iter()) {
            while rest.len() >= size {
                let (now, later) = rest.split_at(size);
                rest = later;
                let query = now.iter().fold(sqlx::query(text.as_str()), &bind);
                let changed = query.execute(&mut *connection).await.doing(self.doing)?.rows_affected();
                if changed != size as u64 {
                    return Err(StoreError::NotAll { doing: self.doing, expected: size as u64, changed });
                }
            }
        }
        Ok(())
    }
}
