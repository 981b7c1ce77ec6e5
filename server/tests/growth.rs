//! How work grows with requests: a list of twice the length may take twice the work, and a little for itself.
//!
//! Work is counted in bytes that the coordinator allocates, and in bytes that it answers, so that this doesn't depend on the machine.
//! It's a binary of its own: everything that is allocated in it counts.

#[expect(dead_code, reason = "other tests use more of it")]
#[path = "integration/support.rs"]
mod support;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use promptfield_core::wire::api::PREFIX;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{TestServer, completion, evaluation, experiment, worker};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a request may take besides what its list takes, in bytes: buffers, the connection, what goes on at the same time.
const BESIDES: usize = 384 << 10;

/// What a request took.
#[derive(Clone, Copy, Debug)]
struct Work {
    allocated: usize,
    answered: usize,
}

/// Sends a request over a connection of its own, which allocates nothing here while it's answered.
fn work(address: SocketAddr, method: &str, path: &str, body: &Value) -> Work {
    let body = body.to_string();
    let head = format!(
        "{method} {PREFIX}{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).unwrap();
    let mut answer = [0; 1 << 14];
    let mut answered = 0;
    let region = Region::new(ALLOCATOR);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    loop {
        match stream.read(&mut answer).unwrap() {
            0 => break,
            bytes => answered += bytes,
        }
    }
    let change = region.change();
    assert!(answered > 0, "{method} {path}: no answer");
    Work { allocated: change.bytes_allocated, answered }
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("n{i:07}")).collect()
}

/// A request with a list of so many entries.
struct Listed {
    what: &'static str,
    method: &'static str,
    path: String,
    count: usize,
    body: Box<dyn Fn(usize) -> Value + Send>,
}

