//! The routes (interfaces.md, section 7).
//!
//! A file for each noun. A handler reads its request, asks the writer, the reader or the artefacts, and puts the answer into
//! words; it decides nothing. Whatever goes wrong becomes an [`ApiError`], and that a problem document. This file is the only
//! place where routes are wired.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use promptfield_core::experiment::Known;
use promptfield_core::scheduler::Policy;
use promptfield_core::wire::api::PREFIX;
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, NotForContentType, Predicate};
use tower_http::decompression::RequestDecompressionLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::trace::TraceLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

mod artefacts;
mod aside;
mod auth;
mod backbones;
mod backup;
mod bounds;
mod conditional;
mod dashboard;
mod document;
mod events;
mod experiments;
mod extract;
mod faults;
mod health;
mod jobs;
mod leases;
mod log;
mod manual;
mod metrics;
mod overview;
mod pace;
mod page;
mod pools;
mod problem;
mod results;
mod tokens;
mod usage;
mod workers;

use crate::artefacts::Artefacts;
use crate::clock::Clock;
use crate::launch::Launchers;
use crate::limits::{Gate, Rate};
use crate::loads::Loads;
use crate::metrics::Metrics;
use crate::room::Room;
use crate::store::Reader;
use crate::tokens::Tokens;
use crate::writer::{Writer, handed};
use auth::Doors;
pub(crate) use backup::Copies;
use document::Document;
use problem::ApiError;

/// The longest that most answers may take.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// What every handler can reach.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) writer: Writer,
    pub(crate) reader: Reader,
    pub(crate) artefacts: Artefacts,
    pub(crate) known: Arc<Known>,
    pub(crate) policy: Policy,
    pub(crate) metrics: Metrics,
    /// Bounds the registrations of workers.
    pub(crate) registrations: Rate,
    /// Bounds the streams.
    pub(crate) streams: Gate,
    /// How often a stream says something when there is nothing to say.
    pub(crate) heartbeat: Duration,
    /// How long a client may send nothing of a body.
    pub(crate) patience: Duration,
    pub(crate) room: Room,
    pub(crate) loads: Loads,
    pub(crate) tokens: Tokens,
    pub(crate) copies: Copies,
    /// What starts pilots.
    pub(crate) launchers: Launchers,
    /// See [`promptfield_core::wire::api::Registered::marker`].
    pub(crate) marker: Option<String>,
    /// Whether a token is needed.
    pub(crate) tokens_required: bool,
    /// See [`crate::Security::trusted_proxy`].
    pub(crate) trusted_proxy: Option<IpAddr>,
    pub(crate) clock: Clock,
    /// Cancelled when the coordinator stops: streams end.
    pub(crate) stop: CancellationToken,
}

/// All routes, and what the handlers say of them.
fn routes() -> OpenApiRouter<App> {
    // What a trainer prints shrinks well, and so does a confusion matrix.
    let compressible = OpenApiRouter::new()
        .routes(routes!(leases::progress))
        .routes(routes!(leases::complete))
        .routes(routes!(leases::reports))
        .layer(RequestDecompressionLayer::new().gzip(true).pass_through_unaccepted(true));
    let quick = OpenApiRouter::new()
        .routes(routes!(experiments::submit))
        .routes(routes!(overview::preview))
        .routes(routes!(experiments::list))
        .routes(routes!(experiments::show))
        .routes(routes!(experiments::cancel))
        .routes(routes!(experiments::retry))
        .routes(routes!(experiments::rerun))
        .routes(routes!(experiments::jobs))
        .routes(routes!(experiments::outputs))
        .routes(routes!(results::results))
        .routes(routes!(overview::catalogue))
        .routes(routes!(overview::forecast))
        .routes(routes!(overview::matrix_of))
        .routes(routes!(usage::report))
        .routes(routes!(usage::usage))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::evaluation))
        .routes(routes!(jobs::metrics))
        .routes(routes!(jobs::explain))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::rerun))
        .routes(routes!(jobs::note_findings))
        .routes(routes!(backbones::list, backbones::pin))
        .routes(routes!(jobs::cancel_selected))
        .routes(routes!(jobs::retry_selected))
        .routes(routes!(workers::register, workers::list))
        .routes(routes!(faults::list))
        .routes(routes!(faults::recheck))
        .routes(routes!(workers::drain))
        .routes(routes!(workers::leave))
        .routes(routes!(pools::list))
        .routes(routes!(pools::resume))
        .routes(routes!(pools::pilots))
        .merge(compressible)
        .routes(routes!(leases::fail))
        .routes(routes!(leases::release))
        .routes(routes!(tokens::create, tokens::list))
        .routes(routes!(tokens::revoke))
        .routes(routes!(tokens::own))
        .routes(routes!(document::json))
        .routes(routes!(document::page))
        .routes(routes!(manual::style))
        .routes(routes!(metrics::show))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .layer(from_fn(in_time));
    // A cluster may be slow, a worker waits for jobs, and the others stream.
    let patient = OpenApiRouter::new()
        .routes(routes!(leases::lease))
        .routes(routes!(pools::set, pools::end))
        .routes(routes!(log::show))
        .routes(routes!(events::follow))
        .routes(routes!(backup::backup))
        .routes(routes!(artefacts::put, artefacts::get));
    OpenApiRouter::with_openapi(document::empty()).nest(PREFIX, quick.merge(patient)).routes(routes!(problem::describe))
}

