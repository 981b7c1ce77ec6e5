//! Who may do what.

use std::io::Read as _;

use promptfield_core::id::TokenId;
use promptfield_core::wire::access::{Principal, Scope, Secret, TokenCreated, TokenRequest, TokenSummary};
use promptfield_core::wire::api::{PREFIX, Page};
use promptfield_server::{Database, DatabaseError, Security, StartError};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;
use sha2::Digest as _;

use crate::support::{Client, LONG_MS, Messages, TestServer, experiment, options, problem, read, run, worker};

/// Every route of the API's document, with an identifier of nothing, and the scope that it needs; without one it's open. That these
/// are the scopes that were meant is seen in `document`.
async fn routes(server: &TestServer) -> Vec<(Method, String, Option<Scope>)> {
    let document: serde_json::Value = server.json("/openapi.json").await;
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let Some(path) = path.strip_prefix(PREFIX) else { continue };
        let path = path.replace("{id}", "9").replace("{sha256}", "x");
        for (method, operation) in operations.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            let scope = operation["security"][0]["bearer"][0].as_str().map(|scope| scope.parse().unwrap());
            routes.push((method, path.clone(), scope));
        }
    }
    routes
}

async fn create(client: &Client, scopes: &[Scope], expires_in_s: Option<u64>) -> TokenCreated {
    let request = TokenRequest { name: "somebody".into(), scopes: scopes.to_vec(), expires_in_s };
    let response = client.post("/tokens", &request).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    read(response).await
}

fn assert_unauthorized(response: &Response) {
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn every_route_asks_for_its_scope_and_for_no_other() {
    let server = TestServer::with_tokens().await;
    let nobody = server.with_token(None);
    let mut holders = Vec::new();
    for scope in Scope::ALL {
        holders.push((*scope, server.with_token(Some(create(&server, &[*scope], None).await.secret))));
    }
    let routes = routes(&server).await;
    assert!(routes.len() > 30, "{}", routes.len());
    for (method, path, needed) in &routes {
        let unknown = server.with_token(Some(Secret::from_bytes([7; 32])));
        for client in [&nobody, &unknown] {
            let response = client.request(method.clone(), path).send().await.unwrap();
            match needed {
                Some(_) => assert_unauthorized(&response),
                None => assert_eq!(response.status(), StatusCode::NO_CONTENT, "{path}"),
            }
        }
        for (scope, client) in &holders {
            let response = client.request(method.clone(), path).send().await.unwrap();
            let permitted = needed.is_none_or(|needed| scope.permits(needed));
            let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&response.status());
            assert_eq!(refused, !permitted, "{scope}: {method} {path}: {}", response.status());
            if let (true, Some(needed), false) = (refused, needed, *method == Method::HEAD) {
                let problem = problem(response).await;
                assert_eq!(problem.kind, "/problems/forbidden");
                assert!(problem.detail.contains(&format!("the scope `{needed}`")), "{}", problem.detail);
            }
        }
    }
}

