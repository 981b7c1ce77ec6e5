//! Pilots: workers that are started on demand, on this host or as jobs of a cluster's scheduler.
//!
//! A pool says what its pilots are like and how many there may be; its launcher starts and ends them. A pilot is known by a key of
//! our own, `BATCH.INDEX`: what launchers call their jobs isn't enough, since Slurm gives a number out again when its controller
//! dies before it has written it down.

use serde::{Deserialize, Serialize};

use crate::experiment::{LABEL, is_label};
use crate::id::{PilotId, WorkerId};
use crate::input::{InvalidInput, Refusals};
use crate::job::spec::is_hex;
use crate::names::{is_control, named, path_segment};
use crate::time::Timestamp;

named! {
    /// What starts the pilots of a pool.
    pub enum LauncherKind("launcher") {
        /// Processes on the coordinator's host.
        Local = "local",
        /// Jobs of a Slurm cluster.
        Slurm = "slurm",
    }
}

named! {
    /// Whether a pool gets pilots.
    pub enum PoolState("pool state") {
        /// It does, as jobs need them.
        Active = "active",
        /// It gets no new ones until a person has looked at why.
        Paused = "paused",
        /// Its pilots are being ended.
        Ending = "ending",
        /// It has none and gets none.
        Off = "off",
    }
}

named! {
    /// Where a pilot stands.
    pub enum PilotState("pilot state") {
        /// The launcher is being asked for it.
        Submitting = "submitting",
        /// The launcher has it, and it doesn't run yet.
        Waiting = "waiting",
        /// It runs.
        Running = "running",
        /// The launcher has halted it.
        Suspended = "suspended",
        /// It was told to end.
        Stopping = "stopping",
        /// It's over.
        Ended = "ended",
        /// It's over before its worker was of use, and by its own fault.
        Failed = "failed",
    }
}

impl PilotState {
    /// Whether nothing more will happen to it.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Ended | Self::Failed)
    }
}

/// What the pilots of a pool are like, and how many there may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolSettings {
    /// What starts them.
    pub launcher: LauncherKind,
    /// The most there may be at once, waiting ones included; 1 to 1000.
    pub max: u32,
    /// So many are kept whatever there is to do.
    #[serde(default)]
    pub min: u32,
    /// A pilot goes after so many seconds without a job, and a waiting one after so many without a job for it.
    #[serde(default = "default_idle_s")]
    pub idle_s: u32,
    /// How long each may run, in seconds; Slurm's `--time`. Absent: the partition's own limit, and jobs of any length are given.
    #[serde(default)]
    pub time_s: Option<u32>,
    /// Jobs at once for each GPU of a pilot, or for the pilot if it has none.
    #[serde(default = "one")]
    pub slots_per_gpu: u32,
    /// What experiments may ask its workers for.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The memory that the slots of a pilot share, in MiB, where it isn't what the pilot finds.
    #[serde(default)]
    pub memory_mib: Option<u64>,
    /// The time between two submissions, in seconds.
    #[serde(default = "default_submit_every_s")]
    pub submit_every_s: u32,
    /// So many seconds before its time is up, a pilot takes no more jobs and ends those that end in time.
    #[serde(default = "default_lead_s")]
    pub lead_s: u32,
    /// Slurm's `--partition`.
    #[serde(default)]
    pub partition: Option<String>,
    /// Slurm's `--gres`, such as `gpu:1`.
    #[serde(default)]
    pub gres: Option<String>,
    /// Further options for `sbatch`, each as one word: `--account=vision`.
    #[serde(default)]
    pub options: Vec<String>,
    /// Lines of a shell script that a Slurm pilot runs before its worker: `module load cuda`.
    #[serde(default)]
    pub setup: Option<String>,
}

const fn default_idle_s() -> u32 {
    300
}

const fn default_submit_every_s() -> u32 {
    10
}

const fn default_lead_s() -> u32 {
    120
}

const fn one() -> u32 {
    1
}

