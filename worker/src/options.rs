//! A worker's settings, checked before anything starts, so that a person hears of a wrong path now and not from a job.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use promptfield_client::{Connection, coordinator_address};
use promptfield_core::input::InvalidInput;
use promptfield_core::method::Methods;
use promptfield_core::wire::trainer_wire::{BackboneFile, Backbones};

use crate::devices::is_device;
use crate::pilot::Pilot;

/// What a worker is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The coordinator's address, without the API's prefix: `http://127.0.0.1:7878`.
    pub coordinator: String,
    /// How the coordinator is reached.
    pub connection: Connection,
    /// A name that no other worker has and that stays the same when this one is started again: a second registration under
    /// it ends the first.
    pub name: String,
    /// The host, as people know it.
    pub host: String,
    /// Jobs to run at once, each in a trainer process of its own.
    pub slots: usize,
    /// The devices over which the slots are spread: `cpu`, `cuda:0`, `MIG-…`. Empty: the trainer's CUDA devices, or `cpu` if it
    /// has none.
    pub devices: Vec<String>,
    /// What `CUDA_VISIBLE_DEVICES` says to this process: a batch system gives GPUs, and slices of them, by it.
    pub visible_gpus: Option<String>,
    /// Where things lie on this machine.
    pub machine: Machine,
    /// The `promptfield-trainer` binary.
    pub trainer: PathBuf,
    /// CPU threads of each trainer; `None` divides this machine's among the slots.
    pub threads_per_slot: Option<usize>,
    /// What experiments may ask for by name: `a100`.
    pub labels: Vec<String>,
    /// The memory that the slots share, in MiB, for the coordinator to count what jobs take against; `None`: the devices' own.
    pub memory_mib: Option<u64>,
    /// How long a trainer may say nothing before it's ended; `None`: 20 of the job's usual steps, and 10 minutes at least.
    pub silence: Option<Duration>,
    /// What the trainers keep.
    pub caches: Caches,
    /// How it was started, if that was on demand.
    pub pilot: Option<Pilot>,
}

/// What the trainers keep between jobs, as far as their environment doesn't say it already.
#[derive(Clone, Debug, Default)]
pub struct Caches {
    /// Memory of each trainer for decoded images, in MiB.
    pub images_mib: Option<u64>,
    /// A folder on a local disk for what frozen towers make of images, shared by all trainers of the machine.
    pub frozen: Option<PathBuf>,
    /// The most that this folder takes, in MiB.
    pub frozen_mib: Option<u64>,
}

impl Caches {
    /// What a trainer is told by its environment.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, OsString)> {
        let mib = |mib: Option<u64>| mib.map(|mib| mib.to_string().into());
        let said = [
            ("PROMPTFIELD_IMAGE_CACHE_MIB", mib(self.images_mib)),
            ("PROMPTFIELD_FROZEN_CACHE", self.frozen.clone().map(PathBuf::into_os_string)),
            ("PROMPTFIELD_FROZEN_CACHE_MIB", mib(self.frozen_mib)),
        ];
        said.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

/// Where the things that jobs name lie on this machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The folder that holds the data sets' folders.
    pub data_root: PathBuf,
    /// The folder below which output folders appear.
    pub output_root: PathBuf,
    /// The backbones, by name.
    pub backbones: Backbones,
    /// The folder of user-defined data sets; `None` for `datasets` below the data root.
    pub datasets: Option<PathBuf>,
    /// The methods that this machine knows.
    pub methods: Arc<Methods>,
    /// Whether the other workers have the same output root. Checkpoints are then not sent to the coordinator. `None` finds out
    /// whether it's the coordinator's, and takes the others to have that too.
    pub shared_output: Option<bool>,
}

