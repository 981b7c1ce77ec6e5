//! What can go wrong, and how it's said: `application/problem+json` (RFC 9457).

use std::any::Any;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use promptfield_core::chain::chain;
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::{Rejection, Reply};
use promptfield_core::wire::api::Problem;
use tower_http::request_id::RequestId;

use super::extract::broken;
use crate::artefacts::ArtefactError;
use crate::limits::Full;
use crate::room::RoomError;
use crate::store::StoreError;
use crate::writer::WriteError;

/// What each kind means, a section for each.
const PROBLEMS: &str = include_str!("../../../docs/problems.md");

/// When to come again after an answer that only holds for now, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Declares the kinds of problems.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:ident, $slug:literal, $title:literal;)+) => {
        /// The kinds of problems. A kind's name is a promise to clients; `docs/problems.md` says more of each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind { $($(#[$doc])* $name),+ }

        impl Kind {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name),+];

            const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),+ }
            }

            const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug),+ }
            }

            const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),+ }
            }
        }
    };
}

kinds! {
    /// The request can't be read.
    Unreadable = BAD_REQUEST, "unreadable-request", "The request can't be read";
    /// The body is compressed in a way that the route doesn't take.
    Encoding = UNSUPPORTED_MEDIA_TYPE, "unsupported-encoding", "The body's encoding isn't taken here";
    /// The `Idempotency-Key` stands for another submission.
    KeyReused = UNPROCESSABLE_ENTITY, "key-reused", "The idempotency key stands for another submission";
    /// The request says something that isn't right.
    Invalid = UNPROCESSABLE_ENTITY, "invalid-input", "The input is not valid";
    /// There is no token, or one that isn't valid.
    Unauthorized = UNAUTHORIZED, "unauthorized", "A valid token is needed";
    /// The token doesn't permit this.
    Forbidden = FORBIDDEN, "forbidden", "This may not be asked for";
    /// There is no such thing, or no such route.
    NotFound = NOT_FOUND, "not-found", "There is no such thing";
    /// The route has other methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED, "method-not-allowed", "The method isn't one of this route's";
    /// The lease isn't the latest attempt's, or its job has ended.
    StaleLease = CONFLICT, "stale-lease", "The lease is no longer valid";
    /// The worker must register anew.
    UnknownWorker = GONE, "unknown-worker", "The worker isn't registered";
    /// A worker says that it's a pilot which isn't there, or is to end.
    UnwantedPilot = CONFLICT, "unwanted-pilot", "The pilot isn't wanted";
    /// A worker of this name is at work elsewhere.
    NameTaken = CONFLICT, "name-taken", "A worker of this name is at work elsewhere";
    /// Jobs that are to be computed again have results that other experiments show too.
    SharedJobs = CONFLICT, "shared-jobs", "Other experiments show these results too";
    /// A job that is to be computed again has no result.
    NoResult = CONFLICT, "no-result", "The job has no result";
    /// It was there, and wasn't kept.
    Removed = GONE, "removed", "It isn't kept any more";
    /// The body is longer than the route takes.
    TooLarge = PAYLOAD_TOO_LARGE, "too-large", "The request is too large";
    /// The body came too slowly.
    TooSlow = REQUEST_TIMEOUT, "too-slow", "The request came too slowly";
    /// Too much at once: come again.
    TooBusy = TOO_MANY_REQUESTS, "too-busy", "The coordinator has too much to do; try again";
    /// A disk is full, or nearly.
    NoRoom = SERVICE_UNAVAILABLE, "no-room", "There is no room on a disk";
    /// Nothing was done: come again.
    Unavailable = SERVICE_UNAVAILABLE, "unavailable", "The coordinator can't do this now; try again";
    /// A bug, or a disk that fails.
    Internal = INTERNAL_SERVER_ERROR, "internal", "The coordinator made a mistake";
}

