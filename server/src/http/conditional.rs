//! Answers that are sent only to those who don't have them.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use promptfield_core::job::spec::hex;
use sha2::{Digest as _, Sha256};

use super::problem::ApiError;

/// Answers with `body` under a tag made of it, or with 304 if `If-None-Match` has that tag. The tag is a weak one: the same
/// content may be sent compressed or not.
pub(super) fn unless_known(
    headers: &HeaderMap,
    content_type: &'static str,
    body: impl AsRef<str>,
) -> Result<Response, ApiError> {
    let body = body.as_ref();
    let tag = format!("\"{}\"", hex(&Sha256::digest(body)[..16]));
    let is_known = is_among(&tag, headers);
    let tag = HeaderValue::try_from(format!("W/{tag}")).map_err(|error| ApiError::Internal(error.into()))?;
    let cached = [(header::ETAG, tag), (header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, cached).into_response());
    }
    Ok((cached, [(header::CONTENT_TYPE, content_type)], body.to_owned()).into_response())
}

pub(super) fn is_among(tag: &str, headers: &HeaderMap) -> bool {
    let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut given = given.flat_map(|list| list.split(',')).map(str::trim);
    given.any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}
