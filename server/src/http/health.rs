//! `/healthz` and `/readyz`

use axum::extract::State;
use axum::http::StatusCode;

use super::Shared;
use super::problem::ApiError;

/// The process answers.
pub(super) async fn alive() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The writer runs, and the database has just been written to.
pub(super) async fn ready(State(app): Shared) -> Result<StatusCode, ApiError> {
    app.writer.probe().await?;
    Ok(StatusCode::NO_CONTENT)
}
