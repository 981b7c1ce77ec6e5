//! `cargo xtask`: what cargo itself can't do for this repository.
//!
//! Everything here starts processes and looks at files; nothing of it ships. Talk goes to stderr, except
//! what the started programs print and the closing line of `cargo xtask test`. This crate builds without
//! libtorch, since it's what fetches libtorch.

mod bench;
mod demo;
mod deploy;
mod openapi;
mod setup;
mod simulate;
mod test;
mod tidy;
mod web;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand, builder::PossibleValuesParser};

use workspace::Workspace;

/// Sets up, demonstrates and tests Promptfield.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch libtorch into .deps/, unless the environment names one
    Setup(setup::Options),
    /// Set up, build, and run the bundled experiment to its result table
    Demo {
        /// Keep the coordinator and its workers running afterwards
        #[arg(long)]
        serve: bool,
    },
    /// Simulate whole installations in virtual time; `--help` after it tells more
    #[command(disable_help_flag = true)]
    Simulate {
        /// What the simulator is told
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Measure what jobs, training steps and matrices cost, here and elsewhere; `--help` after the name tells more
    #[command(disable_help_flag = true)]
    Bench {
        /// What is measured
        name: bench::Name,
        /// What the measurement is told
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Build the dashboard into web/dist, with the types that docs/openapi.json gives it
    Web,
    /// Run all tests, or only the named groups
    Test {
        /// Groups to run
        #[arg(value_parser = PossibleValuesParser::new(test::group_names()))]
        groups: Vec<String>,
    },
}

fn main() -> ExitCode {
    let workspace = Workspace::here();
    let outcome = match Arguments::parse().task {
        Task::Setup(options) => setup::run(&workspace, &options).map(|()| ExitCode::SUCCESS),
        Task::Demo { serve } => demo::run(&workspace, serve),
        Task::Simulate { arguments } => simulate::run(&workspace, &arguments),
        Task::Bench { name, arguments } => bench::run(&workspace, name, &arguments),
        Task::Web => web::run(&workspace).map(|()| ExitCode::SUCCESS),
        Task::Test { groups } => Ok(test::run(&workspace, &groups)),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