/// A setting that a worker can't start with. Every message begins with the setting's name.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The coordinator's address can't be called.
    #[error(transparent)]
    Coordinator(InvalidInput),
    /// The name is empty.
    #[error("`name` is empty: expected a name that no other worker has")]
    Name,
    /// No job could ever run.
    #[error("`slots`: `0` is not valid: expected a whole number of at least 1")]
    Slots,
    /// A trainer can't compute without a thread.
    #[error("`threads_per_slot`: `0` is not valid: expected a whole number of at least 1")]
    Threads,
    /// Not a device's name.
    #[error("`devices`: `{device}` is not valid: expected `cpu`, `cuda:N` or `MIG-UUID`")]
    Device {
        /// What was given.
        device: String,
    },
    /// The trainer doesn't see a device.
    #[error("`devices`: `{device}` is not there: the trainer found {}", .found.join(", "))]
    DeviceMissing {
        /// What was given.
        device: String,
        /// What there is.
        found: Vec<String>,
    },
    /// Without weights there is no job that this worker could run.
    #[error("`backbones` is empty: expected at least one backbone with its weights file")]
    NoWeights,
    /// No weights file is one that a trainer can use.
    #[error("`backbones`: none of them can be used: {}", name_reasons(.reasons))]
    Unusable {
        /// Why, by name.
        reasons: BTreeMap<String, String>,
    },
    /// What is said of a backbone can't be computed with.
    #[error("`backbones.{backbone}`")]
    Architecture {
        /// The backbone.
        backbone: String,
        /// The wrong field.
        source: InvalidInput,
    },
    /// A weights file isn't there.
    #[error("`backbones`: the file of backbone `{backbone}` can't be read")]
    Weights {
        /// The backbone.
        backbone: String,
        /// Why, with the path.
        source: io::Error,
    },
    /// The folder of user-defined data sets isn't there.
    #[error("`datasets`: the folder of data-set definitions can't be read")]
    Datasets {
        /// Why, with the path.
        source: io::Error,
    },
    /// Outputs couldn't be written.
    #[error("`output_root`: folders can't be made in `{}`", .path.display())]
    OutputRoot {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The trainer isn't there.
    #[error("`trainer`: the trainer program can't be found: expected the path of `promptfield-trainer`")]
    Trainer {
        /// Why, with the path.
        source: io::Error,
    },
}

impl Options {
    /// Checks everything that can be checked without a trainer. Makes the output root if it isn't there.
    ///
    /// The data root isn't checked: it may be mounted later, and only a job knows which of its folders it needs.
    pub fn check(&self) -> Result<(), OptionsError> {
        coordinator_address("coordinator", &self.coordinator).map_err(OptionsError::Coordinator)?;
        if self.name.trim().is_empty() {
            return Err(OptionsError::Name);
        }
        if self.slots == 0 {
            return Err(OptionsError::Slots);
        }
        if self.threads_per_slot == Some(0) {
            return Err(OptionsError::Threads);
        }
        if let Some(device) = self.devices.iter().find(|device| !is_device(device)) {
            return Err(OptionsError::Device { device: device.clone() });
        }
        regular_file(&self.trainer).map_err(|source| OptionsError::Trainer { source })?;
        self.machine.check()
    }

    /// CPU threads of each trainer.
    pub(crate) fn threads(&self) -> usize {
        self.threads_per_slot.unwrap_or_else(|| {
            let machine = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            (machine / self.slots).max(1)
        })
    }
}

impl Machine {
    /// Finds out whether the output root is the coordinator's, by the file that it has made there.
    pub(crate) fn find_out_sharing(&mut self, marker: Option<&str>) {
        let inside = |marker: &&str| Path::new(marker).components().all(|part| matches!(part, Component::Normal(_)));
        let is_there = |marker: &str| self.output_root.join(marker).is_file();
        let shared = self.shared_output.unwrap_or_else(|| marker.filter(inside).is_some_and(is_there));
        self.shared_output = Some(shared);
    }

