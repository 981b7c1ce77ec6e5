//! A terminal that is gone, a log's disk that is full, a reader that has seen enough.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::fake::Fake;
use crate::site::{QUICK, Running, Site, text};

/// Takes nothing, as a disk without room.
fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

fn quick() -> Site {
    let site = Site::new();
    site.write("quick.toml", QUICK);
    site
}

/// A terminal, and the side of it that a program has.
fn terminal() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    (OwnedFd::into(master), File::options().read(true).write(true).open(name).unwrap())
}

/// Reads until something was said.
fn until_said(from: &mut impl Read, what: &str) {
    let (mut said, mut piece) = (Vec::new(), [0; 256]);
    while !text(&said).contains(what) {
        let read = from.read(&mut piece).unwrap();
        assert!(read > 0, "it ended with {}", text(&said));
        said.extend_from_slice(&piece[..read]);
    }
}

/// How it ended, which it must within a minute.
fn ended(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + Duration::from_mins(1);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_goes_on_when_nothing_can_be_said() {
    let site = quick();
    let full_log =
        site.command(&["run", "quick.toml"]).stderr(full()).env("PROMPTFIELD_LOG", "debug").output().unwrap();
    assert!(full_log.status.success(), "{:?}", full_log.status);
    let table = text(&full_log.stdout);
    assert!(table.contains("Accuracy in per cent"), "{table}");

    let site = quick();
    let mut run = site.command(&["run", "quick.toml"]);
    let mut run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(run.stderr.take());
    let unread = run.wait_with_output().unwrap();
    assert!(unread.status.success(), "{:?}", unread.status);
    assert_eq!(text(&unread.stdout), table);
}

#[test]
fn a_run_goes_on_when_its_terminal_is_gone() {
    let site = quick();
    let (mut master, slave) = terminal();
    let mut run = site.command(&["run", "quick.toml"]);
    let run = run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(slave);
    let child = run.spawn().unwrap();
    // The command holds the terminal, too.
    *run = Command::new("true");
    until_said(&mut master, "coordinator at http");
    drop(master);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert!(text(&output.stdout).contains("Accuracy in per cent"));
    assert_eq!(site.complete_folders().len(), 4);
}

#[tokio::test]
async fn a_coordinator_and_a_worker_go_on_when_nobody_reads_what_they_say() {
    let site = quick();
    let mut serve = site.command(&["serve"]);
    serve.env("PROMPTFIELD_LOG", "debug");
    let Running { mut child, stderr, url } = Running::by(serve);
    drop(stderr);
    let mut work = site.command(&["work", "--until-stdin-ends", "--coordinator", &url]);
    work.env("PROMPTFIELD_LOG", "debug").stdin(Stdio::piped());
    let mut work = work.stdout(full()).stderr(full()).spawn().unwrap();
    let submitted = site.run(&["submit", "quick.toml", "--wait", "--coordinator", &url]);
    assert!(submitted.status.success(), "{}", text(&submitted.stderr));
    drop(work.stdin.take());
    assert!(ended(&mut work).success());
    let signal = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(signal.success());
    assert!(ended(&mut child).success());
}

#[test]
fn output_that_cannot_be_written_is_said_and_has_an_exit_code() {
    let site = quick();
    let Running { mut child, url, .. } = site.start(&["serve"]);
    let submit = ["submit", "quick.toml", "--coordinator", &url];
    let commands: [&[&str]; 10] = [
        &submit,
        &["status", "--coordinator", &url],
        &["status", "1", "--json", "--coordinator", &url],
        &["results", "--coordinator", &url],
        &["explain", "1", "--coordinator", &url],
        &["cancel", "1", "--coordinator", &url],
        &["config", "show", "coop"],
        &["doctor", "--coordinator", &url],
        &["--help"],
        &["--version"],
    ];
    for command in commands {
        let output = site.command(command).stdout(full()).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{command:?}: {said}");
        assert!(said.contains("can't write to standard output: ") && !said.contains("panicked"), "{command:?}: {said}");
        // A reader that has seen enough is no failure.
        let mut read = site.command(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(read.stdout.take());
        let output = read.wait_with_output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    }
    // It was shown to nobody.
    let token =
        site.command(&["token", "create", "t", "--scope", "read", "--coordinator", &url]).stdout(full()).output();
    let said = text(&token.unwrap().stderr);
    assert!(said.contains("`promptfield token revoke 1`"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_run_computes_everything_though_its_tables_cannot_be_printed() {
    let site = quick();
    site.write("other.toml", &QUICK.replace("seeds = [1]", "seeds = [2]"));
    let run = site.command(&["run", "quick.toml", "other.toml"]).stdout(full()).output().unwrap();
    assert_eq!(run.status.code(), Some(5), "{}", text(&run.stderr));
    assert_eq!(site.complete_folders().len(), 6);
}

#[test]
fn a_trainer_that_cannot_say_what_is_wrong_says_it_by_its_exit_code() {
    let site = Site::with_only("");
    let trainer = Path::new(env!("CARGO_BIN_EXE_promptfield")).with_file_name("promptfield-trainer");
    let output = site.program(&trainer, &["run", "nothing.json"]).stderr(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn following_a_log_ends_with_its_reader() {
    let site = Site::with_only("");
    let fake = Fake::new();
    let mut logs = site.command(&["logs", "1", "--follow", "--coordinator", &fake.url()]);
    let mut logs = logs.stdout(Stdio::piped()).spawn().unwrap();
    let asked = fake.asked();
    // A line, and then nothing for as long as the test takes.
    let line = r#"{"attempt":1,"line":0,"text":"epoch [1/200]"}"#;
    let _open = asked.begin("Content-Type: text/event-stream\r\n", &format!("id: 1\ndata: {line}\n\n"));
    let mut stdout = BufReader::new(logs.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    assert_eq!(first, "epoch [1/200]\n");
    drop(stdout);
    assert!(ended(&mut logs).success());
}
