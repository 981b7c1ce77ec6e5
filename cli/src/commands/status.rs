//! `status`: the experiments and the workers, or one experiment with its jobs.

use std::time::SystemTime;

use promptfield_core::id::ExperimentId;
use promptfield_core::time::Timestamp;
use serde_json::json;

use crate::context::{Context, CoordinatorArgs};
use crate::terminal::in_line;
use crate::{exit, output};

#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// The experiment's number; without one, all experiments.
    pub(crate) experiment: Option<ExperimentId>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

pub(super) async fn run(context: &Context, args: StatusArgs) -> anyhow::Result<u8> {
    let client = context.client(&args.coordinator)?;
    if let Some(id) = args.experiment {
        let (experiment, jobs) = (client.experiment(id).await?, client.jobs(id, None).await?);
        context.print(&json!({ "experiment": experiment, "jobs": jobs }), |_| {
            format!("{}\n{}", output::experiments(std::slice::from_ref(&experiment)), output::jobs(&jobs))
        })?;
        return Ok(exit::DONE);
    }
    let (experiments, workers) = (client.experiments().await?, client.workers().await?);
    let (backbones, faults) = (client.backbones().await?, client.faults().await?);
    let all = json!({ "experiments": experiments, "workers": workers, "backbones": backbones, "faults": faults });
    context.print(&all, |_| {
        let mut text = format!("{}\n{}", output::experiments(&experiments), output::workers(&workers));
        let others = output::other_backbones(&workers, &backbones);
        for line in others.into_iter().chain(output::faults(&faults, Timestamp::from(SystemTime::now()))) {
            text.push_str(&format!("\n{}", in_line(&line)));
        }
        text
    })?;
    Ok(exit::DONE)
}
