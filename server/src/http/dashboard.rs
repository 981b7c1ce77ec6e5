//! The dashboard: the files that `web/` is built into, out of the binary.
//!
//! Its addresses are the page's own, so that every path that is no file's, and not the API's, gets the page. A missing file is not
//! there: a page in a script's place would only confuse.

use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use promptfield_core::job::spec::hex;
use rust_embed::RustEmbed;

/// Scripts, styles and answers come from here and nowhere else; nothing that is inserted into the page as text runs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
     trusted-types svelte-trusted-html";

const PAGE: &str = "index.html";
/// Files whose names change with their contents.
const HASHED: &str = "assets/";

#[derive(RustEmbed)]
#[folder = "../web/dist"]
struct Files;

/// The file or the page at a path; `None` if it's neither's.
pub(super) fn at(uri: &Uri, headers: &HeaderMap) -> Option<Response> {
    let path = uri.path().trim_start_matches('/');
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = if last.contains('.') { path } else { PAGE };
    let file = Files::get(name)?;
    let tag = format!("\"{}\"", hex(&file.metadata.sha256_hash()[..16]));
    let lasts = if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let cached = [
        (header::CACHE_CONTROL, HeaderValue::from_static(lasts)),
        (header::ETAG, HeaderValue::try_from(format!("W/{tag}")).ok()?),
    ];
    if super::conditional::is_among(&tag, headers) {
        return Some((StatusCode::NOT_MODIFIED, cached).into_response());
    }
    let safe = [
        (header::CONTENT_TYPE, content_type(name)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Some((cached, safe, file.data).into_response())
}

/// The kinds of files that there are.
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
