//! `/metrics`

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::problem::ApiError;
use crate::metrics::{Metrics, Snapshot};

/// What Prometheus calls the format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is measured, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "get_metrics",
    tag = "service",
    responses((status = 200, description = "`OpenMetrics` text.", body = String, content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8")),
    security(("bearer" = ["read"])),
)]
pub(super) async fn show(State(app): Shared) -> Result<Response, ApiError> {
    // When the writer can't be asked, what it last said is better than nothing.
    let snapshot = app.writer.look(|scheduler, _| Snapshot::of(scheduler)).await.ok();
    let last = *app.writer.sequence().borrow();
    let text = app.metrics.text(snapshot, last).map_err(|error| ApiError::Internal(error.into()))?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

/// Counts a request and its answer.
pub(super) async fn observe(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method();
    // Clients can't make series of their own: neither methods nor paths that aren't known get one.
    let is_known = [Method::GET, Method::POST, Method::PUT, Method::HEAD, Method::DELETE].contains(method);
    let method = if is_known { method.to_string() } else { "other".to_owned() };
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    metrics.answered(method, route, response.status().as_u16(), begun.elapsed());
    response
}