/// Declares what operations answer in the API's document: one or more kinds of the same status.
macro_rules! answers {
    ($($(#[$doc:meta])* $name:ident = [$($kind:ident),+];)+) => {
        /// The problems that operations name as their answers.
        pub(super) mod answer {
            $(
                $(#[$doc])*
                pub(in crate::http) struct $name;

                impl utoipa::IntoResponses for $name {
                    fn responses() -> super::Responses {
                        super::responses(&[$(super::Kind::$kind),+])
                    }
                }
            )+
        }
    };
}

answers! {
    /// The request can't be read.
    Unreadable = [Unreadable];
    /// The request says something that isn't right.
    Invalid = [Invalid];
    /// There is no token, or one that isn't valid.
    Unauthorized = [Unauthorized];
    /// The token doesn't permit this.
    Forbidden = [Forbidden];
    /// There is no such thing.
    NotFound = [NotFound];
    /// The route has other methods.
    MethodNotAllowed = [MethodNotAllowed];
    /// The lease isn't valid any more.
    StaleLease = [StaleLease];
    /// The worker must register anew.
    UnknownWorker = [UnknownWorker];
    /// The pilot isn't wanted, or a worker of this name is at work elsewhere.
    NotRegistered = [UnwantedPilot, NameTaken];
    /// Other experiments show these results too.
    SharedJobs = [SharedJobs];
    /// Other experiments show the result too, or there is none.
    NotRerun = [SharedJobs, NoResult];
    /// It was there, and wasn't kept.
    Removed = [Removed];
    /// The body is too long.
    TooLarge = [TooLarge];
    /// The body came too slowly.
    TooSlow = [TooSlow];
    /// Too much at once: come again.
    TooBusy = [TooBusy];
    /// Nothing was done: come again.
    Unavailable = [Unavailable];
    /// The body's encoding isn't taken.
    Encoding = [Encoding];
    /// The experiment isn't valid, or its key is another's.
    NotSubmitted = [Invalid, KeyReused];
    /// The coordinator can't go on.
    NotReady = [Unavailable, NoRoom];
    /// A bug.
    Internal = [Internal];
}

type Responses = std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>>;

/// An answer as the document has it.
fn responses(kinds: &[Kind]) -> Responses {
    let schema = utoipa::openapi::Ref::from_schema_name("Problem");
    let content = utoipa::openapi::ContentBuilder::new().schema(Some(schema)).build();
    let described: Vec<_> = kinds.iter().map(|kind| format!("{} (`{}`).", kind.title(), kind.uri())).collect();
    let response =
        utoipa::openapi::ResponseBuilder::new().description(described.join(" ")).content(MEDIA_TYPE, content).build();
    kinds.iter().map(|kind| (kind.status().as_str().to_owned(), response.clone().into())).collect()
}

/// The media type of problem documents.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

impl Kind {
    fn uri(self) -> String {
        format!("/problems/{}", self.slug())
    }

    /// The kind's section of the page on problems.
    fn section(slug: &str) -> Option<&'static str> {
        let heading = format!("`{slug}`");
        PROBLEMS.split("\n## ").skip(1).find(|section| section.starts_with(&heading))
    }

    fn problem(self, detail: String) -> Problem {
        let (title, status) = (self.title().to_owned(), self.status().as_u16());
        Problem { kind: self.uri(), title, status, detail, instance: None, errors: Vec::new() }
    }

    fn input(self, input: InvalidInput) -> Problem {
        Problem { errors: input.errors.clone(), ..self.problem(input.to_string()) }
    }
}

/// Everything that an answer can be instead of what was asked for.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// See [`Kind::Unreadable`].
    Unreadable(InvalidInput),
    /// See [`Kind::Invalid`].
    Invalid(InvalidInput),
    /// See [`Kind::Encoding`].
    Encoding(String),
    /// See [`Kind::KeyReused`].
    KeyReused(String),
    /// See [`Kind::Unauthorized`].
    Unauthorized(String),
    /// See [`Kind::Forbidden`].
    Forbidden(String),
    /// See [`Kind::NotFound`].
    NotFound(String),
    /// See [`Kind::MethodNotAllowed`].
    MethodNotAllowed(String),
    /// See [`Kind::StaleLease`].
    StaleLease(String),
    /// See [`Kind::UnknownWorker`].
    UnknownWorker(String),
    /// See [`Kind::UnwantedPilot`].
    UnwantedPilot(String),
    /// See [`Kind::NameTaken`].
    NameTaken(String),
    /// See [`Kind::SharedJobs`].
    SharedJobs(String),
    /// See [`Kind::NoResult`].
    NoResult(String),
    /// See [`Kind::Removed`].
    Removed(String),
    /// See [`Kind::TooLarge`].
    TooLarge(String),
    /// See [`Kind::TooSlow`].
    TooSlow(String),
    /// See [`Kind::TooBusy`].
    TooBusy(String),
    /// See [`Kind::NoRoom`].
    NoRoom(String),
    /// See [`Kind::Unavailable`].
    Unavailable(String),
    /// See [`Kind::Internal`]. Logged where it is turned into an answer, and not explained to outsiders.
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

impl ApiError {
    /// The writer gave an answer to another question: a bug.
    pub(crate) fn unexpected(reply: &Reply) -> Self {
        Self::Internal(format!("an unexpected reply: {reply:?}").into())
    }

    /// As a problem document.
    pub(super) fn problem(self) -> Problem {
        match self {
            Self::Unreadable(input) => Kind::Unreadable.input(input),
            Self::Invalid(input) => Kind::Invalid.input(input),
            Self::Encoding(detail) => Kind::Encoding.problem(detail),
            Self::KeyReused(detail) => Kind::KeyReused.problem(detail),
            Self::Unauthorized(detail) => Kind::Unauthorized.problem(detail),
            Self::Forbidden(detail) => Kind::Forbidden.problem(detail),
            Self::NotFound(detail) => Kind::NotFound.problem(detail),
            Self::MethodNotAllowed(detail) => Kind::MethodNotAllowed.problem(detail),
            Self::StaleLease(detail) => Kind::StaleLease.problem(detail),
            Self::UnknownWorker(detail) => Kind::UnknownWorker.problem(detail),
            Self::UnwantedPilot(detail) => Kind::UnwantedPilot.problem(detail),
            Self::NameTaken(detail) => Kind::NameTaken.problem(detail),
            Self::SharedJobs(detail) => Kind::SharedJobs.problem(detail),
            Self::NoResult(detail) => Kind::NoResult.problem(detail),
            Self::Removed(detail) => Kind::Removed.problem(detail),
            Self::TooLarge(detail) => Kind::TooLarge.problem(detail),
            Self::TooSlow(detail) => Kind::TooSlow.problem(detail),
            Self::TooBusy(detail) => Kind::TooBusy.problem(detail),
            Self::NoRoom(detail) => Kind::NoRoom.problem(detail),
            Self::Unavailable(detail) => Kind::Unavailable.problem(detail),
            Self::Internal(error) => {
                tracing::error!(error = chain(error.as_ref()), "a request failed");
                let detail = "the coordinator's log says more, under this answer's x-request-id".to_owned();
                Kind::Internal.problem(detail)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = [(header::CONTENT_TYPE, MEDIA_TYPE)];
        let mut response = (status, content_type, Json(&problem)).into_response();
        response.extensions_mut().insert(problem);
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Says in a problem document which request had the problem.
pub(super) async fn with_instance(request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().and_then(|id| instance(id.header_value().to_str().ok()?));
    let mut response = next.run(request).await;
    if let Some(mut problem) = response.extensions_mut().remove::<Problem>() {
        problem.instance = id;
        *response.body_mut() = Body::from(serde_json::json!(problem).to_string());
    }
    response
}

/// A request's identifier as a URI reference; `None` if a client gave one that can't be written as such.
fn instance(id: &str) -> Option<String> {
    let is_uuid = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let is_plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    match (is_uuid, is_plain) {
        (true, _) => Some(format!("urn:uuid:{id}")),
        (false, true) => Some(id.to_owned()),
        (false, false) => None,
    }
}

/// What a kind of problem means: where the `type` of a problem document leads.
#[utoipa::path(
    get,
    path = "/problems/{kind}",
    operation_id = "get_problem",
    tag = "service",
    params(("kind" = String, Path, description = "The end of the document's `type`.")),
    responses(
        (status = 200, description = "A section of the page on problems.", body = String, content_type = "text/markdown; charset=utf-8"),
        answer::NotFound,
    ),
    security(()),
)]
pub(super) async fn describe(Path(kind): Path<String>) -> Result<Response, ApiError> {
    let section = Kind::section(&kind).ok_or_else(|| ApiError::NotFound(format!("there is no problem `{kind}`")))?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], format!("## {section}")).into_response())
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
            WriteError::Rejected(Rejection::NoExperiment(_) | Rejection::NoJob(_) | Rejection::NoPool(_)) => {
                Self::NotFound(text)
            }
            WriteError::Rejected(Rejection::UnwantedPilot(_)) => Self::UnwantedPilot(text),
            WriteError::Rejected(Rejection::NameTaken { .. }) => Self::NameTaken(text),
            WriteError::Rejected(Rejection::Shared { .. }) => Self::SharedJobs(text),
            WriteError::Rejected(Rejection::NoResult { .. }) => Self::NoResult(text),
            WriteError::Rejected(Rejection::NoWorker(_)) => Self::UnknownWorker(text),
            WriteError::Rejected(Rejection::Stale { .. }) => Self::StaleLease(text),
            WriteError::KeyReused(_) => Self::KeyReused(text),
            WriteError::Unexpected(_) => Self::Internal(text.into()),
            WriteError::Busy => Self::TooBusy(text),
            WriteError::NotStored(_) | WriteError::Stopping => Self::Unavailable(text),
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

impl From<Full> for ApiError {
    fn from(error: Full) -> Self {
        Self::TooBusy(error.to_string())
    }
}

impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::TooLittle { .. } => Self::NoRoom(error.to_string()),
            RoomError::Unknown { .. } => Self::Unavailable(chain(&error)),
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
            ArtefactError::BrokeOff(error) => broken(error.as_ref(), "the rest of the artefact"),
            ArtefactError::Failed { .. } => {
                tracing::error!(error = chain(&error), "an artefact can't be kept or read");
                Self::Unavailable(chain(&error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_documented_and_nothing_else() {
        for kind in Kind::ALL {
            let heading = format!("`{}` ({})\n", kind.slug(), kind.status().as_u16());
            let section = Kind::section(kind.slug()).unwrap_or_else(|| panic!("docs/problems.md lacks `## {heading}`"));
            assert!(section.starts_with(&heading), "{section}");
            assert!(section.len() > heading.len() + 50, "{heading} says too little");
        }
        assert_eq!(PROBLEMS.matches("\n## ").count(), Kind::ALL.len());
    }

    #[test]
    fn only_what_can_be_a_uri_is_an_instance() {
        let uuid = "0198f0c2-7b54-4c8e-9f0a-6d2f6b7c1e55";
        assert_eq!(instance(uuid), Some(format!("urn:uuid:{uuid}")));
        assert_eq!(instance("deploy-7"), Some("deploy-7".to_owned()));
        assert_eq!((instance(""), instance("a b"), instance("\"")), (None, None, None));
    }
}
