//! What pilots are told, whoever starts them.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use promptfield_core::chain::chain;
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::pilot_records::PilotKey;
use promptfield_core::wire::access::{Scope, Secret, TokenRequest};

use super::Order;
use crate::clock::Clock;
use crate::store::TokenChange;
use crate::tokens::Tokens;
use crate::writer::Writer;

/// How long logs are kept after their last line.
const KEPT: Duration = Duration::from_hours(30 * 24);
/// How much of a log is looked at for its last words.
const TAIL: u64 = 4096;
/// So many characters of them are repeated.
const LAST_WORDS: usize = 400;

/// The file with the token that pilots show.
#[derive(Debug)]
pub(crate) enum TokenFile {
    /// They need none.
    None,
    /// Somebody has put one there.
    Given(PathBuf),
    /// This coordinator makes one for them.
    Own(PathBuf),
}

impl TokenFile {
    fn path(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Given(path) | Self::Own(path) => Some(path),
        }
    }

    /// Makes a token if there is to be one of our own and there is none that is valid.
    pub(super) async fn ensure(&self, tokens: &Tokens, writer: &Writer, clock: Clock) -> Result<(), String> {
        let Self::Own(path) = self else { return Ok(()) };
        let kept = fs_err::read_to_string(path).ok().and_then(|text| text.trim().parse::<Secret>().ok());
        let valid = kept.and_then(|secret| tokens.find(secret.expose(), clock.now()));
        if valid.is_some_and(|principal| principal.may(Scope::Work)) {
            return Ok(());
        }
        let request = TokenRequest { name: "pilots".to_owned(), scopes: vec![Scope::Work], expires_in_s: None };
        let (secret, record) = tokens.prepare(request, clock.now()).map_err(|error| chain(&error))?;
        writer.change_tokens(vec![TokenChange::Created(record)]).await.map_err(|error| chain(&error))?;
        write_secret(path, secret.expose()).map_err(|error| format!("the pilots' token can't be kept: {error}"))
    }
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs_err::create_dir_all(folder)?;
    let fresh = path.with_extension("new");
    match fs_err::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs_err::rename(&fresh, path)
}

/// Where pilots find what they need.
#[derive(Debug)]
pub(crate) struct Site {
    /// By what this coordinator's pilots are told from another's.
    pub(crate) instance: String,
    /// The `promptfield` program.
    pub(crate) program: PathBuf,
    /// The settings file.
    pub(crate) settings: Option<PathBuf>,
    /// The coordinator.
    pub(crate) url: String,
    /// Whether other hosts find it there; not when it was only told to listen on all addresses of this one.
    pub(crate) is_known_elsewhere: bool,
    /// Their token.
    pub(crate) token: TokenFile,
    /// For logs, and for what is kept of local pilots.
    pub(crate) folder: PathBuf,
}

impl Site {
    /// Refuses to start pilots on other hosts that wouldn't find the coordinator.
    pub(super) fn check_url(&self) -> Result<(), InvalidInput> {
        if self.is_known_elsewhere {
            return Ok(());
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let there = self.url.replace("127.0.0.1", &host).replace("[::1]", &host);
        Err(InvalidInput::new(
            "coordinator.pilots.url",
            "nothing",
            format!(
                "an address by which other hosts call this coordinator, which listens on all of its host's: name one in its \
                 settings, such as `{there}`, or as `coordinator.url`"
            ),
        ))
    }

    /// The arguments of the worker in a place of a batch. The place may be a shell's variable.
    pub(super) fn arguments(&self, order: &Order<'_>, place: &str) -> Vec<String> {
        let Order { pool, settings, batch, .. } = order;
        let mut arguments = Vec::new();
        let mut say = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        if let Some(settings) = &self.settings {
            say("--settings", settings.display().to_string());
        }
        if let Some(file) = self.token.path() {
            say("--token-file", file.display().to_string());
        }
        arguments.push("work".to_owned());
        let mut say = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        say("--coordinator", self.url.clone());
        say("--pilot", format!("{batch}.{place}"));
        say("--name", format!("{pool}-{}-{place}", batch.get(..8).unwrap_or(batch)));
        say("--slots-per-gpu", settings.slots_per_gpu.to_string());
        say("--leave-after", format!("{}s", settings.idle_s));
        say("--lead", format!("{}s", settings.lead_s));
        if let Some(memory_mib) = settings.memory_mib {
            say("--memory-mib", memory_mib.to_string());
        }
        for label in &settings.labels {
            say("--label", label.clone());
        }
        arguments
    }

    /// The log of a place of a batch.
    pub(super) fn log(&self, batch: &str, place: &str) -> PathBuf {
        self.folder.join(format!("{batch}-{place}.log"))
    }

    /// Removes the logs of pilots that are long over.
    pub(super) async fn tidy(&self) -> io::Result<()> {
        let mut entries = match fs_err::tokio::read_dir(&self.folder).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        while let Some(entry) = entries.next_entry().await? {
            let age = entry.metadata().await?.modified()?.elapsed().unwrap_or_default();
            let is_log = entry.path().extension() == Some("log".as_ref());
            if is_log && age > KEPT {
                fs_err::tokio::remove_file(entry.path()).await?;
            }
        }
        Ok(())
    }

    /// What a pilot's log says last, where this machine sees it.
    pub(super) async fn last_words(&self, key: &PilotKey) -> Option<String> {
        let path = self.log(&key.batch, &key.index.to_string());
        let text = fs_err::tokio::read(&path).await.ok()?;
        let tail = text.get(text.len().saturating_sub(TAIL as usize)..)?;
        let tail = String::from_utf8_lossy(tail);
        let lines: Vec<&str> = tail.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let words = lines.get(lines.len().saturating_sub(3)..)?.join(" | ");
        let cut = words.char_indices().rev().nth(LAST_WORDS).map_or(0, |(place, _)| place);
        words.get(cut..).filter(|words| !words.is_empty()).map(str::to_owned)
    }
}
