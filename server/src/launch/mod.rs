//! Starting and ending pilots.
//!
//! The scheduler says what is to be done ([`promptfield_core::scheduler::pilot_records::Step`]), a [`Launcher`] does it, and the keeper of each
//! launcher goes between them. A launcher decides nothing and remembers nothing: whatever it's asked, it asks the outside, within
//! bounded time and without blocking a thread of this program.
//!
//! | file | what |
//! | --- | --- |
//! | `keeper` | the task that goes between the scheduler and a launcher |
//! | `site` | what pilots are told, whoever starts them |
//! | `local` | processes on this host |
//! | `slurm` | jobs of a Slurm cluster |
//! | `call` | other programs, in bounded time |

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::pilot_records::{Launch, LauncherKind, PoolSettings, Sighting};

mod call;
pub(crate) mod keeper;
mod local;
mod site;
mod slurm;

pub(crate) use site::{Site, TokenFile};

/// What pilots are started with.
#[derive(Clone, Debug)]
pub struct PilotOptions {
    /// The `promptfield` program, where pilots run.
    pub program: PathBuf,
    /// The settings file of the machines where they run; `None`: the usual places there.
    pub settings: Option<PathBuf>,
    /// Where they find the coordinator; `None`: where it listens.
    pub url: Option<String>,
    /// The file with their token, where they run. `None`, where tokens are needed: the coordinator makes one, in `folder`.
    pub token_file: Option<PathBuf>,
    /// For their logs, and for what is kept of local ones.
    pub folder: PathBuf,
    /// The pools that the settings file names.
    pub pools: BTreeMap<String, PoolSettings>,
    /// How often it's looked at what is to be done.
    pub beat: Duration,
    /// How often a cluster is asked what it has.
    pub look_every: Duration,
}

impl PilotOptions {
    /// Options with everything at its default.
    pub fn new(program: PathBuf, folder: PathBuf) -> Self {
        Self {
            program,
            settings: None,
            url: None,
            token_file: None,
            folder,
            pools: BTreeMap::new(),
            beat: Duration::from_secs(2),
            look_every: Duration::from_secs(15),
        }
    }
}

/// What is asked of a launcher: pilots of places 0 to `count` − 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    pub(crate) pool: &'a str,
    pub(crate) settings: &'a PoolSettings,
    pub(crate) batch: &'a str,
    pub(crate) count: u32,
}

/// Why a pool's pilots couldn't be started as its settings say.
#[derive(Debug)]
pub(crate) enum CheckError {
    /// They never could.
    Refused(InvalidInput),
    /// Nobody can say now, for this reason.
    Unavailable(String),
}

/// Something that starts workers. All of it may be repeated, and may be asked in any order.
pub(crate) trait Launcher: Send + Sync + std::fmt::Debug {
    /// Which it is.
    fn kind(&self) -> LauncherKind;

    /// How often it may be asked what it has.
    fn look_every(&self) -> Duration;

    /// Finds out whether pilots could be started with these settings, without starting any.
    fn check<'a>(&'a self, pool: &'a str, settings: &'a PoolSettings) -> BoxFuture<'a, Result<(), CheckError>>;

    /// Starts pilots. Each carries its key where [`Launcher::list`] finds it.
    fn start<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Launch>;

    /// All pilots of this coordinator that it has, and as many of those that it had as it remembers; or why that can't be told.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Sighting>, String>>;

    /// Ends pilots, by its own names for them. Whether they are gone is seen by [`Launcher::list`].
    fn stop<'a>(&'a self, names: &'a [String]) -> BoxFuture<'a, Result<(), String>>;
}

/// The launchers that there are.
#[derive(Clone, Debug)]
pub(crate) struct Launchers(Arc<[Arc<dyn Launcher>]>);

impl Launchers {
    /// None: no pilots are started.
    pub(crate) fn none() -> Self {
        Self(Arc::new([]))
    }

    /// All of them, for one site.
    pub(crate) fn new(site: &Arc<Site>, look_every: Duration) -> Self {
        let local = local::Local::new(Arc::clone(site));
        let slurm = slurm::Slurm::new(Arc::clone(site), look_every);
        Self(Arc::new([Arc::new(local), Arc::new(slurm)]))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Launcher>> {
        self.0.iter()
    }

    pub(crate) fn get(&self, kind: LauncherKind) -> Option<&dyn Launcher> {
        self.iter().find(|launcher| launcher.kind() == kind).map(AsRef::as_ref)
    }
}
