//! Copies of the whole database, and whether a database is sound.

use std::io;
use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};

use super::{Doing, Reader, Store, StoreError, known_schema, read_only};

/// One file with all that is committed, without gaps, whatever is written meanwhile.
const COPY: &str = "VACUUM INTO ?1";
const CHECK: &str = "PRAGMA integrity_check";
const QUICK_CHECK: &str = "PRAGMA quick_check";
pub(super) const SCHEMA: &str = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success";

/// How closely a database is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Every page and row, without comparing indexes with their tables.
    Quick,
    /// Everything.
    Full,
}

/// What was found in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its schema.
    pub schema: i64,
    /// The latest schema that this version knows.
    pub known: i64,
    /// What is broken; empty for a sound database.
    pub damage: Vec<String>,
}

impl Health {
    /// Looks at a database without changing it, whether or not a coordinator runs on it.
    pub(crate) async fn look(path: &Path, care: Care) -> Result<Self, StoreError> {
        let mut connection = read_only(path).connect().await.doing("open the database for reading")?;
        let sql = if care == Care::Full { CHECK } else { QUICK_CHECK };
        let found: Vec<String> =
            sqlx::query_scalar(sql).fetch_all(&mut connection).await.doing("check the database")?;
        let schema = sqlx::query_scalar(SCHEMA).fetch_one(&mut connection).await.doing("read the schema's version")?;
        connection.close().await.doing("close the database")?;
        let known = known_schema();
        Ok(Self { schema, known, damage: found.into_iter().filter(|line| line != "ok").collect() })
    }
}

impl Reader {
    /// Copies the database into a file that isn't there.
    pub(crate) async fn copy(&self, to: &Path) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await.doing("copy the database")?;
        copy(&mut connection, to).await
    }
}

impl Store {
    /// Copies the database into a file that isn't there.
    pub(crate) async fn copy(&mut self, to: &Path) -> Result<(), StoreError> {
        copy(&mut self.connection, to).await
    }
}

pub(super) async fn copy(connection: &mut SqliteConnection, to: &Path) -> Result<(), StoreError> {
    let text = to.to_str().ok_or_else(|| StoreError::Prepare {
        path: to.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidFilename, "SQLite takes only names in UTF-8"),
    })?;
    sqlx::query(COPY).bind(text).execute(connection).await.doing("copy the database").map(drop)
}
