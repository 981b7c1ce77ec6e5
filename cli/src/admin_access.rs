//! The two ways to a coordinator's own matters: through it, or to its database while it doesn't run.

use std::path::Path;

use anyhow::Context as _;
use promptfield_client::{Client, Error};
use promptfield_core::id::TokenId;
use promptfield_core::wire::access::{TokenCreated, TokenRequest, TokenSummary};
use promptfield_server::{Database, DatabaseError};
use tokio::io::AsyncWriteExt;

use crate::context::{Context, CoordinatorArgs};
use crate::exit::Coded;
use crate::print;

/// A coordinator's own matters: who answers.
pub(crate) enum AdminAccess {
    Coordinator(Client),
    Database(Database),
}

impl AdminAccess {
    /// The coordinator if one answers; else this machine's database, unless a coordinator was named.
    pub(crate) async fn open(context: &Context, named: &CoordinatorArgs) -> anyhow::Result<Self> {
        let client = context.client(named)?;
        match client.alive().await {
            Ok(_) => Ok(Self::Coordinator(client)),
            Err(Error::Unreachable { .. }) if named.url.is_none() => {
                let path = context.settings.database();
                print::talk(format_args!(
                    "no coordinator answers at {}; using {} itself",
                    client.url(),
                    path.display()
                ));
                Ok(Self::Database(Database::open(&path).await?))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn create_token(self, request: TokenRequest) -> anyhow::Result<TokenCreated> {
        match self {
            Self::Coordinator(client) => Ok(client.create_token(&request).await?),
            Self::Database(mut database) => {
                let created = database.create_token(request).await?;
                database.close().await?;
                Ok(created)
            }
        }
    }

    /// Copies the database into a file that isn't there.
    pub(crate) async fn copy(self, to: &Path) -> anyhow::Result<()> {
        match self {
            Self::Coordinator(client) => {
                let mut file = tokio::fs::File::create_new(to).await?;
                let mut response = client.backup().await?;
                while let Some(chunk) = response.chunk().await.context("the backup broke off")? {
                    file.write_all(&chunk).await?;
                }
                Ok(file.sync_all().await?)
            }
            Self::Database(mut database) => {
                let copied = database.copy(to).await;
                database.close().await?;
                Ok(copied?)
            }
        }
    }

    pub(crate) async fn tokens(self) -> anyhow::Result<Vec<TokenSummary>> {
        match self {
            Self::Coordinator(client) => Ok(client.tokens().await?),
            Self::Database(database) => {
                let tokens = database.tokens();
                database.close().await?;
                Ok(tokens)
            }
        }
    }

    pub(crate) async fn revoke_token(self, id: TokenId) -> anyhow::Result<()> {
        match self {
            Self::Coordinator(client) => Ok(client.revoke_token(id).await?),
            Self::Database(mut database) => {
                let revoked = database.revoke_token(id).await;
                database.close().await?;
                match revoked {
                    Err(error @ DatabaseError::NoToken(_)) => Err(Coded::BadInput(error.to_string()).into()),
                    other => Ok(other?),
                }
            }
        }
    }
}
