//! What `cancel`, `retry` and `rerun` are for: an experiment, or one job.

use promptfield_client::Target;
use promptfield_core::id::{ExperimentId, JobId};
use promptfield_core::wire::api::Changed;

use crate::context::{Context, CoordinatorArgs};
use crate::exit::{self, Coded};

#[derive(Debug, clap::Args)]
pub(crate) struct TargetArgs {
    /// The experiment's number.
    #[arg(required_unless_present = "job", conflicts_with = "job")]
    pub(crate) experiment: Option<ExperimentId>,
    /// One job instead.
    #[arg(long)]
    pub(crate) job: Option<JobId>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

impl TargetArgs {
    /// What was named.
    pub(crate) fn target(&self) -> anyhow::Result<Target> {
        match (self.experiment, self.job) {
            (_, Some(job)) => Ok(Target::Job(job)),
            (Some(experiment), None) => Ok(Target::Experiment(experiment)),
            (None, None) => Err(Coded::BadInput("name an experiment, or a job with `--job`".to_owned()).into()),
        }
    }
}

/// Prints how many jobs changed, and why others stay as they were.
pub(crate) fn print_changed(context: &Context, changed: Changed, because: Option<String>) -> anyhow::Result<u8> {
    let Changed { changed } = changed;
    context.print(&serde_json::json!({ "changed": changed, "because": because }), |_| {
        let because = because.as_ref().map_or_else(String::new, |because| format!("; {because}"));
        format!("{changed} jobs changed{because}")
    })?;
    Ok(exit::DONE)
}
