//! Pilots as jobs of a Slurm cluster, through the programs that its users have: `sbatch`, `squeue`, `scancel`, `sinfo`.
//!
//! Every order is an array, also of one: a pilot is called `ARRAY_PLACE`. The array's name holds this coordinator's name and the
//! batch, and is what a pilot is known by; one `squeue` tells of all of them. `sacct` isn't needed: Slurm remembers what has ended
//! for some minutes (`MinJobAge`), and a pilot's own worker says more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::pilot_records::{
    Launch, LauncherKind, Phase, PilotEnd, PilotKey, PoolSettings, Sighting, is_batch, slurm_seconds,
};

use super::call::{CallError, call};
use super::{CheckError, Launcher, Order, Site};

/// What is asked of a job: array, place, state, reason, node, and last the name, which may hold anything.
const FIELDS: &str = "%F|%K|%T|%r|%N|%j";
/// So many jobs are ended by one call.
const AT_ONCE: usize = 500;
/// Slurm's programs say so when nothing was sent.
const UNREACHED: &str = "Unable to contact slurm controller";
/// And so when it was, and perhaps carried out.
const UNANSWERED: &str = "Socket timed out";

#[derive(Debug)]
pub(super) struct Slurm {
    site: Arc<Site>,
    look_every: Duration,
}

impl Slurm {
    pub(super) const fn new(site: Arc<Site>, look_every: Duration) -> Self {
        Self { site, look_every }
    }

    fn name_of(&self, batch: &str) -> String {
        format!("pf-{}-{batch}", self.site.instance)
    }

    /// `sbatch`'s options; ours come last, and so win.
    fn options(&self, order: &Order<'_>) -> Vec<String> {
        let Order { settings, batch, count, .. } = order;
        let mut options = settings.options.clone();
        options.extend(settings.partition.as_ref().map(|partition| format!("--partition={partition}")));
        options.extend(settings.gres.as_ref().map(|gres| format!("--gres={gres}")));
        options.extend(settings.time_s.map(|seconds| format!("--time={}", span(seconds))));
        options.push(format!("--job-name={}", self.name_of(batch)));
        options.push(format!("--array=0-{}", count.saturating_sub(1)));
        options.push(format!("--output={}", self.site.log(batch, "%a").display()));
        options.push(format!("--signal=B:USR1@{}", settings.lead_s));
        // A pilot has what its own machine gives it, and not this one's environment, in which secrets may be.
        options.extend(["--open-mode=append", "--chdir=/", "--export=NIL", "--parsable"].map(str::to_owned));
        options
    }

    /// The batch script. The worker takes the shell's place, and so gets the signals that are meant for it.
    fn script(&self, order: &Order<'_>) -> String {
        const PLACE: &str = "$SLURM_ARRAY_TASK_ID";
        let setup = order.settings.setup.as_deref().unwrap_or_default();
        let arguments = self.site.arguments(order, PLACE);
        let words = arguments.iter().map(|word| match word.strip_suffix(PLACE) {
            Some(before) => format!("{}\"{PLACE}\"", quoted(before)),
            None => quoted(word),
        });
        let words = words.collect::<Vec<_>>().join(" ");
        let program = quoted(&self.site.program.display().to_string());
        format!("#!/bin/bash -l\n# A pilot of Promptfield's pool {}.\n{setup}\nexec {program} {words}\n", order.pool)
    }