/// The whole service.
pub(crate) fn router(app: App) -> Router {
    let (routes, document) = routes().split_for_parts();
    let doors = Doors::new(&document);
    let document = Document::new(document);
    routes
        .route_layer(from_fn_with_state((app.clone(), doors), auth::check))
        .fallback(elsewhere)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app.clone())
        .layer(Extension(document))
        // The extractors have limits of their own, which answer with a problem.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.patience, pace::bound))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(from_fn(problem::with_instance))
        .layer(CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest).compress_when(worth_compressing()))
        .layer(from_fn_with_state(app.metrics, metrics::observe))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(()))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, header::COOKIE]))
        .layer(map_response(for_own_pages))
}

/// Has browsers take every answer for what it says that it is, and give it to no other site's pages; and has proxies let streams through.
async fn for_own_pages(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    // nginx holds back what it isn't told to let through, and a stream would come late.
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    }
    response
}

/// An answer that is sent line by line as it's written: compressing would hold the lines back.
#[derive(Clone, Copy, Debug)]
struct Live;

/// Neither what is live nor what is packed already.
fn worth_compressing() -> impl Predicate {
    let is_whole =
        |_: StatusCode, _: Version, _: &HeaderMap, extensions: &Extensions| extensions.get::<Live>().is_none();
    DefaultPredicate::new().and(NotForContentType::const_new("application/octet-stream")).and(is_whole)
}

fn span<B>(request: &axum::http::Request<B>) -> tracing::Span {
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    tracing::info_span!("request", id, method = %request.method(), path = request.uri().path())
}

/// Cuts a handler off that takes too long, unless it has handed the writer something: that is always answered.
async fn in_time(request: Request, next: Next) -> Response {
    let answer = handed::or_end(next.run(request), tokio::time::sleep(ANSWER_TIME)).await;
    answer.unwrap_or_else(|| {
        let detail = format!("there was no answer in {} s, and nothing was changed", ANSWER_TIME.as_secs());
        ApiError::Unavailable(detail).into_response()
    })
}

async fn elsewhere(Extension(document): Extension<Document>, request: Request) -> Response {
    let path = request.uri().path();
    let is_api = ["/api/", "/problems/"].iter().any(|prefix| path.starts_with(prefix));
    let looks = [Method::GET, Method::HEAD].contains(request.method());
    let page = if looks && !is_api { dashboard::at(request.uri(), request.headers()) } else { None };
    page.unwrap_or_else(|| unknown_route(&document, path).into_response())
}

fn unknown_route(document: &Document, path: &str) -> ApiError {
    ApiError::NotFound(match document.nearest_route(path) {
        Some(near) => format!("there is no route `{path}` (did you mean `{near}`?)"),
        None => format!("there is no route `{path}`: `{PREFIX}/docs` shows those that there are"),
    })
}

async fn wrong_method(method: Method, request: Request) -> ApiError {
    ApiError::MethodNotAllowed(format!("`{}` can't be asked with {method}", request.uri().path()))
}

/// The state that handlers take.
type Shared = State<App>;
