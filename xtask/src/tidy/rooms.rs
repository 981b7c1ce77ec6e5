//! The folders of `core/src` import one way: each only what stands before it in [`ROOMS`].

use anyhow::Result;
use fs_err as fs;

use super::files::SourceFile;

/// Folders and single files of `core/src`, from what all rest on to what rests on all.
const ROOMS: [&str; 12] = [
    "chain",
    "id",
    "time",
    "input",
    "names",
    "protocol",
    "method",
    "job",
    "experiment",
    "scheduler",
    "results",
    "wire",
];

/// Imports that run the other way. Tests may import anything.
pub(super) fn offences(files: &[SourceFile]) -> Result<Vec<String>> {
    let mut offences = Vec::new();
    for file in files {
        let Some(inside) = file.name.strip_prefix("core/src/") else { continue };
        let Some(room) = inside.split(['/', '.']).next().filter(|_| !inside.contains("tests")) else { continue };
        let text = fs::read_to_string(&file.path)?;
        let code = text.split_once("#[cfg(test)]\nmod tests").map_or(text.as_str(), |(code, _)| code);
        offences.extend(above(room, code).into_iter().map(|other| {
            format!(
                "{} imports `crate::{other}`, which stands above `{room}` in core: move what is needed down",
                file.name
            )
        }));
    }
    Ok(offences)
}

/// The rooms above `room` that the code names.
fn above<'a>(room: &str, code: &'a str) -> Vec<&'a str> {
    let floor = |room: &str| ROOMS.iter().position(|known| *known == room);
    let Some(own) = floor(room) else { return Vec::new() };
    let lines = code.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    let named = lines.flat_map(|line| line.split("crate::").skip(1));
    let named = named.filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next());
    named.filter(|name| floor(name).is_some_and(|other| other > own)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_from_above_is_found() {
        let code = "use crate::names::named;\n//! [`crate::wire::api`]\nuse crate::scheduler::{Counts};\n";
        assert_eq!(above("job", code), ["scheduler"]);
        assert!(above("results", code).is_empty());
    }
}
