//! `cargo xtask bench slurm`: the demo matrix on a Slurm cluster, by pilots and by one `sbatch` for each job.
//!
//! The cluster is on this machine, new for each run, with as many GPUs as runs may go on at once; the GPUs are names only. Both
//! begin with an empty cluster, and end when the last job has its result.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use promptfield_core::experiment::matrix::PlannedJob;
use promptfield_core::job::outcome::Manifest;
use promptfield_core::wire::api::Results;
use serde::{Deserialize, Serialize};
use serde_json::json;
use slurm_sandbox::{Cluster, Plan, wait_until};
use tempfile::TempDir;

use crate::args::SlurmArgs;
use crate::bundled::{self, manifests, settings_text, trainer_job};
use crate::machine::Machine;
use crate::markdown::{decimals, table};
use crate::stats::Spread;

/// A run that takes longer is given up.
const LONGEST: Duration = Duration::from_hours(2);

/// Everything that one run found, as `slurm.json` holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    machine: Machine,
    slurm: String,
    experiment: String,
    jobs: usize,
    /// How many jobs can run at once.
    gpus: u32,
    /// By pilots.
    pilots: Vec<Run>,
    /// By a Slurm job for each job.
    sbatch: Vec<Run>,
    /// How many of the latter classified as many images correctly as the former.
    equal: usize,
}

/// The matrix, run once.
#[derive(Debug, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "seconds, in the report too")]
struct Run {
    /// From the submission until the last job has its result.
    wall_s: f64,
    /// Until the first job has begun to compute.
    first_s: f64,
    /// Until the cluster is empty again.
    empty_s: f64,
}

/// Runs what the arguments ask for; writes it as JSON, and prints it as Markdown. What it's at goes to stderr.
pub(crate) fn run(args: &SlurmArgs) -> Result<()> {
    Cluster::available().map_err(anyhow::Error::msg)?;
    let machine = Machine::here(&args.folder)?;
    let here = std::env::current_exe().context("can't tell where this program lies")?;
    let program = fs_err::canonicalize(args.promptfield.clone().unwrap_or(here.with_file_name("promptfield")))?;
    let experiment = fs_err::canonicalize(&args.experiment)?;
    let jobs = bundled::jobs(&experiment)?;
    let bench = Bench { args, trainer: program.with_file_name("promptfield-trainer"), program, experiment, jobs };
    let (mut pilots, mut sbatch, mut equal) = (Vec::new(), Vec::new(), 0);
    let mut slurm = String::new();
    for repetition in 1..=args.repeat.get() {
        eprintln!("repetition {repetition}: {} jobs by pilots", bench.jobs.len());
        let (run, by_pilots) = bench.pilots()?;
        pilots.push(run);
        eprintln!("repetition {repetition}: an sbatch for each job");
        let (run, by_sbatch, version) = bench.sbatch()?;
        sbatch.push(run);
        slurm = version;
        let same = by_pilots.iter().zip(&by_sbatch).filter_map(|(a, b)| a.result.zip(b.result));
        equal += same.filter(|(a, b)| (a.correct, a.total) == (b.correct, b.total)).count();
    }
    let (experiment, jobs) = (args.experiment.display().to_string(), bench.jobs.len());
    let report = Report { machine, slurm, experiment, jobs, gpus: args.gpus.get(), pilots, sbatch, equal };
    fs_err::create_dir_all(&args.results)?;
    let json = serde_json::to_string_pretty(&report).context("can't put the report into JSON")?;
    fs_err::write(args.results.join("slurm.json"), json + "\n")?;
    print!("{}", tables(&report));
    Ok(())
}

struct Bench<'a> {
    args: &'a SlurmArgs,
    program: PathBuf,
    trainer: PathBuf,
    experiment: PathBuf,
    jobs: Vec<PlannedJob>,
}

