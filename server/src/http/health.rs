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

/// The writer runs, and the database has just been written to.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "service",
    responses(
        (status = 204, description = "It can."),
        answer::Unavailable,
    ),
    security(()),
)]
pub(super) async fn ready(State(app): Shared) -> Result<StatusCode, ApiError> {
    app.writer.probe().await?;
    Ok(StatusCode::NO_CONTENT)
}
