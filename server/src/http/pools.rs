//! `/pools` and `/pilots`

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use promptfield_core::id::PilotId;
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::pilot_records::{PoolSettings, pool_name};
use promptfield_core::scheduler::{Command, Rejection, Scheduler};
use promptfield_core::wire::api::pools::{Pilots, PoolSummary, Pools};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::extract::{JsonBody, MEDIUM, Params};
use super::page::limit;
use super::problem::{ApiError, answer};
use crate::launch::CheckError;

fn summary(scheduler: &Scheduler, name: &str) -> Result<PoolSummary, Rejection> {
    let record = scheduler.pool(name).ok_or_else(|| Rejection::NoPool(name.to_owned()))?;
    Ok(PoolSummary::new(record, scheduler.pilots()))
}

/// All pools there ever were, by name, with their pilots by state.
#[utoipa::path(
    get,
    path = "/pools",
    operation_id = "list_pools",
    tag = "pilots",
    responses((status = 200, description = "The pools.", body = Pools)),
    security(("bearer" = ["read"])),
)]
pub(super) async fn list(State(app): Shared) -> Result<Json<Pools>, ApiError> {
    let pools = app.writer.look(|scheduler, _| {
        let pilots: Vec<_> = scheduler.pilots().collect();
        scheduler.pools().map(|pool| PoolSummary::new(pool, pilots.iter().copied())).collect()
    });
    Ok(Json(Pools { pools: pools.await? }))
}

/// Has a pool with these settings, a new one or one that is there: pilots come as jobs need them. Its launcher is asked first
/// whether it could start such pilots.
#[utoipa::path(
    put,
    path = "/pools/{name}",
    operation_id = "set_pool",
    tag = "pilots",
    params(("name" = String, Path, description = "The pool's name.")),
    request_body = PoolSettings,
    responses(
        (status = 200, description = "The pool.", body = PoolSummary),
        answer::Unreadable,
        answer::TooLarge,
        answer::Invalid,
        answer::Unavailable,
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn set(
    State(app): Shared,
    Path(name): Path<String>,
    JsonBody(settings): JsonBody<PoolSettings, MEDIUM>,
) -> Result<Json<PoolSummary>, ApiError> {
    pool_name(&name).map_err(ApiError::Invalid)?;
    let settings = settings.checked().map_err(ApiError::Invalid)?;
    let kind = settings.launcher;
    let none = || InvalidInput::new("launcher", kind, "nothing: this coordinator starts no pilots");
    let launcher = app.launchers.get(kind).ok_or_else(|| ApiError::Invalid(none()))?;
    match launcher.check(&name, &settings).await {
        Ok(()) => {}
        Err(CheckError::Refused(input)) => return Err(ApiError::Invalid(input)),
        Err(CheckError::Unavailable(reason)) => {
            return Err(ApiError::Unavailable(format!("the launcher `{kind}` can't be asked now: {reason}")));
        }
    }
    let command = Command::SetPool { name: name.clone(), settings: Box::new(settings), from_file: false };
    app.writer.apply(command).await?;
    Ok(Json(app.writer.look(move |scheduler, _| summary(scheduler, &name)).await??))
}

/// Turns a pool off: its pilots are ended, and give back what they are at.
#[utoipa::path(
    delete,
    path = "/pools/{name}",
    operation_id = "end_pool",
    tag = "pilots",
    params(("name" = String, Path, description = "The pool's name.")),
    responses(
        (status = 200, description = "The pool. It's off when it has no pilots left.", body = PoolSummary),
        answer::NotFound,
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn end(State(app): Shared, Path(name): Path<String>) -> Result<Json<PoolSummary>, ApiError> {
    app.writer.apply(Command::EndPool(name.clone())).await?;
    Ok(Json(app.writer.look(move |scheduler, _| summary(scheduler, &name)).await??))
}

/// Lets a pool that was paused go on.
#[utoipa::path(
    post,
    path = "/pools/{name}/resume",
    operation_id = "resume_pool",
    tag = "pilots",
    params(("name" = String, Path, description = "The pool's name.")),
    responses(
        (status = 204, description = "It gets pilots again, if it was paused."),
        answer::NotFound,
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn resume(State(app): Shared, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    app.writer.apply(Command::ResumePool(name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which pilots are asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PilotParams {
    /// Those of this pool.
    pool: Option<String>,
    /// Those that came before this one.
    #[param(value_type = Option<PilotId>)]
    before: Option<String>,
    /// The most pilots of the answer.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Option<String>,
}

/// Pilots, the latest first; those that are over too.
#[utoipa::path(
    get,
    path = "/pilots",
    operation_id = "list_pilots",
    tag = "pilots",
    params(PilotParams),
    responses(
        (status = 200, description = "The pilots.", body = Pilots),
        answer::Unreadable,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn pilots(State(app): Shared, Params(params): Params<PilotParams>) -> Result<Json<Pilots>, ApiError> {
    let before = match &params.before {
        None => PilotId(u64::MAX),
        Some(text) => {
            let unreadable = |_| ApiError::Unreadable(InvalidInput::new("before", text, "a whole number"));
            text.parse().map_err(unreadable)?
        }
    };
    let limit = limit(params.limit.as_deref()).map_err(ApiError::Unreadable)?;
    let mut pilots = app.reader.pilots_before(before, params.pool.as_deref(), limit + 1).await?;
    let more = pilots.len() > limit as usize;
    pilots.truncate(limit as usize);
    let next = pilots.last().map(|pilot| pilot.id).filter(|_| more);
    Ok(Json(Pilots { pilots, next }))
}
