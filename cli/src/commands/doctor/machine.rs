//! `doctor` alone: what must hold on this machine and at its coordinator, one line each.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use promptfield_client::Client;
use promptfield_core::chain::chain;
use promptfield_core::scheduler::pilot_records::PoolState;
use promptfield_core::scheduler::{SILENT_S, WorkerState};
use promptfield_core::time::Timestamp;
use promptfield_core::{VERSION, works_with};
use promptfield_server::{Care, Health, network_file_system};
use serde::Serialize;

use super::DoctorArgs;
use crate::context::Context;
use crate::{exit, output};

/// Below this a job may not be able to write its output.
const LEAST_ROOM: u64 = 1 << 30;
/// Below this it's time to look for what can go.
const LITTLE_ROOM: u64 = 10 << 30;
/// Between two clocks, in milliseconds. The `Date` header has whole seconds.
const MOST_DIFFERENCE_MS: i64 = 2_000;
/// A worker that waits for a job or holds one speaks more often.
const SILENCE_MS: i64 = 60_000;
/// A worker that was lost longer ago is nobody's concern any more.
const LOST_LATELY_MS: i64 = 24 * 60 * 60 * 1000;

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Fine,
    Warning,
    Wrong,
}

/// A check and its outcome.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    verdict: Verdict,
    /// What was found.
    detail: String,
    /// What to do; nothing if it's fine.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn fine(what: &'static str, detail: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Fine, detail: detail.into(), advice: None }
    }

    fn new(what: &'static str, verdict: Verdict, detail: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, verdict, detail: detail.into(), advice: Some(advice.into()) }
    }
}

pub(super) async fn run(context: &Context, args: &DoctorArgs) -> anyhow::Result<u8> {
    let settings = &context.settings;
    let mut checks = vec![room("state", &settings.state), room("output", &settings.output)];
    checks.push(database(&settings.database()).await);
    checks.extend(network_file_system(&settings.database()).map(|network| {
        let detail =
            format!("{} lies on {network}, which doesn't keep SQLite's promises", settings.database().display());
        Check::new(
            "database",
            Verdict::Warning,
            detail,
            "name a folder on a disk of this machine as `coordinator.state`",
        )
    }));
    let client = context.client(&args.coordinator)?;
    checks.extend(coordinator(&client).await);
    context.print(&checks, |checks| output::lines(checks, line))?;
    let is_wrong = checks.iter().any(|check| check.verdict == Verdict::Wrong);
    Ok(if is_wrong { exit::FAILED } else { exit::DONE })
}

fn line(check: &Check) -> String {
    let Check { what, verdict, detail, advice } = check;
    let verdict = match verdict {
        Verdict::Fine => "ok",
        Verdict::Warning => "warning",
        Verdict::Wrong => "WRONG",
    };
    let advice = advice.as_ref().map_or_else(String::new, |advice| format!("; {advice}"));
    format!("{verdict:<8} {what:<12} {detail}{advice}")
}

/// The room where a folder lies, or would be made.
fn room(check: &'static str, folder: &Path) -> Check {
    let there = folder.ancestors().find(|path| path.exists()).unwrap_or(folder);
    let free = match rustix::fs::statvfs(there) {
        Ok(system) => system.f_bavail.saturating_mul(system.f_frsize),
        Err(error) => {
            let detail = format!("can't tell the room at {} ({error})", there.display());
            return Check::new(check, Verdict::Wrong, detail, "name another folder in the settings");
        }
    };
    let detail = format!("{:.1} GiB free at {}", free as f64 / f64::from(1 << 30), folder.display());
    if free < LEAST_ROOM {
        Check::new(check, Verdict::Wrong, detail, "make room, or name another folder in the settings")
    } else if free < LITTLE_ROOM {
        Check::new(check, Verdict::Warning, detail, "make room soon")
    } else {
        Check::fine(check, detail)
    }
}

