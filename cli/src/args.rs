//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use promptfield_core::id::{ExperimentId, JobId, LeaseId, TokenId};
use promptfield_core::job::spec::BasisHash;
use promptfield_core::method::Method;
use promptfield_core::protocol::Protocol;
use promptfield_core::results::published::Reference;
use promptfield_core::results::tables::Format;
use promptfield_core::scheduler::pilot_records::PilotKey;
use promptfield_core::wire::access::Scope;

use crate::span::{Span, WallTime};

/// Runs prompt-learning benchmarks for vision-language models.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Args {
    /// The settings of this machine [default: `promptfield.toml` here, then in the user's configuration folder].
    #[arg(long, global = true, env = "PROMPTFIELD_SETTINGS", value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// The file with the coordinator's token [default: `PROMPTFIELD_TOKEN`'s value, then the settings' file].
    #[arg(long, global = true, env = "PROMPTFIELD_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run experiments on this machine from beginning to end, and print their tables.
    Run(RunArgs),
    /// The same, and stay: the coordinator and its workers take further experiments until Ctrl-C.
    Up(RunArgs),
    /// Run a coordinator.
    Serve(ServeArgs),
    /// Run a worker.
    Work(WorkArgs),
    /// Have workers started on demand, here or on a cluster, and ended when there is nothing to do.
    Scale {
        #[command(subcommand)]
        what: ScaleCommand,
    },
    /// Hand experiments to a coordinator.
    Submit(SubmitArgs),
    /// Show the experiments, or one experiment with its jobs.
    Status(StatusArgs),
    /// Print an experiment's table, or one job's numbers by class.
    Results(ResultsArgs),
    /// Print a job's log.
    Logs(LogsArgs),
    /// Say why a job waits, or why it failed.
    Explain(JobArgs),
    /// Show the published values that a method is trained with.
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Copy the coordinator's database into a new file, while it goes on; without a coordinator, directly.
    Backup(BackupArgs),
    /// Check this machine, its coordinator and the workers; or with `--data` the data sets.
    Doctor(DoctorArgs),
    /// Make, list and revoke the tokens that a coordinator asks for.
    Token {
        #[command(subcommand)]
        what: TokenCommand,
    },
    /// Cancel an experiment, or one job.
    Cancel(TargetArgs),
    /// Queue the failed and cancelled jobs of an experiment again, or one job.
    Retry(TargetArgs),
    /// Give machines again what they were found unable to do: all of them, or one host.
    Recheck(RecheckArgs),
    /// Compute jobs that have results again: an experiment's, only those that are stale, or one job. The earlier results are kept.
    Rerun(RerunArgs),
    /// Pin a backbone's name to the identity of its weights, or list the pins. What rests on another identity is stale from then on.
    Pin(PinArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScaleCommand {
    /// Have a pool of workers that are jobs of a Slurm cluster: `scale slurm NAME …`; or turn pools off: `scale slurm off [NAMES]`.
    Slurm(Box<ScaleSlurmArgs>),
    /// Have a pool of workers on the coordinator's host: `scale local NAME …`; or turn pools off: `scale local off [NAMES]`.
    Local(ScaleLocalArgs),
    /// Show the pools and the latest pilots.
    Status(ScaleStatusArgs),
    /// Let a pool that was paused go on.
    Resume(ScaleResumeArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScaleLocalArgs {
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScaleStatusArgs {
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScaleResumeArgs {
    /// The pool.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

/// What all pools have.
#[derive(Debug, clap::Args)]
pub(crate) struct PoolArgs {
    /// The pool's name; or `off`, and the pools to turn off [default: all of this launcher].
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// The most workers at once, those that still wait included.
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u32>,
    /// So many are kept whatever there is to do.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) min: u32,
    /// A worker goes when it had nothing to do for so long [default: 5m].
    #[arg(long, value_name = "TIME")]
    pub(crate) idle: Option<Span>,
    /// Jobs at once for each GPU of a worker.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) slots_per_gpu: u32,
    /// What experiments may ask these workers for; may be given several times.
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// The memory that the slots of a worker share, in MiB [default: what it finds].
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<u64>,
    /// The time between two submissions [default: 10s].
    #[arg(long, value_name = "TIME")]
    pub(crate) submit_every: Option<Span>,
    /// So long before its time is up, a worker takes no more jobs [default: 2m].
    #[arg(long, value_name = "TIME")]
    pub(crate) lead: Option<Span>,
    /// With `off`: don't wait until no worker is left.
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScaleSlurmArgs {
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// Slurm's partition.
    #[arg(long, value_name = "NAME")]
    pub(crate) partition: Option<String>,
    /// What each worker gets besides processors, such as `gpu:1`.
    #[arg(long, value_name = "LIST")]
    pub(crate) gres: Option<String>,
    /// How long each worker may run, as Slurm writes it or with a unit: `4:00:00`, `4h`.
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<WallTime>,
    /// Whose account pays.
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// The quality of service.
    #[arg(long, value_name = "NAME")]
    pub(crate) qos: Option<String>,
    /// The features that nodes must have.
    #[arg(long, value_name = "LIST")]
    pub(crate) constraint: Option<String>,
    /// Memory of each node.
    #[arg(long, value_name = "SIZE")]
    pub(crate) mem: Option<String>,
    /// Processors of each worker.
    #[arg(long, value_name = "N")]
    pub(crate) cpus_per_task: Option<u32>,
    /// A shell script that each worker's job runs first, such as `module load cuda`.
    #[arg(long, value_name = "FILE")]
    pub(crate) setup: Option<PathBuf>,
    /// Any other options of `sbatch`, each as one word: `-- --exclude=n7 --reservation=vision`.
    #[arg(last = true, value_name = "SBATCH OPTIONS")]
    pub(crate) options: Vec<String>,
}

impl ScaleSlurmArgs {
    /// What is passed on to `sbatch` as it is.
    pub(crate) fn sbatch_options(&self) -> Vec<String> {
        let Self { account, qos, constraint, mem, cpus_per_task, options, .. } = self;
        let cpus = cpus_per_task.map(|cpus| cpus.to_string());
        let named = [
            ("account", account.as_ref()),
            ("qos", qos.as_ref()),
            ("constraint", constraint.as_ref()),
            ("mem", mem.as_ref()),
            ("cpus-per-task", cpus.as_ref()),
        ];
        let given = named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
        given.chain(options.iter().cloned()).collect()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print a method's preset for a protocol, or with `--dataset` the values in force for one data set.
    Show(ConfigShowArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it; it can't be shown again. Without a running coordinator its database is used directly.
    Create(TokenCreateArgs),
    /// List the tokens without their secrets.
    List(CoordinatorArgs),
    /// End a token at once.
    Revoke(TokenRevokeArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenCreateArgs {
    /// Whose it is, or what for.
    pub(crate) name: String,
    /// What it permits, separated by commas: `admin`, `submit`, `work`, `read`.
    #[arg(long = "scope", required = true, value_delimiter = ',', value_name = "SCOPES")]
    pub(crate) scopes: Vec<Scope>,
    /// How long it's valid, such as `30d` or `12h` [default: until it's revoked].
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<Span>,
    /// Write the token into a new file that only you can read, instead of printing it.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TokenRevokeArgs {
    /// The token's number.
    pub(crate) id: TokenId,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConfigShowArgs {
    /// The method.
    pub(crate) method: Method,
    /// The protocol.
    #[arg(default_value = "base_to_new")]
    pub(crate) protocol: Protocol,
    /// The data set.
    #[arg(long, value_name = "NAME")]
    pub(crate) dataset: Option<String>,
    /// The backbone, for the configuration's name.
    #[arg(long, value_name = "NAME", default_value = "ViT-B/16")]
    pub(crate) backbone: String,
}

/// Which experiments, and what is different from their files.
#[derive(Debug, clap::Args)]
pub(crate) struct ExperimentArgs {
    /// Experiment files, or names of built-in experiments: `base_to_new`, `cross_dataset`, `few_shot`, `demo`.
    #[arg(required = true, value_name = "EXPERIMENT")]
    pub(crate) experiments: Vec<String>,
    /// The methods, separated by commas or spaces.
    #[arg(long, value_name = "NAMES")]
    pub(crate) methods: Option<String>,
    /// The data sets, separated by commas or spaces, or `all`.
    #[arg(long, env = "DATASETS", value_name = "NAMES")]
    pub(crate) datasets: Option<String>,
    /// The seeds, separated by commas or spaces.
    #[arg(long, env = "SEEDS", value_name = "NUMBERS")]
    pub(crate) seeds: Option<String>,
    /// Training images per class, separated by commas or spaces.
    #[arg(long, env = "SHOTS", value_name = "NUMBERS")]
    pub(crate) shots: Option<String>,
    /// The backbone.
    #[arg(long, value_name = "NAME")]
    pub(crate) backbone: Option<String>,
    /// A value that replaces the preset's for every job, such as `epochs=2`; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    /// Worker processes to start on this machine [default: the settings', or 1].
    #[arg(long, env = "PROMPTFIELD_WORKERS", value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Compute stale results again that other experiments show too.
    #[arg(long)]
    pub(crate) shared: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The address to listen on [default: the settings', or 127.0.0.1:7878].
    #[arg(long, env = "PROMPTFIELD_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WorkArgs {
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
    /// The worker's name; one that stays the same when it is started again [default: the settings', or the host's name].
    #[arg(long, env = "PROMPTFIELD_WORKER", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Jobs at once [default: the settings', or 1].
    #[arg(long, env = "PROMPTFIELD_SLOTS", value_name = "N")]
    pub(crate) slots: Option<usize>,
    /// CPU threads of each trainer [default: the settings', or the host's cores divided by the slots].
    #[arg(long, env = "PROMPTFIELD_THREADS", value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// The output root is the coordinator host's own: checkpoints needn't be sent.
    #[arg(long)]
    pub(crate) shared_output: bool,
    /// The pilot that it is; set by what starts pilots.
    #[arg(long, value_name = "KEY", requires = "leave_after")]
    pub(crate) pilot: Option<PilotKey>,
    /// A pilot goes when the coordinator has been out of reach for so long.
    #[arg(long, value_name = "TIME", requires = "pilot")]
    pub(crate) leave_after: Option<Span>,
    /// So long before its time is up, a pilot takes no more jobs.
    #[arg(long, value_name = "TIME", requires = "pilot", default_value = "120s")]
    pub(crate) lead: Span,
    /// Instead of `--slots`: jobs at once for each GPU that `CUDA_VISIBLE_DEVICES` names, or in all if it names none.
    #[arg(long, value_name = "N")]
    pub(crate) slots_per_gpu: Option<usize>,
    /// The memory that the slots share, in MiB [default: the settings', or what there is].
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<u64>,
    /// What experiments may ask this worker for, besides what the settings say; may be given several times.
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// The trainer's binary [default: the settings', or beside this program].
    #[arg(long, value_name = "FILE")]
    pub(crate) trainer: Option<PathBuf>,
    /// Stop when stdin ends: what `run` and `up` start doesn't outlive them.
    #[arg(long)]
    pub(crate) until_stdin_ends: bool,
}

/// Where the coordinator is.
#[derive(Debug, clap::Args)]
pub(crate) struct CoordinatorArgs {
    /// The coordinator [default: the settings', or http:// and the settings' `listen`].
    #[arg(long = "coordinator", env = "PROMPTFIELD_COORDINATOR", value_name = "URL")]
    pub(crate) url: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
    /// Wait for the end, and print the tables.
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// The experiment's number; without one, all experiments.
    pub(crate) experiment: Option<ExperimentId>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ResultsArgs {
    /// The experiment's number; without one, the latest.
    pub(crate) experiment: Option<ExperimentId>,
    /// `csv`, `markdown`, `latex` or `json` instead of a table for the terminal.
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// What to put beside the table: `published`, the numbers of the papers, for base-to-new.
    #[arg(long, value_name = "WITH")]
    pub(crate) compare: Option<Reference>,
    /// One job instead: its numbers by class.
    #[arg(long, conflicts_with_all = ["experiment", "format", "compare"])]
    pub(crate) job: Option<JobId>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct JobArgs {
    /// The job's number.
    pub(crate) job: JobId,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// The job's number.
    pub(crate) job: JobId,
    /// Go on with the lines that come, until the attempt ends.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// The log of an earlier attempt, by its lease.
    #[arg(long, value_name = "LEASE")]
    pub(crate) attempt: Option<LeaseId>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TargetArgs {
    /// The experiment's number.
    #[arg(required_unless_present = "job", conflicts_with = "job")]
    pub(crate) experiment: Option<ExperimentId>,
    /// One job instead.
    #[arg(long)]
    pub(crate) job: Option<JobId>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RecheckArgs {
    /// The machine's host, as `status` names it.
    pub(crate) host: Option<String>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RerunArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Only results that rest on another split, test list or backbone than today's.
    #[arg(long, conflicts_with = "job")]
    pub(crate) stale: bool,
    /// Also jobs that other experiments show too: they are computed again for all of them.
    #[arg(long)]
    pub(crate) shared: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PinArgs {
    /// The backbone's name; without one, all pins are listed.
    #[arg(requires = "sha256")]
    pub(crate) backbone: Option<String>,
    /// The identity: what `promptfield-trainer inspect weights` prints as `backbone_sha256`.
    pub(crate) sha256: Option<BasisHash>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Check the data sets: which are there, what they lack, which images can't be read, and what to download.
    #[arg(long)]
    pub(crate) data: bool,
    /// Look at the output folders of an experiment that lie on this machine, and at the data sets that its results rest on.
    #[arg(long, value_name = "EXPERIMENT", conflicts_with = "data")]
    pub(crate) results: Option<ExperimentId>,
    /// With `--results`: read every image file too, and compare them with what was recorded; where nothing was, record them.
    #[arg(long, requires = "results")]
    pub(crate) images: bool,
    /// With `--images`: record the image files as they are now, whatever was recorded before.
    #[arg(long, requires = "images")]
    pub(crate) record: bool,
    /// The data sets to check [default: all that are known].
    #[arg(value_name = "NAME", requires = "data")]
    pub(crate) names: Vec<String>,
    /// The folder of the data sets' folders [default: the settings', or `data`].
    #[arg(long, value_name = "DIR", requires = "data")]
    pub(crate) root: Option<PathBuf>,
    /// Look only at how images begin instead of decoding them.
    #[arg(long, requires = "data")]
    pub(crate) quick: bool,
    /// CPU threads [default: the settings', or all cores].
    #[arg(long, env = "PROMPTFIELD_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BackupArgs {
    /// The file to make.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        <super::Args as clap::CommandFactory>::command().debug_assert();
    }
}
