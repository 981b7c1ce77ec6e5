//! Workers that are started on demand: the API, and pilots that are processes on this host.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use promptfield_core::scheduler::WorkerDescription;
use promptfield_core::scheduler::pilot_records::{PilotRecord, PilotState, PoolState};
use promptfield_core::wire::api::pools::{Pilots, PoolSummary, Pools};
use promptfield_core::wire::api::{LeaseRequest, LeaseResponse, Registered};
use promptfield_server::PilotOptions;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Messages, TestServer, experiment, problem, read, worker};

/// A pilot that does nothing until it's told to end, or the test has ended.
const PATIENT: &str = "trap 'exit 0' TERM; while [ -e \"$0\" ]; do sleep 0.05; done";

/// A coordinator whose pilots run a shell script in `promptfield`'s place.
async fn with_pilots(script: &str) -> TestServer {
    TestServer::with_pilots(|folder| {
        let program = folder.join("pilot.sh");
        fs_err::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut options = PilotOptions::new(program, folder.join("pilots"));
        options.beat = Duration::from_millis(20);
        options
    })
    .await
}

async fn set(server: &TestServer, name: &str, settings: &Value) -> reqwest::Response {
    server.request(Method::PUT, &format!("/pools/{name}")).json(settings).send().await.unwrap()
}

async fn pool(server: &TestServer) -> PoolSummary {
    let Pools { mut pools } = server.json("/pools").await;
    pools.remove(0)
}

async fn pilots(server: &TestServer) -> Vec<PilotRecord> {
    let Pilots { mut pilots, .. } = server.json("/pilots").await;
    pilots.reverse();
    pilots
}

/// Looks again after each event until there is what is looked for.
async fn until<T>(server: &TestServer, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut events = Messages::new(server.get("/events").await);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        let next = tokio::time::timeout(Duration::from_mins(1), events.next()).await;
        next.expect("nothing happens").expect("the events end");
    }
}

async fn until_states(server: &TestServer, expected: &[PilotState]) -> Vec<PilotRecord> {
    until(server, async || {
        let pilots = pilots(server).await;
        (pilots.iter().map(|pilot| pilot.state).collect::<Vec<_>>() == expected).then_some(pilots)
    })
    .await
}

async fn arrive(server: &TestServer, pilot: &PilotRecord) -> reqwest::Response {
    let name = format!("pilot {}", pilot.id);
    let description = WorkerDescription { pilot: Some(pilot.key().to_string()), ..worker(&name) };
    server.post("/workers", &description).await
}

