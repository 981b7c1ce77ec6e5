//! The routes (interfaces.md, section 7).
//!
//! A file for each noun. A handler reads its request, asks the writer, the reader or the artefacts, and puts the answer into
//! words; it decides nothing. Whatever goes wrong becomes an [`ApiError`], and that a problem document. This file is the only
//! place where routes are wired.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use promptfield_core::api::PREFIX;
use promptfield_core::experiment::Known;
use promptfield_core::scheduler::Policy;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::TraceLayer;

mod artefacts;
mod events;
mod experiments;
mod extract;
mod health;
mod jobs;
mod leases;
mod page;
mod problem;
mod workers;

use crate::artefacts::Artefacts;
use crate::store::Reader;
use crate::writer::Writer;
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
    /// Cancelled when the coordinator stops: streams end.
    pub(crate) stop: CancellationToken,
}

/// All routes.
pub(crate) fn router(app: App) -> Router {
    let quick = Router::new()
        .route("/experiments", get(experiments::list))
        .route("/experiments/{id}", get(experiments::show))
        .route("/experiments/{id}/cancel", post(experiments::cancel))
        .route("/experiments/{id}/retry", post(experiments::retry))
        .route("/experiments/{id}/jobs", get(experiments::jobs))
        .route("/experiments/{id}/results", get(experiments::results))
        .route("/jobs/{id}", get(jobs::show))
        .route("/jobs/{id}/evaluation", get(jobs::evaluation))
        .route("/jobs/{id}/metrics", get(jobs::metrics))
        .route("/jobs/{id}/explain", get(jobs::explain))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/jobs/{id}/retry", post(jobs::retry))
        .route("/workers", post(workers::register).get(workers::list))
        .route("/workers/{id}/drain", post(workers::drain))
        .route("/workers/{id}/leave", post(workers::leave))
        .route("/leases/{id}/progress", post(leases::progress))
        .route("/leases/{id}/complete", post(leases::complete))
        .route("/leases/{id}/fail", post(leases::fail))
        .route("/leases/{id}/release", post(leases::release))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .layer(from_fn(in_time));
    // A matrix may be large, a worker waits for jobs, and the others stream.
    let patient = Router::new()
        .route("/experiments", post(experiments::submit))
        .route("/workers/{id}/lease", post(leases::lease))
        .route("/jobs/{id}/log", get(jobs::log))
        .route("/events", get(events::follow))
        .route("/artefacts/{sha256}", put(artefacts::put).get(artefacts::get));
    // The extractors have limits of their own, which answer with a problem.
    let api = quick.merge(patient).layer(DefaultBodyLimit::disable());
    Router::new()
        .nest(PREFIX, api)
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(TraceLayer::new_for_http().make_span_with(span).on_failure(()))
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
}

fn span<B>(request: &axum::http::Request<B>) -> tracing::Span {
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok()).unwrap_or_default();
    tracing::info_span!("request", id, method = %request.method(), path = request.uri().path())
}

/// Cuts a handler off that takes too long. What it asked the writer for may still happen.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_TIME, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::Unavailable(format!("there was no answer in {} s", ANSWER_TIME.as_secs())).into_response(),
    }
}

async fn unknown_route(request: Request) -> ApiError {
    ApiError::NotFound(format!("there is no route `{}`", request.uri().path()))
}

async fn wrong_method(method: Method, request: Request) -> ApiError {
    ApiError::MethodNotAllowed(format!("`{}` can't be asked with {method}", request.uri().path()))
}

/// The state that handlers take.
type Shared = State<App>;
