//! The trainer's command line (interfaces.md, section 2). Data goes to stdout, talk to stderr.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, value_parser};
use promptfield_core::chain::chain;
use promptfield_core::input::{self, InvalidInput};
use promptfield_core::job::outcome::Progress;
use promptfield_core::wire::trainer_job::TrainerJob;
use promptfield_core::wire::trainer_wire::{BackboneFile, Backbones, Reply};
use promptfield_trainer::clip::{Backbone, FrozenCache};
use promptfield_trainer::data::DataError;
use promptfield_trainer::engine::{self, CancelFlag, JobError, Reporter, Session};
use promptfield_trainer::inspect::{self, InspectCommand};
use promptfield_trainer::inspect_model::BackboneArgs;
use promptfield_trainer::measure::{self, MeasureArgs};
use promptfield_trainer::talk::talk;
use promptfield_trainer::{replay, serve, working};

/// For libtorch as well, by the C library's names. That library's own allocator leaves holes between tensors of unlike sizes: with
/// batches of 32 images a training took a sixth more memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Trains and evaluates one prompt-learning job at a time.
#[derive(Parser)]
#[command(name = "promptfield-trainer", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take jobs as JSON lines on stdin and answer on stdout, as a worker does it
    Serve {
        /// The backbones whose identities are said first, by name: `{"NAME": {"weights": PATH, "architecture": {…}}}`
        #[arg(long, value_name = "JSON", default_value = "{}")]
        backbones: String,
        #[command(flatten)]
        machine: Machine,
    },
    /// Run one job in the foreground; exit code 0 done, 1 failed, 2 bad input
    Run {
        /// The job (interfaces.md, section 3)
        job: PathBuf,
        #[command(flatten)]
        machine: Machine,
    },
    /// Train from given parameters on given batches, with no random draw, and evaluate on given images
    Replay {
        /// The method, class names and values (interfaces.md, section 4)
        #[arg(long)]
        job: PathBuf,
        /// The CLIP weights
        #[arg(long)]
        weights: PathBuf,
        /// Parameters, batches and images, as safetensors
        #[arg(long)]
        input: PathBuf,
        /// Where losses, logits and parameters go, as safetensors
        #[arg(long)]
        output: PathBuf,
        #[command(flatten)]
        backbone: BackboneArgs,
    },
    /// Measure how long a method's training steps take
    Measure {
        #[command(flatten)]
        args: MeasureArgs,
        #[command(flatten)]
        machine: Machine,
    },
    /// Show what the trainer makes of a text, an image, a data set or a weights file
    Inspect {
        #[command(subcommand)]
        what: InspectCommand,
    },
}

/// What this machine gives to jobs.
#[derive(Args)]
struct Machine {
    /// CPU threads; all cores if not given
    #[arg(long, value_name = "N", env = "PROMPTFIELD_THREADS", value_parser = value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Memory for decoded images that are kept between epochs and jobs, in MiB
    #[arg(long, value_name = "MIB", env = "PROMPTFIELD_IMAGE_CACHE_MIB", default_value_t = 1024)]
    image_cache_mib: u64,
    /// A folder that this machine's trainers share: what the frozen towers make of images is kept there
    #[arg(long, value_name = "DIR", env = "PROMPTFIELD_FROZEN_CACHE")]
    frozen_cache: Option<PathBuf>,
    /// The most that it may take, in MiB
    #[arg(long, value_name = "MIB", env = "PROMPTFIELD_FROZEN_CACHE_MIB", default_value_t = 8192)]
    frozen_cache_mib: u64,
}

impl Machine {
    fn session(&self) -> anyhow::Result<Session> {
        self.use_threads()?;
        Ok(Session::new(self.image_cache_mib << 20).with_cache(self.frozen_cache()?))
    }

    fn frozen_cache(&self) -> anyhow::Result<Option<FrozenCache>> {
        let Some(folder) = &self.frozen_cache else { return Ok(None) };
        let cache = FrozenCache::open(folder, self.frozen_cache_mib << 20);
        Ok(Some(cache.with_context(|| format!("cannot use `{}` as the frozen cache", folder.display()))?))
    }

    fn use_threads(&self) -> anyhow::Result<()> {
        let threads = match self.threads {
            Some(threads) => usize::from(threads),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        tch::set_num_threads(i32::try_from(threads)?);
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        Ok(())
    }
}

/// The exit code for bad usage or input; clap's own too.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if !matches!(command, Command::Inspect { .. }) {
        set_up_libraries();
    }
    match command {
        Command::Serve { backbones, machine } => finish(serve_worker(&backbones, &machine)),
        Command::Run { job, machine } => run_job(&job, &machine),
        Command::Replay { job, weights, input, output, backbone } => {
            finish(replay::run(&job, (&weights, &backbone.settings()), &input, &output))
        }
        Command::Measure { args, machine } => finish(measure_steps(&args, &machine)),
        Command::Inspect { what } => finish(inspect::run(what)),
    }
}

