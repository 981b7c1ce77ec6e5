//! The API's document: `OpenAPI` 3.1, made of the handlers and their types, and a page that shows it to people.

use std::sync::Arc;

use axum::Extension;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use promptfield_core::input::nearest;
use promptfield_core::results::published::Reference;
use promptfield_core::results::tables::Format;
use promptfield_core::scheduler::JobStateName;
use promptfield_core::wire::api::{Gap, LogEnd, PREFIX, Problem};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, OpenApi, RefOr};
use utoipa::{IntoResponses, OpenApi as _};

use super::bounds;
use super::conditional::unless_known;
use super::manual::Manual;
use super::problem::{ApiError, answer};

/// What no handler can say: the whole's name and its parts.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Promptfield",
        description = "The coordinator of prompt-learning benchmarks: it takes experiments, hands their jobs to workers, and keeps their results. Whatever goes wrong is answered with a problem document (RFC 9457), whose kinds docs/problems.md describes.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(Problem, Format, Reference, JobStateName, Gap, LogEnd)),
    tags(
        (name = "experiments", description = "What a researcher asks for, and the tables that come out."),
        (name = "jobs", description = "The cells of the matrix."),
        (name = "workers", description = "Who runs jobs."),
        (name = "pilots", description = "Workers that are started on demand, here or on a cluster."),
        (name = "leases", description = "What a worker says of the jobs it holds."),
        (name = "artefacts", description = "Files that travel between workers, by their SHA-256."),
        (name = "events", description = "What happens, as it happens."),
        (name = "tokens", description = "Who may ask for what."),
        (name = "service", description = "The coordinator itself."),
    ),
)]
struct Whole;

/// A document without routes.
pub(super) fn empty() -> OpenApi {
    let mut document = Whole::openapi();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "A token. Its scopes say what it may do: `read` looks, `submit` changes experiments and jobs, `work` is a \
         worker's, `admin` does everything.",
    ));
    let components = document.components.get_or_insert_with(Components::default);
    components.security_schemes.insert("bearer".to_owned(), RefOr::T(SecurityScheme::Http(scheme.build())));
    // No operation's own: it's the answer to a method that a route doesn't have.
    for answer in answer::MethodNotAllowed::responses().into_values() {
        components.responses.insert("MethodNotAllowed".to_owned(), answer);
    }
    document
}

/// The document, as it is handed out.
#[derive(Clone, Debug)]
pub(super) struct Document {
    json: Arc<str>,
    /// The paths, with identifiers in braces.
    routes: Arc<[String]>,
    manual: Manual,
}

impl Document {
    /// Finishes what the routes said, with the answers that any of them can give.
    pub(super) fn new(mut document: OpenApi) -> Self {
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            let mut answers = answer::Internal::responses();
            if operation
                .security
                .as_ref()
                .is_some_and(|needed| needed.iter().any(|scopes| *scopes != SecurityRequirement::default()))
            {
                answers.append(&mut answer::Unavailable::responses());
                answers.append(&mut answer::TooBusy::responses());
                answers.append(&mut answer::Unauthorized::responses());
                answers.append(&mut answer::Forbidden::responses());
            }
            if operation.request_body.is_some() {
                answers.append(&mut answer::Encoding::responses());
                answers.append(&mut answer::TooSlow::responses());
            }
            for (status, answer) in answers {
                operation.responses.responses.entry(status).or_insert(answer);
            }
        }
        let routes = document.paths.paths.keys().cloned().collect();
        let mut document = serde_json::json!(document);
        let lost = bounds::add(&mut document);
        debug_assert!(lost.is_empty(), "the document has no {}", lost.join(", "));
        Self { routes, json: document.to_string().into(), manual: Manual::new(&document) }
    }

    /// The route that somebody who asked for `path` may have meant, with the identifiers that stand there.
    pub(super) fn nearest_route(&self, path: &str) -> Option<String> {
        let path = path.strip_prefix(PREFIX).unwrap_or(path).trim_matches('/');
        let given: Vec<&str> = path.split('/').collect();
        let filled = |route: &String| {
            let parts = route.strip_prefix(PREFIX)?.trim_matches('/').split('/').enumerate();
            let parts = parts.map(|(i, part)| if part.starts_with('{') { given.get(i).unwrap_or(&part) } else { part });
            Some(parts.collect::<Vec<_>>().join("/"))
        };
        let routes: Vec<String> = self.routes.iter().filter_map(filled).collect();
        // Most parts are right as a rule: a slip of the hand is in one.
        let right = |route: &String| route.split('/').zip(&given).filter(|(part, given)| part == *given).count();
        let most = routes.iter().map(right).max();
        let near = routes.iter().filter(|route| Some(right(route)) == most).map(String::as_str);
        nearest(path, near).map(|near| format!("{PREFIX}/{near}"))
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.put, &mut path.post, &mut path.delete].into_iter().filter_map(Option::as_mut)
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "get_openapi",
    tag = "service",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer: if this one would be the same, it's 304.")),
    responses((status = 200, description = "An OpenAPI 3.1 document.", body = serde_json::Value), (status = 304, description = "The client has it already.")),
    security(("bearer" = ["read"])),
)]
pub(super) async fn json(Extension(document): Extension<Document>, headers: HeaderMap) -> Result<Response, ApiError> {
    unless_known(&headers, "application/json", &document.json)
}

/// This document as a page.
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "get_docs",
    tag = "service",
    responses((status = 200, description = "A page without scripts.", body = String, content_type = "text/html; charset=utf-8")),
    security(("bearer" = ["read"])),
)]
pub(super) async fn page(Extension(document): Extension<Document>) -> Response {
    document.manual.into_response()
}
