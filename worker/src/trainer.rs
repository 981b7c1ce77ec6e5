//! One resident trainer process and the pipes to it.
//!
//! The process is in a group of its own, so that Ctrl-C in a terminal reaches the worker alone, which then stops its trainers in
//! good order. If the worker dies, its end of the trainer's stdin closes, and the trainer stops by itself.
//!
//! Two tasks read the process's stdout and stderr all the time, so that waiting for a reply can be broken off at any point.
//! Whatever goes wrong with a process ends it: [`Trainer::bury`] takes the trainer, and gives the reason with the status and
//! the last words on stderr.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use promptfield_core::VERSION;
use promptfield_core::job::spec::BasisHash;
use promptfield_core::method::Method;
use promptfield_core::wire::trainer_wire::{Backbones, Reply, Request};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::options::Caches;

/// A trainer that is silent for so long while it loads its libraries, finds its devices and reads new weights files never will.
const READY_LIMIT: Duration = Duration::from_mins(10);
/// How long a trainer whose stdin is closed may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// How long the pipes and the exit status of a process that has ended may take.
const BURIAL_LIMIT: Duration = Duration::from_millis(500);
/// A longer line is no reply; what is longer on stderr is cut into several.
const LONGEST_LINE: u64 = 4 << 20;
/// Lines of stderr that are kept for the reason of a death.
const LAST_WORDS: usize = 8;

/// A trainer process that can take a job.
#[derive(Debug)]
pub(crate) struct Trainer {
    child: Child,
    requests: ChildStdin,
    replies: mpsc::Receiver<Result<Reply, Flaw>>,
    stderr: AbortOnDropHandle<()>,
    last_words: Arc<Mutex<VecDeque<String>>>,
    _stdout: AbortOnDropHandle<()>,
}

/// What a trainer says of its machine when it's ready.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The devices.
    pub(crate) devices: Vec<String>,
    /// The methods that it has an implementation of, by the SHA-256 of their declarations.
    pub(crate) methods: BTreeMap<Method, BasisHash>,
    /// The identities of the backbones that it was asked for.
    pub(crate) backbone_sha256: BTreeMap<String, BasisHash>,
    /// Why others of them can't be used.
    pub(crate) unusable: BTreeMap<String, String>,
}

