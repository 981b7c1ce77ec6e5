//! Whether the database can be written.

use promptfield_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::{Doing, StoreError};

const NOTE: &str = "INSERT INTO readiness (id, checked_at) VALUES (1, ?1) \
     ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at";

pub(super) async fn note(connection: &mut SqliteConnection, at: Timestamp) -> Result<(), StoreError> {
    sqlx::query(NOTE).bind(at.0).execute(connection).await.doing("check that the database can be written").map(drop)
}
