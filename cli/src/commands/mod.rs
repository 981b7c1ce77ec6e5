//! The command line: one file per command, with its arguments.

mod backup;
mod cancel;
mod config;
mod doctor;
mod explain;
mod logs;
mod pin;
mod recheck;
mod rerun;
mod results;
mod retry;
mod run;
mod scale;
mod serve;
mod status;
mod submit;
mod token;
mod work;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::context::Context;
use crate::settings::Settings;
use crate::target::TargetArgs;

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
    Run(run::RunArgs),
    /// The same, and stay: the coordinator and its workers take further experiments until Ctrl-C.
    Up(run::RunArgs),
    /// Run a coordinator.
    Serve(serve::ServeArgs),
    /// Run a worker.
    Work(work::WorkArgs),
    /// Have workers started on demand, here or on a cluster, and ended when there is nothing to do.
    Scale {
        #[command(subcommand)]
        what: scale::ScaleCommand,
    },
    /// Hand experiments to a coordinator.
    Submit(submit::SubmitArgs),
    /// Show the experiments, or one experiment with its jobs.
    Status(status::StatusArgs),
    /// Print an experiment's table, or one job's numbers by class.
    Results(results::ResultsArgs),
    /// Print a job's log.
    Logs(logs::LogsArgs),
    /// Say why a job waits, or why it failed.
    Explain(explain::ExplainArgs),
    /// Show the published values that a method is trained with.
    Config {
        #[command(subcommand)]
        what: config::ConfigCommand,
    },
    /// Copy the coordinator's database into a new file, while it goes on; without a coordinator, directly.
    Backup(backup::BackupArgs),
    /// Check this machine, its coordinator and the workers; or with `--data` the data sets.
    Doctor(doctor::DoctorArgs),
    /// Make, list and revoke the tokens that a coordinator asks for.
    Token {
        #[command(subcommand)]
        what: token::TokenCommand,
    },
    /// Cancel an experiment, or one job.
    Cancel(TargetArgs),
    /// Queue the failed and cancelled jobs of an experiment again, or one job.
    Retry(TargetArgs),
    /// Give machines again what they were found unable to do: all of them, or one host.
    Recheck(recheck::RecheckArgs),
    /// Compute jobs that have results again: an experiment's, only those that are stale, or one job. The earlier results are kept.
    Rerun(rerun::RerunArgs),
    /// Pin a backbone's name to the identity of its weights, or list the pins. What rests on another identity is stale from then on.
    Pin(pin::PinArgs),
}

/// Runs a command and returns its exit code.
pub(crate) async fn run(args: Args) -> anyhow::Result<u8> {
    let settings = Settings::load(args.settings.as_deref())?;
    let context = Context { settings, token_file: args.token_file, json: args.json };
    match args.command {
        Command::Run(args) => run::run(&context, args, false).await,
        Command::Up(args) => run::run(&context, args, true).await,
        Command::Serve(args) => serve::run(&context, &args).await,
        Command::Work(args) => work::run(&context, args).await,
        Command::Scale { what } => scale::run(&context, what).await,
        Command::Submit(args) => submit::run(&context, args).await,
        Command::Status(args) => status::run(&context, args).await,
        Command::Results(args) => results::run(&context, args).await,
        Command::Logs(args) => logs::run(&context, args).await,
        Command::Explain(args) => explain::run(&context, args).await,
        Command::Config { what } => config::run(&context, what),
        Command::Backup(args) => backup::run(&context, args).await,
        Command::Doctor(args) => doctor::run(&context, args).await,
        Command::Token { what } => token::run(&context, what).await,
        Command::Cancel(args) => cancel::run(&context, args).await,
        Command::Retry(args) => retry::run(&context, args).await,
        Command::Recheck(args) => recheck::run(&context, args).await,
        Command::Rerun(args) => rerun::run(&context, args).await,
        Command::Pin(args) => pin::run(&context, args).await,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        <super::Args as clap::CommandFactory>::command().debug_assert();
    }
}