/// What `sbatch` is told by us, or would break what pilots rest on.
const OURS: [&str; 20] = [
    "array",
    "comment-file",
    "error",
    "export",
    "export-file",
    "help",
    "hold",
    "input",
    "job-name",
    "kill-on-invalid-dep",
    "output",
    "parsable",
    "quiet",
    "signal",
    "test-only",
    "usage",
    "version",
    "wait",
    "wait-all-nodes",
    "wrap",
];
/// The same as single letters.
const OURS_SHORT: [&str; 11] = ["a", "e", "h", "H", "i", "J", "o", "Q", "u", "V", "W"];

impl PoolSettings {
    /// Settings with everything at its default.
    pub fn new(launcher: LauncherKind, max: u32) -> Self {
        Self {
            launcher,
            max,
            min: 0,
            idle_s: default_idle_s(),
            time_s: None,
            slots_per_gpu: one(),
            labels: Vec::new(),
            memory_mib: None,
            submit_every_s: default_submit_every_s(),
            lead_s: default_lead_s(),
            partition: None,
            gres: None,
            options: Vec::new(),
            setup: None,
        }
    }

    /// The settings, if pilots can be made of them.
    pub fn checked(self) -> Result<Self, InvalidInput> {
        let mut refusals = Refusals::default();
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            if !(least..=most).contains(&value) {
                refusals.add(InvalidInput::new(field, value, format!("a whole number from {least} to {most}")));
            }
        };
        within("max", self.max.into(), 1, 1000);
        within("min", self.min.into(), 0, self.max.into());
        within("idle_s", self.idle_s.into(), 1, 7 * 86_400);
        within("slots_per_gpu", self.slots_per_gpu.into(), 1, 64);
        within("submit_every_s", self.submit_every_s.into(), 1, 3600);
        within("lead_s", self.lead_s.into(), 30, 3600);
        if let Some(time_s) = self.time_s {
            // Slurm looks at time limits about twice a minute: in less than this no pilot would be of use.
            within("time_s", time_s.into(), u64::from(self.lead_s) + 60, 366 * 86_400);
        }
        if let Some((i, label)) = self.labels.iter().enumerate().find(|(_, label)| !is_label(label)) {
            refusals.add(InvalidInput::new(format!("labels[{i}]"), label, LABEL));
        }
        for (field, value) in [("partition", &self.partition), ("gres", &self.gres)] {
            let Some(value) = value else { continue };
            if value.is_empty() || value.contains(|c: char| c.is_whitespace() || is_control(c)) {
                refusals.add(InvalidInput::new(field, value, "a word, as `sbatch` takes it"));
            }
        }
        for (i, option) in self.options.iter().enumerate() {
            if let Some(expected) = wrong_option(option) {
                refusals.add(InvalidInput::new(format!("options[{i}]"), option, expected));
            }
        }
        if self.launcher == LauncherKind::Local {
            let of_slurm = [
                ("time_s", self.time_s.is_some()),
                ("partition", self.partition.is_some()),
                ("gres", self.gres.is_some()),
                ("options", !self.options.is_empty()),
                ("setup", self.setup.is_some()),
            ];
            for (field, _) in of_slurm.into_iter().filter(|(_, given)| *given) {
                refusals.add(InvalidInput::new(field, "something", "nothing with the launcher `local`"));
            }
        }
        if self.setup.as_ref().is_some_and(|setup| setup.len() > 64 << 10 || setup.contains('\0')) {
            refusals.add(InvalidInput::new("setup", "a script", "at most 64 KiB of text"));
        }
        refusals.finish(self)
    }
}

/// What would be right instead of an option for `sbatch` that can't be passed on.
fn wrong_option(option: &str) -> Option<String> {
    let word = option.strip_prefix("--").map(|long| long.split('=').next().unwrap_or(long));
    let letter = option.strip_prefix('-').and_then(|short| short.get(..1));
    if option.contains(is_control) {
        Some("an option without control characters".to_owned())
    } else if let Some(word) = word {
        let own = match word {
            "partition" | "gres" => Some(format!("the field `{word}`")),
            "time" => Some("the field `time_s`".to_owned()),
            _ => None,
        };
        own.or_else(|| OURS.contains(&word).then(|| "an option that Promptfield doesn't set itself".to_owned()))
    } else if letter.is_some_and(|letter| ["p", "t"].contains(&letter)) {
        Some("the fields `partition` and `time_s`".to_owned())
    } else if letter.is_some_and(|letter| OURS_SHORT.contains(&letter)) {
        Some("an option that Promptfield doesn't set itself".to_owned())
    } else if letter.is_none() {
        Some("an option that begins with `-`, its value in the same word: `--account=vision`".to_owned())
    } else {
        None
    }
}

