//! `cancel`: an experiment, or one job.

use promptfield_core::wire::api::ExperimentSummary;

use crate::context::Context;
use crate::output;
use crate::target::{TargetArgs, print_changed};

pub(super) async fn run(context: &Context, args: TargetArgs) -> anyhow::Result<u8> {
    let client = context.client(&args.coordinator)?;
    let target = args.target()?;
    let was_cancelled = match args.experiment {
        Some(id) => client.experiment(id).await?.cancelled,
        None => false,
    };
    let changed = client.cancel(target).await?;
    let because = match (args.experiment, args.job) {
        (Some(id), _) => why_others_stay(&client.experiment(id).await?, changed.changed, was_cancelled),
        (_, Some(id)) if changed.changed == 0 => {
            let state = client.job(id).await?.summary.state;
            Some(format!("job {id} is {state}, and has ended"))
        }
        _ => None,
    };
    print_changed(context, changed, because)
}

/// Why jobs of an experiment are as they were.
fn why_others_stay(experiment: &ExperimentSummary, changed: usize, was_cancelled: bool) -> Option<String> {
    let (id, counts) = (experiment.id, &experiment.counts);
    if counts.open() > 0 {
        let already = if was_cancelled { "it was cancelled already; " } else { "" };
        return Some(format!("{already}{} jobs of it go on: other experiments want them", counts.open()));
    }
    (changed == 0).then(|| format!("all jobs of experiment {id} have ended ({})", output::counts(counts)))
}
