//! Other programs, in bounded time.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Slurm's own programs give up after half a minute without an answer.
const PATIENCE: Duration = Duration::from_secs(45);

/// Why a program brought no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// It isn't installed, or not on the `PATH`.
    #[error("`{0}` isn't on the coordinator's PATH")]
    Missing(String),
    /// It couldn't be run.
    #[error("`{program}` can't be run: {source}")]
    NotRun { program: String, source: io::Error },
    /// It didn't end.
    #[error("`{_0}` gave no answer in {seconds} s and was ended", seconds = PATIENCE.as_secs())]
    Silent(String),
    /// It failed, and said so.
    #[error("{words}")]
    Failed { words: String },
}

/// Runs a program with some input, and gives what it prints. It doesn't hear of this program's secrets.
pub(super) async fn call(program: &str, arguments: &[String], input: &str) -> Result<String, CallError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.env_remove("PROMPTFIELD_TOKEN");
    let not_run = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => CallError::Missing(program.to_owned()),
        _ => CallError::NotRun { program: program.to_owned(), source },
    };
    let mut child = command.spawn().map_err(not_run)?;
    let stdin = child.stdin.take();
    let talk = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // One that reads nothing says why it ended.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        output
    };
    let answered = tokio::time::timeout(PATIENCE, talk).await;
    let Output { status, stdout, stderr } =
        answered.map_err(|_| CallError::Silent(program.to_owned()))?.map_err(not_run)?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let words = said(&String::from_utf8_lossy(&stderr), program);
    let words = if words.is_empty() { format!("`{program}` ended with {status}") } else { words };
    Err(CallError::Failed { words })
}

/// What a program said on stderr, on one line, without its own name before everything.
fn said(stderr: &str, program: &str) -> String {
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let bare = lines.map(|line| {
        let line = line.strip_prefix(program).and_then(|line| line.strip_prefix(": ")).unwrap_or(line);
        line.strip_prefix("error: ").unwrap_or(line)
    });
    let lines: Vec<&str> = bare.collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_says_is_told_apart() {
        let arguments = |script: &str| ["-c", script].map(str::to_owned);
        assert_eq!(call("sh", &arguments("cat; echo"), "abc").await.unwrap(), "abc\n");
        let error = call("sh", &arguments("echo 'sh: error: no' >&2; echo more >&2; exit 3"), "").await.unwrap_err();
        assert_eq!(error.to_string(), "no; more");
        let error = call("sh", &arguments("exit 3"), "").await.unwrap_err();
        assert_eq!(error.to_string(), "`sh` ended with exit status: 3");
        let error = call("no-such-program", &[], "").await.unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program` isn't on the coordinator's PATH");
    }
}
