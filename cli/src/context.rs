//! What every command needs: settings, the way to a coordinator, and the way to print.

use std::path::{Path, PathBuf};

use promptfield_client::{Client, ClientOptions, Connection};
use serde::Serialize;

use crate::settings::Settings;
use crate::{credentials, print};

/// Where the coordinator is.
#[derive(Debug, clap::Args)]
pub(crate) struct CoordinatorArgs {
    /// The coordinator [default: the settings', or http:// and the settings' `listen`].
    #[arg(long = "coordinator", env = "PROMPTFIELD_COORDINATOR", value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// What every command needs.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) token_file: Option<PathBuf>,
    /// JSON is printed instead of text.
    pub(crate) json: bool,
}

impl Context {
    /// A client of the coordinator that was named, or that the settings name.
    pub(crate) fn client(&self, named: &CoordinatorArgs) -> anyhow::Result<Client> {
        self.client_of(&self.settings.coordinator_url(named.url.as_deref())?)
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

    /// Prints a value: as JSON, or else as text.
    pub(crate) fn print<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        Ok(print::text(self.printed(value, text)?)?)
    }

    /// The same of a value for each experiment; of one experiment the value alone.
    pub(crate) fn print_each<T: Serialize>(
        &self,
        values: &[T],
        text: impl FnOnce(&[T]) -> String,
    ) -> anyhow::Result<()> {
        match values {
            [value] => self.print(value, |value| text(std::slice::from_ref(value))),
            values => self.print(&values, |values| text(values)),
        }
    }

    /// What [`Context::print`] prints, with the end of its last line.
    pub(crate) fn printed<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<String> {
        let mut printed = if self.json { serde_json::to_string_pretty(value)? } else { text(value) };
        if !printed.is_empty() && !printed.ends_with('\n') {
            printed.push('\n');
        }
        Ok(printed)
    }
}
