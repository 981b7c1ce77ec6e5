//! `doctor --results`: the output folders of an experiment, and what its results rest on.

use promptfield_core::id::ExperimentId;
use promptfield_core::wire::api::StaleResult;

use super::DoctorArgs;
use crate::context::Context;
use crate::exit;
use crate::output_folders::{self, Images};

pub(super) async fn run(context: &Context, args: &DoctorArgs, experiment: ExperimentId) -> anyhow::Result<u8> {
    let client = context.client(&args.coordinator)?;
    let images = match (args.images, args.record) {
        (false, _) => Images::Skip,
        (true, false) => Images::Compare,
        (true, true) => Images::Record,
    };
    let looked = output_folders::look(context, &client, experiment, images).await?;
    let stale = client.results(experiment, None).await?.stale;
    context.print(&serde_json::json!({ "looked": looked, "stale": stale }), |_| {
        let mut lines = looked.lines();
        lines.extend(
            stale
                .iter()
                .map(|StaleResult { job, title, stale }| format!("job {job}: {title}: stale: {}", stale.because)),
        );
        if !stale.is_empty() {
            lines.push(format!("`promptfield rerun {experiment} --stale` computes what is stale again"));
        }
        lines.join("\n")
    })?;
    Ok(if looked.is_wrong() || !stale.is_empty() { exit::FAILED } else { exit::DONE })
}
