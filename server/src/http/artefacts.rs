//! `/artefacts`

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use super::Shared;
use super::extract::content_length;
use super::problem::ApiError;
use crate::artefacts::{ArtefactError, ArtefactHash, MOST_BYTES};

/// Keeps a file: 201 if it's new, 204 if it was here.
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
pub(super) async fn get(State(app): Shared, Path(hash): Path<String>) -> Result<Response, ApiError> {
    let hash: ArtefactHash = hash.parse().map_err(ApiError::Unreadable)?;
    let Some((file, length)) = app.artefacts.get(&hash).await? else {
        return Err(ApiError::NotFound(format!("there is no artefact {hash}")));
    };
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, length.to_string())];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}
