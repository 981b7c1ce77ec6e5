//! What a file in the repository must not be or contain.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use fs_err as fs;

use crate::workspace::Workspace;

/// In bytes; every clone carries each version of a file for good.
const LARGEST: u64 = 20_000_000;
/// Where people's own files lie; written without the slash at the end so that this file passes its own check.
const MACHINE_ROOTS: [&str; 4] = ["home", "root", "work", "Users"];
const UNFINISHED_MACROS: [&str; 2] = ["todo", "unimplemented"];

/// A file under version control, or new and not ignored.
pub(super) struct SourceFile {
    /// Relative to the root.
    pub(super) name: String,
    pub(super) path: PathBuf,
    size: u64,
}

/// Every file that git tracks or would add.
pub(super) fn of_repository(workspace: &Workspace) -> Result<Vec<SourceFile>> {
    let output = workspace
        .command("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("starting git")?;
    ensure!(
        output.status.success(),
        "git can't list the files: {}; run the checks in a clone",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let names = String::from_utf8(output.stdout).context("a file name that isn't UTF-8")?;
    let files = names.split_terminator('\0').filter_map(|name| {
        let path = workspace.root().join(name);
        let metadata = fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
        Some(SourceFile { name: name.to_owned(), path, size: metadata.len() })
    });
    Ok(files.collect())
}

pub(super) fn too_large(files: &[SourceFile]) -> Vec<String> {
    files
        .iter()
        .filter(|file| file.size > LARGEST)
        .map(|file| {
            format!("{} has {} bytes: keep files below {LARGEST}, and fetch or make larger ones", file.name, file.size)
        })
        .collect()
}

/// Lines that name a place on somebody's machine.
pub(super) fn naming_machine_paths(files: &[SourceFile]) -> Result<Vec<String>> {
    offending_lines(files.iter(), |line| {
        machine_path(line)
            .map(|root| format!("names a path below {root}, which exists on one machine only: make it relative"))
    })
}

/// Lines of Rust that promise code or tests for later.
pub(super) fn unfinished(files: &[SourceFile]) -> Result<Vec<String>> {
    let sources = files.iter().filter(|file| file.path.extension().is_some_and(|extension| extension == "rs"));
    offending_lines(sources, |line| {
        let found = unfinished_code(line)?;
        Some(format!("has `{found}`: write what's missing, or take it out"))
    })
}

fn offending_lines<'a>(
    files: impl Iterator<Item = &'a SourceFile>,
    offence: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>> {
    let mut offences = Vec::new();
    for file in files {
        // What isn't UTF-8 is an image or weights.
        let Ok(text) = String::from_utf8(fs::read(&file.path)?) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            if let Some(what) = offence(line) {
                offences.push(format!("{}:{} {what}", file.name, index + 1));
            }
        }
    }
    Ok(offences)
}

/// The first of the machine roots that a path in this line starts with.
fn machine_path(line: &str) -> Option<String> {
    MACHINE_ROOTS.iter().map(|root| format!("/{root}/")).find(|root| {
        line.match_indices(root.as_str()).any(|(at, _)| {
            // Inside a longer path or an address it's a folder like any other.
            !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-~*}$/)".contains(before))
        })
    })
}

fn unfinished_code(line: &str) -> Option<String> {
    UNFINISHED_MACROS
        .iter()
        .map(|name| format!("{name}!("))
        .chain(["ignore]", "ignore = "].map(|rest| format!("#[{rest}")))
        .find(|found| line.contains(found.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_start_of_a_path_counts() {
        let home = MACHINE_ROOTS[0];
        for (line, offends) in [
            (format!("let x = \"/{home}/jane/data\";"), true),
            (format!("/{home}/jane"), true),
            (format!("see docs/{home}/jane"), false),
            (format!("~/{home}/jane"), false),
            (format!("https://a.invalid/{home}/jane"), false),
            (format!("the {home}/folder"), false),
        ] {
            assert_eq!(machine_path(&line).is_some(), offends, "{line}");
        }
    }

    #[test]
    fn unfinished_code_is_found_and_named() {
        let line = format!("    {}!(\"later\")", UNFINISHED_MACROS[0]);
        assert_eq!(unfinished_code(&line), Some(format!("{}!(", UNFINISHED_MACROS[0])));
        assert!(unfinished_code(&format!("#[{}]", "ignore")).is_some());
        assert_eq!(unfinished_code("let todos = ignored(1);"), None);
    }

    #[test]
    fn size_is_checked_against_the_limit() {
        let file = |size| SourceFile { name: "weights".to_owned(), path: PathBuf::new(), size };
        assert!(too_large(&[file(LARGEST)]).is_empty());
        assert!(too_large(&[file(LARGEST + 1)])[0].starts_with("weights has 20000001 bytes"));
    }
}
