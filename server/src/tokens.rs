//! Bearer tokens in memory, so that no request costs a question to the database.
//!
//! The table is what the database holds: the writer puts a change into it after the commit and before the answer. Only the
//! times of use are ahead of the database; they are written now and then.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use promptfield_core::id::TokenId;
use promptfield_core::input::InvalidInput;
use promptfield_core::time::Timestamp;
use promptfield_core::wire::access::{Principal, Secret, TokenRequest, TokenSummary};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::store::{TokenChange, TokenHash, TokenRecord};

/// Times of use are noted to this many milliseconds.
const COARSE_MS: i64 = 60_000;

/// Why a token could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// It was asked for wrongly.
    #[error(transparent)]
    Invalid(#[from] InvalidInput),
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

/// The tokens. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    table: Arc<RwLock<Table>>,
    /// Changes whenever tokens were revoked.
    revoked: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Table {
    records: Vec<TokenRecord>,
    /// The greatest identifier that was given out, stored or not.
    last: u64,
    /// Whose use isn't in the database yet.
    used: Vec<TokenId>,
}

impl Tokens {
    pub(crate) fn new(records: Vec<TokenRecord>) -> Self {
        let last = records.iter().map(|record| record.token.id.0).max().unwrap_or(0);
        Self {
            table: Arc::new(RwLock::new(Table { records, last, used: Vec::new() })),
            revoked: watch::Sender::default(),
        }
    }

    /// Makes a secret and what is to be stored of it. It opens nothing before that was stored.
    pub(crate) fn prepare(&self, request: TokenRequest, now: Timestamp) -> Result<(Secret, TokenRecord), TokenError> {
        let TokenRequest { name, scopes, expires_in_s } = request.checked()?;
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
        let secret = Secret::from_bytes(bytes);
        let mut table = self.write();
        table.last += 1;
        let token = TokenSummary {
            id: TokenId(table.last),
            name,
            scopes,
            created_at: now,
            expires_at: expires_in_s.map(|seconds| now.plus((seconds * 1000).cast_signed())),
            revoked_at: None,
            last_used_at: None,
        };
        Ok((secret.clone(), TokenRecord { hash: hash(secret.expose()), token }))
    }

    /// Whose secret this is, if it's valid at `now`. Takes as long for a wrong one as for a right one.
    pub(crate) fn find(&self, secret: &str, now: Timestamp) -> Option<Principal> {
        let sought = hash(secret);
        let (principal, stale) = {
            let table = self.read();
            let mut found = None;
            for record in &table.records {
                if bool::from(record.hash.ct_eq(&sought)) {
                    found = Some(&record.token);
                }
            }
            let token = found.filter(|token| token.is_valid(now))?;
            let stale = token.last_used_at.is_none_or(|last| now.since(last) >= COARSE_MS).then_some(token.id);
            (Principal { token: Some(token.id), name: token.name.clone(), scopes: token.scopes.clone() }, stale)
        };
        if let Some(id) = stale {
            let mut table = self.write();
            table.used.push(id);
            if let Some(token) = table.token_mut(id) {
                token.last_used_at = Some(now);
            }
        }
        Some(principal)
    }

    /// Ends when a token is revoked, or expires.
    pub(crate) async fn ended(self, id: TokenId, clock: Clock) {
        let mut revoked = self.revoked.subscribe();
        loop {
            let Some(token) = self.get(id).filter(|token| token.is_valid(clock.now())) else { return };
            let end = token.expires_at.map(|end| clock.instant(end));
            tokio::select! {
                () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {}
                // Its sender is here, too.
                _ = revoked.changed() => {}
            }
        }
    }

    /// All tokens, oldest first.
    pub(crate) fn list(&self) -> Vec<TokenSummary> {
        self.read().records.iter().map(|record| record.token.clone()).collect()
    }

    /// One token.
    pub(crate) fn get(&self, id: TokenId) -> Option<TokenSummary> {
        self.read().records.iter().find(|record| record.token.id == id).map(|record| record.token.clone())
    }

    /// Uses that are to be written; they are taken as written.
    pub(crate) fn take_uses(&self) -> Vec<TokenChange> {
        let mut table = self.write();
        let mut used = std::mem::take(&mut table.used);
        used.sort_unstable();
        used.dedup();
        let at = |id| table.token_mut(id).and_then(|token| token.last_used_at).map(|at| TokenChange::Used { id, at });
        used.into_iter().filter_map(at).collect()
    }

    /// Puts in what was committed.
    pub(crate) fn commit(&self, changes: Vec<TokenChange>) {
        if changes.is_empty() {
            return;
        }
        let mut table = self.write();
        for change in changes {
            match change {
                TokenChange::Created(record) => table.records.push(record),
                TokenChange::Revoked { id, at } => {
                    if let Some(token) = table.token_mut(id) {
                        token.revoked_at.get_or_insert(at);
                    }
                }
                TokenChange::Used { .. } => {}
            }
        }
        drop(table);
        self.revoked.send_replace(());
    }

    // No code panics while it holds the lock, and a table that it left would still be whole.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn token_mut(&mut self, id: TokenId) -> Option<&mut TokenSummary> {
        self.records.iter_mut().find(|record| record.token.id == id).map(|record| &mut record.token)
    }
}

/// The secret has 256 random bits: a fast hash keeps it as well as a slow one.
fn hash(secret: &str) -> TokenHash {
    Sha256::digest(secret.as_bytes()).into()
}
