//! One file per command, or per handful of commands that only ask and print.

mod ask;
mod backup;
mod checks;
mod config;
mod doctor;
mod door;
mod look;
mod run;
mod scale;
mod serve;
mod submit;
mod token;
mod work;

use std::path::{Path, PathBuf};

use ask::Act;
use promptfield_client::{Client, ClientOptions, Connection};

use crate::args::{Args, Command, ConfigCommand};
use crate::credentials;
use crate::settings::Settings;

/// What every command needs.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) json: bool,
}

impl Context {
    /// A client of the coordinator that was named, or that the settings name.
    pub(crate) fn client(&self, named: Option<&str>) -> anyhow::Result<Client> {
        self.client_of(&self.settings.coordinator_url(named)?)
    }

    /// A client of the coordinator at an address.
    pub(crate) fn client_of(&self, url: &str) -> anyhow::Result<Client> {
        Ok(Client::new(url, &self.connection()?, ClientOptions::default())?)
    }

    /// The token and the authorities for it.
    pub(crate) fn connection(&self) -> anyhow::Result<Connection> {
        let token = credentials::token(self.token_file.as_deref(), self.settings.token_file.as_deref())?;
        Ok(Connection { token, ca: self.settings.ca.clone(), proxy: self.settings.proxy.clone() })
    }

    /// The trainer's binary, if it is there.
    pub(crate) fn trainer(&self) -> anyhow::Result<&Path> {
        let trainer = &self.settings.trainer;
        anyhow::ensure!(
            trainer.is_file(),
            "there is no trainer at {}: build it with `cargo build -p promptfield-trainer`, or name it as `worker.trainer` in the settings",
            trainer.display()
        );
        Ok(trainer)
    }
}

/// Runs a command and returns its exit code.
pub(crate) async fn run(args: Args) -> anyhow::Result<u8> {
    let settings = Settings::load(args.settings.as_deref())?;
    let context = Context { settings, token_file: args.token_file, json: args.json };
    match args.command {
        Command::Run(args) => run::run(&context, args, false).await,
        Command::Up(args) => run::run(&context, args, true).await,
        Command::Serve(args) => serve::serve(&context, &args).await,
        Command::Work(args) => work::work(&context, args).await,
        Command::Scale { what } => scale::scale(&context, what).await,
        Command::Submit(args) => submit::submit(&context, args).await,
        Command::Status(args) => ask::status(&context, args).await,
        Command::Results(args) => ask::results(&context, args).await,
        Command::Logs(args) => ask::logs(&context, args).await,
        Command::Explain(args) => ask::explain(&context, args).await,
        Command::Config { what: ConfigCommand::Show(args) } => config::show(&context, &args),
        Command::Backup(args) => backup::backup(&context, args).await,
        Command::Doctor(args) if args.data => doctor::data(&context, args).await,
        Command::Doctor(args) if args.results.is_some() => doctor::results(&context, &args).await,
        Command::Doctor(args) => checks::machine(&context, &args).await,
        Command::Token { what } => token::token(&context, what).await,
        Command::Cancel(args) => ask::act(&context, args, Act::Cancel).await,
        Command::Retry(args) => ask::act(&context, args, Act::Retry).await,
        Command::Recheck(args) => ask::recheck(&context, args).await,
        Command::Rerun(args) => ask::rerun(&context, args).await,
        Command::Pin(args) => ask::pin(&context, args).await,
    }
}