impl Bench<'_> {
    /// By pilots of one GPU each.
    fn pilots(&self) -> Result<(Run, Vec<Manifest>)> {
        let (folder, cluster) = (self.folder()?, self.cluster()?);
        let settings = folder.path().join("promptfield.toml");
        fs_err::write(&settings, format!("[coordinator.pilots]\nlook_every_s = 2\n{}", settings_text()?))?;
        let coordinator = Coordinator::start(self.command(&cluster, &settings))?;
        let say = |arguments: &[&str]| {
            let mut command = self.command(&cluster, &settings);
            let output = command.args(arguments).args(["--coordinator", &coordinator.url]).output()?;
            ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
            Ok(output.stdout)
        };
        let max = self.args.gpus.to_string();
        say(&["scale", "slurm", "pool", "--gres", "gpu:1", "--max", &max, "--time", "2:00:00", "--idle", "5s"])?;
        let clock = Clock::start();
        let experiment = self.experiment.to_str().context("the experiment's path isn't text")?;
        let results = say(&["--json", "submit", experiment, "--wait"])?;
        let wall_s = clock.elapsed_s();
        let results: Results = serde_json::from_slice(&results).context("`promptfield submit` printed no results")?;
        let completed = results.experiment.counts.completed;
        ensure!(completed == self.jobs.len(), "{completed} of {} jobs were completed", self.jobs.len());
        wait_until("the cluster is empty", LONGEST, || Ok(cluster.queue()?.is_empty()))?;
        let empty_s = clock.elapsed_s();
        let manifests = manifests(folder.path(), &self.jobs)?;
        Ok((Run { wall_s, first_s: clock.until_first(&manifests), empty_s }, manifests))
    }

    /// By a Slurm job for each job, a test after its training.
    fn sbatch(&self) -> Result<(Run, Vec<Manifest>, String)> {
        let (folder, cluster) = (self.folder()?, self.cluster()?);
        let version = cluster.run("sbatch", &["--version"])?.trim().to_owned();
        let clock = Clock::start();
        let mut ids = Vec::new();
        for (place, job) in self.jobs.iter().enumerate() {
            let path = folder.path().join(format!("job-{place}.json"));
            fs_err::write(&path, json!(trainer_job(job, &self.jobs, folder.path())?).to_string())?;
            let needed = self.jobs.iter().position(|training| Some(training.hash) == job.spec.to_spec().trained_by);
            let after = needed.and_then(|place| ids.get(place)).map(|id| format!("--dependency=afterok:{id}"));
            let script = format!("exec '{}' run '{}' --threads 1", self.trainer.display(), path.display());
            let log = format!("--output={}", folder.path().join(format!("job-{place}.log")).display());
            let wrap = format!("--wrap={script}");
            let mut arguments = vec!["--gres=gpu:1", "--time=2:00:00", &log, &wrap];
            arguments.extend(after.as_deref());
            ids.push(cluster.submit(&arguments)?);
        }
        wait_until("the cluster is empty", LONGEST, || Ok(cluster.queue()?.is_empty()))?;
        let empty_s = clock.elapsed_s();
        let manifests = manifests(folder.path(), &self.jobs)?;
        Ok((
            Run { wall_s: clock.until_last(&manifests), first_s: clock.until_first(&manifests), empty_s },
            manifests,
            version,
        ))
    }

    /// `promptfield`, without what this shell sets for it.
    fn command(&self, cluster: &Cluster, settings: &Path) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PROMPTFIELD_")) {
            command.env_remove(name);
        }
        command.env("SLURM_CONF", cluster.conf()).arg("--settings").arg(settings);
        command
    }

    /// An empty one, with the GPUs on one node.
    fn cluster(&self) -> Result<Cluster> {
        Cluster::start(&Plan { nodes: 1, gpus: self.args.gpus.get(), ..Plan::default() })
    }

    /// An empty folder; it's removed when it's dropped.
    fn folder(&self) -> Result<TempDir> {
        let folder =
            tempfile::Builder::new().prefix("promptfield-bench-").tempdir_in(fs_err::canonicalize(&self.args.folder)?);
        folder.context("can't make a folder for outputs")
    }
}

/// When a run began, by the clock that manifests go by too.
struct Clock {
    began: Instant,
    at_ms: i64,
}

impl Clock {
    fn start() -> Self {
        let now = std::time::SystemTime::now().into();
        let promptfield_core::time::Timestamp(at_ms) = now;
        Self { began: Instant::now(), at_ms }
    }

    fn elapsed_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// When the first job began, in seconds from the start.
    fn until_first(&self, manifests: &[Manifest]) -> f64 {
        let first = manifests.iter().map(|manifest| manifest.started_at.0).min().unwrap_or(self.at_ms);
        (first - self.at_ms) as f64 / 1e3
    }

    /// When the last job had its result.
    fn until_last(&self, manifests: &[Manifest]) -> f64 {
        let end = |manifest: &Manifest| {
            let seconds = manifest.seconds;
            (manifest.started_at.0 - self.at_ms) as f64 / 1e3 + seconds.prepare + seconds.train + seconds.test
        };
        manifests.iter().map(end).fold(0.0, f64::max)
    }
}

/// A running `promptfield serve`, killed when it's dropped.
struct Coordinator {
    child: Child,
    url: String,
}

impl Coordinator {
    fn start(mut command: Command) -> Result<Self> {
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("can't start the coordinator")?;
        let mut lines = BufReader::new(child.stderr.take().context("the coordinator has no stderr")?).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        let url = first.strip_prefix("coordinator at ").with_context(|| format!("the coordinator says: {first}"))?;
        let url = url.to_owned();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("coordinator: {line}")));
        Ok(Self { child, url })
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tables(report: &Report) -> String {
    let Report { machine, slurm, experiment, jobs, gpus, pilots, sbatch, equal } = report;
    let spread = |runs: &[Run], of: fn(&Run) -> f64| Spread::of(runs.iter().map(of)).unwrap_or_default();
    let slower = spread(sbatch, |run| run.wall_s).median / spread(pilots, |run| run.wall_s).median;
    let row = |what: &str, runs: &[Run], factor: f64| {
        [
            what.to_owned(),
            decimals(spread(runs, |run| run.wall_s), 1),
            format!("{factor:.2} ×"),
            decimals(spread(runs, |run| run.first_s), 1),
            decimals(spread(runs, |run| run.empty_s), 1),
        ]
    };
    let rows = [row("pilots", pilots, 1.0), row("an sbatch for each job", sbatch, slower)];
    let head =
        ["how", "until the last result, s", "", "until the first job begins, s", "until the cluster is empty, s"];
    format!(
        "{} ({} cores), {slurm} on loopback; load before the start: {}. Numbers are min/median/max.\n\n{}\n{jobs} jobs of \
         {experiment}, {gpus} at once, one thread each. {equal} of {} results are equal.\n",
        machine.processor,
        machine.cores,
        machine.load,
        table(head, rows.into_iter()),
        jobs * pilots.len()
    )
}