async fn database(path: &Path) -> Check {
    let check = "database";
    if !path.exists() {
        return Check::fine(check, format!("there is none at {} yet", path.display()));
    }
    match Health::of(path, Care::Quick).await {
        Err(error) => Check::new(
            check,
            Verdict::Wrong,
            format!("{:#}", anyhow::Error::new(error)),
            "restore a backup (docs/operations.md)",
        ),
        Ok(Health { damage, .. }) if !damage.is_empty() => Check::new(
            check,
            Verdict::Wrong,
            format!("{} is damaged: {}", path.display(), damage.join(", ")),
            "restore a backup (docs/operations.md)",
        ),
        Ok(Health { schema, known, .. }) if schema > known => Check::new(
            check,
            Verdict::Wrong,
            format!("{} has schema {schema}, this version knows schemas up to {known}", path.display()),
            "use the version that wrote it",
        ),
        Ok(Health { schema, .. }) => Check::fine(check, format!("{} is sound, schema {schema}", path.display())),
    }
}

async fn coordinator(client: &Client) -> Vec<Check> {
    let check = "coordinator";
    let sent = SystemTime::now().into();
    let date = match client.alive().await {
        Ok(date) => date,
        Err(error) => {
            return vec![Check::new(check, Verdict::Wrong, chain(&error), "start it, or check the address")];
        }
    };
    let received = SystemTime::now().into();
    let ready = match client.ready().await {
        Ok(()) => Check::fine(check, format!("{} answers and can write its database", client.url())),
        Err(error) => Check::new(check, Verdict::Wrong, chain(&error), "look into its log and at its disk"),
    };
    let mut checks = vec![ready, clock(date.as_deref(), sent, received), workers(client).await];
    checks.extend(backbones(client).await);
    checks.extend(faults(client).await);
    checks.extend(silent(client).await);
    checks.extend(pools(client).await);
    checks
}

/// Compares the coordinator's clock with this machine's while it answered.
fn clock(date: Option<&str>, sent: Timestamp, received: Timestamp) -> Check {
    let check = "clock";
    let theirs = date.context("the answer has no date").and_then(|date| {
        Ok(Timestamp(
            jiff::fmt::rfc2822::parse(date).context("the answer's date can't be read")?.timestamp().as_millisecond(),
        ))
    });
    let difference = match theirs {
        // The date is cut to seconds: it stands for the second that begins with it.
        Ok(theirs) if theirs.since(received) > 0 => theirs.since(received),
        Ok(theirs) => theirs.plus(999).since(sent).min(0),
        Err(error) => return Check::new(check, Verdict::Warning, format!("{error:#}"), "compare the clocks by hand"),
    };
    let detail = format!("the coordinator's clock is {:.1} s off this machine's", difference as f64 / 1000.0);
    if difference.abs() > MOST_DIFFERENCE_MS {
        Check::new(check, Verdict::Warning, detail, "let both follow a time server")
    } else {
        Check::fine(check, detail)
    }
}

async fn workers(client: &Client) -> Check {
    let check = "workers";
    let workers = match client.workers().await {
        Ok(workers) => workers,
        Err(error) => return Check::new(check, Verdict::Wrong, chain(&error), "use a token that may read"),
    };
    let now = Timestamp::from(SystemTime::now());
    let here = |state| matches!(state, WorkerState::Active | WorkerState::Draining);
    let named = |wanted: &dyn Fn(&promptfield_core::wire::api::WorkerSummary) -> bool| -> Vec<String> {
        workers.iter().filter(|worker| wanted(worker)).map(|worker| worker.description.name.clone()).collect()
    };
    let other = named(&|worker| here(worker.state) && worker.description.version != VERSION);
    let unfit = named(&|worker| here(worker.state) && !works_with(&worker.description.version));
    let silent = named(&|worker| {
        let silence = now.since(worker.last_seen);
        match worker.state {
            WorkerState::Lost => silence < LOST_LATELY_MS,
            state => here(state) && silence > SILENCE_MS,
        }
    });
    let all = named(&|worker| here(worker.state));
    if !unfit.is_empty() {
        let detail = format!("{} can't work with version {VERSION}", unfit.join(", "));
        return Check::new(check, Verdict::Wrong, detail, "bring them to the coordinator's version");
    }
    if !silent.is_empty() {
        let detail = format!("{} silent: {}", silent.len(), silent.join(", "));
        return Check::new(check, Verdict::Warning, detail, "look whether their machines and the network are up");
    }
    if !other.is_empty() {
        let detail = format!("{} of another version than {VERSION}", other.join(", "));
        return Check::new(check, Verdict::Warning, detail, "bring them to the coordinator's version when it suits");
    }
    Check::fine(check, format!("{} here", all.len()))
}

