//! How far webhooks have been told of the events.

use promptfield_core::id::Sequence;
use sqlx::sqlite::SqliteConnection;

use super::{Doing, Reader, StoreError};

const SET: &str = "INSERT INTO webhook (address_sha256, sequence) VALUES (?1, ?2) \
     ON CONFLICT DO UPDATE SET sequence = excluded.sequence";
pub(super) const OF: &str = "SELECT sequence FROM webhook WHERE address_sha256 = ?1";

/// SHA-256 of a webhook's address.
pub(crate) type AddressHash = [u8; 32];

/// A webhook has been told of all events up to one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) webhook: AddressHash,
    pub(crate) up_to: Sequence,
}

pub(super) async fn set(connection: &mut SqliteConnection, told: &Told) -> Result<(), StoreError> {
    let query = sqlx::query(SET).bind(told.webhook.as_slice()).bind(told.up_to.0.cast_signed());
    query.execute(connection).await.doing("note what a webhook was told").map(drop)
}

impl Reader {
    /// The last event that a webhook was told of; `None` if there was none.
    pub(crate) async fn told(&self, webhook: AddressHash) -> Result<Option<Sequence>, StoreError> {
        let sequence: Option<i64> = sqlx::query_scalar(OF)
            .bind(webhook.as_slice())
            .fetch_optional(&self.pool)
            .await
            .doing("read what a webhook was told")?;
        Ok(sequence.map(|sequence| Sequence(sequence.cast_unsigned())))
    }
}
