//! `/faults`: what machines were found unable to use.

use axum::Json;
use axum::extract::State;
use promptfield_core::scheduler::Command;
use promptfield_core::wire::api::{Changed, MachineFaults, Recheck};

use super::Shared;
use super::extract::{JsonBody, SMALL};
use super::jobs::changed;
use super::problem::{ApiError, answer};

/// What machines were found unable to use. They get no jobs that need it, but for a trial now and then.
#[utoipa::path(
    get,
    path = "/faults",
    operation_id = "list_faults",
    tag = "workers",
    responses((status = 200, description = "By machine.", body = MachineFaults), answer::Unreadable),
    security(("bearer" = ["read"])),
)]
pub(super) async fn list(State(app): Shared) -> Result<Json<MachineFaults>, ApiError> {
    let faults = app.writer.look(|scheduler, _| scheduler.faults().cloned().collect()).await?;
    Ok(Json(MachineFaults { faults }))
}

/// Gives machines again what they were found unable to use.
#[utoipa::path(
    post,
    path = "/faults/recheck",
    operation_id = "recheck",
    tag = "workers",
    request_body = Recheck,
    responses(
        (status = 200, description = "How many faults no longer count.", body = Changed),
        answer::Unreadable,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["submit"])),
)]
pub(super) async fn recheck(
    State(app): Shared,
    JsonBody(Recheck { host }): JsonBody<Recheck, SMALL>,
) -> Result<Json<Changed>, ApiError> {
    changed(app.writer.apply(Command::Recheck { host }).await?)
}
