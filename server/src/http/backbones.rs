//! `/backbones`: which weights the names of backbones stand for.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use promptfield_core::names::shown_name;
use promptfield_core::scheduler::Command;
use promptfield_core::wire::api::{PinnedBackbone, PinnedBackbones};

use super::Shared;
use super::extract::{JsonBody, SMALL};
use super::problem::{ApiError, answer};

/// The identities that the names of backbones are pinned to: by the coordinator's settings, by the first result that rests on one,
/// or by a person.
#[utoipa::path(
    get,
    path = "/backbones",
    operation_id = "list_backbones",
    tag = "experiments",
    responses((status = 200, description = "By name.", body = PinnedBackbones), answer::Unreadable),
    security(("bearer" = ["read"])),
)]
pub(super) async fn list(State(app): Shared) -> Result<Json<PinnedBackbones>, ApiError> {
    let pins = app.writer.look(|scheduler, _| scheduler.pins().clone()).await?;
    let pinned = |(backbone, sha256)| PinnedBackbone { backbone, sha256 };
    Ok(Json(PinnedBackbones { backbones: pins.into_iter().map(pinned).collect() }))
}

/// Pins a backbone's name to another identity. Workers with other weights get no more jobs with it, and results that rest on others
/// are stale.
#[utoipa::path(
    put,
    path = "/backbones",
    operation_id = "pin_backbone",
    tag = "experiments",
    request_body = PinnedBackbone,
    responses(
        (status = 204, description = "It is pinned."),
        answer::Unreadable,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["admin"])),
)]
pub(super) async fn pin(
    State(app): Shared,
    JsonBody(PinnedBackbone { backbone, sha256 }): JsonBody<PinnedBackbone, SMALL>,
) -> Result<StatusCode, ApiError> {
    shown_name("backbone", &backbone).map_err(ApiError::Invalid)?;
    app.writer.apply(Command::Pin { backbone, sha256 }).await?;
    Ok(StatusCode::NO_CONTENT)
}