/// Checks a pool's name, which becomes a part of its workers' names and of files.
pub fn pool_name(name: &str) -> Result<(), InvalidInput> {
    path_segment("name", name)?;
    if name.len() > 40 || ["off", "resume"].contains(&name) {
        return Err(InvalidInput::new("name", name, "at most 40 characters, and neither `off` nor `resume`"));
    }
    Ok(())
}

/// A pool as the database holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolRecord {
    /// Its name.
    pub name: String,
    /// What its pilots are like.
    pub settings: PoolSettings,
    /// Whether the coordinator's settings file says so; if not, a person or program did.
    pub from_file: bool,
    /// Whether it gets pilots.
    pub state: PoolState,
    /// Why it's paused, or why its last submission failed.
    pub reason: Option<String>,
    /// Submissions that failed in a row.
    pub failed_submissions: u32,
    /// Pilots that failed in a row.
    pub crashes: u32,
    /// No submission before.
    pub not_before: Timestamp,
}

/// A pilot as the database holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PilotRecord {
    /// Its identifier.
    pub id: PilotId,
    /// Its pool.
    pub pool: String,
    /// What the launcher was asked for at once; 32 hexadecimal digits that nobody can guess.
    pub batch: String,
    /// Its place in the batch.
    pub index: u32,
    /// What the launcher calls it: `1234_0`.
    pub launcher_id: Option<String>,
    /// Where it stands.
    pub state: PilotState,
    /// What the launcher says of it, or why it's over.
    pub detail: Option<String>,
    /// Where it runs.
    pub node: Option<String>,
    /// When the launcher was asked for it.
    pub submitted_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Its worker; the latest, if it was started several times.
    pub worker: Option<WorkerId>,
}

impl PilotRecord {
    /// By what its worker and its launcher name it.
    pub fn key(&self) -> PilotKey {
        PilotKey { batch: self.batch.clone(), index: self.index }
    }
}

/// By what a pilot is known: to us, to its launcher and to itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PilotKey {
    /// See [`PilotRecord::batch`].
    pub batch: String,
    /// See [`PilotRecord::index`].
    pub index: u32,
}

impl std::fmt::Display for PilotKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.batch, self.index)
    }
}

impl std::str::FromStr for PilotKey {
    type Err = InvalidInput;

    fn from_str(text: &str) -> Result<Self, InvalidInput> {
        let parts = text.split_once('.').filter(|(batch, _)| is_batch(batch));
        let key = parts.and_then(|(batch, index)| Some(Self { batch: batch.to_owned(), index: index.parse().ok()? }));
        key.ok_or_else(|| InvalidInput::new("pilot", text, "32 hexadecimal digits, a dot and a number"))
    }
}

/// Whether this can be a batch's name.
pub fn is_batch(text: &str) -> bool {
    is_hex(text, 32)
}

/// A length of time as Slurm prints it, in seconds: `1:59`, `1:00:00`, `1-02:03:04`; `None` for `UNLIMITED`, `infinite` and the like.
pub fn slurm_seconds(text: &str) -> Option<u64> {
    let (days, time) = text.split_once('-').unwrap_or(("0", text));
    let mut total: u64 = 0;
    for part in time.split(':') {
        total = total.checked_mul(60)?.checked_add(part.parse().ok()?)?;
    }
    days.parse::<u64>().ok()?.checked_mul(86_400)?.checked_add(total)
}

/// A pilot as its launcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Which it is.
    pub key: PilotKey,
    /// What the launcher calls it.
    pub launcher_id: String,
    /// What it's at.
    pub phase: Phase,
    /// The launcher's own words: `PENDING (Resources)`.
    pub detail: String,
    /// Where it runs.
    pub node: Option<String>,
}

/// What a launcher's job is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits, for the first time or again.
    Waiting,
    /// It runs, begins to, or is about to end.
    Running,
    /// It was halted.
    Suspended,
    /// It's over.
    Over(PilotEnd),
    /// It's there, in a state that this version has no name for.
    Unknown,
}

