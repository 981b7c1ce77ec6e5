//! What is removed because it's old, or because there is too much of it.

use std::collections::BTreeMap;
use std::time::Duration;

use promptfield_core::id::{JobId, Sequence};
use promptfield_core::scheduler::JobStateName;
use promptfield_core::wire::api::{Gap, LeaseGrant, MetricPoint, Metrics, ProgressReport};
use promptfield_server::{Keep, Retention};
use reqwest::StatusCode;
use sqlx::SqlitePool;

use crate::events::Events;
use crate::logs::print;
use crate::support::{Client, TestServer, at_step, experiment, problem, run_all};

/// Everything for a day.
const DAY: Keep = Keep { age: Duration::from_hours(24), rows: 1_000_000 };
const ALL: Retention = Retention { events: DAY, logs: DAY, metrics: DAY };

fn at_most(rows: u64) -> Keep {
    Keep { rows, ..DAY }
}

async fn pool(server: &TestServer) -> SqlitePool {
    SqlitePool::connect(&server.database().display().to_string()).await.unwrap()
}

async fn newest(server: &TestServer) -> Sequence {
    let newest: i64 =
        sqlx::query_scalar("SELECT max(sequence) FROM event").fetch_one(&pool(server).await).await.unwrap();
    Sequence(newest.cast_unsigned())
}

/// Lets two days go by for everything that is there, and starts the coordinator again.
async fn two_days_later(server: &mut TestServer) {
    let pool = pool(server).await;
    for sql in [
        "UPDATE event SET at = at - 172800000",
        "UPDATE attempt SET started_at = started_at - 172800000, ended_at = ended_at - 172800000",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    pool.close().await;
    server.restart().await;
}

/// Waits until everything was looked through once.
async fn until_tidied(server: &TestServer) {
    while server.metric("promptfield_retention_runs_total").await.unwrap() < 1.0 {}
}

async fn report(client: &Client, grant: &LeaseGrant, steps: std::ops::Range<u64>) {
    let values = BTreeMap::from([("loss".to_owned(), 0.5), ("lr".to_owned(), 0.1)]);
    let metrics = steps.map(|step| MetricPoint { step, values: values.clone() }).collect();
    let report = ProgressReport { metrics, ..at_step(grant, 1) };
    assert_eq!(client.progress(grant, &report).await.status(), StatusCode::OK);
}

async fn expect_removed(client: &Client, path: &str, detail: &str) {
    let response = client.get(path).await;
    assert_eq!(response.status(), StatusCode::GONE, "{path}");
    let problem = problem(response).await;
    assert_eq!((problem.kind.as_str(), problem.detail.as_str()), ("/problems/removed", detail));
}

#[tokio::test]
async fn what_is_old_goes_and_results_and_running_jobs_keep_theirs() {
    let mut server = TestServer::with_retention(ALL).await;
    server.submit(&experiment(&[1, 2])).await;
    let worker = server.register("w").await;
    let leases = server.lease(worker, 2).await;
    let [done, running] = &leases[..] else { panic!("{leases:?}") };
    for grant in [done, running] {
        // More than goes in one piece.
        let lines: Vec<String> = (0..2500).map(|line| line.to_string()).collect();
        print(&server, grant, 0, &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
        report(&server, grant, 0..3).await;
    }
    server.complete(done).await;
    let table = server.text("/experiments/1/results").await;
    let newest = newest(&server).await;
    two_days_later(&mut server).await;
    until_tidied(&server).await;
    let (log, numbers) = (format!("/jobs/{}/log", done.job), format!("/jobs/{}/metrics", done.job));
    let no_log = format!("the log of job {}'s attempt {} isn't kept any more", done.job, done.lease);
    expect_removed(&server, &log, &no_log).await;
    expect_removed(&server, &format!("{log}?follow=true"), &no_log).await;
    let no_numbers = format!("the numbers of job {}'s training steps aren't kept any more", done.job);
    expect_removed(&server, &numbers, &no_numbers).await;
    for (series, rows) in [("log_lines", 2500.0), ("metric_points", 6.0), ("events", newest.0 as f64 - 1.0)] {
        let series = format!("promptfield_removed_rows_total{{kind=\"{series}\"}}");
        assert_eq!(server.metric(&series).await, Some(rows), "{series}");
    }
    // Nothing else is gone.
    assert_eq!(server.text(&format!("/jobs/{}/log", running.job)).await.lines().count(), 2500);
    let numbers: Metrics = server.json(&format!("/jobs/{}/metrics", running.job)).await;
    assert_eq!(numbers.points.len(), 3);
    assert_eq!(server.text("/experiments/1/results").await, table);
    let job = server.job(done.job).await;
    assert_eq!((job.summary.state, job.attempts.len(), job.manifest.is_some()), (JobStateName::Completed, 1, true));
    assert_eq!(server.get(&format!("/jobs/{}/evaluation", done.job)).await.status(), StatusCode::OK);
    // The newest event says where the log goes on.
    let mut events = Events::open(&server, Some(newest.0 - 1)).await;
    assert_eq!(events.next().await.unwrap().sequence, newest);
    server.restart().await;
    server.complete(running).await;
    let mut events = Events::open(&server, Some(newest.0)).await;
    assert_eq!(events.next().await.unwrap().sequence.0, newest.0 + 1);
}

#[tokio::test]
async fn a_follower_that_is_behind_what_is_kept_is_told_so_in_the_stream() {
    let mut server = TestServer::with_retention(Retention { events: at_most(3), ..ALL }).await;
    server.submit(&experiment(&[1])).await;
    let worker = server.register("w").await;
    run_all(&server, worker, 1).await;
    let all = Events::open(&server, Some(0)).await.until_completed(JobId(1)).await;
    let first = Sequence(newest(&server).await.0 - 2);
    server.restart().await;
    until_tidied(&server).await;
    for after in [0, 1] {
        let mut events = Events::open(&server, Some(after)).await;
        assert_eq!(events.gap().await, Gap { after: Sequence(after), first });
        assert_eq!(events.until_completed(JobId(1)).await, all[first.0 as usize - 1..]);
    }
    // Whoever has the event before the first one misses nothing.
    let mut events = Events::open(&server, Some(first.0 - 1)).await;
    assert_eq!(events.next().await.unwrap().sequence, first);
}

#[tokio::test]
async fn of_too_much_the_earliest_goes() {
    let mut server = TestServer::with_retention(Retention { logs: at_most(5), metrics: at_most(8), ..ALL }).await;
    server.submit(&experiment(&[1, 2, 3])).await;
    let worker = server.register("w").await;
    let leases = server.lease(worker, 3).await;
    for (place, grant) in leases.iter().enumerate() {
        print(&server, grant, 0, &["a", "b", "c"]).await;
        report(&server, grant, 0..2).await;
        if place != 1 {
            server.complete(grant).await;
        }
    }
    // It was removed once already: what says so doesn't count.
    for _ in 0..2 {
        server.restart().await;
        until_tidied(&server).await;
        let mut kept = Vec::new();
        for LeaseGrant { job, .. } in &leases {
            let log = server.get(&format!("/jobs/{job}/log")).await.status();
            let numbers = server.get(&format!("/jobs/{job}/metrics")).await.status();
            kept.push((log == StatusCode::OK, numbers == StatusCode::OK));
        }
        // The second is the earliest that is left, and goes on.
        assert_eq!(kept, [(false, false), (true, true), (false, true)]);
    }
    assert_eq!(server.text(&format!("/jobs/{}/log", leases[1].job)).await, "a\nb\nc\n");
}
