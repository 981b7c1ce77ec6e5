//! The command line.

use std::num::NonZero;
use std::path::PathBuf;

use promptfield_core::protocol::Protocol;

use crate::trainer::{Backbone, Cell, TARGETS};

/// Measures what a job costs.
#[derive(Debug, clap::Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Measure the coordinator, and its peers beside it
    Coordinator(CoordinatorArgs),
    /// Measure the demo matrix beside a shell loop, and simulate the full one
    Matrix(MatrixArgs),
    /// Measure the demo matrix on a Slurm cluster, by pilots and by a job for each
    Slurm(SlurmArgs),
    /// Measure the trainer, and plain PyTorch beside it
    Trainer(TrainerArgs),
    /// End every job of a coordinator at once, until stdin ends
    Worker(WorkerArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct CoordinatorArgs {
    /// The `promptfield` program [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) promptfield: Option<PathBuf>,
    /// Where databases are made and removed again: on the disk that is to be measured [default: the system's temporary folder]
    #[arg(long, value_name = "DIR", overrides_with = "folder")]
    pub(crate) folder: Option<PathBuf>,
    /// Jobs of a measurement
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS", default_values_t = [number(1_000), number(10_000), number(100_000)])]
    pub(crate) jobs: Vec<NonZero<u64>>,
    /// Slots of all workers together
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS", default_values_t = [number(2), number(16), number(256)])]
    pub(crate) slots: Vec<NonZero<u64>>,
    /// Protocols: `few_shot` for jobs that stand alone, `base_to_new` for pairs of a training and its test
    #[arg(long, value_delimiter = ',', value_name = "NAMES", default_values_t = [Protocol::FewShot, Protocol::BaseToNew])]
    pub(crate) protocols: Vec<Protocol>,
    /// How often everything is measured
    #[arg(long, value_name = "TIMES", default_value_t = number(3))]
    pub(crate) repeat: NonZero<u64>,
    /// Jobs that wait in a database which is loaded, submitted as ten experiments; 0 to leave it out
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub(crate) loaded: u64,
    /// Workers of one slot that each take one job at a time; 0 to leave them out
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) single: u64,
    /// The peers to measure
    #[arg(long, value_enum, default_value_t = Peers::All)]
    pub(crate) peers: Peers,
    /// Where the peers' Python packages are, or are put
    #[arg(long, value_name = "DIR", default_value = ".deps/peers")]
    pub(crate) packages: PathBuf,
    /// Where `coordinator.json` is written
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    pub(crate) results: PathBuf,
}

/// Which peers are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Peers {
    /// None.
    None,
    /// What every machine has: the disk, SQLite, processes
    Quick,
    /// Other job runners too, where they can be had
    All,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TrainerArgs {
    /// The `promptfield-trainer` program [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) trainer: Option<PathBuf>,
    /// Where random weights are kept, and inputs made and removed again
    #[arg(long, value_name = "DIR", default_value = "target/bench", overrides_with = "folder")]
    pub(crate) folder: PathBuf,
    /// The CLIPs to measure with
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAMES", default_values_t = [Backbone::Miniature, Backbone::VitB16])]
    pub(crate) backbones: Vec<Backbone>,
    /// Classes and batch of each measurement, such as `100x4` [default: those of the targets]
    #[arg(long, value_delimiter = ',', value_name = "CELLS")]
    cells: Vec<Cell>,
    /// Leave out what takes long: more than 100 classes, all but three steps
    #[arg(long)]
    quick: bool,
    /// Training steps; the first one doesn't count
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..))]
    steps: u32,
    /// Images that are classified at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) images: u32,
    /// CPU threads
    #[arg(long, value_name = "N", default_value = "2")]
    pub(crate) threads: NonZero<u16>,
    /// Leave plain PyTorch out
    #[arg(long)]
    pub(crate) no_peer: bool,
    /// Where the peers' Python packages are, or are put
    #[arg(long, value_name = "DIR", default_value = ".deps/peers")]
    pub(crate) packages: PathBuf,
    /// Where `trainer.json` is written
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    pub(crate) results: PathBuf,
}

