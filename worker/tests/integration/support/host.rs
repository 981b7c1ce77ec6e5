//! A machine with a worker on it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promptfield_client::Connection;
use promptfield_core::job::backbone::ArchitectureSettings;
use promptfield_core::wire::trainer_wire::{BackboneFile, Backbones};
use promptfield_worker::{Caches, Machine, Options, Stops, Worker, WorkerError};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::coordinator::Coordinator;
use super::puppet::Puppet;
use super::soon;

/// The backbone of every test.
pub(crate) const BACKBONE: &str = "ViT-B/16";

/// A folder with all that a worker's settings name, and puppets for trainers.
pub(crate) struct Host {
    folder: TempDir,
    trainers: UnixListener,
    pub(crate) options: Options,
}

/// A worker at work.
pub(crate) struct Running {
    pub(crate) shutdown: CancellationToken,
    pub(crate) ending: CancellationToken,
    task: JoinHandle<Result<(), WorkerError>>,
}

impl Host {
    /// A host for one job at a time, not sharing its output root.
    pub(crate) fn new(name: &str, coordinator: &Coordinator) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let weights = path("weights.safetensors");
        fs_err::write(&weights, "").unwrap();
        let backbone = BackboneFile { weights, architecture: ArchitectureSettings::default() };
        fs_err::create_dir(path("data")).unwrap();
        symlink(env!("CARGO_BIN_EXE_puppet-trainer"), path("trainer")).unwrap();
        let options = Options {
            coordinator: coordinator.url().to_owned(),
            connection: Connection::default(),
            name: name.to_owned(),
            host: "here".to_owned(),
            slots: 1,
            devices: Vec::new(),
            visible_gpus: None,
            machine: Machine {
                data_root: path("data"),
                output_root: path("output"),
                backbones: Backbones::from([(BACKBONE.to_owned(), backbone)]),
                methods: Arc::clone(promptfield_core::method::Methods::built_in()),
                datasets: None,
                shared_output: Some(false),
            },
            trainer: path("trainer"),
            threads_per_slot: Some(1),
            labels: Vec::new(),
            // However small the machine is that the tests run on.
            memory_mib: Some(1 << 20),
            silence: None,
            caches: Caches::default(),
            pilot: None,
        };
        Self { trainers: UnixListener::bind(path("trainer.socket")).unwrap(), folder, options }
    }

    pub(crate) fn start(&self) -> Running {
        let stops = Stops::default();
        let task = tokio::spawn(Worker::run(self.options.clone(), stops.clone()));
        let Stops { shutdown, ending } = stops;
        Running { shutdown, ending, task }
    }

    /// Starts the worker, and its first trainer.
    pub(crate) async fn start_with_trainer(&self) -> (Running, Puppet) {
        let worker = self.start();
        (worker, self.ready_trainer().await)
    }

    /// The next trainer process that the worker starts.
    pub(crate) async fn trainer(&self) -> Puppet {
        Puppet::new(soon(self.trainers.accept()).await.unwrap().0).await
    }

    /// The same, ready for jobs on the CPU.
    pub(crate) async fn ready_trainer(&self) -> Puppet {
        let mut puppet = self.trainer().await;
        puppet.ready(&["cpu"]).await;
        puppet
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The names of the files with results that were not delivered.
    pub(crate) fn undelivered(&self) -> Vec<String> {
        let entries = fs_err::read_dir(self.spool()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        // By this one the worker holds its name.
        names.retain(|name| name != "lock");
        names.sort();
        names
    }

    /// The one report that was not delivered.
    pub(crate) fn undelivered_report(&self) -> serde_json::Value {
        let names = self.undelivered();
        assert_eq!(names.len(), 1, "{names:?}");
        let mut kept: serde_json::Value =
            serde_json::from_slice(&fs_err::read(self.spool().join(&names[0])).unwrap()).unwrap();
        kept["report"].take()
    }

    /// Waits until the worker has kept a result.
    pub(crate) async fn until_undelivered(&self) {
        self.until_kept(true).await;
    }

    /// Waits until it has kept none.
    pub(crate) async fn until_delivered(&self) {
        self.until_kept(false).await;
    }

    async fn until_kept(&self, some: bool) {
        soon(async {
            let is_whole = |name: &String| Path::new(name).extension() == Some("json".as_ref());
            while self.undelivered().iter().any(is_whole) != some {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Puts a file where results are that were not delivered.
    pub(crate) fn leave_undelivered(&self, name: &str, text: &str) {
        fs_err::create_dir_all(self.spool()).unwrap();
        fs_err::write(self.spool().join(name), text).unwrap();
    }

    fn spool(&self) -> PathBuf {
        self.output(".undelivered").join(&self.options.name)
    }

    pub(crate) fn output(&self, folder: &str) -> PathBuf {
        self.options.machine.output_root.join(folder)
    }
}

impl Running {
    /// Shuts the worker down. What it had to deliver is delivered then, if the coordinator is there.
    pub(crate) async fn stop(self) -> Result<(), WorkerError> {
        self.shutdown.cancel();
        self.end().await
    }

    /// Ends the worker between two instructions.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(soon(self.task).await.unwrap_err().is_cancelled());
    }

    /// Waits until the worker has ended.
    pub(crate) async fn end(self) -> Result<(), WorkerError> {
        soon(self.task).await.unwrap()
    }
}