fn requests(lease: &str, grant: &promptfield_core::wire::api::LeaseGrant) -> Vec<Listed> {
    let preview = |what: &'static str, count: usize, change: fn(&mut Value, usize)| Listed {
        what,
        method: "POST",
        path: "/experiments/preview".to_owned(),
        count,
        body: Box::new(move |count| {
            let mut document = experiment(&[1]);
            change(&mut document, count);
            document
        }),
    };
    let of_worker = |what: &'static str, count: usize, change: fn(&mut Value, usize)| Listed {
        what,
        method: "POST",
        path: "/workers".to_owned(),
        count,
        body: Box::new(move |count| {
            let mut description = json!(worker("grows"));
            change(&mut description, count);
            description
        }),
    };
    let token = grant.token;
    let progress = |what: &'static str, count: usize, change: fn(&mut Value, usize)| Listed {
        what,
        method: "POST",
        path: format!("/leases/{lease}/progress"),
        count,
        body: Box::new(move |count| {
            let mut report = json!({ "token": token });
            change(&mut report, count);
            report
        }),
    };
    let complete = |what: &'static str, count: usize, change: fn(&mut Value, usize)| {
        // Under a token that isn't the lease's: it's looked at, and nothing is recorded.
        let mut report = json!(completion(grant));
        report["token"] = json!(grant.token.0 + 1);
        Listed {
            what,
            method: "POST",
            path: format!("/leases/{lease}/complete"),
            count,
            body: Box::new(move |count| {
                let mut report = report.clone();
                change(&mut report, count);
                report
            }),
        }
    };
    let simple = |what, path: &str, count, body: fn(usize) -> Value| Listed {
        what,
        method: "POST",
        path: path.to_owned(),
        count,
        body: Box::new(body),
    };
    vec![
        preview("methods", 4_000, |document, count| document["methods"] = json!(names(count))),
        preview("unknown data sets", 20_000, |document, count| document["datasets"] = json!(names(count))),
        preview("few unknown data sets", 40, |document, count| document["datasets"] = json!(names(count))),
        preview("seeds", 8_000, |document, count| document["seeds"] = json!((0..count).collect::<Vec<_>>())),
        preview("too many seeds", 400_000, |document, count| document["seeds"] = json!((0..count).collect::<Vec<_>>())),
        preview("equal seeds", 40_000, |document, count| document["seeds"] = json!(vec![7; count])),
        preview("shots", 8_000, |document, count| document["shots"] = json!((1..=count).collect::<Vec<_>>())),
        preview("labels", 40_000, |document, count| document["labels"] = json!(names(count))),
        preview("a sweep", 2_000, |document, count| {
            let values: Vec<f64> = (0..count).map(|i| i as f64 / 1e5).collect();
            document["sweep"] = json!({ "alpha": values });
        }),
        preview("a sweep's keys", 20_000, |document, count| {
            document["sweep"] = names(count).into_iter().map(|name| (name, json!([1]))).collect();
        }),
        preview("overrides", 20_000, |document, count| {
            document["overrides"] = names(count).into_iter().map(|name| (name, json!({}))).collect();
        }),
        preview("unknown keys", 20_000, |document, count| {
            document.as_object_mut().unwrap().extend(names(count).into_iter().map(|name| (name, json!(1))));
        }),
        preview("a name", 4_000_000, |document, count| document["name"] = "x".repeat(count).into()),
        preview("a data set's name", 1_000_000, |document, count| document["datasets"] = json!(["x".repeat(count)])),
        of_worker("devices", 2_000, |description, count| description["devices"] = json!(names(count))),
        of_worker("backbones", 2_000, |description, count| description["backbones"] = json!(names(count))),
        of_worker("few backbones", 40, |description, count| description["backbones"] = json!(names(count))),
        of_worker("labels", 2_000, |description, count| description["labels"] = json!(names(count))),
        of_worker("identities of backbones", 200, |description, count| {
            let hash = "0".repeat(64);
            description["backbone_sha256"] = names(count).into_iter().map(|name| (name, json!(hash))).collect();
        }),
        progress("steps", 10_000, |report, count| {
            let step = |step| json!({ "step": step, "values": { "loss": 1.0 } });
            report["metrics"] = (0..count).map(step).collect();
        }),
        progress("names of a step", 500, |report, count| {
            let values: Value = names(count).into_iter().map(|name| (name, json!(1.0))).collect();
            report["metrics"] = json!([{ "step": 1, "values": values }]);
        }),
        progress("too many names of a step", 20_000, |report, count| {
            let values: Value = names(count).into_iter().map(|name| (name, json!(1.0))).collect();
            report["metrics"] = json!([{ "step": 1, "values": values }]);
        }),
        progress("lines of a log", 20_000, |report, count| {
            report["log"] = json!({ "first_line": 0, "lines": names(count) });
        }),
        complete("classes", 4_000, |report, count| {
            let mut counted = json!(evaluation());
            let none = |name| json!({ "name": name, "images": 0, "predicted": 0, "correct": 0, "confused": [] });
            counted["classes"].as_array_mut().unwrap().extend(names(count).into_iter().map(none));
            report["evaluation"] = counted;
        }),
        complete("files of a manifest", 8_000, |report, count| {
            let file = json!({ "sha256": "0".repeat(64), "bytes": 1 });
            report["outcome"]["manifest"]["files"] =
                names(count).into_iter().map(|name| (name, file.clone())).collect();
        }),
        complete("wrong files of a manifest", 8_000, |report, count| {
            let file = json!({ "sha256": "x", "bytes": 1 });
            report["outcome"]["manifest"]["files"] =
                names(count).into_iter().map(|name| (name, file.clone())).collect();
        }),
        simple("reports", "/leases/reports", 500, |count| {
            let report = |lease| json!({ "lease": lease, "report": { "release": { "token": 1 } } });
            json!({ "reports": (1_000..1_000 + count).map(report).collect::<Vec<_>>() })
        }),
        simple("too many reports", "/leases/reports", 20_000, |count| {
            let report = |lease| json!({ "lease": lease, "report": { "release": { "token": 1 } } });
            json!({ "reports": (1_000..1_000 + count).map(report).collect::<Vec<_>>() })
        }),
        simple("selected jobs", "/jobs/cancel", 5_000, |count| json!({ "jobs": vec![1; count] })),
        simple("jobs to try again", "/jobs/retry", 5_000, |count| json!({ "jobs": vec![1; count] })),
        simple("findings", "/jobs/findings", 5_000, |count| {
            let hash = "0".repeat(64);
            json!({ "findings": vec![json!({ "job": 1, "split_sha256": hash, "test_sha256": hash }); count] })
        }),
        simple(
            "devices of a load",
            "/workers/1/load",
            200,
            |count| json!({ "devices": names(count).into_iter().map(|device| json!({ "device": device })).collect::<Vec<_>>() }),
        ),
        simple("scopes", "/tokens", 5_000, |count| json!({ "name": "", "scopes": vec!["read"; count] })),
        simple("keys", "/tokens", 20_000, |count| names(count).into_iter().map(|name| (name, json!(1))).collect()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_twice_the_length_takes_twice_the_work_at_most() {
    let server = TestServer::start().await;
    server.submit(&experiment(&[1])).await;
    let id = server.register("w").await;
    let grant = server.lease(id, 1).await.remove(0);
    let address = server.address;
    let requests = requests(&grant.lease.to_string(), &grant);
    let grown = tokio::task::spawn_blocking(move || {
        let mut wrong = Vec::new();
        for Listed { what, method, path, count, body } in requests {
            let least = |count| {
                let body = body(count);
                // The first of a kind takes more: pages are read, plans are made.
                let all = [(); 3].map(|()| work(address, method, &path, &body));
                all.into_iter().skip(1).min_by_key(|work| work.allocated).unwrap()
            };
            let (once, twice) = (least(count), least(2 * count));
            // Memory is taken in powers of two, so that twice as much may need a little more than twice: four times is what it mustn't be.
            if twice.allocated > 5 * once.allocated / 2 + BESIDES || twice.answered > 2 * once.answered + 1_000 {
                wrong.push(format!("{what}: {count}: {once:?}, twice as many: {twice:?}"));
            }
        }
        wrong
    });
    let wrong = grown.await.unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