/// How a launcher's job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PilotEnd {
    /// By itself, and well.
    Done,
    /// By its own fault.
    Failed,
    /// By the launcher's: preempted, or its machine died.
    Taken,
    /// Its time was up.
    TimeUp,
    /// Somebody cancelled it.
    Cancelled,
}

/// How an order to the launcher went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launch {
    /// It's accepted; each pilot has a name at the launcher, in the order of their places.
    Accepted(Vec<String>),
    /// It isn't, with the reason.
    Refused(String),
    /// The launcher couldn't be asked, with the reason. Nothing was begun.
    Unavailable(String),
    /// Nobody knows, with the reason: the next look at what there is decides.
    Unclear(String),
}

/// What a launcher is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start pilots: of places 0 to `count` − 1.
    Start {
        /// The pool.
        pool: String,
        /// What its pilots are like.
        settings: Box<PoolSettings>,
        /// The batch.
        batch: String,
        /// How many.
        count: u32,
    },
    /// End pilots, by the launcher's names.
    Stop(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut PoolSettings)) -> Vec<String> {
        let mut settings = PoolSettings::new(LauncherKind::Slurm, 4);
        change(&mut settings);
        match settings.checked() {
            Ok(_) => Vec::new(),
            Err(error) => error.errors.into_iter().map(|error| error.field).collect(),
        }
    }

    #[test]
    fn settings_that_make_no_pilots_are_refused_by_their_field() {
        assert_eq!(refused(|_| {}), [""; 0]);
        assert_eq!(refused(|settings| settings.max = 0), ["max"]);
        assert_eq!(refused(|settings| settings.min = 5), ["min"]);
        assert_eq!(refused(|settings| settings.time_s = Some(120)), ["time_s"]);
        assert_eq!(refused(|settings| settings.labels = vec!["a b".into()]), ["labels[0]"]);
        assert_eq!(refused(|settings| settings.gres = Some("gpu:1 --wrap=x".into())), ["gres"]);
        assert_eq!(refused(|settings| (settings.slots_per_gpu, settings.lead_s) = (0, 1)), ["slots_per_gpu", "lead_s"]);
        let local = |settings: &mut PoolSettings| {
            (settings.launcher, settings.gres) = (LauncherKind::Local, Some("gpu:1".into()));
        };
        assert_eq!(refused(local), ["gres"]);
    }

    #[test]
    fn what_pilots_rest_on_cannot_be_set_by_options() {
        for wrong in ["--job-name=x", "--array", "-J", "-Jx", "-o", "--time=1", "-t1", "-p", "vision", "--export=ALL"] {
            let options = |settings: &mut PoolSettings| settings.options = vec!["--qos=low".into(), wrong.into()];
            assert_eq!(refused(options), ["options[1]"], "{wrong}");
        }
        for right in ["--account=vision", "-Avision", "--mem=8G", "-c4", "--exclude=n[1-2]", "--dependency=afterok:1"] {
            assert_eq!(refused(|settings| settings.options = vec![right.into()]), [""; 0], "{right}");
        }
    }

    #[test]
    fn times_are_read_as_slurm_prints_them() {
        let known =
            [("1:59", 119), ("0:07", 7), ("1:00:00", 3600), ("1-02:03:04", 93_784), ("364-23:59:59", 31_535_999)];
        for (text, expected) in known {
            assert_eq!(slurm_seconds(text), Some(expected), "{text}");
        }
        for text in ["UNLIMITED", "INVALID", "NOT_SET", "infinite", "n/a", "", "99999999999999999-0:00"] {
            assert_eq!(slurm_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key = PilotKey { batch: "0123456789abcdef0123456789abcdef".into(), index: 7 };
        assert_eq!(key.to_string().parse::<PilotKey>().unwrap(), key);
        for wrong in ["", "a.1", "0123456789abcdef0123456789abcdeF.1", "0123456789abcdef0123456789abcdef.x"] {
            assert!(wrong.parse::<PilotKey>().is_err(), "{wrong}");
        }
        assert!(pool_name("gpu-a").is_ok());
        assert!(["off", "", "../x", &"x".repeat(41)].iter().all(|name| pool_name(name).is_err()));
    }
}