/// Where workers have other weights than results rest on.
async fn backbones(client: &Client) -> Option<Check> {
    let (workers, pinned) = (client.workers().await.ok()?, client.backbones().await.ok()?);
    let others = output::other_backbones(&workers, &pinned);
    let advice = "put the same weights there, or pin the others with `promptfield pin`";
    (!others.is_empty()).then(|| Check::new("backbones", Verdict::Wrong, others.join("; "), advice))
}

/// What machines were found unable to use.
async fn faults(client: &Client) -> Option<Check> {
    let faults = client.faults().await.ok()?;
    let now = Timestamp::from(SystemTime::now());
    let found: Vec<String> = output::faults(&faults, now).collect();
    let advice = "mend them, and say `promptfield recheck`";
    (!found.is_empty()).then(|| Check::new("machines", Verdict::Wrong, found.join("; "), advice))
}

/// Jobs whose trainers say nothing.
async fn silent(client: &Client) -> Option<Check> {
    let held = client.workers().await.ok()?.into_iter().flat_map(|worker| worker.jobs);
    let mut found = Vec::new();
    for job in held {
        let silent_s = client.job(job).await.ok()?.summary.progress.map_or(0, |progress| progress.silent_s);
        if silent_s >= SILENT_S {
            found.push(format!("the trainer of job {job} has said nothing for {silent_s} s"));
        }
    }
    let advice = "look at its machine; it's ended and tried again by itself after a while";
    (!found.is_empty()).then(|| Check::new("trainers", Verdict::Warning, found.join("; "), advice))
}

/// Where there are pools that should get pilots.
async fn pools(client: &Client) -> Option<Check> {
    let check = "pools";
    let mut pools = match client.pools().await {
        Ok(pools) => pools.pools,
        Err(error) => {
            return Some(Check::new(check, Verdict::Wrong, chain(&error), "use a token that may read"));
        }
    };
    pools.retain(|pool| pool.state != PoolState::Off);
    if let Some(pool) = pools.iter().find(|pool| pool.state == PoolState::Paused) {
        let detail = format!("`{}` is paused: {}", pool.name, pool.reason.as_deref().unwrap_or("nobody said why"));
        let advice = format!("mend it, then `promptfield scale resume {}`", pool.name);
        return Some(Check::new(check, Verdict::Warning, detail, advice));
    }
    if let Some((pool, reason)) = pools.iter().find_map(|pool| Some((pool, pool.reason.as_ref()?))) {
        return Some(Check::new(check, Verdict::Warning, format!("`{}`: {reason}", pool.name), "it's tried again"));
    }
    let pilots: usize = pools.iter().map(|pool| pool.pilots.total()).sum();
    (!pools.is_empty()).then(|| Check::fine(check, format!("{} with {pilots} pilots", pools.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_may_differ_by_what_a_header_cannot_say() {
        let date = "Tue, 24 Nov 2026 01:40:12 GMT";
        let second = Timestamp(1_795_484_412_000);
        let verdict = |sent, received| clock(Some(date), second.plus(sent), second.plus(received)).verdict;
        assert_eq!(verdict(500, 600), Verdict::Fine);
        assert_eq!(verdict(-1900, -1900), Verdict::Fine);
        assert_eq!(verdict(2900, 2950), Verdict::Fine);
        assert_eq!(verdict(-2100, -2050), Verdict::Warning);
        assert_eq!(verdict(3100, 3200), Verdict::Warning);
        // A slow answer says nothing of the clocks.
        assert_eq!(verdict(-5000, 5000), Verdict::Fine);
        assert_eq!(clock(None, second, second).verdict, Verdict::Warning);
        assert_eq!(clock(Some("yesterday"), second, second).verdict, Verdict::Warning);
    }

    #[test]
    fn room_is_measured_where_the_folder_would_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let found = room("state", &folder.path().join("a/b"));
        assert!(found.detail.contains("GiB free") && found.detail.ends_with("a/b"), "{found:?}");
    }
}
