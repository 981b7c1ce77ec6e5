//! Bearer tokens, by the hash of their secret.

use promptfield_core::id::TokenId;
use promptfield_core::time::Timestamp;
use promptfield_core::wire::access::{Scope, TokenSummary};
use sqlx::sqlite::SqliteConnection;

use super::{Doing, StoreError, damaged, one};

const INSERT: &str = "INSERT INTO token (id, hash, name, admin, submit, work, read, created_at, expires_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
/// The first time counts.
const REVOKE: &str = "UPDATE token SET revoked_at = coalesce(revoked_at, ?2) WHERE id = ?1";
const NOTE_USE: &str = "UPDATE token SET last_used_at = ?2 WHERE id = ?1";
const LOAD: &str = "SELECT id, hash, name, admin, submit, work, read, created_at, expires_at, revoked_at, last_used_at \
     FROM token ORDER BY id";

/// SHA-256 of a secret's text.
pub(crate) type TokenHash = [u8; 32];

/// A token and what it's known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenRecord {
    pub(crate) hash: TokenHash,
    pub(crate) token: TokenSummary,
}

/// What is written of tokens.
#[derive(Clone, Debug)]
pub(crate) enum TokenChange {
    Created(TokenRecord),
    Revoked { id: TokenId, at: Timestamp },
    Used { id: TokenId, at: Timestamp },
}

impl TokenChange {
    /// When a token was last used isn't worth an fsync.
    pub(super) const fn is_lasting(&self) -> bool {
        !matches!(self, Self::Used { .. })
    }
}

pub(super) async fn write(connection: &mut SqliteConnection, change: &TokenChange) -> Result<(), StoreError> {
    match change {
        TokenChange::Created(record) => insert(connection, record).await,
        TokenChange::Revoked { id, at } => set_time(connection, REVOKE, *id, *at, "revoke a token").await,
        TokenChange::Used { id, at } => set_time(connection, NOTE_USE, *id, *at, "note a token's use").await,
    }
}

async fn insert(connection: &mut SqliteConnection, record: &TokenRecord) -> Result<(), StoreError> {
    let TokenRecord { hash, token } = record;
    let has = |scope| token.scopes.contains(&scope);
    sqlx::query(INSERT)
        .bind(token.id.0.cast_signed())
        .bind(hash.as_slice())
        .bind(&token.name)
        .bind(has(Scope::Admin))
        .bind(has(Scope::Submit))
        .bind(has(Scope::Work))
        .bind(has(Scope::Read))
        .bind(token.created_at.0)
        .bind(token.expires_at.map(|time| time.0))
        .execute(connection)
        .await
        .doing("insert a token")
        .map(drop)
}

async fn set_time(
    connection: &mut SqliteConnection,
    sql: &'static str,
    id: TokenId,
    at: Timestamp,
    doing: &'static str,
) -> Result<(), StoreError> {
    let done = sqlx::query(sql).bind(id.0.cast_signed()).bind(at.0).execute(connection).await.doing(doing)?;
    one(done, doing)
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    hash: Vec<u8>,
    name: String,
    admin: bool,
    submit: bool,
    work: bool,
    read: bool,
    created_at: i64,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
    last_used_at: Option<i64>,
}

impl Row {
    fn record(self) -> Result<TokenRecord, StoreError> {
        let has = [
            (self.admin, Scope::Admin),
            (self.submit, Scope::Submit),
            (self.work, Scope::Work),
            (self.read, Scope::Read),
        ];
        let token = TokenSummary {
            id: TokenId(self.id.cast_unsigned()),
            name: self.name,
            scopes: has.into_iter().filter_map(|(has, scope)| has.then_some(scope)).collect(),
            created_at: Timestamp(self.created_at),
            expires_at: self.expires_at.map(Timestamp),
            revoked_at: self.revoked_at.map(Timestamp),
            last_used_at: self.last_used_at.map(Timestamp),
        };
        let hash =
            self.hash.try_into().map_err(|_| "a hash that hasn't 32 bytes").map_err(damaged("token", self.id))?;
        Ok(TokenRecord { hash, token })
    }
}

/// Every token there ever was, oldest first.
pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Vec<TokenRecord>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(LOAD).fetch_all(connection).await.doing("read the tokens")?;
    rows.into_iter().map(Row::record).collect()
}
