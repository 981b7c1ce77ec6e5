//! Backups and the state of a machine, from the command line.

use crate::site::{Served, Site, text};

const SETTINGS: &str = "[coordinator]\nlisten = \"127.0.0.1:0\"\n";

#[test]
fn a_backup_is_made_with_and_without_a_coordinator_and_replaces_nothing() {
    let site = Site::with_only(SETTINGS);
    let served = Served::at(&site);
    let online = site.run(&["backup", "online.db", "--coordinator", &served.0.url]);
    assert!(online.status.success(), "{}", text(&online.stderr));
    let in_use = site.run(&["backup", "offline.db"]);
    assert_eq!(in_use.status.code(), Some(1));
    assert!(text(&in_use.stderr).contains("another coordinator uses it"), "{}", text(&in_use.stderr));
    drop(served);
    // Of one that was broken off.
    site.write("offline.db.partial", "half of something");
    let offline = site.run(&["backup", "offline.db", "--json"]);
    assert!(offline.status.success(), "{}", text(&offline.stderr));
    assert!(text(&offline.stdout).contains("\"schema\""), "{}", text(&offline.stdout));
    let before = std::fs::read(site.path("online.db")).unwrap();
    let again = site.run(&["backup", "online.db"]);
    assert_eq!(again.status.code(), Some(2));
    assert_eq!(std::fs::read(site.path("online.db")).unwrap(), before);
    assert!(!site.path("online.db.partial").exists() && !site.path("offline.db.partial").exists());
}

#[test]
fn the_doctor_has_a_line_for_each_check() {
    let site = Site::with_only(SETTINGS);
    let served = Served::at(&site);
    let well = site.run(&["doctor", "--coordinator", &served.0.url]);
    let stdout = text(&well.stdout);
    for check in ["state", "output", "database", "coordinator", "clock", "workers"] {
        assert!(stdout.lines().any(|line| line.split_whitespace().nth(1) == Some(check)), "{check}: {stdout}");
    }
    assert!(well.status.success(), "{stdout}{}", text(&well.stderr));
    drop(served);
    let ill = site.run(&["doctor"]);
    assert_eq!(ill.status.code(), Some(1), "{}", text(&ill.stdout));
    assert!(text(&ill.stdout).contains("WRONG    coordinator"), "{}", text(&ill.stdout));
    // Files that a killed coordinator left beside it would still answer for the database.
    let site = Site::with_only(SETTINGS);
    std::fs::create_dir(site.path("var")).unwrap();
    site.write("var/promptfield.db", "no database, but long enough to be looked at as if it were one");
    let json = site.run(&["doctor", "--json"]);
    assert!(text(&json.stdout).contains("restore a backup"), "{}", text(&json.stdout));
}

#[test]
fn what_concerns_data_sets_needs_the_flag() {
    let site = Site::with_only(SETTINGS);
    assert_eq!(site.run(&["doctor", "dtd"]).status.code(), Some(2));
    assert_eq!(site.run(&["doctor", "--quick"]).status.code(), Some(2));
}
