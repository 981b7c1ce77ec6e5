//! A log that is followed from the command line.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::sync::Arc;

use promptfield_core::scheduler::WorkerDescription;
use promptfield_core::wire::api::{
    LeaseGrant, LeaseRequest, LeaseResponse, LogChunk, LogLine, ProgressReport, Registered,
};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::site::{Served, Site, text};

const SETTINGS: &str = "[coordinator]\nlisten = \"127.0.0.1:0\"\n[backbones]\n\"ViT-B/16\" = \"weights\"\n";

/// A way to a coordinator that can break.
struct Way {
    address: SocketAddr,
    breaks: Arc<Notify>,
}

impl Way {
    async fn to(url: &str) -> Self {
        let coordinator = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Self { address: listener.local_addr().unwrap(), breaks: Arc::default() };
        let breaks = way.breaks.clone();
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let (coordinator, breaks) = (coordinator.clone(), breaks.clone());
                tokio::spawn(async move {
                    let mut there = TcpStream::connect(coordinator).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                        () = breaks.notified() => {}
                    }
                });
            }
        });
        way
    }
}

async fn post<T: DeserializeOwned>(url: &str, path: &str, body: &impl Serialize) -> T {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let request = reqwest::Client::new().post(format!("{url}/api/v1{path}")).json(body);
    let response = request.send().await.unwrap();
    assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
    let answer = response.bytes().await.unwrap();
    serde_json::from_slice(if answer.is_empty() { b"null" } else { &answer }).unwrap()
}

/// A worker that has job 1.
async fn lease(url: &str) -> LeaseGrant {
    let worker = WorkerDescription {
        name: "w".into(),
        host: "host".into(),
        output_root: String::new(),
        places: String::new(),
        slots: 1,
        devices: vec!["cpu".into()],
        backbones: vec!["ViT-B/16".into()],
        backbone_sha256: std::collections::BTreeMap::new(),
        methods: std::collections::BTreeMap::new(),
        version: promptfield_core::VERSION.into(),
        labels: Vec::new(),
        memory_mib: None,
        pilot: None,
        time_left_ms: None,
    };
    let Registered { worker, .. } = post(url, "/workers", &worker).await;
    let request = LeaseRequest { slots: 1, wait_ms: 60_000 };
    let LeaseResponse { mut leases, .. } = post(url, &format!("/workers/{worker}/lease"), &request).await;
    leases.remove(0)
}

async fn print(url: &str, grant: &LeaseGrant, first_line: u64, lines: &[&str]) {
    let log = Some(LogChunk { first_line, lines: lines.iter().map(|&line| line.into()).collect() });
    let report = ProgressReport { token: grant.token, progress: None, metrics: Vec::new(), log };
    let _: serde_json::Value = post(url, &format!("/leases/{}/progress", grant.lease), &report).await;
}

#[tokio::test]
async fn a_log_is_followed_over_a_broken_connection_to_its_end() {
    let site = Site::with_only(SETTINGS);
    let served = Served::at(&site);
    let url = served.0.url.clone();
    let submitted = site.run(&["submit", "base_to_new", "--datasets", "dtd", "--seeds", "1", "--coordinator", &url]);
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));
    let grant = lease(&url).await;
    print(&url, &grant, 0, &["a", "b"]).await;
    let way = Way::to(&url).await;
    let job = grant.job.to_string();
    let command = site.command(&["logs", &job, "--follow", "--coordinator", &format!("http://{}", way.address)]);
    let mut command = tokio::process::Command::from(command);
    let mut follower = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for expected in ["a", "b"] {
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(expected));
    }
    way.breaks.notify_waiters();
    print(&url, &grant, 2, &["c"]).await;
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("c"));
    let failure = serde_json::json!({ "token": grant.token, "failure": { "class": "bad_data", "reason": "no" } });
    let _: serde_json::Value = post(&url, &format!("/leases/{}/fail", grant.lease), &failure).await;
    assert_eq!(lines.next_line().await.unwrap(), None);
    assert!(follower.wait().await.unwrap().success());
    // As JSON, one document for each line.
    let json = site.run(&["logs", &job, "--follow", "--json", "--coordinator", &url]);
    let printed = text(&json.stdout);
    let printed = printed.lines().map(|line| serde_json::from_str::<LogLine>(line).unwrap().text);
    assert_eq!(printed.collect::<Vec<_>>(), ["a", "b", "c"]);
}

