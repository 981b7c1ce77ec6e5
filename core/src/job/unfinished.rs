//! What a training that was broken off leaves in its `….partial` folder, and what of it travels to another machine.
//!
//! A worker that gives a job back hands these files to the coordinator as artefacts, and the list of them, an [`Unfinished`], as one
//! more. Whoever gets the job next puts them where its trainer would have left them, had it been the one that was broken off.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::input::InvalidInput;
use crate::job::layout::{LOG_FILE, ORIGIN_FILE, STATE_FILE};
use crate::job::outcome::FileEntry;
use crate::job::spec::{JobSpec, SpecHash, is_sha256};

/// The one key of the metadata of the trainer's tensor files; its value is JSON. One, because several are written in no fixed
/// order.
pub const METADATA_KEY: &str = "promptfield";

/// Everything that a job's bytes rest on: work is resumed only on the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// What is computed.
    pub spec: JobSpec,
    /// The backbone's identity ([`crate::job::backbone::Architecture::identity`]).
    pub backbone_sha256: String,
    /// SHA-256 of the class names and the lists of images and labels.
    pub split_sha256: String,
    /// Promptfield's version.
    pub code_version: String,
}

impl Origin {
    /// Whether work on the other one can be resumed on this.
    pub fn is_that_of(&self, other: &Self) -> bool {
        self.spec.hash() == other.spec.hash()
            && (&self.backbone_sha256, &self.split_sha256, &self.code_version)
                == (&other.backbone_sha256, &other.split_sha256, &other.code_version)
    }
}

/// What the state of an unfinished training belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The training job's hash.
    pub spec_hash: SpecHash,
    /// Epochs completed.
    pub epochs: u32,
}

impl Reached {
    /// What the head of a state's file says; `None` if it's none. Its tensors aren't looked at.
    pub fn of(state: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "__metadata__")]
            metadata: BTreeMap<String, String>,
        }
        let (length, rest) = state.split_first_chunk()?;
        let head = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let Head { metadata } = serde_json::from_slice(head).ok()?;
        serde_json::from_str(metadata.get(METADATA_KEY)?).ok()
    }
}

/// The files of a training that was broken off, each an artefact, as is this list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// The layout of this document; now [`Unfinished::FORMAT`].
    pub format: u32,
    /// Epochs completed.
    pub epochs: u32,
    /// The files by name.
    pub files: BTreeMap<String, FileEntry>,
}

impl Unfinished {
    /// The layout that this version writes and reads.
    pub const FORMAT: u32 = 1;
    /// The files that travel, as far as they are there. The state comes last: without it the others are an attempt that was
    /// broken off in its first epoch.
    pub const FILES: [&str; 3] = [ORIGIN_FILE, LOG_FILE, STATE_FILE];
    /// The most bytes that they have together.
    pub const MOST_BYTES: u64 = 512 << 20;

    /// Refuses a list that no training leaves.
    pub fn check(&self) -> Result<(), InvalidInput> {
        if self.format != Self::FORMAT {
            return Err(InvalidInput::new("format", self.format, Self::FORMAT.to_string()));
        }
        for (name, entry) in &self.files {
            if !Self::FILES.contains(&name.as_str()) {
                return Err(InvalidInput::new("files", name, format!("one of {}", Self::FILES.join(", "))));
            }
            if !is_sha256(&entry.sha256) {
                let expected = "64 lower-case hexadecimal digits";
                return Err(InvalidInput::new(format!("files.{name}.sha256"), &entry.sha256, expected));
            }
        }
        if let Some(name) = [ORIGIN_FILE, STATE_FILE].into_iter().find(|name| !self.files.contains_key(*name)) {
            return Err(InvalidInput::new("files", "", format!("also {name}")));
        }
        let bytes = self.files.values().fold(0, |sum: u64, entry| sum.saturating_add(entry.bytes));
        if bytes > Self::MOST_BYTES {
            let expected = format!("at most {} bytes in all", Self::MOST_BYTES);
            return Err(InvalidInput::new("files", bytes, expected));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(files: &[(&str, u64)]) -> Unfinished {
        let entry = |bytes| FileEntry { sha256: "0".repeat(64), bytes };
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), entry(*bytes))).collect();
        Unfinished { format: 1, epochs: 3, files }
    }

    #[test]
    fn only_what_a_training_leaves_is_taken() {
        let files = [(ORIGIN_FILE, 1), (STATE_FILE, 2)];
        let also = |name, bytes| list(&[&files[..], &[(name, bytes)]].concat());
        assert_eq!(list(&files).check(), Ok(()));
        assert_eq!(also(LOG_FILE, 3).check(), Ok(()));
        let mut other_format = list(&files);
        other_format.format = 2;
        let mut no_hash = list(&files);
        no_hash.files.insert(LOG_FILE.into(), FileEntry { sha256: "../x".into(), bytes: 1 });
        for (wrong, field) in [
            (also("../log.txt", 1), "files"),
            (also(".lock", 1), "files"),
            (list(&files[..1]), "files"),
            (list(&files[1..]), "files"),
            (also(LOG_FILE, u64::MAX), "files"),
            (other_format, "format"),
            (no_hash, "files.log.txt.sha256"),
        ] {
            let error = wrong.check().unwrap_err();
            assert_eq!(error.errors[0].field, field, "{error}");
        }
    }

    #[test]
    fn a_state_says_how_far_it_is() {
        let reached = Reached { spec_hash: SpecHash([7; 32]), epochs: 3 };
        let metadata = serde_json::json!({ METADATA_KEY: serde_json::json!(reached).to_string() });
        let head = serde_json::json!({ "__metadata__": metadata }).to_string();
        let state = [&(head.len() as u64).to_le_bytes()[..], head.as_bytes(), b"tensors"].concat();
        assert_eq!(Reached::of(&state), Some(reached));
        for end in [0, 7, 8, 8 + head.len() - 1] {
            assert_eq!(Reached::of(&state[..end]), None);
        }
        assert_eq!(Reached::of(&[0xff; 64]), None);
    }
}
