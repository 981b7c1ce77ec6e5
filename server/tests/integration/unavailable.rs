//! The database can't be written, and can again.

use promptfield_core::id::{JobId, WorkerId};
use promptfield_core::scheduler::JobStateName;
use promptfield_core::wire::api::{ExperimentSummary, Metrics, Page};
use reqwest::{Method, StatusCode};
use sqlx::SqlitePool;

use crate::support::{TestServer, experiment, problem, run_all};

/// Makes every commit of a batch with events fail, as a full disk does.
async fn break_writes(pool: &SqlitePool) {
    sqlx::query(
        "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT raise(ABORT, 'database or disk is full'); END",
    )
    .execute(pool)
    .await
    .unwrap();
}

async fn mend_writes(pool: &SqlitePool) {
    sqlx::query("DROP TRIGGER full").execute(pool).await.unwrap();
}

#[tokio::test]
async fn nothing_is_acknowledged_that_is_not_stored() {
    let server = TestServer::start().await;
    let pool = SqlitePool::connect(&server.database().display().to_string()).await.unwrap();
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    let grant = server.lease(worker, 1).await.remove(0);

    break_writes(&pool).await;
    for response in [server.complete(&grant).await, server.post("/experiments", &experiment(&[2])).await] {
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["retry-after"], "1");
        let problem = problem(response).await;
        assert_eq!(problem.kind, "/problems/unavailable");
        assert!(problem.detail.starts_with("the database can't be written, and nothing was changed: "), "{problem:?}");
        assert!(problem.detail.contains("database or disk is full"), "{problem:?}");
    }
    // What is seen is what is stored.
    assert_eq!(server.job(JobId(1)).await.summary.state, JobStateName::Leased);
    let list: Page<ExperimentSummary> = server.json("/experiments").await;
    assert_eq!(list.total, 1);

    mend_writes(&pool).await;
    assert_eq!(server.complete(&grant).await.status(), StatusCode::NO_CONTENT);
    assert!(server.submit(&experiment(&[2])).await.created);
    run_all(&server, worker, 3).await;
    let list: Page<ExperimentSummary> = server.json("/experiments").await;
    assert!(list.items.iter().all(|experiment| experiment.counts.completed == 2));
}

/// A disk that runs full makes SQLite roll back by itself, which its users don't hear of.
#[tokio::test]
async fn every_refusal_has_the_reason_and_none_is_in_the_way_of_the_next() {
    let server = TestServer::start().await;
    let pool = SqlitePool::connect(&server.database().display().to_string()).await.unwrap();
    let trigger =
        "CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT raise(ROLLBACK, 'database or disk is full'); END";
    sqlx::query(trigger).execute(&pool).await.unwrap();
    for _ in 0..4 {
        let response = server.post("/experiments", &experiment(&[1])).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let problem = problem(response).await;
        assert!(problem.detail.ends_with("database or disk is full"), "{problem:?}");
    }
    mend_writes(&pool).await;
    assert!(server.submit(&experiment(&[1])).await.created);
}

#[tokio::test]
async fn state_that_is_gone_or_replaced_acknowledges_nothing() {
    for name in ["promptfield.db", "promptfield.db.lock", "promptfield.db-wal"] {
        let server = TestServer::start().await;
        server.submit(&experiment(&[1])).await;
        let worker = server.register("w").await;
        let folder = server.database().parent().unwrap().to_owned();
        let (path, aside) = (folder.join(name), folder.join("aside"));
        let refused = async |reason: &str| {
            let requests = [
                server.post("/experiments", &experiment(&[2])).await,
                server.post("/experiments/1/cancel", &serde_json::Value::Null).await,
                server.get("/readyz").await,
            ];
            for response in requests {
                assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
                let problem = problem(response).await;
                assert_eq!(problem.kind, "/problems/unavailable");
                assert!(
                    problem.detail.contains(&format!("`{name}`")) && problem.detail.contains(reason),
                    "{problem:?}"
                );
            }
        };
        std::fs::rename(&path, &aside).unwrap();
        refused("No such file or directory").await;
        std::fs::write(&path, "").unwrap();
        refused("is another file than this coordinator has open").await;
        // Put back, it's as it was.
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(server.lease(worker, 1).await.len(), 1);
        assert!(server.submit(&experiment(&[2])).await.created);
    }
}

#[tokio::test]
async fn artefacts_whose_folder_is_gone_are_refused_with_the_reason() {
    let server = TestServer::start().await;
    let folder = server.folder().join("artefacts");
    std::fs::remove_dir_all(&folder).unwrap();
    let ready = problem(server.get("/readyz").await).await;
    assert_eq!((ready.status, ready.kind.as_str()), (503, "/problems/unavailable"));
    assert!(ready.detail.contains("artefacts") && ready.detail.contains("No such file"), "{ready:?}");
    let kept = {
        let path = format!("/artefacts/{}", "ab".repeat(32));
        problem(server.request(Method::PUT, &path).body("weights").send().await.unwrap()).await
    };
    assert_eq!((kept.status, kept.kind.as_str()), (503, "/problems/unavailable"));
    assert!(kept.detail.contains("No such file"), "{kept:?}");
}

#[tokio::test]
async fn readiness_means_that_the_database_can_be_written() {
    let server = TestServer::start().await;
    let pool = SqlitePool::connect(&server.database().display().to_string()).await.unwrap();
    assert_eq!(server.get("/healthz").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.get("/readyz").await.status(), StatusCode::NO_CONTENT);
    sqlx::query(
        "CREATE TRIGGER full BEFORE UPDATE ON readiness BEGIN SELECT raise(ABORT, 'database or disk is full'); END",
    )
    .execute(&pool)
    .await
    .unwrap();
    sqlx::query(
        "CREATE TRIGGER full_too BEFORE INSERT ON readiness BEGIN SELECT raise(ABORT, 'database or disk is full'); END",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!(server.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.get("/healthz").await.status(), StatusCode::NO_CONTENT);
    sqlx::query("DROP TRIGGER full").execute(&pool).await.unwrap();
    sqlx::query("DROP TRIGGER full_too").execute(&pool).await.unwrap();
    assert_eq!(server.get("/readyz").await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn logs_and_numbers_do_not_wait_for_the_writer() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let pool = SqlitePool::connect(&server.database().display().to_string()).await.unwrap();
    let someone_else = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let client = server.client.clone();
    let writing = tokio::spawn(async move { client.register("w").await });
    assert_eq!(server.text("/jobs/1/log").await, "");
    assert_eq!(server.json::<Metrics>("/jobs/1/metrics").await.points, []);
    assert!(!writing.is_finished());
    someone_else.rollback().await.unwrap();
    assert_eq!(writing.await.unwrap(), WorkerId(1));
}
