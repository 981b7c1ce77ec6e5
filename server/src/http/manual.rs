//! The API's document as a page for people. It has no script, takes nothing from elsewhere, and its policy says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

/// Nothing but the style sheet below.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code { font: 0.9em ui-monospace, monospace; }
h3 { margin: 2rem 0 0; font-size: 1rem; }
h3 b { display: inline-block; min-width: 3.5rem; }
table { border-collapse: collapse; margin: 0.5rem 0; width: 100%; }
td { border-top: 1px solid #8884; padding: 0.25rem 0.75rem 0.25rem 0; vertical-align: top; }
td:first-child { width: 14rem; }
";

/// The page, made once.
#[derive(Clone, Debug)]
pub(super) struct Manual(Arc<str>);

impl IntoResponse for Manual {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        (headers, self.0.to_string()).into_response()
    }
}

/// The page's style sheet.
#[utoipa::path(
    get,
    path = "/docs.css",
    operation_id = "get_docs_style",
    tag = "service",
    responses((status = 200, description = "A style sheet.", body = String, content_type = "text/css; charset=utf-8")),
    security(("bearer" = ["read"])),
)]
pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE).into_response()
}

impl Manual {
    /// Puts `document` into words.
    pub(super) fn new(document: &Value) -> Self {
        let mut page = Page(String::new());
        let info = &document["info"];
        let title = format!("{} {}", text(&info["title"]), text(&info["version"]));
        page.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
        page.raw("<meta name=\"viewport\" content=\"width=device-width\"><link rel=\"stylesheet\" href=\"docs.css\">");
        page.element("title", &title);
        page.raw("</head><body>");
        page.element("h1", &title);
        page.element("p", text(&info["description"]));
        page.raw("<p>For programs: <a href=\"openapi.json\">openapi.json</a>.</p>");
        let by_tag = by_tag(document);
        for tag in members(&document["tags"]) {
            let name = text(&tag["name"]);
            page.element("h2", name);
            page.element("p", text(&tag["description"]));
            for (path, method, operation) in by_tag.get(name).into_iter().flatten() {
                page.operation(path, method, operation);
            }
        }
        page.element("h2", "types");
        for (name, schema) in fields(&document["components"]["schemas"]) {
            page.schema(name, schema);
        }
        page.raw("</body></html>\n");
        Self(page.0.into())
    }
}

/// The operations, as path, method and what it is, by their first tag.
fn by_tag(document: &Value) -> BTreeMap<&str, Vec<(&str, &str, &Value)>> {
    let mut by_tag = BTreeMap::<_, Vec<_>>::new();
    for (path, item) in fields(&document["paths"]) {
        for (method, operation) in fields(item).filter(|(_, operation)| operation["tags"].is_array()) {
            by_tag.entry(text(&operation["tags"][0])).or_default().push((path, method, operation));
        }
    }
    by_tag
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn members(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn fields(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// A page while it is written.
struct Page(String);

impl Page {
    fn raw(&mut self, html: &str) {
        self.0.push_str(html);
    }

    fn words(&mut self, words: &str) {
        for letter in words.chars() {
            match letter {
                '&' => self.raw("&amp;"),
                '<' => self.raw("&lt;"),
                '"' => self.raw("&quot;"),
                other => self.0.push(other),
            }
        }
    }

    fn element(&mut self, name: &str, words: &str) {
        self.raw(&format!("<{name}>"));
        self.words(words);
        self.raw(&format!("</{name}>\n"));
    }

    fn operation(&mut self, path: &str, method: &str, operation: &Value) {
        self.raw("<h3><b>");
        self.words(&method.to_uppercase());
        self.raw("</b> <code>");
        self.words(path);
        self.raw("</code></h3>\n");
        self.element("p", &format!("{} {}", text(&operation["summary"]), text(&operation["description"])));
        self.raw("<table>");
        for parameter in members(&operation["parameters"]) {
            let what = format!("{}, {}", text(&parameter["in"]), text(&parameter["name"]));
            self.row(&what, &parameter["schema"], text(&parameter["description"]));
        }
        for (media_type, content) in fields(&operation["requestBody"]["content"]) {
            self.row("body", &content["schema"], media_type);
        }
        for (status, response) in fields(&operation["responses"]) {
            let schema = fields(&response["content"]).next().map_or(&Value::Null, |(_, content)| &content["schema"]);
            self.row(status, schema, text(&response["description"]));
        }
        for (_, scopes) in members(&operation["security"]).iter().flat_map(fields) {
            let scopes: Vec<&str> = members(scopes).iter().map(text).collect();
            self.row("scope", &Value::Null, &scopes.join(", "));
        }
        self.raw("</table>\n");
    }

    fn schema(&mut self, name: &str, schema: &Value) {
        self.raw("<h3 id=\"");
        self.words(name);
        self.raw("\"><code>");
        self.words(name);
        self.raw("</code></h3>\n");
        self.element("p", text(&schema["description"]));
        self.raw("<p>");
        self.shape(schema);
        self.raw("</p>\n<table>");
        // Of a type that has another's fields, the own ones are a part.
        for part in members(&schema["allOf"]).iter().chain([schema]) {
            for (field, schema) in fields(&part["properties"]) {
                self.row(field, schema, text(&schema["description"]));
            }
        }
        self.raw("</table>\n");
    }

    fn row(&mut self, what: &str, schema: &Value, words: &str) {
        self.raw("<tr><td>");
        self.words(what);
        self.raw("</td><td>");
        self.words(words);
        self.raw(" ");
        self.shape(schema);
        self.raw("</td></tr>\n");
    }

    /// A type in words, with links to those that have a name.
    fn shape(&mut self, schema: &Value) {
        if let Some(name) = text(&schema["$ref"]).rsplit('/').next().filter(|name| !name.is_empty()) {
            self.raw("<a href=\"#");
            self.words(name);
            self.raw("\"><code>");
            self.words(name);
            self.raw("</code></a>");
        }
        let types = std::slice::from_ref(&schema["type"]);
        let types = if schema["type"].is_array() { members(&schema["type"]) } else { types };
        let types: Vec<&str> = types.iter().map(text).filter(|name| !name.is_empty()).collect();
        self.words(&types.join(" or "));
        let values: Vec<&str> = members(&schema["enum"]).iter().map(text).collect();
        if !values.is_empty() {
            self.words(&format!(": {}", values.join(", ")));
        }
        for (word, inner) in [("of", &schema["items"]), ("of", &schema["additionalProperties"])] {
            if inner.is_object() {
                self.words(&format!(" {word} "));
                self.shape(inner);
            }
        }
        for choice in ["oneOf", "anyOf", "allOf"] {
            for (i, inner) in members(&schema[choice]).iter().enumerate() {
                self.words(match (i, choice) {
                    (0, _) => " ",
                    (_, "allOf") => " and ",
                    _ => " or ",
                });
                self.shape(inner);
            }
        }
    }
}
