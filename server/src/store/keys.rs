//! What clients called their submissions.

use promptfield_core::time::Timestamp;
use promptfield_core::wire::api::SubmitResponse;
use sqlx::sqlite::SqliteConnection;

use super::{Doing, StoreError};

pub(super) const EXPIRE: &str = "DELETE FROM idempotency_key WHERE at <= ?1";
const INSERT: &str = "INSERT INTO idempotency_key (key, body, answer, at) VALUES (?1, ?2, ?3, ?4)";
pub(super) const FIND: &str = "SELECT body, answer FROM idempotency_key WHERE key = ?1 AND at > ?2";

/// How long a key stands for its submission, in milliseconds.
const LIFE_MS: i64 = 24 * 60 * 60 * 1000;

/// A client's name for a submission, and what it submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The `Idempotency-Key`.
    pub(crate) name: String,
    /// SHA-256 of the document.
    pub(crate) body: [u8; 32],
}

/// A key with the answer that it got.
#[derive(Clone, Debug)]
pub(crate) struct KeptAnswer {
    pub(crate) key: Key,
    pub(crate) answer: SubmitResponse,
    pub(crate) at: Timestamp,
}

/// Keeps an answer, and lets those go that are too old.
pub(super) async fn insert(connection: &mut SqliteConnection, kept: &KeptAnswer) -> Result<(), StoreError> {
    let expired = kept.at.plus(-LIFE_MS).0;
    sqlx::query(EXPIRE).bind(expired).execute(&mut *connection).await.doing("delete old idempotency keys")?;
    sqlx::query(INSERT)
        .bind(&kept.key.name)
        .bind(kept.key.body.as_slice())
        .bind(serde_json::json!(kept.answer).to_string())
        .bind(kept.at.0)
        .execute(connection)
        .await
        .doing("insert an idempotency key")
        .map(drop)
}

/// What the key `name` stands for.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    name: &str,
    now: Timestamp,
) -> Result<Option<KeptAnswer>, StoreError> {
    let query = sqlx::query_as::<_, (Vec<u8>, String)>(FIND).bind(name).bind(now.plus(-LIFE_MS).0);
    let Some((body, answer)) = query.fetch_optional(connection).await.doing("look for an idempotency key")? else {
        return Ok(None);
    };
    let damaged = |source: Box<dyn std::error::Error + Send + Sync>| {
        let what = format!("the idempotency key `{name}`");
        StoreError::Damaged { what, source }
    };
    let body = body.try_into().map_err(|_| damaged("its hash hasn't 32 bytes".into()))?;
    let answer = serde_json::from_str(&answer).map_err(|error| damaged(error.into()))?;
    Ok(Some(KeptAnswer { key: Key { name: name.to_owned(), body }, answer, at: now }))
}
