//! The token that this machine shows to a coordinator.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use promptfield_core::input::InvalidInput;
use promptfield_core::wire::access::Secret;

/// A token for those who can't have a file.
const VARIABLE: &str = "PROMPTFIELD_TOKEN";

/// The token in force: from the file named on the command line or by `PROMPTFIELD_TOKEN_FILE`, from `PROMPTFIELD_TOKEN`, from
/// the settings' file.
pub(crate) fn token(named: Option<&Path>, settings: Option<&Path>) -> anyhow::Result<Option<Secret>> {
    if let Some(path) = named {
        return read("--token-file", path).map(Some);
    }
    if let Some(text) = std::env::var_os(VARIABLE) {
        let secret: Result<Secret, _> = text.to_string_lossy().trim().parse();
        return secret.map(Some).with_context(|| format!("in the variable `{VARIABLE}`"));
    }
    settings.map(|path| read("coordinator.token_file", path)).transpose()
}

fn read(field: &str, path: &Path) -> anyhow::Result<Secret> {
    let unreadable =
        |error| InvalidInput::new(field, path.display(), format!("a readable file with a token ({error})"));
    let mode = fs_err::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let expected = format!("a file that only you can read, and its mode is {mode:04o}: `chmod 600` it");
        return Err(InvalidInput::new(field, path.display(), expected).into());
    }
    let text = fs_err::read_to_string(path).map_err(unreadable)?;
    text.trim().parse().with_context(|| format!("in {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let secret = Secret::from_bytes([1; 32]);
        fs_err::write(&path, format!("{}\n", secret.expose())).unwrap();
        for (mode, permitted) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let read = token(Some(&path), None);
            assert_eq!(read.is_ok(), permitted, "{mode:o}: {read:?}");
        }
        let error = token(Some(&path), None).unwrap_err().to_string();
        assert!(
            error.starts_with("`--token-file`") && error.contains("0604") && error.contains("chmod 600"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_token_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs_err::write(&path, "hunter2").unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let error = format!("{:#}", token(Some(&path), None).unwrap_err());
        assert!(error.contains("`pf_` and 64") && !error.contains("hunter2"), "{error}");
    }
}