/// What was wrong with a trainer process.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    /// The program couldn't be run.
    #[error("`{}` could not be started: {source}", .program.display())]
    NotStarted {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended, or closed its pipes.
    #[error("the trainer process ended")]
    Ended,
    /// It was silent from the start.
    #[error("the trainer process sent no `ready`, and was silent for {} seconds, and was stopped", READY_LIMIT.as_secs())]
    NotReady,
    /// It belongs to another release.
    #[error("the trainer is of version {0}, this worker of version {VERSION}: both must be of the same")]
    OtherVersion(String),
    /// It wrote something that isn't a reply.
    #[error("the trainer process wrote a line that is no reply (`{line}`: {reason}) and was stopped")]
    NoReply {
        /// The beginning of the line.
        line: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It sent a reply that nobody had asked for.
    #[error("the trainer process sent a reply out of turn ({0}) and was stopped")]
    OutOfTurn(String),
    /// It said nothing for too long.
    #[error("the trainer process said nothing for {} seconds and was stopped", .0.as_secs())]
    Silent(Duration),
    /// It didn't react to a cancellation.
    #[error("the trainer process did not stop its job within {} seconds and was stopped", .0.as_secs())]
    Stuck(Duration),
}

/// A trainer process that is no more.
#[derive(Debug, thiserror::Error)]
#[error("{flaw}{}{}", .status.map(|status| format!(", {status}")).unwrap_or_default(), quoted(.last_words))]
pub struct TrainerDeath {
    flaw: Flaw,
    status: Option<ExitStatus>,
    last_words: Vec<String>,
}

impl TrainerDeath {
    /// Whether somebody else than the worker killed it: it ended by itself as far as the worker knows, and by a signal that
    /// nothing withstands.
    pub(crate) fn was_killed(&self) -> bool {
        const KILLED: i32 = 9;
        matches!(self.flaw, Flaw::Ended) && self.status.and_then(|status| status.signal()) == Some(KILLED)
    }
}

fn quoted(last_words: &[String]) -> String {
    if last_words.is_empty() { String::new() } else { format!("; its last words: {}", last_words.join(" | ")) }
}

impl Trainer {
    /// Starts `program` for a slot, and waits until it can take a job. Also gives what it found: of GPUs, those that it sees here,
    /// or only `gpu`; and of `backbones`, what they are.
    pub(crate) async fn start(
        program: &Path,
        threads: usize,
        caches: &Caches,
        gpu: Option<&str>,
        (slot, backbones): (usize, Option<&Backbones>),
    ) -> Result<(Self, Found), TrainerDeath> {
        let not_started = |source| TrainerDeath {
            flaw: Flaw::NotStarted { program: program.to_owned(), source },
            status: None,
            last_words: Vec::new(),
        };
        let mut child = Command::new(program)
            .arg("serve")
            .arg("--threads")
            .arg(threads.to_string())
            .args(
                backbones
                    .into_iter()
                    .flat_map(|named| ["--backbones".to_owned(), serde_json::json!(named).to_string()]),
            )
            .envs(caches.variables())
            .envs(gpu.map(|gpu| ("CUDA_VISIBLE_DEVICES", gpu)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(not_started)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(requests), Some(stdout), Some(stderr)) = pipes else {
            return Err(not_started(io::Error::other("it has no pipes")));
        };
        tracing::debug!(slot, pid = child.id(), "trainer process started");
        let (sender, replies) = mpsc::channel(64);
        let last_words = Arc::default();
        let mut trainer = Self {
            child,
            requests,
            replies,
            stderr: AbortOnDropHandle::new(tokio::spawn(forward_stderr(stderr, slot, Arc::clone(&last_words)))),
            last_words,
            _stdout: AbortOnDropHandle::new(tokio::spawn(read_replies(stdout, sender))),
        };
        let first = loop {
            match timeout(READY_LIMIT, trainer.reply()).await {
                Ok(Ok(Reply::Working { .. })) => {}
                other => break other,
            }
        };
        let flaw = match first {
            Ok(Ok(Reply::Ready { version, devices, methods, backbone_sha256, unusable })) if version == VERSION => {
                return Ok((trainer, Found { devices, methods, backbone_sha256, unusable }));
            }
            Ok(Ok(Reply::Ready { version, .. })) => Flaw::OtherVersion(version),
            Ok(Ok(other)) => out_of_turn(&other),
            Ok(Err(flaw)) => flaw,
            Err(_) => Flaw::NotReady,
        };
        Err(trainer.bury(flaw).await)
    }

    /// The process's number, while it's there.
    pub(crate) fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a request. After an error the trainer is only good for [`Self::bury`]. Not to be broken off half-way.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<(), Flaw> {
        let mut line = serde_json::to_vec(request).map_err(|error| Flaw::OutOfTurn(error.to_string()))?;
        line.push(b'\n');
        // A broken pipe: the process has ended, and nothing better can be said of it.
        self.requests.write_all(&line).await.map_err(|_| Flaw::Ended)
    }

    /// The next reply. After an error the trainer is only good for [`Self::bury`]. Can be broken off without loss.
    pub(crate) async fn reply(&mut self) -> Result<Reply, Flaw> {
        self.replies.recv().await.unwrap_or(Err(Flaw::Ended))
    }

    /// Ends the process, if it hasn't ended, and gathers what there is to say.
    pub(crate) async fn bury(mut self, flaw: Flaw) -> TrainerDeath {
        if !matches!(flaw, Flaw::Ended) {
            self.kill();
        }
        let status = if let Ok(Ok(status)) = timeout(BURIAL_LIMIT, self.child.wait()).await {
            Some(status)
        } else {
            self.kill();
            timeout(BURIAL_LIMIT, self.child.wait()).await.ok().and_then(Result::ok)
        };
        // A process that the trainer left behind could keep its pipe open.
        let _ = timeout(BURIAL_LIMIT, &mut self.stderr).await;
        let last_words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        TrainerDeath { flaw, status, last_words: last_words.iter().cloned().collect() }
    }

    /// Lets an idle trainer end, and ends it if it doesn't.
    pub(crate) async fn stop(self) {
        let Self { mut child, requests, .. } = self;
        drop(requests);
        if timeout(STOP_LIMIT, child.wait()).await.is_err() {
            tracing::warn!(pid = child.id(), "a trainer process did not end when its stdin was closed, and is killed");
            let _ = timeout(BURIAL_LIMIT, child.kill()).await;
        }
    }

    fn kill(&mut self) {
        // It fails only if the process has ended.
        let _ = self.child.start_kill();
    }
}

pub(crate) fn out_of_turn(reply: &Reply) -> Flaw {
    Flaw::OutOfTurn(shortened(&format!("{reply:?}")))
}

async fn read_replies(stdout: impl AsyncRead + Unpin, replies: mpsc::Sender<Result<Reply, Flaw>>) {
    let mut stdout = BufReader::new(stdout);
    // A pipe that can't be read has ended as well.
    while let Ok(Some(line)) = next_line(&mut stdout).await {
        let reply = serde_json::from_str(&line)
            .map_err(|error| Flaw::NoReply { line: shortened(&line), reason: error.to_string() });
        let flawed = reply.is_err();
        if replies.send(reply).await.is_err() || flawed {
            return;
        }
    }
}

async fn forward_stderr(stderr: impl AsyncRead + Unpin, slot: usize, last_words: Arc<Mutex<VecDeque<String>>>) {
    let mut stderr = BufReader::new(stderr);
    while let Ok(Some(line)) = next_line(&mut stderr).await {
        tracing::info!(slot, "trainer: {line}");
        let mut last_words = last_words.lock().unwrap_or_else(PoisonError::into_inner);
        if last_words.len() == LAST_WORDS {
            last_words.pop_front();
        }
        last_words.push_back(shortened(&line));
    }
}

/// The next line without its end, or as much of it as a line may have; `None` at the end of the input.
async fn next_line(input: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if input.take(LONGEST_LINE).read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned()))
}

/// What of a line fits into a message.
fn shortened(line: &str) -> String {
    const MOST: usize = 300;
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded() {
        let long = vec![b'x'; LONGEST_LINE as usize + 1];
        let text = [b"one\r\n\n".as_slice(), &long, b"\n\xff"].concat();
        let mut input = BufReader::new(text.as_slice());
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input).await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines.len(), 5);
        assert_eq!((lines[0].as_str(), lines[1].as_str(), lines[2].len()), ("one", "", LONGEST_LINE as usize));
        assert_eq!((lines[3].as_str(), lines[4].as_str()), ("x", "\u{fffd}"));
    }
}