impl TrainerArgs {
    /// What is measured.
    pub(crate) fn cells(&self) -> Vec<Cell> {
        let targets = TARGETS.map(|(cell, _)| cell);
        let cells = if self.cells.is_empty() { &targets[..] } else { &self.cells };
        cells.iter().copied().filter(|cell| !self.quick || cell.classes <= 100).collect()
    }

    /// How many steps.
    pub(crate) const fn steps(&self) -> u32 {
        if self.quick && self.steps > 3 { 3 } else { self.steps }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct MatrixArgs {
    /// The `promptfield` program, which has its trainer beside it [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) promptfield: Option<PathBuf>,
    /// Where outputs and databases are made and removed again
    #[arg(long, value_name = "DIR", default_value = "target/bench", overrides_with = "folder")]
    pub(crate) folder: PathBuf,
    /// The experiment that is run, on the bundled data and weights
    #[arg(long, value_name = "FILE", default_value = "configs/experiments/demo.toml")]
    pub(crate) experiment: PathBuf,
    /// Workers of one slot that run it: as many as the bundled settings say
    #[arg(long, value_name = "N", default_value_t = number(2))]
    pub(crate) workers: NonZero<u64>,
    /// How often it's run, each time in all three ways
    #[arg(long, value_name = "TIMES", default_value_t = number(3))]
    pub(crate) repeat: NonZero<u64>,
    /// Run no experiment
    #[arg(long)]
    pub(crate) no_demo: bool,
    /// Don't simulate the full matrix
    #[arg(long)]
    pub(crate) no_full: bool,
    /// GPUs of the full matrix
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS", default_values_t = [number(1), number(4), number(8), number(32)])]
    pub(crate) gpus: Vec<NonZero<u64>>,
    /// Reckon with the trainers' CPU time divided by their threads instead of wall-clock: for what was measured on a busy machine
    #[arg(long)]
    pub(crate) cpu_time: bool,
    /// What the frozen cache of a host may take, in GiB
    #[arg(long, value_name = "GIB", default_value_t = number(8))]
    pub(crate) cache: NonZero<u64>,
    /// Where `matrix.json` is written, and `trainer.json` read
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    pub(crate) results: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SlurmArgs {
    /// The `promptfield` program, which has its trainer beside it [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) promptfield: Option<PathBuf>,
    /// Where outputs and databases are made and removed again
    #[arg(long, value_name = "DIR", default_value = "target/bench", overrides_with = "folder")]
    pub(crate) folder: PathBuf,
    /// The experiment that is run, on the bundled data and weights
    #[arg(long, value_name = "FILE", default_value = "configs/experiments/demo.toml")]
    pub(crate) experiment: PathBuf,
    /// Jobs at once: no more than there are cores
    #[arg(long, value_name = "N", default_value = "2")]
    pub(crate) gpus: NonZero<u32>,
    /// How often it's run, each time in both ways
    #[arg(long, value_name = "TIMES", default_value_t = number(3))]
    pub(crate) repeat: NonZero<u64>,
    /// Where `slurm.json` is written
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    pub(crate) results: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// The coordinator
    #[arg(long, value_name = "URL")]
    pub(crate) coordinator: String,
    /// The name; with several workers, how their names begin
    #[arg(long, default_value = "bench")]
    pub(crate) name: String,
    /// Slots of each worker
    #[arg(long, value_name = "N")]
    pub(crate) slots: NonZero<u64>,
    /// Jobs that each worker takes beyond its slots
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) prefetch: u64,
    /// Workers in this process, each with a registration and connections of its own
    #[arg(long, value_name = "N", default_value_t = number(1))]
    pub(crate) workers: NonZero<u64>,
}

const fn number(value: u64) -> NonZero<u64> {
    NonZero::new(value).expect("it is given above, and not 0")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        <super::Args as clap::CommandFactory>::command().debug_assert();
    }
}
