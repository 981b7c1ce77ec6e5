//! Reading requests: what is wrong is named by its field.

use std::str::FromStr;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use promptfield_core::input::{InvalidInput, from_value};
use serde::de::DeserializeOwned;

use super::problem::ApiError;

/// The largest JSON document that is taken, in bytes.
const MOST_JSON: usize = 16 << 20;

/// A JSON body, whatever its content type says.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let too_large = || ApiError::TooLarge(format!("a JSON body has at most {MOST_JSON} bytes"));
        if content_length(request.headers()).is_some_and(|length| length > MOST_JSON as u64) {
            return Err(too_large());
        }
        // One byte more than allowed tells a body that is too long from one that broke off.
        let body = to_bytes(request.into_body(), MOST_JSON + 1).await;
        let body =
            body.map_err(|error| ApiError::Unreadable(InvalidInput::new("body", error, "a whole JSON document")))?;
        if body.len() > MOST_JSON {
            return Err(too_large());
        }
        if let Ok(document) = serde_json::from_slice(&body) {
            return Ok(Self(document));
        }
        // Once more, more slowly, to name the field that is wrong.
        let value = serde_json::from_slice(&body)
            .map_err(|error| ApiError::Unreadable(InvalidInput::new("body", error, "a JSON document")))?;
        from_value(value).map(Self).map_err(ApiError::Invalid)
    }
}

/// How long the body says it is.
pub(super) fn content_length(headers: &axum::http::HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The identifier in the path.
pub(super) struct Id<T>(pub(super) T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|error| ApiError::Internal(error.into()))?;
        text.parse()
            .map(Self)
            .map_err(|_| ApiError::Unreadable(InvalidInput::new("id", text, "a whole number of at least 0")))
    }
}

/// The query; a key that isn't known is refused.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::Unreadable(InvalidInput::new("query", error, "`key=value` pairs")))?;
        let pairs: serde_json::Map<_, _> = pairs.into_iter().map(|(key, value)| (key, value.into())).collect();
        from_value(pairs.into()).map(Self).map_err(ApiError::Unreadable)
    }
}