#[tokio::test]
async fn a_pool_that_makes_no_sense_is_refused_by_its_field() {
    let server = with_pilots(PATIENT).await;
    let fields = async |name: &str, settings: Value| -> Vec<String> {
        let response = set(&server, name, &settings).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{settings}");
        problem(response).await.errors.into_iter().map(|error| error.field).collect()
    };
    assert_eq!(fields("off", json!({"launcher": "local", "max": 1})).await, ["name"]);
    assert_eq!(fields("a", json!({"launcher": "local", "max": 0, "lead_s": 1})).await, ["max", "lead_s"]);
    assert_eq!(fields("a", json!({"launcher": "local", "max": 1, "gres": "gpu:1"})).await, ["gres"]);
    let unreadable = set(&server, "a", &json!({"launcher": "cloud", "max": 1})).await;
    assert_eq!(problem(unreadable).await.errors[0].field, "launcher");
    for (method, path) in [(Method::DELETE, "/pools/a"), (Method::POST, "/pools/a/resume")] {
        let response = server.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
    assert_eq!(server.json::<Pools>("/pools").await.pools, []);
}

#[tokio::test]
async fn without_a_launcher_there_are_no_pools() {
    let server = TestServer::start().await;
    let response = set(&server, "a", &json!({"launcher": "local", "max": 1})).await;
    let problem = problem(response).await;
    assert_eq!((problem.status, problem.errors[0].field.as_str()), (422, "launcher"));
}

#[tokio::test]
async fn pilots_come_with_jobs_outlive_the_coordinator_and_go_with_their_pool() {
    let mut server = with_pilots(PATIENT).await;
    let set: PoolSummary = read(set(&server, "home", &json!({"launcher": "local", "max": 2})).await).await;
    assert_eq!((set.state, set.pilots.total()), (PoolState::Active, 0));
    server.submit(&experiment(&[1, 2, 3])).await;
    let running = until_states(&server, &[PilotState::Running; 2]).await;
    let alive = |pilot: &PilotRecord| {
        let path = format!("/proc/{}/cmdline", pilot.launcher_id.as_ref().unwrap());
        fs_err::read_to_string(path).is_ok_and(|words| words.contains(&pilot.key().to_string()))
    };
    assert!(running.iter().all(alive));
    let Registered { worker, .. } = read(arrive(&server, &running[0]).await).await;
    server.restart().await;
    let same = until_states(&server, &[PilotState::Running; 2]).await;
    assert_eq!(same[0].worker, Some(worker));
    assert!(same.iter().all(alive));
    assert_eq!(pool(&server).await.pilots.working, 1);

    let response = server.request(Method::DELETE, "/pools/home").send().await.unwrap();
    assert_eq!(read::<PoolSummary>(response).await.state, PoolState::Ending);
    // Whose pool goes isn't wanted any more, whatever it was at.
    let refused = arrive(&server, &running[1]).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert_eq!(problem(refused).await.kind, "/problems/unwanted-pilot");
    server.post(&format!("/workers/{worker}/leave"), &json!({})).await;
    until_states(&server, &[PilotState::Ended; 2]).await;
    until(&server, async || (pool(&server).await.state == PoolState::Off).then_some(())).await;
    assert!(!running.iter().any(alive));
    // The log of events tells all of it, in order.
    let request = server.request(Method::GET, "/events").header("Last-Event-ID", "0");
    let mut events = Messages::new(request.send().await.unwrap());
    let mut told = Vec::new();
    while told.last().map(String::as_str) != Some("pool off") {
        let event: Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
        match event["type"].as_str().unwrap() {
            "pool_changed" => told.push(format!("pool {}", event["to"].as_str().unwrap())),
            "pilot_changed" if event["pilot"] == 1 => told.push(event["to"].as_str().unwrap().to_owned()),
            _ => {}
        }
    }
    told.dedup();
    let way = ["pool active", "submitting", "waiting", "running", "pool ending", "stopping", "ended", "pool off"];
    assert_eq!(told, way);
}

#[tokio::test]
async fn a_pilot_that_ends_at_once_says_why() {
    let server = with_pilots("echo 'no weights here' >&2; exit 2").await;
    let set = set(&server, "home", &json!({"launcher": "local", "max": 1, "min": 1})).await;
    assert_eq!(set.status(), StatusCode::OK);
    let pilots = until_states(&server, &[PilotState::Failed]).await;
    let detail = pilots[0].detail.clone().unwrap();
    assert!(detail.contains("exit status: 2") && detail.contains("no weights here"), "{detail}");
    let pool = pool(&server).await;
    assert!(pool.reason.as_ref().unwrap().contains("no weights here"), "{pool:?}");
    assert!(pool.not_before > pilots[0].ended_at.unwrap(), "the next one has to wait");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_no_pilot() {
    let server = TestServer::with_pilots(|folder| {
        let mut options = PilotOptions::new(folder.join("nowhere"), folder.join("pilots"));
        options.beat = Duration::from_millis(20);
        options
    })
    .await;
    set(&server, "home", &json!({"launcher": "local", "max": 1, "min": 1})).await;
    let pilots = until_states(&server, &[PilotState::Failed]).await;
    assert!(pilots[0].detail.as_ref().unwrap().contains("nowhere"), "{pilots:?}");
    let pool = until(&server, async || Some(pool(&server).await).filter(|pool| pool.reason.is_some())).await;
    assert!(pool.reason.unwrap().contains("nowhere"));
}

#[tokio::test]
async fn an_idle_pilot_is_told_to_leave() {
    let server = with_pilots(PATIENT).await;
    set(&server, "home", &json!({"launcher": "local", "max": 1, "min": 1, "idle_s": 1})).await;
    let running = until_states(&server, &[PilotState::Running]).await;
    let Registered { worker, .. } = read(arrive(&server, &running[0]).await).await;
    // One is kept, until the minimum is none.
    set(&server, "home", &json!({"launcher": "local", "max": 1, "idle_s": 1})).await;
    let request = LeaseRequest { slots: 1, wait_ms: 60_000 };
    until_states(&server, &[PilotState::Stopping]).await;
    let answer: LeaseResponse = read(server.post(&format!("/workers/{worker}/lease"), &request).await).await;
    assert_eq!((answer.leases, answer.draining), (Vec::new(), true));
    server.request(Method::DELETE, "/pools/home").send().await.unwrap();
}

#[tokio::test]
async fn where_tokens_are_needed_pilots_have_one_of_their_own() {
    let server = TestServer::with_pilots_and_tokens(|folder| {
        let program = folder.join("pilot.sh");
        // It says what it was told, and shows its token.
        let script = "#!/bin/sh\necho \"$@\"; echo \"${PROMPTFIELD_TOKEN-none}\"; exit 1\n";
        fs_err::write(&program, script).unwrap();
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut options = PilotOptions::new(program, folder.join("pilots"));
        options.beat = Duration::from_millis(20);
        options
    })
    .await;
    set(&server, "home", &json!({"launcher": "local", "max": 1, "min": 1})).await;
    let pilots = until_states(&server, &[PilotState::Failed]).await;
    let file = server.folder().join("pilots/token");
    assert_eq!(fs_err::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs_err::read_to_string(&file).unwrap();
    let log = server.folder().join(format!("pilots/{}-0.log", pilots[0].batch));
    let log = fs_err::read_to_string(log).unwrap();
    assert!(log.contains(&format!("--token-file {}", file.display())) && !log.contains(secret.trim()), "{log}");
    // It's a worker's, and no more.
    let theirs = server.client.with_token(Some(secret.trim().parse().unwrap()));
    assert_eq!(theirs.post("/workers", &worker("w")).await.status(), StatusCode::CREATED);
    let refused = theirs.request(Method::DELETE, "/pools/home").send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
}
