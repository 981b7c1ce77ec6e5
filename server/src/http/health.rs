//! `/healthz` and `/readyz`

use axum::extract::State;
use axum::http::StatusCode;

use super::Shared;
use super::problem::{ApiError, answer};

/// The process answers.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "service",
    responses(
        (status = 204, description = "It does."),
    ),
    security(()),
)]
pub(super) async fn alive() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The writer runs, the database has just been written to, and its disk and that of the artefacts have room.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "service",
    responses(
        (status = 204, description = "It can."),
        answer::TooBusy,
        answer::NotReady,
    ),
    security(()),
)]
pub(super) async fn ready(State(app): Shared) -> Result<StatusCode, ApiError> {
    let checked = tokio::task::spawn_blocking(move || app.room.check());
    checked.await.map_err(|error| ApiError::Internal(error.into()))??;
    app.writer.probe().await?;
    Ok(StatusCode::NO_CONTENT)
}
