//! `/artefacts`

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use super::Shared;
use super::extract::content_length;
use super::problem::{ApiError, answer};
use crate::artefacts::{ArtefactError, ArtefactHash, MOST_BYTES};

/// Keeps a file: 201 if it's new, 204 if it was here.
#[utoipa::path(
    put,
    path = "/artefacts/{sha256}",
    operation_id = "put_artefact",
    tag = "artefacts",
    params(("sha256" = String, Path, description = "The file's SHA-256: 64 lower-case hexadecimal digits.")),
    request_body(content = String, content_type = "application/octet-stream", description = "The file."),
    responses(
        (status = 201, description = "It is kept."),
        (status = 204, description = "It was here."),
        answer::Unreadable,
        answer::TooLarge,
        answer::Invalid,
    ),
    security(("bearer" = ["work"])),
)]
pub(super) async fn put(
    State(app): Shared,
    Path(hash): Path<String>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let hash: ArtefactHash = hash.parse().map_err(ApiError::Unreadable)?;
    if content_length(request.headers()).is_some_and(|length| length > MOST_BYTES) {
        return Err(ArtefactError::TooLarge.into());
    }
    let is_new = app.artefacts.put(&hash, request.into_body().into_data_stream()).await?;
    Ok(if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT })
}

/// Sends a file.
#[utoipa::path(
    get,
    path = "/artefacts/{sha256}",
    operation_id = "get_artefact",
    tag = "artefacts",
    params(("sha256" = String, Path, description = "The file's SHA-256: 64 lower-case hexadecimal digits.")),
    responses(
        (status = 200, description = "The file.", body = String, content_type = "application/octet-stream"),
        answer::Unreadable,
        answer::NotFound,
    ),
    security(("bearer" = ["read"])),
)]
pub(super) async fn get(State(app): Shared, Path(hash): Path<String>) -> Result<Response, ApiError> {
    let hash: ArtefactHash = hash.parse().map_err(ApiError::Unreadable)?;
    let Some((file, length)) = app.artefacts.get(&hash).await? else {
        return Err(ApiError::NotFound(format!("there is no artefact {hash}")));
    };
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}