/// How the C libraries beneath are to behave. They read it before `main`, so they can't be told later.
const LIBRARIES: [(&str, &str); 2] = [
    // OpenMP's threads spin for a few microseconds before they sleep. Those that never spin are woken for each of a small model's
    // operations: two took two and a half times as long. Those that spin on take the cores from whoever they wait for: with
    // anything else to do on the machine, training was measured to take 50 times as long.
    ("GOMP_SPINCOUNT", "2000"),
    // The allocator gives memory back when nothing has used it for a minute, not at once: it would get it back page by page, and an
    // activation of 80 MB take four times as long.
    ("MIMALLOC_PURGE_DELAY", "60000"),
];

/// Starts this program once more, in this process, with what [`LIBRARIES`] says, as far as the environment says nothing of it.
fn set_up_libraries() {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let is_told = |name: &str| is_set(name) || name == "GOMP_SPINCOUNT" && is_set("OMP_WAIT_POLICY");
    let missing: Vec<_> = LIBRARIES.into_iter().filter(|(name, _)| !is_told(name)).collect();
    if !missing.is_empty() {
        // A file that was replaced meanwhile can only be run by the name that the process has for it.
        let program = std::env::current_exe().ok().filter(|path| path.exists());
        let program = program.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        // Comes back only if it failed; then training is slow at worst.
        let _ = std::process::Command::new(program).args(std::env::args_os().skip(1)).envs(missing).exec();
    }
}

fn finish(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            talk(format_args!("error: {error:#}"));
            let bad_input = error.chain().any(<dyn std::error::Error>::is::<InvalidInput>);
            if bad_input { ExitCode::from(BAD_INPUT) } else { ExitCode::FAILURE }
        }
    }
}

/// Replies go to what was stdout; from here on stdout is stderr, so that no library's line can get between them.
fn serve_worker(backbones: &str, machine: &Machine) -> anyhow::Result<()> {
    let backbones: Backbones = input::from_json(backbones)?;
    let replies = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdout(io::stderr())?;
    working::speak_to(replies.try_clone()?);
    let mut session = machine.session()?;
    serve::serve(BufReader::new(io::stdin()), replies, ready(&backbones), |job, reporter, cancel| {
        engine::run(job, &mut session, reporter, cancel)
    })
    .context("the worker can't be talked to")
}

/// What is said first: which devices there are, and which backbones.
fn ready(backbones: &Backbones) -> Reply {
    let (mut backbone_sha256, mut unusable) = (BTreeMap::new(), BTreeMap::new());
    for (name, BackboneFile { weights, architecture }) in backbones {
        match Backbone::identify(weights, architecture) {
            Ok(backbone) => backbone_sha256.extend(backbone.basis().map(|sha256| (name.clone(), sha256))),
            Err(error) => {
                unusable.insert(name.clone(), chain(&error));
            }
        }
    }
    let version = promptfield_core::VERSION.to_owned();
    Reply::Ready { version, devices: engine::devices(), backbone_sha256, unusable }
}

fn measure_steps(args: &MeasureArgs, machine: &Machine) -> anyhow::Result<()> {
    machine.use_threads()?;
    measure::run(args, machine.frozen_cache()?)
}

fn run_job(path: &PathBuf, machine: &Machine) -> ExitCode {
    let job = fs_err::read_to_string(path).map_err(anyhow::Error::from).and_then(|text| Ok(TrainerJob::parse(&text)?));
    let job = match job {
        Ok(job) => job,
        Err(error) => {
            talk(format_args!("error: {}: {error:#}", path.display()));
            return ExitCode::from(BAD_INPUT);
        }
    };
    let mut session = match machine.session() {
        Ok(session) => session,
        Err(error) => return finish(Err(error)),
    };
    match engine::run(&job, &mut session, &mut Foreground, &CancelFlag::default()) {
        Ok(outcome) => {
            if outcome.adopted {
                talk(format_args!("`{}` is complete already", job.output.display()));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            talk(format_args!("error: {}", error.failure().reason));
            match error {
                JobError::Input(_) | JobError::Data(DataError::Unknown(_)) => ExitCode::from(BAD_INPUT),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Shows the log on stdout.
struct Foreground;

impl Reporter for Foreground {
    fn log(&mut self, line: &str) {
        // Who closed stdout wants no lines; the job goes on.
        let _ = writeln!(io::stdout(), "{line}");
    }

    fn progress(&mut self, _: Progress) {}

    fn metrics(&mut self, _: u64, _: &std::collections::BTreeMap<String, f64>) {}
}
