//! The dashboard's files, as a browser asks for them.

use reqwest::{Response, StatusCode, header};

use crate::support::{TestServer, problem};

async fn get(server: &TestServer, path: &str) -> Response {
    reqwest::get(format!("http://{}{path}", server.address)).await.unwrap()
}

/// The script that the page names.
async fn script(server: &TestServer) -> String {
    let page = get(server, "/").await.text().await.unwrap();
    let (_, rest) = page.split_once("src=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn every_address_of_the_page_is_the_page_and_needs_no_token() {
    let server = TestServer::start().await;
    for path in ["/", "/experiments", "/experiments/7?tab=jobs", "/jobs/1", "/workers"] {
        let response = get(&server, path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

#[tokio::test]
async fn what_is_named_by_its_contents_is_kept_and_what_is_missing_is_not_there() {
    let server = TestServer::start().await;
    let path = script(&server).await;
    let response = get(&server, &path).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    let licences = get(&server, "/licences.txt").await;
    assert_eq!(licences.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert!(licences.text().await.unwrap().contains("svelte"));
    let tag = response.headers()[header::ETAG].clone();
    let again = reqwest::Client::new().get(format!("http://{}{path}", server.address));
    assert_eq!(again.header(header::IF_NONE_MATCH, tag).send().await.unwrap().status(), StatusCode::NOT_MODIFIED);
    for missing in ["/assets/index-00000000.js", "/favicon.ico", "/api/v1/nothing", "/api/v2", "/problems/nothing"] {
        let response = get(&server, missing).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{missing}");
        problem(response).await;
    }
    let response = reqwest::Client::new().post(format!("http://{}/experiments", server.address)).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND, "a page takes nothing");
}

/// Everything that the page loads, compressed as it's sent.
#[tokio::test]
async fn the_dashboard_weighs_less_than_250_kb() {
    let server = TestServer::start().await;
    let page = get(&server, "/").await.text().await.unwrap();
    let files = page.split(['"', '\'']).filter(|part| part.starts_with('/')).chain(["/"]);
    let mut bytes = 0;
    for file in files {
        let request = reqwest::Client::new().get(format!("http://{}{file}", server.address));
        let response = request.header(header::ACCEPT_ENCODING, "gzip").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{file}");
        bytes += response.bytes().await.unwrap().len();
    }
    assert!((5_000..250_000).contains(&bytes), "{bytes} bytes");
}
