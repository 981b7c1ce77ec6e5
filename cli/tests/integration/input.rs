//! Bad input is refused with exit code 2 and a sentence that says what would be right.

use crate::site::{QUICK, Site, text};

fn refusal(site: &Site, args: &[&str]) -> String {
    let output = site.run(args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    stderr
}

#[test]
fn names_that_are_not_known() {
    let site = Site::new();
    for (from, to, field, right) in [
        ("alignednorm", "alignednrom", "`methods[0]`: `alignednrom`", "did you mean `alignednorm`?"),
        ("\"icons\"", "\"icon\"", "`datasets[0]`: `icon`", "did you mean `icons`?"),
        ("clip-mini", "clip-min", "`backbone`: `clip-min`", "did you mean `clip-mini`?"),
        ("epochs = 2", "epoch = 2", "`overrides`: `epoch`", "did you mean `epochs`?"),
        ("epochs = 2", "epochs = 0", "`overrides.epochs`: `0`", "a whole number from 1"),
        ("seeds = [1]", "seeds = [\"one\"]", "`seeds[0]`: `one`", "a whole number"),
        ("shots = [4]", "shots = [0]", "`shots`: `0`", "at least 1"),
        ("protocol = \"base_to_new\"", "protocol = \"base2new\"", "`protocol`: `base2new`", "`base_to_new`"),
    ] {
        site.write("wrong.toml", &QUICK.replace(from, to));
        let stderr = refusal(&site, &["run", "wrong.toml"]);
        assert!(stderr.contains(field) && stderr.contains(right), "{to}: {stderr}");
    }
}

#[test]
fn experiments_that_are_not_there() {
    let stderr = refusal(&Site::new(), &["run", "base_to_knew"]);
    assert!(stderr.contains("did you mean `base_to_new`?"), "{stderr}");
}

#[test]
fn seeds_from_the_environment_are_checked_too() {
    let site = Site::new();
    site.write("quick.toml", QUICK);
    let output = site.command(&["run", "quick.toml"]).env("SEEDS", "1 two").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("`seeds[1]`: `two`"));
}

#[test]
fn settings_with_a_slip() {
    let site = Site::new();
    site.settings("[worker]\nslot = 2\n");
    let stderr = refusal(&site, &["run", "demo"]);
    assert!(stderr.contains("did you mean `slots`?"), "{stderr}");
}

#[test]
fn a_coordinator_that_is_not_there_is_code_3() {
    let output = Site::new().run(&["status", "--coordinator", "http://127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("promptfield serve"));
}

#[test]
fn presets_can_be_looked_up() {
    let site = Site::new();
    let output = site.run(&["config", "show", "alignednorm", "--dataset", "stanford_cars"]);
    let stdout = text(&output.stdout);
    assert!(output.status.success() && stdout.starts_with("# vit_b16\n"), "{stdout}");
    assert!(stdout.contains("\nepochs = 13\n") && stdout.contains("\nreg_weight = 6.0\n"), "{stdout}");
    let file = site.run(&["config", "show", "zero_shot", "few_shot"]);
    assert!(text(&file.stdout).contains("test_batch = 250"));
    let stderr = refusal(&site, &["config", "show", "mmrlp"]);
    assert!(stderr.contains("did you mean `mmrlpp`?"), "{stderr}");
}