/// What a command prints on a terminal.
fn on_terminal(mut command: std::process::Command) -> String {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(theirs.try_clone().unwrap()).stderr(theirs).spawn().unwrap();
    drop(command);
    let mut printed = Vec::new();
    // Its end is an error when nobody has the other side any more.
    let _ = File::from(ours).read_to_end(&mut printed);
    assert!(child.wait().unwrap().success());
    String::from_utf8(printed).unwrap()
}

#[tokio::test]
async fn a_terminal_gets_nothing_that_it_would_act_on() {
    let site = Site::with_only(SETTINGS);
    let served = Served::at(&site);
    let url = served.0.url.clone();
    let submitted = site.run(&["submit", "base_to_new", "--datasets", "dtd", "--seeds", "1", "--coordinator", &url]);
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));
    let grant = lease(&url).await;
    let evil = "\u{1b}]0;OWNED\u{7}\u{1b}[2J\u{9b}31m\u{202e}";
    print(&url, &grant, 0, &[evil, "\tin time"]).await;
    let failure = json!({ "class": "bad_data", "reason": format!("{evil}\n99  forged  completed") });
    let _: Value =
        post(&url, &format!("/leases/{}/fail", grant.lease), &json!({ "token": grant.token, "failure": failure }))
            .await;
    let job = grant.job.to_string();
    for arguments in [
        &["logs", &job][..],
        &["logs", &job, "--follow"],
        &["logs", &job, "--json"],
        &["status", "1"],
        &["explain", &job],
    ] {
        let printed = on_terminal(site.command(&[arguments, &["--coordinator", &url]].concat()));
        let acts = |c: char| promptfield_core::names::is_control(c) && !"\n\r\t".contains(c);
        assert!(!printed.contains(acts), "{arguments:?}: {printed:?}");
        assert!(!printed.lines().any(|line| line.trim_start().starts_with("99")), "{printed}");
        if arguments[0] == "logs" {
            assert!(printed.contains("\\u001b]0;OWNED\\u0007"), "{printed}");
            assert!(printed.contains("in time"), "{printed}");
        }
    }
}

#[tokio::test]
async fn the_log_of_an_earlier_attempt_is_printed() {
    let site = Site::with_only(SETTINGS);
    let served = Served::at(&site);
    let url = served.0.url.clone();
    let submitted = site.run(&["submit", "base_to_new", "--datasets", "dtd", "--seeds", "1", "--coordinator", &url]);
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));
    let first = lease(&url).await;
    print(&url, &first, 0, &["why it failed"]).await;
    let failure = serde_json::json!({ "token": first.token, "failure": { "class": "bad_data", "reason": "no" } });
    let _: serde_json::Value = post(&url, &format!("/leases/{}/fail", first.lease), &failure).await;
    let job = first.job.to_string();
    assert!(site.run(&["retry", "--job", &job, "--coordinator", &url]).status.success());
    // Others of the matrix may come before it.
    let second = loop {
        let grant = lease(&url).await;
        if grant.job == first.job {
            break grant;
        }
    };
    print(&url, &second, 0, &["again"]).await;
    let logs = |more: &[&str]| {
        let output = site.run(&[&["logs", job.as_str(), "--coordinator", url.as_str()], more].concat());
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    assert_eq!(logs(&[]).1, "again\n");
    let attempt = first.lease.to_string();
    assert_eq!(logs(&["--attempt", &attempt]).1, "why it failed\n");
    assert_eq!(logs(&["--attempt", &attempt, "--follow"]).1, "why it failed\n");
    let (code, _, error) = logs(&["--attempt", "99"]);
    assert!(code == Some(2) && error.contains("attempt") && error.contains("99"), "{code:?}: {error}");
}

#[test]
fn a_job_that_is_not_there_has_no_log_to_follow() {
    let site = Site::with_only(SETTINGS);
    let served = Served::at(&site);
    let output = site.run(&["logs", "7", "--follow", "--coordinator", &served.0.url]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let nobody = site.run(&["logs", "7", "--follow", "--coordinator", "http://127.0.0.1:9"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", text(&nobody.stderr));
}
