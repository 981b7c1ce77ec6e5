//! Who may ask for what: a bearer token's scopes against what the route needs.
//!
//! What a route needs is what its handler says of it in the API's document, `security(...)`: it's said once, and whoever reads the
//! document knows. A handler that says nothing is refused to everybody, so that a route where it was forgotten is closed and not
//! open.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use promptfield_core::wire::access::{Principal, Scope, Secret};
use serde_json::Value;
use utoipa::openapi::OpenApi;

use super::App;
use super::problem::ApiError;
use crate::listener::Peer;
use crate::writer::handed;

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Nothing.
    Open,
    /// A token with this scope.
    Needs(Scope),
}

/// What the routes need, by their path and their method.
#[derive(Clone, Debug)]
pub(super) struct Doors(Arc<HashMap<String, HashMap<String, Access>>>);

impl Doors {
    /// Reads them from the document.
    pub(super) fn new(document: &OpenApi) -> Self {
        let document = serde_json::json!(document.paths);
        let routes = document.as_object().into_iter().flatten().map(|(path, operations)| {
            let operations = operations.as_object().into_iter().flatten();
            let known = operations
                .filter_map(|(method, operation)| Some((method.to_ascii_uppercase(), access(&operation["security"])?)));
            (path.clone(), known.collect())
        });
        Self(Arc::new(routes.collect()))
    }

    fn of(&self, method: &Method, path: &str) -> Option<Access> {
        // A GET route answers HEAD too.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.0.get(path)?.get(method.as_str()).copied()
    }
}

/// What an operation's `security` asks for; `None` unless it's either nothing or one scope of a token.
fn access(security: &Value) -> Option<Access> {
    let [needed] = security.as_array()?.as_slice() else { return None };
    let needed = needed.as_object()?;
    if needed.is_empty() {
        return Some(Access::Open);
    }
    let [scope] = needed.get("bearer").filter(|_| needed.len() == 1)?.as_array()?.as_slice() else { return None };
    Some(Access::Needs(scope.as_str()?.parse().ok()?))
}

/// Lets a request through, or refuses it. The handler finds the [`Principal`] in the request's extensions.
pub(super) async fn check(
    State((app, doors)): State<(App, Doors)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let access = doors.of(request.method(), &path);
    if access == Some(Access::Open) {
        return Ok(next.run(request).await);
    }
    let peer = request.extensions().get::<Peer>().cloned();
    let principal = authenticate(&app, request.headers(), peer.as_ref())?;
    match access {
        Some(Access::Needs(scope)) if principal.may(scope) => {
            let token = principal.token;
            if let Some(peer) = peer {
                peer.is_known();
            }
            request.extensions_mut().insert(principal);
            match token {
                None => Ok(next.run(request).await),
                Some(token) => while_valid(next.run(request), || app.tokens.clone().ended(token, app.clock)).await,
            }
        }
        Some(Access::Needs(scope)) => {
            let has: Vec<_> = principal.scopes.iter().map(|scope| format!("`{scope}`")).collect();
            Err(ApiError::Forbidden(format!(
                "this needs a token with the scope `{scope}`; the token `{}` has {}",
                principal.name,
                has.join(", ")
            )))
        }
        _ => Err(ApiError::Internal(format!("nothing says who may use {} {path}", request.method()).into())),
    }
}

/// Answers for as long as the token is valid: what streams ends with it, and who waits is refused.
async fn while_valid<E>(answer: impl Future<Output = Response>, ended: impl Fn() -> E) -> Result<Response, ApiError>
where
    E: Future<Output = ()> + Send + 'static,
{
    let response = handed::or_end(answer, ended()).await.ok_or_else(no_longer_valid)?;
    if response.body().size_hint().exact().is_some() {
        return Ok(response);
    }
    // Whoever follows events comes again, and is refused. A file must not look whole, and nor must a log.
    let ends_well = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    let ended = ended();
    Ok(response.map(|body| {
        let state = Some((body.into_data_stream(), Box::pin(ended)));
        let pieces = stream::unfold(state, move |state| async move {
            let (mut pieces, mut ended) = state?;
            tokio::select! {
                biased;
                () = &mut ended => (!ends_well).then(|| (Err(axum::Error::new(TokenEnded)), None)),
                piece = pieces.next() => Some((piece?, Some((pieces, ended)))),
            }
        });
        // Whoever compresses it asks once more after the end.
        Body::from_stream(pieces.fuse())
    }))
}

/// Why an answer breaks off.
#[derive(Debug, thiserror::Error)]
#[error("the token is no longer valid")]
struct TokenEnded;

fn no_longer_valid() -> ApiError {
    ApiError::Unauthorized("the token is unknown, expired or revoked; ask for another".to_owned())
}

