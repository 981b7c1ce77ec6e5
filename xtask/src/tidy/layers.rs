//! Dependencies point one way: only the trainer reaches libtorch, and it reaches no network or database code.

use anyhow::{Context, Result};

use crate::workspace::Workspace;

struct Rule {
    packages: &'static [&'static str],
    forbidden: &'static [&'static str],
    reason: &'static str,
}

const RULES: [Rule; 7] = [
    Rule {
        packages: &[
            "promptfield-core",
            "promptfield-output",
            "promptfield-client",
            "promptfield-server",
            "promptfield-worker",
            "promptfield",
            "promptfield-simulator",
            "promptfield-bench",
            "promptfield-slurm-sandbox",
            "xtask",
        ],
        forbidden: &["promptfield-trainer", "tch", "torch-sys"],
        reason: "everything but the trainer builds on a machine without libtorch",
    },
    Rule {
        packages: &["promptfield-output"],
        forbidden: &["axum", "reqwest", "sqlx", "tokio"],
        reason: "it reads and writes folders, for the trainer too",
    },
    Rule {
        packages: &["promptfield-trainer"],
        forbidden: &["axum", "sqlx", "tokio"],
        reason: "the trainer computes, and talks to the worker by JSON lines only",
    },
    Rule {
        packages: &["promptfield-client"],
        forbidden: &["promptfield-server", "promptfield-worker", "sqlx"],
        reason: "who calls a coordinator knows of it what its HTTP API says",
    },
    Rule {
        packages: &["promptfield-simulator"],
        forbidden: &["promptfield-server", "promptfield-worker", "tokio"],
        reason: "the simulator has no clock and no sockets, so that a seed is a run",
    },
    Rule {
        packages: &["promptfield-bench"],
        forbidden: &["promptfield-server", "promptfield-worker", "sqlx"],
        reason: "what is measured is the program that people run, over its HTTP API",
    },
    Rule {
        packages: &["promptfield-slurm-sandbox"],
        forbidden: &["promptfield-core", "tokio"],
        reason: "it plays a machine that knows nothing of jobs, and any test can wait for it",
    },
];

/// The packages that reach what they must not.
pub(super) fn offences(workspace: &Workspace) -> Result<Vec<String>> {
    let mut offences = Vec::new();
    for rule in &RULES {
        for package in rule.packages {
            match tree(workspace, package)? {
                Ok(tree) => offences.extend(rule.offences(package, &tree)),
                Err(why) => offences.push(format!("{why}: correct the rules in xtask/src/tidy/layers.rs")),
            }
        }
    }
    Ok(offences)
}

/// All that a package depends on, directly or not, one `NAME VERSION …` a line; or why cargo can't say.
///
/// `cargo metadata` would not do: it gives every package the features that any member of the workspace asks for.
fn tree(workspace: &Workspace, package: &str) -> Result<Result<String, String>> {
    let output = workspace
        .cargo()
        .args(["tree", "--package", package, "--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}"])
        .output()
        .context("running cargo tree")?;
    let [tree, why] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    Ok(if output.status.success() { Ok(tree) } else { Err(why) })
}

impl Rule {
    fn offences(&self, package: &str, tree: &str) -> Vec<String> {
        let reaches = |name: &str| tree.lines().any(|line| line.split(' ').next() == Some(name));
        self.forbidden
            .iter()
            .filter(|name| reaches(name))
            .map(|name| {
                format!(
                    "{package} reaches {name}, but {}: cut what `cargo tree --package {package} --invert {name}` shows",
                    self.reason
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_package_is_found_by_its_whole_name() {
        let rule = Rule { packages: &[], forbidden: &["tokio", "axum"], reason: "it's a test" };
        let tree = "trainer v0.1.0 (trainer)\nserde v1.0.0\ntokio-util v0.7.0\naxum v0.8.9\nserde v1.0.0 (*)";
        let offences = rule.offences("trainer", tree);
        assert_eq!(offences.len(), 1);
        assert!(offences[0].starts_with("trainer reaches axum, but it's a test: cut"), "{}", offences[0]);
    }
}
