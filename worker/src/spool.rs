//! Results that the coordinator hasn't answered yet, on disk.
//!
//! A completed job's report is here, synced, before it's sent, and goes when the coordinator has said yes or no. So it survives
//! both: a worker that starts delivers what it finds, before it registers, since that would end the leases of the registration
//! before. The coordinator decides what still counts: a report whose lease is no longer the job's latest is dropped. Output folders
//! are never touched.
//!
//! Each worker has a folder of its own below the output root, which several may share; a file is named after its lease.

use std::io;
use std::path::{Path, PathBuf};

use promptfield_core::chain::chain;
use promptfield_core::id::LeaseId;
use promptfield_core::wire::api::CompletionReport;
use promptfield_output::file::replace_by;
use serde::{Deserialize, Serialize};

use crate::checkpoint::CheckpointError;
use crate::coordinator::Coordinator;
use crate::options::{Machine, Options};
use crate::places::{self, PlaceError};

/// Where the workers' folders are, below the output root.
const FOLDER: &str = ".undelivered";
const EXTENSION: &str = "json";
/// Of a file that wasn't written to its end: nobody has heard of what it should have said.
const PARTIAL: &str = "partial";
/// Of a file that can't be understood.
const DAMAGED: &str = "damaged";

/// A worker's folder.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
}

/// What a file says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Undelivered {
    lease: LeaseId,
    report: CompletionReport,
}

/// A file that isn't what its name says.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("it is not a report")]
    NoReport(#[source] serde_json::Error),
    #[error("it is the report on lease {0}")]
    OtherLease(LeaseId),
}

impl Spool {
    pub(crate) fn of(options: &Options) -> Self {
        Self { folder: folder(&options.machine.output_root, &options.name) }
    }

    /// Keeps a report. When this returns, it's on the disk; without a place there it's still delivered by this process.
    pub(crate) async fn keep(&self, lease: LeaseId, report: &CompletionReport) {
        let text = serde_json::json!(Undelivered { lease, report: report.clone() }).to_string();
        let (folder, path) = (self.folder.clone(), self.path(lease));
        let write = move || {
            fs_err::create_dir_all(folder)?;
            replace_by(&path.with_extension(PARTIAL), &path, text.as_bytes())
        };
        let written = tokio::task::spawn_blocking(write).await;
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            tracing::warn!(%lease, "lease {lease}: its result would not survive this worker: {}", chain(&error));
        }
    }

    /// Lets a report go, if there is one: it was answered.
    pub(crate) async fn forget(&self, lease: LeaseId) {
        match fs_err::tokio::remove_file(self.path(lease)).await {
            // What comes back is answered as it was before.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%lease, "lease {lease}: its delivered report stays: {}", chain(&error));
            }
            _ => {}
        }
    }

    /// Delivers what an earlier run of this worker left. Waits for as long as the coordinator is out of reach.
    pub(crate) async fn deliver(&self, coordinator: &Coordinator, machine: &Machine) {
        let folder = self.folder.clone();
        let found = tokio::task::spawn_blocking(move || read(&folder)).await.map_err(io::Error::other).flatten();
        let found = found.unwrap_or_else(|error| {
            tracing::warn!("results that were not delivered can't be looked for: {}", chain(&error));
            Vec::new()
        });
        for undelivered in found {
            self.deliver_one(coordinator, machine, undelivered).await;
        }
    }

    async fn deliver_one(&self, coordinator: &Coordinator, machine: &Machine, undelivered: Undelivered) {
        let Undelivered { lease, report } = undelivered;
        if let Some(manifest) = &report.outcome.manifest
            && let Err(error) = places::hand_over(coordinator, machine, &manifest.spec, Some(manifest)).await
        {
            tracing::warn!(%lease, "lease {lease}: the checkpoint of an earlier run is lost: {}", chain(&error));
            if !matches!(error, PlaceError::Checkpoint(CheckpointError::Refused { .. })) {
                self.forget(lease).await;
            }
            return;
        }
        match coordinator.until_answered(|| coordinator.complete(lease, &report)).await {
            Ok(()) => {
                tracing::info!(%lease, "lease {lease}: the result of an earlier run is delivered");
                self.forget(lease).await;
            }
            Err(rejected) if rejected.is_final() => {
                tracing::warn!(%lease, "lease {lease}: the result of an earlier run is dropped: {}", chain(&rejected));
                self.forget(lease).await;
            }
            Err(rejected) => {
                tracing::warn!(%lease, "lease {lease}: the result of an earlier run stays here: {}", chain(&rejected));
            }
        }
    }

    fn path(&self, lease: LeaseId) -> PathBuf {
        self.folder.join(format!("{lease}.{EXTENSION}"))
    }
}

/// The folder of a worker, by its name.
pub(crate) fn folder(output_root: &Path, name: &str) -> PathBuf {
    output_root.join(FOLDER).join(as_file_name(name))
}

/// The reports in a folder, the oldest lease first. What is damaged is set aside.
fn read(folder: &Path) -> io::Result<Vec<Undelivered>> {
    let mut found = Vec::new();
    let entries = match fs_err::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(EXTENSION) => match understood(&path, &fs_err::read(&path)?) {
                Ok(undelivered) => found.push(undelivered),
                Err(damage) => {
                    let aside = path.with_added_extension(DAMAGED);
                    fs_err::rename(&path, &aside)?;
                    tracing::warn!("`{}` is set aside as `{}`: {}", path.display(), aside.display(), chain(&damage));
                }
            },
            Some(PARTIAL) => fs_err::remove_file(&path)?,
            _ => {}
        }
    }
    found.sort_by_key(|undelivered| undelivered.lease);
    Ok(found)
}

fn understood(path: &Path, text: &[u8]) -> Result<Undelivered, Damage> {
    let undelivered: Undelivered = serde_json::from_slice(text).map_err(Damage::NoReport)?;
    let name = path.file_stem().and_then(|name| name.to_str());
    if name == Some(undelivered.lease.to_string().as_str()) {
        Ok(undelivered)
    } else {
        Err(Damage::OtherLease(undelivered.lease))
    }
}

/// A worker's name as the name of a folder; different names give different folders.
fn as_file_name(name: &str) -> String {
    let mut safe = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => safe.push(char::from(byte)),
            other => safe.push_str(&format!("%{other:02x}")),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_an_earlier_version_left_is_understood() {
        let text = r#"{"lease":7,"report":{"token":3,"outcome":{"adopted":false,"manifest":null,"result":{"total":10,
            "correct":9,"accuracy":90.0,"error":10.0,"macro_f1":90.0}}}}"#;
        let Undelivered { lease, report } = understood(Path::new("7.json"), text.as_bytes()).unwrap();
        assert_eq!((lease.0, report.memory_mib, report.evaluation), (7, None, None));
    }

    #[test]
    fn every_name_has_a_folder_of_its_own() {
        assert_eq!(as_file_name("gpu-7_b"), "gpu-7_b");
        assert_eq!(as_file_name("a.b/../c é"), "a%2eb%2f%2e%2e%2fc%20%c3%a9");
        assert_ne!(as_file_name("a%2e"), as_file_name("a."));
    }
}
