//! `config show`: the published values, as they lie in the presets.

use clap::Subcommand;
use promptfield_core::input::from_toml;
use promptfield_core::method::{Method, preset};
use promptfield_core::protocol::Protocol;

use crate::context::Context;
use crate::exit;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print a method's preset for a protocol, or with `--dataset` the values in force for one data set.
    Show(ConfigShowArgs),
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

pub(super) fn run(context: &Context, what: ConfigCommand) -> anyhow::Result<u8> {
    let ConfigCommand::Show(ConfigShowArgs { method, protocol, dataset, backbone }) = what;
    let Some(dataset) = dataset else {
        let text = method.preset(protocol);
        context.print(&from_toml::<serde_json::Value>(text)?, |_| text.to_owned())?;
        return Ok(exit::DONE);
    };
    context.settings.known()?.datasets.get(&dataset)?;
    let preset = preset::resolve(method, protocol, &dataset, &backbone)?;
    let values = preset.hyper.values_of(method);
    context.print(&serde_json::json!({ "config": preset.config, "values": values }), |_| {
        let values = values.iter().map(|(key, value)| format!("{key} = {value}\n"));
        format!("# {}\n{}", preset.config, values.collect::<String>())
    })?;
    Ok(exit::DONE)
}
