//! The trainer's command line (interfaces.md, section 2). Data goes to stdout, talk to stderr.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use promptfield_trainer::commands::inspect::{self, InspectCommand};
use promptfield_trainer::commands::machine::Machine;
use promptfield_trainer::commands::measure::{self, MeasureArgs};
use promptfield_trainer::commands::{BackboneArgs, finish, replay, run, serve};

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

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if !matches!(command, Command::Inspect { .. }) {
        set_up_libraries();
    }
    match command {
        Command::Serve { backbones, machine } => finish(serve::run(&backbones, &machine)),
        Command::Run { job, machine } => run::run(&job, &machine),
        Command::Replay { job, weights, input, output, backbone } => {
            finish(replay::run(&job, (&weights, &backbone.settings()), &input, &output))
        }
        Command::Measure { args, machine } => finish(measure::run(&args, &machine)),
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
