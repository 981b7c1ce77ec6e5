//! What can go wrong, and how it's said: `application/problem+json` (RFC 9457).

use std::any::Any;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use promptfield_core::api::Problem;
use promptfield_core::chain::chain;
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::{Rejection, Reply};

use crate::artefacts::ArtefactError;
use crate::store::StoreError;
use crate::writer::WriteError;

/// When to come again after `unavailable`, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Everything that an answer can be instead of what was asked for.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// 400: the request can't be read.
    Unreadable(InvalidInput),
    /// 422: the request says something that isn't right.
    Invalid(InvalidInput),
    /// 404.
    NotFound(String),
    /// 405.
    MethodNotAllowed(String),
    /// 409: the lease isn't the latest attempt's, or its job has ended.
    StaleLease(String),
    /// 410: the worker must register anew.
    UnknownWorker(String),
    /// 413.
    TooLarge(String),
    /// 503: come again.
    Unavailable(String),
    /// 500: logged where it is turned into an answer, and not explained to outsiders.
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

impl ApiError {
    /// The writer gave an answer to another question: a bug.
    pub(crate) fn unexpected(reply: &Reply) -> Self {
        Self::Internal(format!("an unexpected reply: {reply:?}").into())
    }

    fn problem(self) -> Problem {
        let (status, slug, title, detail, errors) = match self {
            Self::Unreadable(input) => {
                (StatusCode::BAD_REQUEST, "invalid-input", "The request can't be read", input.to_string(), input.errors)
            }
            Self::Invalid(input) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-input",
                "The input is not valid",
                input.to_string(),
                input.errors,
            ),
            Self::NotFound(detail) => {
                (StatusCode::NOT_FOUND, "not-found", "There is no such thing", detail, Vec::new())
            }
            Self::MethodNotAllowed(detail) => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method isn't one of this route's",
                detail,
                Vec::new(),
            ),
            Self::StaleLease(detail) => {
                (StatusCode::CONFLICT, "stale-lease", "The lease is no longer valid", detail, Vec::new())
            }
            Self::UnknownWorker(detail) => {
                (StatusCode::GONE, "unknown-worker", "The worker isn't registered", detail, Vec::new())
            }
            Self::TooLarge(detail) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large", detail, Vec::new())
            }
            Self::Unavailable(detail) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The coordinator can't do this now; try again",
                detail,
                Vec::new(),
            ),
            Self::Internal(error) => {
                tracing::error!(error = chain(error.as_ref()), "a request failed");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "The coordinator made a mistake",
                    "the coordinator's log says more, under this answer's x-request-id".to_owned(),
                    Vec::new(),
                )
            }
        };
        Problem { kind: format!("/problems/{slug}"), title: title.to_owned(), status: status.as_u16(), detail, errors }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, content_type, Json(problem)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

/// What a handler that panicked answers.
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic.downcast::<String>().map(|text| *text);
    let message = message.or_else(|panic| panic.downcast::<&str>().map(|text| (*text).to_owned()));
    ApiError::Internal(message.unwrap_or_else(|_| "a panic".to_owned()).into()).into_response()
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let text = error.to_string();
        match error {
            WriteError::Rejected(Rejection::NoExperiment(_) | Rejection::NoJob(_)) => Self::NotFound(text),
            WriteError::Rejected(Rejection::NoWorker(_)) => Self::UnknownWorker(text),
            WriteError::Rejected(Rejection::Stale { .. }) => Self::StaleLease(text),
            WriteError::NotStored | WriteError::Stopping => Self::Unavailable(text),
        }
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        WriteError::Rejected(rejection).into()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoConnection { .. } => Self::Unavailable(error.to_string()),
            error => Self::Internal(error.into()),
        }
    }
}

impl From<ArtefactError> for ApiError {
    fn from(error: ArtefactError) -> Self {
        match error {
            ArtefactError::WrongHash { ref expected, .. } => {
                let input = InvalidInput::new("sha256", expected, error.to_string());
                Self::Invalid(input)
            }
            ArtefactError::TooLarge => Self::TooLarge(error.to_string()),
            ArtefactError::BrokeOff(_) => {
                Self::Unreadable(InvalidInput::new("body", "nothing", "the rest of the artefact"))
            }
            ArtefactError::Failed { .. } => Self::Internal(error.into()),
        }
    }
}
