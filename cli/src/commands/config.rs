//! `config show`: the published values, as they lie in the presets.

use clap::Subcommand;
use promptfield_core::method::Method;
use promptfield_core::method::value::Values;
use promptfield_core::protocol::Protocol;

use serde_json::Value;

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
    let known = context.settings.known()?;
    let method = known.methods.known("METHOD", method.key())?;
    let Some(dataset) = dataset else {
        context.print(&method.preset(protocol)?, preset_text)?;
        return Ok(exit::DONE);
    };
    known.datasets.get(&dataset)?;
    let preset = method.resolve(protocol, &dataset, &backbone, &Values::default())?;
    let values = preset.hyper.with(&preset.options);
    context.print(&serde_json::json!({ "config": preset.config, "values": values }), |_| {
        let values = values.0.iter().map(|(key, value)| format!("{key} = {}", in_toml(value)));
        format!("# {}\n{}", preset.config, values.collect::<Vec<_>>().join("\n"))
    })?;
    Ok(exit::DONE)
}

/// A preset as a declaration has it.
fn preset_text(preset: &Value) -> String {
    let lines = |table: &Value| {
        let entries = table.as_object().into_iter().flatten();
        entries.map(|(key, value)| format!("{key} = {}", in_toml(value))).collect::<Vec<_>>().join("\n")
    };
    format!("[defaults]\n{}\n\n[datasets]\n{}", lines(&preset["defaults"]), lines(&preset["datasets"]))
        .trim_end()
        .to_owned()
}

/// A value in TOML's words, on one line.
fn in_toml(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let entries = table.iter().map(|(key, value)| format!("{key} = {}", in_toml(value)));
            format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
