//! Reading requests: what is wrong is named by its field.

use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use axum::http::request::Parts;
use futures_util::StreamExt;
use promptfield_core::input::{InvalidInput, check_keys, from_value};
use serde::de::DeserializeOwned;

use super::aside;
use super::pace::TooSlow;
use super::problem::ApiError;

/// The most bytes of a document with everything in it: an experiment, a result by class.
pub(super) const LARGE: usize = 16 << 20;
/// The most bytes of a report with lines of a log.
pub(super) const MEDIUM: usize = 4 << 20;
/// The most bytes of a document with a few fields.
pub(super) const SMALL: usize = 64 << 10;

/// A JSON body of at most `MOST` bytes, whatever its content type says. What comes out of a compressed one counts.
pub(super) struct JsonBody<T, const MOST: usize = LARGE>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync, const MOST: usize> FromRequest<S> for JsonBody<T, MOST> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        // What a route takes compressed comes here as it was before, and without this header.
        if let Some(encoding) = request.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            return Err(ApiError::Encoding(format!("a body in the encoding `{encoding}` isn't taken here")));
        }
        let too_large = || ApiError::TooLarge(format!("the body has at most {MOST} bytes here"));
        if content_length(request.headers()).is_some_and(|length| length > MOST as u64) {
            return Err(too_large());
        }
        let mut chunks = request.into_body().into_data_stream();
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| broken(&error, "a whole JSON document"))?;
            if body.len() + chunk.len() > MOST {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        if body.len() <= SMALL {
            return read(&body).map(Self);
        }
        // A long one takes a processor's time, which others wait for here.
        aside::work(move || read(&body)).await?.map(Self)
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    check_keys(body).map_err(ApiError::Invalid)?;
    if let Ok(document) = serde_json::from_slice(body) {
        return Ok(document);
    }
    // Once more, more slowly, to name the field that is wrong.
    let value = serde_json::from_slice(body)
        .map_err(|error| ApiError::Unreadable(InvalidInput::new("body", error, "a JSON document")))?;
    from_value(value).map_err(ApiError::Invalid)
}

/// Why a body didn't come as a whole.
pub(super) fn broken(error: &(dyn std::error::Error + 'static), expected: &str) -> ApiError {
    if TooSlow::is_behind(error) {
        ApiError::TooSlow(format!("{TooSlow}: nothing was changed"))
    } else {
        ApiError::Unreadable(InvalidInput::new("body", error, expected))
    }
}

/// The `Idempotency-Key`, if there is one.
pub(super) struct IdempotencyKey(pub(super) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let is_fine = (1..=255).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
        let name = String::from_utf8_lossy(value.as_bytes()).into_owned();
        if is_fine {
            Ok(Self(Some(name)))
        } else {
            let expected = "1 to 255 visible ASCII characters";
            Err(ApiError::Unreadable(InvalidInput::new("Idempotency-Key", name, expected)))
        }
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
        let mut given = serde_json::Map::new();
        for (key, value) in pairs {
            if given.insert(key.clone(), value.into()).is_some() {
                return Err(ApiError::Unreadable(InvalidInput::new("query", key, "each key once")));
            }
        }
        from_value(given.into()).map(Self).map_err(ApiError::Unreadable)
    }
}
