//! `retry`: the failed and cancelled jobs of an experiment, or one job.

use promptfield_core::wire::api::JobSummary;

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
    let changed = client.retry(target).await?;
    let because = match (args.experiment, args.job) {
        _ if changed.changed > 0 => None,
        (Some(id), _) => {
            let counts = output::counts(&client.experiment(id).await?.counts);
            Some(if was_cancelled {
                format!(
                    "experiment {id} isn't cancelled any more, and none of its jobs failed or was cancelled ({counts})"
                )
            } else {
                format!("no job of experiment {id} failed or was cancelled ({counts})")
            })
        }
        (None, Some(id)) => Some(why_it_stays(&client.job(id).await?.summary)),
        (None, None) => None,
    };
    print_changed(context, changed, because)
}

/// Why a job is as it was.
fn why_it_stays(job: &JobSummary) -> String {
    let (id, state) = (job.id, job.state);
    if state.is_done() {
        format!("job {id} is {state}: `promptfield rerun --job {id}` computes it again")
    } else {
        format!("job {id} is {state}: what failed or was cancelled is tried again")
    }
}
