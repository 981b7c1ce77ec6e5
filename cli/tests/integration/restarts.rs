//! What waits for a coordinator that is started again, and what goes on when a program's file is replaced.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use promptfield_core::scheduler::pilot_records::{LauncherKind, PoolRecord, PoolSettings, PoolState};
use promptfield_core::time::Timestamp;
use promptfield_core::wire::api::pools::{PoolSummary, Pools};

use crate::crashes::{LONGER, until_running};
use crate::fake::Fake;
use crate::site::{QUICK, Running, Site, kill, text};

/// An address that is free, and stays the same when a coordinator is started again.
fn fixed_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn until_said(stderr: &mut BufReader<ChildStderr>, what: &str) -> String {
    let mut said = String::new();
    while !said.contains(what) {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended with {said}");
    }
    said
}

fn stderr_of(child: &mut Child) -> BufReader<ChildStderr> {
    BufReader::new(child.stderr.take().unwrap())
}

#[test]
fn who_waits_for_an_experiment_waits_for_its_coordinator_too() {
    let site = Site::new();
    site.write("quick.toml", QUICK);
    let address = fixed_address();
    let url = format!("http://{address}");
    let mut first = site.start(&["serve", "--listen", &address]);
    let mut submit = site.command(&["submit", "quick.toml", "--wait", "--coordinator", &url]);
    let mut submit = submit.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = stderr_of(&mut submit);
    until_said(&mut stderr, "(submitted)");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let said = until_said(&mut stderr, "waiting for it");
    assert!(said.contains("can't reach the coordinator"), "{said}");

    let second = site.start(&["serve", "--listen", &address]);
    let mut work = site.command(&["work", "--until-stdin-ends", "--coordinator", &url]);
    let mut work = work.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let output = submit.wait_with_output().unwrap();
    assert!(output.status.success(), "{rest}");
    assert!(text(&output.stdout).contains("Accuracy in per cent"), "{rest}");
    drop(work.stdin.take());
    work.wait().unwrap();
    second.stop();
}

#[test]
fn who_waits_for_pilots_waits_for_their_coordinator_too() {
    let site = Site::with_only("");
    let fake = Fake::new();
    let url = fake.url();
    let pools = |state: PoolState| {
        let settings = PoolSettings::new(LauncherKind::Local, 1);
        let record = PoolRecord {
            name: "home".to_owned(),
            settings,
            from_file: false,
            state,
            reason: None,
            failed_submissions: 0,
            crashes: 0,
            not_before: Timestamp(0),
        };
        let summary = PoolSummary::new(&record, std::iter::empty());
        (
            serde_json::to_string(&Pools { pools: vec![summary.clone()] }).unwrap(),
            serde_json::to_string(&summary).unwrap(),
        )
    };
    let coordinator = std::thread::spawn(move || {
        let (ending, one) = pools(PoolState::Ending);
        for answer in [&ending, &one, &ending] {
            fake.asked().answer("200 OK", "", answer);
        }
        // It dies before it answers, and then it's starting.
        drop(fake.asked());
        fake.asked().answer("503 Service Unavailable", "Retry-After: 0\r\n", "{}");
        fake.asked().answer("200 OK", "", &pools(PoolState::Off).0);
    });
    let off = site.run(&["scale", "local", "off", "home", "--coordinator", &url]);
    assert!(off.status.success(), "{}", text(&off.stderr));
    assert_eq!(text(&off.stdout), "the pool `home` is off\n");
    coordinator.join().unwrap();
}

#[tokio::test]
async fn a_program_that_is_replaced_while_it_runs_is_said_and_nothing_ends() {
    let site = Site::new();
    site.write("longer.toml", LONGER);
    let here = Path::new(env!("CARGO_BIN_EXE_promptfield"));
    std::fs::create_dir(site.path("bin")).unwrap();
    let programs = ["promptfield", "promptfield-trainer"];
    for name in programs {
        let (from, to) = (here.with_file_name(name), site.path("bin").join(name));
        // Another file system has to have a copy.
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).unwrap();
        }
    }
    let run = Running::by(site.program(&site.path("bin/promptfield"), &["run", "longer.toml", "--workers", "1"]));
    until_running(&run).await;
    for name in programs {
        site.write("new", "#!/bin/sh\necho the new one is of another version >&2\nexit 9\n");
        std::fs::rename(site.path("new"), site.path("bin").join(name)).unwrap();
    }
    kill(run.workers()[0]);
    let output = run.finish();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("bin/promptfield` was replaced or removed while it's in use"), "{said}");
    assert_eq!(site.complete_folders().len(), 4);
}
