//! A copy of a running coordinator's database is as good as the original.

use std::path::PathBuf;

use promptfield_core::wire::access::{Scope, TokenRequest};
use promptfield_server::{Care, Database, Health, Options, StartError};
use reqwest::Method;

use crate::support::{Client, TestServer, at_step, experiment, options, run, run_all};

/// All that can be asked of a coordinator whose experiment has ended or not.
async fn everything(client: &Client) -> Vec<String> {
    let mut said = Vec::new();
    for path in
        ["/experiments/1/jobs", "/experiments/1/results?format=json", "/jobs/1", "/jobs/1/evaluation", "/jobs/1/log"]
    {
        said.push(client.text(path).await);
    }
    said
}

async fn save(server: &TestServer) -> PathBuf {
    let copy = server.folder().join("backup.db");
    let response = server.request(Method::POST, "/backup").send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/vnd.sqlite3");
    fs_err::write(&copy, response.bytes().await.unwrap()).unwrap();
    copy
}

#[tokio::test]
async fn a_coordinator_on_the_backup_says_the_same() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1, 2])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);
    server.progress(&grant, &at_step(&grant, 5)).await;
    server.complete(&grant).await;
    run_all(&server, worker, 3).await;
    let copy = save(&server).await;
    // What comes later isn't in it.
    server.submit(&experiment(&[3])).await;
    let health = Health::of(&copy, Care::Full).await.unwrap();
    assert_eq!((health.damage.as_slice(), health.schema), (&[][..], health.known));

    let restored = Options { database: copy, ..options(server.folder()) };
    let (runtime, coordinator) = run(restored).await.unwrap();
    let client = server.at(coordinator.address());
    assert_eq!(everything(&client).await, everything(&server).await);
    assert_eq!(client.get("/experiments/2").await.status(), 404);
    assert!(!client.submit(&experiment(&[1, 2])).await.created);
    runtime.spawn(coordinator.shutdown()).await.unwrap();
    runtime.shutdown_background();
    // Nothing is left of the copy where it was made.
    assert_eq!(fs_err::read_dir(server.database().with_file_name("copies")).unwrap().count(), 0);
}

#[tokio::test]
async fn without_a_coordinator_the_database_copies_itself() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let mut database = Database::open(&options.database).await.unwrap();
    let request = TokenRequest { name: "a".into(), scopes: vec![Scope::Read], expires_in_s: None };
    database.create_token(request).await.unwrap();
    let copy = folder.path().join("copy.db");
    database.copy(&copy).await.unwrap();
    // A coordinator can't start meanwhile, and a copy never takes another file's place.
    assert!(matches!(run(options).await.map(drop), Err(StartError::Database { .. })));
    let error = database.copy(&copy).await.unwrap_err();
    assert!(promptfield_core::chain::chain(&error).contains("already exists"), "{error:?}");
    assert_eq!(Database::open(&copy).await.unwrap().tokens(), database.tokens());
}

#[tokio::test]
async fn damage_is_found() {
    let mut server = TestServer::start().await;
    server.submit(&experiment(&(1..=50).collect::<Vec<_>>())).await;
    let copy = save(&server).await;
    server.shut_down().await;
    let mut bytes = fs_err::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    fs_err::write(&copy, &bytes).unwrap();
    let found = Health::of(&copy, Care::Full).await;
    assert!(found.as_ref().map_or(true, |health| !health.damage.is_empty()), "{found:?}");
    fs_err::write(&copy, "no database").unwrap();
    assert!(Health::of(&copy, Care::Quick).await.is_err());
}