#[tokio::test]
async fn methods_and_paths_that_do_not_exist_are_no_way_in() {
    let server = TestServer::with_tokens().await;
    let nobody = server.with_token(None);
    for client in [&nobody, &server.client] {
        assert_eq!(client.get("/nothing").await.status(), StatusCode::NOT_FOUND);
        let wrong = client.request(Method::DELETE, "/events").send().await.unwrap();
        assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}

#[tokio::test]
async fn a_token_ends_when_it_is_revoked_and_when_its_time_is_over() {
    let mut server = TestServer::with_tokens().await;
    let made = create(&server, &[Scope::Read, Scope::Submit], Some(3600)).await;
    assert_eq!(made.token.expires_at.unwrap().since(made.token.created_at), 3_600_000);
    let holder = server.with_token(Some(made.secret.clone()));
    assert!(holder.submit(&experiment(&[1])).await.created);
    // It's known after a death too.
    server.restart().await;
    assert_eq!(holder.get("/experiments").await.status(), StatusCode::OK);
    let path = format!("/tokens/{}", made.token.id);
    for _ in 0..2 {
        let revoked = server.request(Method::DELETE, &path).send().await.unwrap();
        assert_eq!(revoked.status(), StatusCode::NO_CONTENT);
        let refused = holder.get("/experiments").await;
        assert_unauthorized(&refused);
    }
    server.restart().await;
    assert_unauthorized(&holder.get("/experiments").await);
    let listed: Page<TokenSummary> = server.json("/tokens").await;
    let [first, second] = &listed.items[..] else { panic!("{listed:?}") };
    assert_eq!((first.name.as_str(), first.revoked_at), ("first", None));
    assert!(second.revoked_at.is_some());
    assert_eq!(second.scopes, [Scope::Submit, Scope::Read]);
    let absent = problem(server.request(Method::DELETE, "/tokens/99").send().await.unwrap()).await;
    assert_eq!((absent.status, absent.detail.as_str()), (404, "there is no token 99"));

    let brief = create(&server, &[Scope::Read], Some(1)).await;
    let holder = server.with_token(Some(brief.secret));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while holder.get("/experiments").await.status() == StatusCode::OK {
        assert!(std::time::Instant::now() < deadline, "a token of one second lived for longer than thirty");
    }
    assert_unauthorized(&holder.get("/experiments").await);
}

/// Everything that lasts, opened by somebody: followers of events and of a log, and a worker that waits.
struct Lasting {
    events: Messages,
    log_events: Messages,
    log: Response,
    lease: tokio::task::JoinHandle<Response>,
}

impl Lasting {
    async fn open(client: &Client, admin: &Client) -> Self {
        let worker = client.register("w").await;
        let follow = |kind: &'static str| client.request(Method::GET, "/jobs/1/log?follow=true").header("accept", kind);
        let opened = Self {
            events: Messages::new(client.get("/events").await),
            log_events: Messages::new(follow("text/event-stream").send().await.unwrap()),
            log: follow("text/plain").send().await.unwrap(),
            lease: tokio::spawn({
                let client = client.clone();
                async move {
                    let request = json!({ "slots": 1, "wait_ms": LONG_MS });
                    client.post(&format!("/workers/{worker}/lease"), &request).await
                }
            }),
        };
        while admin.metric("promptfield_waiting_workers").await != Some(1.0) {}
        opened
    }

    /// They are told nothing more.
    async fn end(mut self) {
        while let Some(message) = self.events.next().await {
            assert!(!message.data.contains("afterwards"), "{}", message.data);
        }
        assert_eq!(self.log_events.next().await, None);
        // A log that broke off doesn't look whole.
        assert!(self.log.text().await.is_err());
        assert_unauthorized(&self.lease.await.unwrap());
    }
}

#[tokio::test]
async fn what_a_token_opened_ends_with_it() {
    for expires_in_s in [None, Some(3)] {
        let server = TestServer::with_tokens().await;
        server.submit(&experiment(&[1])).await;
        let worker = server.register("first").await;
        while !server.lease_within(worker, 2, 0).await.is_empty() {}
        let made = create(&server, &[Scope::Work], expires_in_s).await;
        let lasting = Lasting::open(&server.with_token(Some(made.secret)), &server).await;
        if expires_in_s.is_none() {
            let revoked = server.request(Method::DELETE, &format!("/tokens/{}", made.token.id)).send().await.unwrap();
            assert_eq!(revoked.status(), StatusCode::NO_CONTENT);
            let mut after = experiment(&[1]);
            after["name"] = "afterwards".into();
            server.submit(&after).await;
        }
        lasting.end().await;
    }
}

#[tokio::test]
async fn what_a_token_opens_comes_whole_compressed_or_not() {
    let server = TestServer::with_tokens().await;
    let backup = |encoding: &'static str| {
        let request = server.request(Method::POST, "/backup").header("accept-encoding", encoding);
        async { request.send().await.unwrap().bytes().await.unwrap() }
    };
    let (plain, packed) = (backup("identity").await, backup("gzip").await);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
    assert!(packed.len() < plain.len() && unpacked.starts_with(b"SQLite format 3\0"));
}

