//! `config show`: the published values, as they lie in the presets.

use promptfield_core::method::preset;

use super::Context;
use crate::args::ConfigShowArgs;
use crate::{exit, output, print};

pub(super) fn show(context: &Context, args: &ConfigShowArgs) -> anyhow::Result<u8> {
    let &ConfigShowArgs { method, protocol, ref dataset, ref backbone } = args;
    let Some(dataset) = dataset else {
        let text = method.preset(protocol);
        if context.json {
            output::json(&promptfield_core::input::from_toml::<serde_json::Value>(text)?)?;
        } else {
            print::text(text)?;
        }
        return Ok(exit::DONE);
    };
    context.settings.known()?.datasets.get(dataset)?;
    let preset = preset::resolve(method, protocol, dataset, backbone)?;
    let values = preset.hyper.values_of(method);
    if context.json {
        output::json(&serde_json::json!({ "config": preset.config, "values": values }))?;
    } else {
        print::line(format_args!("# {}", preset.config))?;
        for (key, value) in &values {
            print::line(format_args!("{key} = {value}"))?;
        }
    }
    Ok(exit::DONE)
}
