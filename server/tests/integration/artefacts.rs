//! Files by their hash.

use promptfield_core::job::spec::hex;
use reqwest::{Method, StatusCode};
use sha2::{Digest, Sha256};

use crate::support::{TestServer, problem};

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn a_file_goes_in_and_comes_out() {
    let mut server = TestServer::start().await;
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let hash = hex(&Sha256::digest(&bytes));
    let path = format!("/artefacts/{hash}");
    assert_eq!(server.get(&path).await.status(), StatusCode::NOT_FOUND);
    for status in [StatusCode::CREATED, StatusCode::NO_CONTENT] {
        let response = server.request(Method::PUT, &path).body(bytes.clone()).send().await.unwrap();
        assert_eq!(response.status(), status);
    }
    server.restart().await;
    let head = server.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!((head.status(), head.headers()["content-length"].to_str().unwrap()), (StatusCode::OK, "1200000"));
    let response = server.get(&path).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.bytes().await.unwrap(), bytes);
    assert_eq!(files_below(&server.folder().join("artefacts")).len(), 1);
}

#[tokio::test]
async fn another_file_under_the_hash_is_refused_and_leaves_nothing() {
    let server = TestServer::start().await;
    let (promised, sent) = (hex(&Sha256::digest("one")), hex(&Sha256::digest("two")));
    let path = format!("/artefacts/{promised}");
    let response = server.request(Method::PUT, &path).body("two").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem = problem(response).await;
    assert_eq!((problem.errors[0].field.as_str(), &problem.errors[0].value), ("sha256", &promised));
    assert!(problem.errors[0].expected.ends_with(&sent), "{problem:?}");
    assert_eq!(server.get(&path).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(files_below(&server.folder().join("artefacts")), Vec::<std::path::PathBuf>::new());
}