/// Who sends a request.
fn authenticate(app: &App, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Principal, ApiError> {
    match bearer(headers)? {
        Some(secret) => app.tokens.find(secret, app.clock.now()).ok_or_else(no_longer_valid),
        None if app.tokens_required => {
            Err(ApiError::Unauthorized("this needs a header `Authorization: Bearer TOKEN`".to_owned()))
        }
        None => {
            let trusted = app.trusted_proxy.is_some_and(|proxy| peer.is_some_and(|peer| peer.address == proxy));
            from_this_machine(headers, trusted)?;
            Ok(Principal { token: None, name: "this machine".to_owned(), scopes: vec![Scope::Admin] })
        }
    }
}

/// The token that was sent, if any was.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let secret = value.to_str().ok().and_then(|text| text.split_once(' '));
    match secret {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(secret.trim())),
        // What was sent isn't repeated: it's a secret of something.
        _ => Err(ApiError::Unauthorized(format!(
            "the `Authorization` header must be `Bearer` and a token that begins with `{}`",
            Secret::PREFIX
        ))),
    }
}

/// Without tokens, whoever reaches the socket is trusted. A browser on this machine reaches it for every page that it shows: a page
/// of another site, or under another name for this machine, is turned away. Behind a proxy on this machine everybody would come from
/// it: only one that is trusted is answered.
fn from_this_machine(headers: &HeaderMap, trusted: bool) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let host = text(header::HOST).unwrap_or_default();
    if !is_loopback(&host) {
        return Err(ApiError::Forbidden(format!(
            "without tokens this coordinator answers only as `localhost` or a loopback address, not as `{host}`"
        )));
    }
    if text(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site == "cross-site") {
        return Err(ApiError::Forbidden(
            "without tokens this coordinator answers no pages of other sites: type the address, or ask for tokens, with \
             `coordinator.tokens = \"required\"`"
                .to_owned(),
        ));
    }
    match (passed_on(headers), text(header::ORIGIN)) {
        (Some(name), _) if !trusted => Err(ApiError::Forbidden(format!(
            "without tokens this coordinator answers nobody through a proxy, and the request has a header `{name}`: ask for tokens, \
             with `coordinator.tokens = \"required\"`, or, where the proxy itself finds out who may ask, name its address in \
             `coordinator.trusted_proxy`"
        ))),
        (None, Some(origin)) if origin.split_once("://").is_none_or(|(_, sender)| sender != host) => {
            Err(ApiError::Forbidden(format!("without tokens this coordinator answers no pages of `{origin}`")))
        }
        // The pages of a proxy have an address of their own. Another site's can't add such a header: a browser asks first, and is
        // refused.
        _ => Ok(()),
    }
}

/// The header by which a proxy says that it passes a request on.
fn passed_on(headers: &HeaderMap) -> Option<&str> {
    let mut names = headers.keys().map(HeaderName::as_str);
    names.find(|name| name.starts_with("x-forwarded-") || ["forwarded", "via", "x-real-ip"].contains(name))
}

fn is_loopback(authority: &str) -> bool {
    let Ok(uri) = authority.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "LocalHost:7878", "127.0.0.1:1", "127.1.2.3", "[::1]:7878"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:7878", "10.0.0.1:7878", "[::2]:1", "127.0.0.1.evil.example"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn what_says_nothing_or_something_else_is_closed() {
        let security = |text: &str| access(&serde_json::from_str(text).unwrap());
        assert_eq!(security("[{}]"), Some(Access::Open));
        assert_eq!(security(r#"[{"bearer": ["submit"]}]"#), Some(Access::Needs(Scope::Submit)));
        for unclear in [
            "null",
            "[]",
            "{}",
            r#"[{"bearer": []}]"#,
            r#"[{"bearer": ["submitt"]}]"#,
            r#"[{"bearer": ["read", "submit"]}]"#,
            r#"[{"bearer": ["read"]}, {}]"#,
            r#"[{"bearer": ["read"], "cookie": []}]"#,
            r#"[{"basic": ["read"]}]"#,
        ] {
            assert_eq!(security(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn a_route_is_looked_up_by_method_and_path() {
        let text = r#"{
            "openapi": "3.1.0", "info": {"title": "x", "version": "0"}, "paths": {"/a/{id}": {
                "get": {"responses": {}, "security": [{}]}, "post": {"responses": {}}
            }}
        }"#;
        let doors = Doors::new(&serde_json::from_str(text).unwrap());
        assert_eq!(doors.of(&Method::GET, "/a/{id}"), Some(Access::Open));
        assert_eq!(doors.of(&Method::HEAD, "/a/{id}"), Some(Access::Open));
        for (method, path) in
            [(Method::POST, "/a/{id}"), (Method::DELETE, "/a/{id}"), (Method::GET, "/a"), (Method::GET, "")]
        {
            assert_eq!(doors.of(&method, path), None, "{method} {path}");
        }
    }
}