#[tokio::test]
async fn who_ends_their_own_token_hears_that_it_has_ended() {
    let server = TestServer::with_tokens().await;
    let own = create(&server, &[Scope::Admin], None).await;
    let holder = server.with_token(Some(own.secret));
    let revoked = holder.request(Method::DELETE, &format!("/tokens/{}", own.token.id)).send().await.unwrap();
    assert_eq!(revoked.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn when_a_token_was_used_is_known_after_a_stop() {
    let mut server = TestServer::with_tokens().await;
    let made = create(&server, &[Scope::Read], None).await;
    assert_eq!(made.token.last_used_at, None);
    server.with_token(Some(made.secret)).get("/workers").await;
    server.shut_down().await;
    let mut database = Database::open(&server.database()).await.unwrap();
    assert!(database.tokens().iter().all(|token| token.last_used_at >= Some(token.created_at)));
    let absent = database.revoke_token(TokenId(99)).await.unwrap_err();
    assert!(matches!(absent, DatabaseError::NoToken(TokenId(99))), "{absent:?}");
}

#[tokio::test]
async fn the_secret_is_in_no_file() {
    let mut server = TestServer::with_tokens().await;
    let made = create(&server, &[Scope::Read], None).await;
    server.shut_down().await;
    let digits = made.secret.expose().trim_start_matches(Secret::PREFIX).as_bytes();
    let files = fs_err::read_dir(server.folder().join("state")).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|path| path.is_file()) {
        let bytes = fs_err::read(file).unwrap();
        assert!(!bytes.windows(digits.len()).any(|window| window == digits));
    }
}

#[tokio::test]
async fn wrong_headers_and_requests_are_refused_without_repeating_secrets() {
    let server = TestServer::with_tokens().await;
    let nobody = server.with_token(None);
    for header in ["Basic aHVudGVyMg==", "hunter2", "Bearer hunter2"] {
        let response = nobody.request(Method::GET, "/workers").header("authorization", header).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let detail = problem(response).await.detail;
        assert!(!detail.contains("hunter2") && !detail.contains("aHVu"), "{detail}");
    }
    for (body, field) in [
        (json!({ "name": "", "scopes": ["read"] }), "name"),
        (json!({ "name": "a", "scopes": [] }), "scopes"),
        (json!({ "name": "a", "scopes": ["raed"] }), "scopes[0]"),
        (json!({ "name": "a", "scopes": ["read"], "expires_in_s": 0 }), "expires_in_s"),
    ] {
        let problem = problem(server.post("/tokens", &body).await).await;
        assert_eq!((problem.status, problem.errors[0].field.as_str()), (422, field));
    }
}

#[tokio::test]
async fn nobody_can_listen_beyond_this_machine_without_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let open = promptfield_server::Options { listen: ([0, 0, 0, 0], 0).into(), ..options(folder.path()) };
    let refused = run(open.clone()).await.map(drop).unwrap_err();
    assert!(matches!(refused, StartError::NoToken { .. }), "{refused:?}");
    assert!(refused.to_string().contains("promptfield token create"), "{refused}");

    let mut database = Database::open(&open.database).await.unwrap();
    let request = TokenRequest { name: "a".into(), scopes: vec![Scope::Admin], expires_in_s: None };
    let made = database.create_token(request).await.unwrap();
    database.revoke_token(made.token.id).await.unwrap();
    database.close().await.unwrap();
    assert!(matches!(run(open.clone()).await.map(drop), Err(StartError::NoToken { .. })));

    crate::support::first_token(&open).await;
    let (runtime, coordinator) = run(open).await.unwrap();
    let url = format!("http://127.0.0.1:{}/api/v1/workers", coordinator.address().port());
    assert_unauthorized(&reqwest::get(url).await.unwrap());
    runtime.spawn(coordinator.shutdown()).await.unwrap();
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_client_learns_what_its_token_permits() {
    let server = TestServer::with_tokens().await;
    for scopes in [&[Scope::Read][..], &[Scope::Submit, Scope::Work]] {
        let client = server.with_token(Some(create(&server, scopes, None).await.secret));
        let own: Principal = client.json("/access").await;
        assert_eq!((own.name.as_str(), own.scopes), ("somebody", scopes.to_vec()));
        assert!(own.token.is_some());
    }
    assert_unauthorized(&server.with_token(None).get("/access").await);
    let open: Principal = TestServer::start().await.json("/access").await;
    assert_eq!(open.scopes, [Scope::Admin]);
}

#[tokio::test]
async fn without_tokens_pages_of_other_sites_are_turned_away() {
    let server = TestServer::start().await;
    let own = format!("http://{}", server.address);
    for (header, value, permitted) in [
        ("host", "localhost", true),
        ("host", "rebound.example", false),
        ("origin", own.as_str(), true),
        ("origin", "http://evil.example", false),
        ("origin", "null", false),
        ("sec-fetch-site", "cross-site", false),
        ("sec-fetch-site", "same-origin", true),
        ("sec-fetch-site", "none", true),
        ("forwarded", "for=203.0.113.7", false),
        ("x-forwarded-for", "203.0.113.7", false),
        ("x-forwarded-proto", "https", false),
        ("x-real-ip", "203.0.113.7", false),
        ("via", "1.1 nginx", false),
    ] {
        let request = server.request(Method::POST, "/workers").header(header, value).json(&worker("w"));
        let status = request.send().await.unwrap().status();
        let expected = if permitted { StatusCode::CREATED } else { StatusCode::FORBIDDEN };
        assert_eq!(status, expected, "{header}: {value}");
    }
    // Whoever shows a token is held to it.
    let stranger = server.with_token(Some(Secret::from_bytes([7; 32])));
    assert_unauthorized(&stranger.get("/workers").await);
}

#[tokio::test]
async fn only_the_proxy_that_was_named_is_trusted() {
    for (trusted, expected) in [
        ([127, 0, 0, 1], StatusCode::OK),
        ([127, 0, 0, 2], StatusCode::FORBIDDEN),
        ([10, 0, 0, 1], StatusCode::FORBIDDEN),
    ] {
        let security = Security { trusted_proxy: Some(trusted.into()), ..Security::default() };
        let server = TestServer::with_security(security).await;
        let passed_on = server.request(Method::GET, "/workers").header("x-forwarded-for", "203.0.113.7");
        let answer = passed_on.send().await.unwrap();
        assert_eq!(answer.status(), expected, "{trusted:?}");
        if expected == StatusCode::FORBIDDEN {
            let detail = problem(answer).await.detail;
            for part in ["`x-forwarded-for`", "coordinator.trusted_proxy", "coordinator.tokens"] {
                assert!(detail.contains(part), "{detail}");
            }
        }
        // Its pages have another address than the coordinator.
        let page = server.request(Method::POST, "/workers").json(&worker("w")).header("via", "1.1 x");
        let page = page.header("origin", "https://bench.example").send().await.unwrap();
        assert_eq!(page.status().is_success(), expected == StatusCode::OK);
        // It doesn't vouch for pages of other sites.
        let page =
            server.request(Method::GET, "/workers").header("via", "1.1 x").header("sec-fetch-site", "cross-site");
        assert_eq!(page.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    }
    // Who shows a token may come from anywhere.
    let server = TestServer::with_tokens().await;
    let passed_on = server.request(Method::GET, "/workers").header("forwarded", "for=203.0.113.7");
    assert_eq!(passed_on.send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn every_answer_is_for_own_pages_only_and_what_it_says_it_is() {
    let server = TestServer::with_tokens().await;
    let nobody = server.with_token(None);
    let mut answers = Vec::new();
    for (method, path, _) in routes(&server).await {
        answers.push((path.clone(), server.request(method.clone(), &path).send().await.unwrap()));
        answers.push((path.clone(), nobody.request(method, &path).send().await.unwrap()));
    }
    for path in ["/", "/experiments/1", "/nothing.js", "/problems/too-busy", "/api/nothing"] {
        answers.push((path.to_owned(), reqwest::get(format!("http://{}{path}", server.address)).await.unwrap()));
    }
    let kept = sha2::Sha256::digest(b"x");
    let hash = promptfield_core::job::spec::hex(&kept);
    for method in [Method::PUT, Method::GET] {
        answers.push((
            hash.clone(),
            server.request(method, &format!("/artefacts/{hash}")).body("x").send().await.unwrap(),
        ));
    }
    for (path, answer) in answers {
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers()["cross-origin-resource-policy"], "same-origin", "{path}");
    }
}
