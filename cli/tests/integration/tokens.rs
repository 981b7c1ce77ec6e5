//! Tokens from the command line: the first without a coordinator, the others through it.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use crate::site::{Running, Site, text};

const REQUIRED: &str = "[coordinator]\nlisten = \"127.0.0.1:0\"\ntokens = \"required\"\n";

/// Ends it when the test does.
struct Served(Running);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.child.kill();
        let _ = self.0.child.wait();
    }
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn first_token(site: &Site) {
    succeeded(&site.run(&["token", "create", "first", "--scope", "admin", "--output", "admin.token"]));
}

#[test]
fn the_first_token_opens_the_coordinator_and_makes_others() {
    let site = Site::with_only(REQUIRED);
    first_token(&site);
    let mode = std::fs::metadata(site.path("admin.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let served = Served(site.start(&["serve"]));
    let at = |args: &[&str]| site.run(&[args, &["--coordinator", &served.0.url]].concat());
    let refused = at(&["status"]);
    assert_eq!(refused.status.code(), Some(4), "{}", text(&refused.stderr));

    let admin = ["--token-file", "admin.token"];
    succeeded(&at(&[&["status"][..], &admin].concat()));
    let create = ["token", "create", "ci", "--scope", "read,submit", "--expires", "30d"];
    let made = succeeded(&at(&[&create[..], &admin].concat()));
    let secret = made.trim();
    assert!(secret.starts_with("pf_"), "{made}");
    let with_variable =
        || site.command(&["status", "--coordinator", &served.0.url]).env("PROMPTFIELD_TOKEN", secret).output().unwrap();
    succeeded(&with_variable());
    let beyond = site
        .command(&["token", "list", "--coordinator", &served.0.url])
        .env("PROMPTFIELD_TOKEN", secret)
        .output()
        .unwrap();
    assert_eq!(beyond.status.code(), Some(4));
    assert!(text(&beyond.stderr).contains("the scope `admin`"), "{}", text(&beyond.stderr));

    let listed = succeeded(&at(&[&["token", "list"][..], &admin].concat()));
    assert!(listed.contains("ci") && listed.contains("submit, read") && !listed.contains("pf_"), "{listed}");
    succeeded(&at(&[&["token", "revoke", "2"][..], &admin].concat()));
    assert_eq!(with_variable().status.code(), Some(4));
}

#[test]
fn without_a_coordinator_tokens_are_listed_and_revoked_in_its_database() {
    let site = Site::with_only(REQUIRED);
    first_token(&site);
    let listed = succeeded(&site.run(&["token", "list", "--json"]));
    assert!(listed.contains("\"name\": \"first\"") && listed.contains("\"revoked_at\": null"), "{listed}");
    succeeded(&site.run(&["token", "revoke", "1"]));
    assert!(succeeded(&site.run(&["token", "list"])).contains("revoked"));
    let absent = site.run(&["token", "revoke", "9"]);
    assert_eq!(absent.status.code(), Some(2), "{}", text(&absent.stderr));
}

#[test]
fn a_token_never_takes_another_files_place() {
    let site = Site::with_only(REQUIRED);
    first_token(&site);
    let before = std::fs::read(site.path("admin.token")).unwrap();
    let again = site.run(&["token", "create", "b", "--scope", "admin", "--output", "admin.token"]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again.stderr));
    assert_eq!(std::fs::read(site.path("admin.token")).unwrap(), before);
    assert_eq!(succeeded(&site.run(&["token", "list", "--json"])).matches("\"id\"").count(), 1);
}

#[test]
fn bad_requests_are_refused_before_anything_is_made() {
    let site = Site::with_only(REQUIRED);
    for (args, said) in [
        (&["token", "create", "a", "--scope", "raed"][..], "did you mean `read`?"),
        (&["token", "create", "a", "--scope", "read", "--expires", "30"], "`30`"),
        (&["token", "create", " ", "--scope", "read"], "`name`"),
    ] {
        let output = site.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
    assert!(!site.path("var").exists());
}

#[test]
fn beyond_this_machine_nobody_is_served_without_a_token() {
    let site = Site::with_only("");
    let refused = site.run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.status.code(), Some(1));
    let stderr = text(&refused.stderr);
    assert!(stderr.contains("`promptfield token create NAME --scope admin`"), "{stderr}");
}
