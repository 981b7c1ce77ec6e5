//! Who may ask for what: a bearer token's scopes against what the route needs.
//!
//! Every route that is served stands in one table beside the wiring. What isn't there is refused, so that a route that
//! somebody forgot to enter is closed and not open.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use promptfield_core::access::{Scope, Secret};
use promptfield_core::api::PREFIX;

use super::problem::ApiError;
use super::{ACCESS, App, Shared};
use crate::tokens::Principal;

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    Open,
    /// A token with this scope.
    Needs(Scope),
}

/// Lets a request through, or refuses it. The handler finds the [`Principal`] in the request's extensions.
pub(super) async fn check(State(app): Shared, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let path = path.strip_prefix(PREFIX).unwrap_or(&path);
    let access = access(request.method(), path);
    if access == Some(Access::Open) {
        return Ok(next.run(request).await);
    }
    let principal = authenticate(&app, request.headers())?;
    match access {
        Some(Access::Needs(scope)) if principal.may(scope) => {
            request.extensions_mut().insert(principal);
            Ok(next.run(request).await)
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

fn access(method: &Method, path: &str) -> Option<Access> {
    // A GET route answers HEAD too.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    ACCESS.iter().find(|(asked, known, _)| asked == method && *known == path).map(|(.., access)| *access)
}

/// Who sends a request.
fn authenticate(app: &App, headers: &HeaderMap) -> Result<Principal, ApiError> {
    match bearer(headers)? {
        Some(secret) => app.tokens.find(secret, app.clock.now()).ok_or_else(|| {
            ApiError::Unauthorized("the token is unknown, expired or revoked; ask for another".to_owned())
        }),
        None if app.tokens_required => {
            Err(ApiError::Unauthorized("this needs a header `Authorization: Bearer TOKEN`".to_owned()))
        }
        None => {
            from_this_machine(headers)?;
            Ok(Principal { name: "this machine".to_owned(), scopes: vec![Scope::Admin] })
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

/// Without tokens, whoever reaches the socket is trusted. A browser on this machine reaches it for every page that it shows:
/// a page of another site, or under another name for this machine, is turned away.
fn from_this_machine(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let host = text(header::HOST).unwrap_or_default();
    if !is_loopback(&host) {
        return Err(ApiError::Forbidden(format!(
            "without tokens this coordinator answers only as `localhost` or a loopback address, not as `{host}`"
        )));
    }
    match text(header::ORIGIN) {
        Some(origin) if origin.split_once("://").is_none_or(|(_, sender)| sender != host) => {
            Err(ApiError::Forbidden(format!("without tokens this coordinator answers no pages of `{origin}`")))
        }
        _ => Ok(()),
    }
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
    fn each_route_is_named_once() {
        for (i, (method, path, _)) in ACCESS.iter().enumerate() {
            assert!(ACCESS[..i].iter().all(|(m, p, _)| (m, p) != (method, path)), "{method} {path}");
        }
        assert_eq!(access(&Method::HEAD, "/events"), Some(Access::Needs(Scope::Read)));
        assert_eq!(access(&Method::DELETE, "/events"), None);
    }
}
