//! Where a coordinator listens, and by which address it is called.

use std::net::TcpListener;

use crate::site::{Served, Site, text};

/// Another than the settings' own, and free.
fn elsewhere() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_lowercase()
}

#[test]
fn addresses_that_cannot_be_called_are_refused_alike_everywhere() {
    let site = Site::new();
    let host = format!("`http://{}:7878`", host_name());
    let [scheme, here] = ["`http://localhost:7878`", "`http://127.0.0.1:7878`"];
    for (address, right) in
        [("localhost:7878", scheme), ("", here), ("http://0.0.0.0:7878", here), ("http://[::]:7878", &host)]
    {
        for command in [
            &["status"][..],
            &["submit", "demo"],
            &["work"],
            &["logs", "1", "--follow"],
            &["doctor"],
            &["token", "list"],
        ] {
            let by_flag = site.command(command).args(["--coordinator", address]).output().unwrap();
            let by_variable = site.command(command).env("PROMPTFIELD_COORDINATOR", address).output().unwrap();
            for output in [by_flag, by_variable] {
                let said = text(&output.stderr);
                assert_eq!(output.status.code(), Some(2), "{command:?} {address}: {said}");
                assert!(said.contains(&format!("`--coordinator`: `{address}` is not valid")), "{command:?}: {said}");
                assert!(said.contains(right), "{command:?}: {said}");
            }
        }
    }
    for key in ["url", "pilots.url"] {
        let site = Site::with_only(&format!("[coordinator]\n{key} = \"http://0.0.0.0:7878\"\n"));
        for command in [&["serve"][..], &["status"], &["work"]] {
            let output = site.run(command);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(&format!("`coordinator.{key}`")) && said.contains(&host), "{said}");
        }
    }
}

#[test]
fn a_page_of_the_dashboard_is_no_address_of_a_coordinator() {
    let site = Site::with_only("[coordinator]\nlisten = \"127.0.0.1:0\"\n");
    let served = Served::at(&site);
    let output = site.run(&["status", "--coordinator", &format!("{}/experiments/1", served.0.url)]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("`--coordinator`") && said.contains("without a page's path"), "{said}");
}

#[test]
fn commands_find_a_coordinator_that_was_told_elsewhere_to_listen() {
    let site = Site::with_only("");
    let address = elsewhere();
    let served = Served(site.start(&["serve", "--listen", &address]));
    let status = site.run(&["status"]);
    assert!(status.status.success(), "{}", text(&status.stderr));
    let doctor = site.run(&["doctor"]);
    assert!(text(&doctor.stdout).contains(&format!("http://{address} answers")), "{}", text(&doctor.stdout));
    let token = site.run(&["token", "create", "t", "--scope", "read"]);
    assert!(token.status.success(), "through it, since it has the database: {}", text(&token.stderr));
    let pid = served.0.child.id().to_string();
    assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
    let mut served = served;
    assert!(served.0.child.wait().unwrap().success());
    let said = text(&site.run(&["status"]).stderr);
    assert!(said.contains("can't reach the coordinator at http://127.0.0.1:7878"), "{said}");
}

#[test]
fn who_listens_on_all_addresses_is_called_by_one() {
    let site = Site::with_only("[coordinator]\nlisten = \"0.0.0.0:0\"\n");
    let token = site.run(&["token", "create", "me", "--scope", "admin", "--output", "my.token"]);
    assert!(token.status.success(), "{}", text(&token.stderr));
    let served = Served::at(&site);
    let url = &served.0.url;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let with_token = |args: &[&str]| {
        let command = &mut site.command(args);
        command.args(["--coordinator", url, "--token-file", "my.token"]).output().unwrap()
    };
    assert!(with_token(&["status"]).status.success());
    // Pilots on other hosts would look for it on their own.
    let refused = with_token(&["scale", "slurm", "a100", "--time", "1:00:00", "--max", "2"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    let port = url.rsplit(':').next().unwrap();
    assert!(said.contains("`coordinator.pilots.url`"), "{said}");
    assert!(said.to_lowercase().contains(&format!("`http://{}:{port}`", host_name())), "{said}");
    // Those on this host find it.
    let local = with_token(&["scale", "local", "home", "--max", "1"]);
    assert!(local.status.success(), "{}", text(&local.stderr));
}