    async fn start(&self, order: &Order<'_>) -> Launch {
        if let Err(error) = self.site.check_url() {
            return Launch::Refused(error.to_string());
        }
        if let Err(error) = fs_err::tokio::create_dir_all(&self.site.folder).await {
            return Launch::Refused(error.to_string());
        }
        match call("sbatch", &self.options(order), &self.script(order)).await {
            Ok(answer) => {
                let array = answer.trim().split(';').next().unwrap_or_default();
                if array.is_empty() || !array.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Launch::Unclear(format!("`sbatch` answered `{}`, which is no job's number", answer.trim()));
                }
                Launch::Accepted((0..order.count).map(|place| format!("{array}_{place}")).collect())
            }
            Err(error @ CallError::Silent(_)) => Launch::Unclear(error.to_string()),
            Err(CallError::Failed { words }) if words.contains(UNREACHED) => Launch::Unavailable(words),
            Err(CallError::Failed { words }) if words.contains(UNANSWERED) => Launch::Unclear(words),
            Err(error) => Launch::Refused(error.to_string()),
        }
    }

    async fn check(&self, pool: &str, settings: &PoolSettings) -> Result<(), CheckError> {
        self.site.check_url().map_err(CheckError::Refused)?;
        let refused = |field: &str, value: &str, expected: String| {
            Err(CheckError::Refused(InvalidInput::new(field, value, expected)))
        };
        let batch = "0".repeat(32);
        let order = Order { pool, settings, batch: &batch, count: 1 };
        let mut options = self.options(&order);
        options.push("--test-only".to_owned());
        match call("sbatch", &options, &self.script(&order)).await {
            Ok(_) => self.check_time(settings).await,
            Err(CallError::Missing(program)) => {
                let expected =
                    format!("a launcher whose programs are here: `{program}` isn't on the coordinator's PATH");
                refused("launcher", "slurm", expected)
            }
            Err(CallError::Failed { words }) if ![UNREACHED, UNANSWERED].iter().any(|way| words.contains(way)) => {
                let (field, value) = blamed(&words, settings);
                refused(field, &value, format!("what Slurm accepts; it says: {words}"))
            }
            Err(error) => Err(CheckError::Unavailable(error.to_string())),
        }
    }

    /// Slurm accepts what its partition doesn't allow, and has it wait for ever, unless the site has it checked.
    async fn check_time(&self, settings: &PoolSettings) -> Result<(), CheckError> {
        let (Some(partition), Some(time_s)) = (&settings.partition, settings.time_s) else { return Ok(()) };
        let arguments = ["--noheader", "--format=%l", "--partition", partition.as_str()].map(str::to_owned);
        let limit = match call("sinfo", &arguments, "").await {
            Ok(answer) => answer.lines().next().and_then(|line| slurm_seconds(line.trim())),
            // It's a courtesy.
            Err(error) => {
                tracing::debug!("the partition's time limit can't be asked for: {error}");
                None
            }
        };
        match limit {
            Some(limit) if u64::from(time_s) > limit => Err(CheckError::Refused(InvalidInput::new(
                "time_s",
                time_s,
                format!("at most {limit}, the limit of the partition `{partition}`"),
            ))),
            _ => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<Sighting>, String> {
        let arguments = ["--me", "--noheader", "--array", "--states=all", &format!("--format={FIELDS}")];
        let answer = call("squeue", &arguments.map(str::to_owned), "").await.map_err(|error| error.to_string())?;
        Ok(answer.lines().filter_map(|line| sighting(line, &self.site.instance)).collect())
    }

    async fn stop(&self, names: &[String]) -> Result<(), String> {
        for names in names.chunks(AT_ONCE) {
            call("scancel", names, "").await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// A line of `squeue`, if it's about one of this coordinator's pilots.
fn sighting(line: &str, instance: &str) -> Option<Sighting> {
    let mut fields = line.splitn(6, '|');
    let [array, place, state, reason, node] = std::array::from_fn(|_| fields.next().unwrap_or_default());
    let batch = fields.next()?.strip_prefix("pf-")?.strip_prefix(instance)?.strip_prefix('-')?;
    let index = place.parse().ok().filter(|_| is_batch(batch))?;
    let phase = phase_of(state);
    if phase == Phase::Unknown {
        tracing::warn!(state, "Slurm has a state for jobs that isn't known here; the pilot counts as it did before");
    }
    let detail = match reason {
        "" | "None" => state.to_owned(),
        reason => format!("{state} ({reason})"),
    };
    Some(Sighting {
        key: PilotKey { batch: batch.to_owned(), index },
        launcher_id: format!("{array}_{place}"),
        phase,
        detail,
        node: Some(node.to_owned()).filter(|node| !node.is_empty()),
    })
}

/// What Slurm's states mean, all of those that squeue(1) lists.
fn phase_of(state: &str) -> Phase {
    match state {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => Phase::Waiting,
        "CONFIGURING" | "POWER_UP_NODE" | "RUNNING" | "RESIZING" | "SIGNALING" | "STAGE_OUT" | "COMPLETING"
        | "UPDATE_DB" | "EXPEDITING" => Phase::Running,
        "SUSPENDED" | "STOPPED" => Phase::Suspended,
        "COMPLETED" => Phase::Over(PilotEnd::Done),
        "FAILED" | "OUT_OF_MEMORY" | "LAUNCH_FAILED" => Phase::Over(PilotEnd::Failed),
        "NODE_FAIL" | "BOOT_FAIL" | "PREEMPTED" | "REVOKED" | "RECONFIG_FAIL" => Phase::Over(PilotEnd::Taken),
        "TIMEOUT" | "DEADLINE" => Phase::Over(PilotEnd::TimeUp),
        "CANCELLED" => Phase::Over(PilotEnd::Cancelled),
        _ => Phase::Unknown,
    }
}

/// Which setting Slurm means by what it says, with its value.
fn blamed(words: &str, settings: &PoolSettings) -> (&'static str, String) {
    let lower = words.to_lowercase();
    let says = |word: &str| lower.contains(word);
    let gres = settings.gres.clone();
    if says("partition") {
        ("partition", settings.partition.clone().unwrap_or_else(|| "the default partition".to_owned()))
    } else if says("--time") || says("time limit") {
        ("time_s", settings.time_s.map_or_else(String::new, |seconds| seconds.to_string()))
    } else if let Some(gres) = gres.filter(|_| says("gres") || says("node configuration")) {
        ("gres", gres)
    } else {
        ("options", settings.options.join(" "))
    }
}

/// A time as Slurm reads it: `1-02:03:04`.
fn span(seconds: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    format!("{days}-{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Launcher for Slurm {
    fn kind(&self) -> LauncherKind {
        LauncherKind::Slurm
    }

    fn look_every(&self) -> Duration {
        self.look_every
    }

    fn check<'a>(&'a self, pool: &'a str, settings: &'a PoolSettings) -> BoxFuture<'a, Result<(), CheckError>> {
        self.check(pool, settings).boxed()
    }

    fn start<'a>(&'a self, order: Order<'a>) -> BoxFuture<'a, Launch> {
        async move { self.start(&order).await }.boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Sighting>, String>> {
        self.list().boxed()
    }

    fn stop<'a>(&'a self, names: &'a [String]) -> BoxFuture<'a, Result<(), String>> {
        self.stop(names).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::super::TokenFile;
    use super::*;

    const BATCH: &str = "0123456789abcdef0123456789abcdef";

    fn slurm() -> Slurm {
        let site = Site {
            instance: "1a2b3c4d".into(),
            program: "/opt/it's/promptfield".into(),
            settings: Some("/etc/promptfield.toml".into()),
            url: "https://head:7878".into(),
            is_known_elsewhere: true,
            token: TokenFile::Given("/etc/a b/token".into()),
            folder: "/state/pilots".into(),
        };
        Slurm::new(Arc::new(site), Duration::ZERO)
    }

    /// As Slurm 22.05.8 prints them.
    #[test]
    fn jobs_are_read_as_squeue_prints_them() {
        let line = |rest: &str| format!("{rest}|pf-1a2b3c4d-{BATCH}");
        let read =
            |rest: &str| sighting(&line(rest), "1a2b3c4d").map(|seen| (seen.launcher_id, seen.phase, seen.detail));
        let expected = |id: &str, phase, detail: &str| Some((id.to_owned(), phase, detail.to_owned()));
        assert_eq!(read("11|3|PENDING|Resources|"), expected("11_3", Phase::Waiting, "PENDING (Resources)"));
        assert_eq!(read("11|0|RUNNING|None|n1"), expected("11_0", Phase::Running, "RUNNING"));
        let failed = expected("12_0", Phase::Over(PilotEnd::Failed), "FAILED (NonZeroExitCode)");
        assert_eq!(read("12|0|FAILED|NonZeroExitCode|n1"), failed);
        assert_eq!(read("47|0|NODE_FAIL|NodeDown|n2").unwrap().1, Phase::Over(PilotEnd::Taken));
        assert_eq!(read("47|0|QUANTUM|None|n2").unwrap().1, Phase::Unknown);
        // Jobs of others, by name or by coordinator, and what is no array.
        assert_eq!(read("9|N/A|RUNNING|None|n1"), None);
        assert_eq!(sighting("10|0|RUNNING|None|n1|a name|with bar", "1a2b3c4d"), None);
        assert_eq!(sighting(&line("10|0|RUNNING|None|n1"), "ffffffff"), None);
        assert_eq!(sighting(&line("10|0|RUNNING|None|n1").replace("cdef", "cde|"), "1a2b3c4d"), None);
        assert_eq!(sighting("", "1a2b3c4d"), None);
    }

    /// What squeue(1) lists as job states, in Slurm 22.05 and 24.11.
    #[test]
    fn every_state_of_slurm_means_something() {
        let all = "BOOT_FAIL CANCELLED COMPLETED COMPLETING CONFIGURING DEADLINE EXPEDITING FAILED LAUNCH_FAILED NODE_FAIL \
                   OUT_OF_MEMORY PENDING POWER_UP_NODE PREEMPTED RECONFIG_FAIL REQUEUED REQUEUE_FED REQUEUE_HOLD RESIZING \
                   RESV_DEL_HOLD REVOKED RUNNING SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED SUSPENDED TIMEOUT UPDATE_DB";
        for state in all.split_whitespace() {
            assert_ne!(phase_of(state), Phase::Unknown, "{state}");
        }
        // What ended by the site's doing is no pilot's fault.
        for state in ["BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED"] {
            assert_eq!(phase_of(state), Phase::Over(PilotEnd::Taken), "{state}");
        }
        for state in ["DEADLINE", "TIMEOUT"] {
            assert_eq!(phase_of(state), Phase::Over(PilotEnd::TimeUp), "{state}");
        }
        assert_eq!(phase_of("OUT_OF_MEMORY"), Phase::Over(PilotEnd::Failed));
    }

    #[test]
    fn the_script_says_everything_as_it_is() {
        let mut settings = PoolSettings::new(LauncherKind::Slurm, 4);
        (settings.setup, settings.time_s) = (Some("module load cuda".into()), Some(93_784));
        (settings.partition, settings.options) = (Some("gpu".into()), vec!["--account=x y".into()]);
        let order = Order { pool: "a100", settings: &settings, batch: BATCH, count: 3 };
        let script = slurm().script(&order);
        let expected = format!(
            "#!/bin/bash -l\n# A pilot of Promptfield's pool a100.\nmodule load cuda\nexec '/opt/it'\\''s/promptfield' \
             '--settings' '/etc/promptfield.toml' '--token-file' '/etc/a b/token' 'work' '--coordinator' \
             'https://head:7878' '--pilot' '{BATCH}.'\"$SLURM_ARRAY_TASK_ID\" '--name' \
             'a100-01234567-'\"$SLURM_ARRAY_TASK_ID\" '--slots-per-gpu' '1' '--leave-after' '300s' '--lead' '120s'\n"
        );
        assert_eq!(script, expected);
        let options = slurm().options(&order);
        assert_eq!(options[..3], ["--account=x y", "--partition=gpu", "--time=1-02:03:04"]);
        assert!(options.contains(&format!("--job-name=pf-1a2b3c4d-{BATCH}")), "{options:?}");
        assert!(options.contains(&format!("--output=/state/pilots/{BATCH}-%a.log")), "{options:?}");
        assert!(options.contains(&"--array=0-2".to_owned()) && options.contains(&"--export=NIL".to_owned()));
        assert!(!options.iter().any(|option| option.contains("token")), "{options:?}");
    }

    #[test]
    fn times_are_written_as_slurm_reads_them() {
        assert_eq!(span(93_784), "1-02:03:04");
        assert_eq!(slurm_seconds(&span(93_784)), Some(93_784));
    }

    #[test]
    fn what_slurm_says_is_put_to_the_right_field() {
        let mut settings = PoolSettings::new(LauncherKind::Slurm, 1);
        (settings.partition, settings.gres) = (Some("nope".into()), Some("gpu:9".into()));
        let blamed = |words: &str| blamed(words, &settings).0;
        assert_eq!(
            blamed("invalid partition specified: nope; allocation failure: Invalid partition name specified"),
            "partition"
        );
        assert_eq!(blamed("allocation failure: Requested node configuration is not available"), "gres");
        assert_eq!(blamed("Invalid generic resource (gres) specification"), "gres");
        assert_eq!(blamed("allocation failure: Invalid feature specification"), "options");
    }
}
