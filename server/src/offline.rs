//! The database while no coordinator runs: for what must be possible before the first start, and after the last.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use promptfield_core::id::TokenId;
use promptfield_core::input::InvalidInput;
use promptfield_core::wire::access::{TokenCreated, TokenRequest, TokenSummary};

use crate::store::{Care, Health, Store, StoreError, TokenChange, Writes};
use crate::tokens::{TokenError, Tokens};

/// Why the database didn't do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A coordinator has the database, or it can't be opened, is damaged, or was written by a later version.
    #[error("can't use the database `{}`", path.display())]
    Unusable {
        /// The database.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The input is not valid.
    #[error(transparent)]
    Invalid(#[from] InvalidInput),
    /// There is no such token.
    #[error("there is no token {0}")]
    NoToken(TokenId),
    /// A token could not be made.
    #[error("can't make a token")]
    Token {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A database that no coordinator has: as long as this lives, none can start on it.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    store: Store,
    tokens: Tokens,
}

impl Database {
    /// Opens the database, makes it if there is none, and brings it to the current schema.
    pub async fn open(path: &Path) -> Result<Self, DatabaseError> {
        let unusable = |source: StoreError| unusable(path, source);
        let mut store = Store::open(path).await.map_err(unusable)?;
        let tokens = Tokens::new(store.load_tokens().await.map_err(unusable)?);
        Ok(Self { path: path.to_owned(), store, tokens })
    }

    /// All tokens there ever were, oldest first.
    pub fn tokens(&self) -> Vec<TokenSummary> {
        self.tokens.list()
    }

    /// Makes a token.
    pub async fn create_token(&mut self, request: TokenRequest) -> Result<TokenCreated, DatabaseError> {
        let (secret, record) = self.tokens.prepare(request, SystemTime::now().into()).map_err(|error| match error {
            TokenError::Invalid(input) => DatabaseError::Invalid(input),
            error @ TokenError::Random(_) => DatabaseError::Token { source: error.into() },
        })?;
        let token = record.token.clone();
        self.change(TokenChange::Created(record)).await?;
        Ok(TokenCreated { secret, token })
    }

    /// Ends a token. Ending it again changes nothing.
    pub async fn revoke_token(&mut self, id: TokenId) -> Result<(), DatabaseError> {
        if self.tokens.get(id).is_none() {
            return Err(DatabaseError::NoToken(id));
        }
        self.change(TokenChange::Revoked { id, at: SystemTime::now().into() }).await
    }

    /// Copies it into a file that isn't there.
    pub async fn copy(&mut self, to: &Path) -> Result<(), DatabaseError> {
        self.store.copy(to).await.map_err(|source| unusable(&self.path, source))
    }

    async fn change(&mut self, change: TokenChange) -> Result<(), DatabaseError> {
        let writes = Writes { tokens: vec![change], ..Writes::default() };
        self.store.write(&writes).await.map_err(|source| unusable(&self.path, source))?;
        self.tokens.commit(writes.tokens);
        Ok(())
    }

    /// Closes it in order, and lets it go.
    pub async fn close(self) -> Result<(), DatabaseError> {
        let Self { path, store, .. } = self;
        store.close().await.map_err(|source| unusable(&path, source))
    }
}

impl Health {
    /// Looks at a database without changing it, whether or not a coordinator runs on it.
    pub async fn of(path: &Path, care: Care) -> Result<Self, DatabaseError> {
        Self::look(path, care).await.map_err(|source| unusable(path, source))
    }
}

fn unusable(path: &Path, source: StoreError) -> DatabaseError {
    DatabaseError::Unusable { path: path.to_owned(), source: source.into() }
}
