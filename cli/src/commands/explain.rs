//! `explain`: why a job waits, or why it failed.

use promptfield_core::id::JobId;
use promptfield_core::scheduler::Explanation;

use crate::context::{Context, CoordinatorArgs};
use crate::exit;
use crate::terminal::in_line;

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// The job's number.
    pub(crate) job: JobId,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

pub(super) async fn run(context: &Context, args: ExplainArgs) -> anyhow::Result<u8> {
    let explanation = context.client(&args.coordinator)?.explain(args.job).await?;
    context.print(&explanation, |Explanation { job, state, because, .. }| {
        format!("job {job} is {state}: {}", in_line(because))
    })?;
    Ok(exit::DONE)
}
