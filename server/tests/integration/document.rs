//! The API's document, and the page that is made of it.

use std::collections::BTreeSet;

use promptfield_core::wire::api::PREFIX;
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::TestServer;

/// Where the document lies for those who have no coordinator to ask.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
/// Set it to write the file anew.
const REFRESH: &str = "PROMPTFIELD_REFRESH_OPENAPI";

async fn document(server: &TestServer) -> Value {
    server.json("/openapi.json").await
}

/// Every operation of the document as path, method and what is said of it.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let item = item.as_object().unwrap().iter();
            item.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

#[tokio::test]
async fn the_committed_document_is_what_is_served() {
    let server = TestServer::start().await;
    let served = document(&server).await;
    if std::env::var_os(REFRESH).is_some() {
        fs_err::write(COMMITTED, format!("{served:#}\n")).unwrap();
    }
    let committed = fs_err::read_to_string(COMMITTED).unwrap_or_default();
    let committed = serde_json::from_str(&committed).unwrap_or(Value::Null);
    assert!(
        served == committed,
        "docs/openapi.json isn't what the coordinator serves: read `git diff` after \
         `{REFRESH}=1 cargo test -p promptfield-server --test integration document`, and commit it if that is meant"
    );
}

#[tokio::test]
async fn every_operation_says_what_it_is_and_what_it_answers() {
    let server = TestServer::start().await;
    let document = document(&server).await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let place = format!("{method} {path}");
        assert!(path.starts_with(PREFIX) || path.starts_with("/problems/"), "{place}");
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{place}: its name is another's");
        assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{place}: no summary");
        assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{place}");
        let in_path: Vec<&str> = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        for parameter in parameters {
            assert!(parameter["description"].is_string(), "{place}: {parameter} isn't described");
        }
        let named: Vec<_> = parameters.iter().filter(|parameter| parameter["in"] == "path").collect();
        let named: Vec<_> = named.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(named, in_path, "{place}");
        let answers = operation["responses"].as_object().unwrap();
        assert!(answers.keys().any(|status| status.starts_with('2')), "{place}: it never succeeds");
        assert!(answers.contains_key("500"), "{place}: no problem");
        for (status, answer) in answers.iter().filter(|(status, _)| status.starts_with(['4', '5'])) {
            let schema = &answer["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(schema, "#/components/schemas/Problem", "{place} {status}");
        }
    }
}

/// Operations that anyone may ask for.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/problems/{kind}"];

#[tokio::test]
async fn every_operation_has_its_scope() {
    let server = TestServer::start().await;
    let document = document(&server).await;
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    for (path, method, operation) in operations(&document) {
        let path = path.strip_prefix(PREFIX).unwrap_or(path);
        let scope = operation["security"][0]["bearer"][0].as_str();
        let expected = match (method, path) {
            (_, path) if OPEN.contains(&path) => None,
            ("put", "/backbones")
            | (_, "/backup" | "/tokens" | "/tokens/{id}" | "/pools/{name}" | "/pools/{name}/resume") => Some("admin"),
            ("get", _) | (_, "/experiments/preview") => Some("read"),
            (_, "/faults/recheck") => Some("submit"),
            (_, path) if path.starts_with("/experiments") || path.starts_with("/jobs") => Some("submit"),
            _ => Some("work"),
        };
        assert_eq!(scope, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn every_type_that_is_named_is_there() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(members) => members.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let server = TestServer::start().await;
    let document = document(&server).await;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 30, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn the_page_shows_every_route_without_scripts_or_other_hosts() {
    let server = TestServer::start().await;
    let document = document(&server).await;
    let response = server.get("/docs").await;
    assert_eq!(response.status(), StatusCode::OK);
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
    let page = response.text().await.unwrap();
    for (path, _, operation) in operations(&document) {
        assert!(page.contains(&format!("<code>{path}</code>")), "{path}");
        let summary = operation["summary"].as_str().unwrap().replace('"', "&quot;");
        assert!(page.contains(&summary), "{summary}");
    }
    for forbidden in ["<script", "style=", "://"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(page.contains(&format!("id=\"{link}\"")), "{link}");
    }
    assert_eq!(server.get("/docs.css").await.headers()["content-type"], "text/css; charset=utf-8");
}
