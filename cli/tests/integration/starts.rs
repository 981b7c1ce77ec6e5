//! What keeps a run from starting, and what must not.

use std::os::unix::fs::PermissionsExt;

use crate::site::{QUICK, Site, text};

/// A machine whose trainer is this shell script.
fn with_trainer(script: &str) -> Site {
    let site = Site::new();
    site.settings("[worker]\ntrainer = \"trainer.sh\"\n");
    site.write("trainer.sh", &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(site.path("trainer.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    site.write("quick.toml", QUICK);
    site
}

/// The worker's process waits for its stdin to end, and nobody ends it while the worker is waited for.
#[test]
fn a_worker_that_cannot_start_ends_the_run_each_time() {
    for (script, reason) in [("exit 7", "exit status: 7"), ("echo hello; cat", "a line that is no reply (`hello`")] {
        let site = with_trainer(script);
        for _ in 0..10 {
            let run = site.run(&["run", "quick.toml", "--workers", "1"]);
            let said = text(&run.stderr);
            assert_eq!(run.status.code(), Some(1), "{said}");
            assert!(said.contains(reason) && said.contains("worker 1 died 5 times in a row"), "{said}");
            assert!(!said.contains('\u{1b}'), "no colours where nobody sees them: {said}");
        }
    }
}

#[test]
fn weights_that_are_not_there_are_named_before_anything_is_started() {
    let site = Site::new();
    let settings = std::fs::read_to_string(site.path("promptfield.toml")).unwrap();
    site.write("promptfield.toml", &settings.replace("clip-mini.safetensors", "none.safetensors"));
    site.write("quick.toml", QUICK);
    for command in ["run", "up"] {
        let run = site.run(&[command, "quick.toml"]);
        let said = text(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert!(said.contains("`backbones.clip-mini`") && said.contains("none.safetensors"), "{said}");
        assert!(!site.path("var").exists());
    }
}

#[test]
fn proxies_of_the_environment_are_not_asked_for_the_coordinator() {
    let site = Site::new();
    site.write("quick.toml", &QUICK.replace("\"alignednorm\", ", ""));
    let mut run = site.command(&["run", "quick.toml"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"] {
        // Nobody listens there.
        run.env(name, "http://127.0.0.1:9");
    }
    let output = run.env_remove("no_proxy").env_remove("NO_PROXY").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}