    /// Offers backbones that the trainer can't use to nobody.
    pub(crate) fn leave_out(&mut self, unusable: &BTreeMap<String, String>) -> Result<(), OptionsError> {
        for (backbone, reason) in unusable {
            tracing::warn!("the backbone `{backbone}` is left out: {reason}");
            self.backbones.remove(backbone);
        }
        if self.backbones.is_empty() {
            return Err(OptionsError::Unusable { reasons: unusable.clone() });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), OptionsError> {
        if self.backbones.is_empty() {
            return Err(OptionsError::NoWeights);
        }
        for (backbone, BackboneFile { weights, architecture }) in &self.backbones {
            let checked = architecture.check();
            checked.map_err(|source| OptionsError::Architecture { backbone: backbone.clone(), source })?;
            regular_file(weights).map_err(|source| OptionsError::Weights { backbone: backbone.clone(), source })?;
        }
        if let Some(folder) = &self.datasets {
            fs_err::read_dir(folder).map_err(|source| OptionsError::Datasets { source })?;
        }
        let unwritable = |source| OptionsError::OutputRoot { path: self.output_root.clone(), source };
        fs_err::create_dir_all(&self.output_root).map_err(unwritable)?;
        tempfile::tempdir_in(&self.output_root).map_err(unwritable)?;
        Ok(())
    }
}

fn name_reasons(reasons: &BTreeMap<String, String>) -> String {
    let named: Vec<String> = reasons.iter().map(|(backbone, reason)| format!("`{backbone}`: {reason}")).collect();
    named.join("; ")
}

fn regular_file(path: &Path) -> io::Result<()> {
    if fs_err::metadata(path)?.is_file() {
        Ok(())
    } else {
        Err(io::Error::other(format!("`{}` is not a file", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use promptfield_core::job::backbone::ArchitectureSettings;

    use super::*;

    fn backbone(weights: PathBuf) -> BackboneFile {
        BackboneFile { weights, architecture: ArchitectureSettings::default() }
    }

    fn options(folder: &Path) -> Options {
        let file = |name: &str| {
            let path = folder.join(name);
            fs_err::write(&path, "").unwrap();
            path
        };
        Options {
            coordinator: "http://127.0.0.1:1".into(),
            connection: Connection::default(),
            name: "a".into(),
            host: "h".into(),
            slots: 2,
            devices: Vec::new(),
            visible_gpus: None,
            machine: Machine {
                data_root: folder.join("data"),
                output_root: folder.join("a/b/output"),
                backbones: Backbones::from([("mini".to_owned(), backbone(file("weights")))]),
                methods: Arc::clone(Methods::built_in()),
                datasets: None,
                shared_output: Some(false),
            },
            trainer: file("trainer"),
            threads_per_slot: None,
            labels: Vec::new(),
            memory_mib: None,
            silence: None,
            caches: Caches::default(),
            pilot: None,
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let right = options(folder.path());
        right.check().unwrap();
        let refusal = |change: &dyn Fn(&mut Options)| {
            let mut wrong = right.clone();
            change(&mut wrong);
            wrong.check().unwrap_err().to_string()
        };
        assert!(refusal(&|o| o.coordinator = "localhost".into()).starts_with("`coordinator`: `localhost`"));
        assert!(refusal(&|o| o.coordinator = "ftp://a".into()).starts_with("`coordinator`: `ftp://a`"));
        assert!(refusal(&|o| o.name = " ".into()).starts_with("`name`"));
        assert!(refusal(&|o| o.slots = 0).starts_with("`slots`"));
        assert!(refusal(&|o| o.threads_per_slot = Some(0)).starts_with("`threads_per_slot`"));
        assert!(refusal(&|o| o.devices = vec!["gpu".into()]).starts_with("`devices`: `gpu`"));
        assert!(refusal(&|o| o.trainer = "nowhere".into()).starts_with("`trainer`"));
        assert!(refusal(&|o| o.machine.backbones.clear()).starts_with("`backbones` is empty"));
        let wrong = refusal(&|o| {
            o.machine.backbones.insert("ViT-B/16".into(), backbone("nowhere".into()));
        });
        assert!(wrong.contains("backbone `ViT-B/16`"), "{wrong}");
        assert!(refusal(&|o| o.machine.datasets = Some("nowhere".into())).starts_with("`datasets`"));
        assert!(refusal(&|o| o.machine.output_root = o.trainer.join("x")).starts_with("`output_root`"));
    }
}
