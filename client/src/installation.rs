//! The installation: pools, backbones, tokens, the coordinator's health and its database.

use promptfield_core::id::TokenId;
use promptfield_core::scheduler::pilot_records::PoolSettings;
use promptfield_core::wire::access::{TokenCreated, TokenRequest, TokenSummary};
use promptfield_core::wire::api::pools::{Pilots, PoolSummary, Pools};
use promptfield_core::wire::api::{PinnedBackbone, PinnedBackbones};
use reqwest::header::DATE;
use reqwest::{Method, Response};

use crate::{Client, Error};

impl Client {
    /// Whether the coordinator answers: the date of its answer, by its clock.
    pub async fn alive(&self) -> Result<Option<String>, Error> {
        let headers = self.get("/healthz").done().await?;
        Ok(headers.get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned))
    }

    /// Whether the coordinator can write its database.
    pub async fn ready(&self) -> Result<(), Error> {
        self.get("/readyz").done().await.map(drop)
    }

    /// A copy of the coordinator's database, as it comes.
    pub async fn backup(&self) -> Result<Response, Error> {
        self.post("/backup").begin().await
    }

    /// The backbones whose names are pinned.
    pub async fn backbones(&self) -> Result<Vec<PinnedBackbone>, Error> {
        let pinned: PinnedBackbones = self.get("/backbones").read().await?;
        Ok(pinned.backbones)
    }

    /// Pins a backbone's name.
    pub async fn pin(&self, backbone: &PinnedBackbone) -> Result<(), Error> {
        self.call(Method::PUT, "/backbones").json(backbone).done().await.map(drop)
    }

    /// All pools.
    pub async fn pools(&self) -> Result<Pools, Error> {
        self.get("/pools").read().await
    }

    /// Makes a pool, or changes it.
    pub async fn set_pool(&self, name: &str, settings: &PoolSettings) -> Result<PoolSummary, Error> {
        self.call(Method::PUT, format!("/pools/{name}")).json(settings).read().await
    }

    /// Turns a pool off.
    pub async fn end_pool(&self, name: &str) -> Result<PoolSummary, Error> {
        self.call(Method::DELETE, format!("/pools/{name}")).read().await
    }

    /// Lets a pool that was paused go on.
    pub async fn resume_pool(&self, name: &str) -> Result<(), Error> {
        self.post(format!("/pools/{name}/resume")).done().await.map(drop)
    }

    /// The latest pilots.
    pub async fn pilots(&self) -> Result<Pilots, Error> {
        self.get("/pilots").read().await
    }

    /// Makes a token.
    pub async fn create_token(&self, token: &TokenRequest) -> Result<TokenCreated, Error> {
        self.post("/tokens").json(token).read().await
    }

    /// All tokens.
    pub async fn tokens(&self) -> Result<Vec<TokenSummary>, Error> {
        self.all("/tokens").await
    }

    /// Ends a token.
    pub async fn revoke_token(&self, id: TokenId) -> Result<(), Error> {
        self.call(Method::DELETE, format!("/tokens/{id}")).done().await.map(drop)
    }
}
