//! `rerun`: jobs that have results are computed again.

use crate::context::Context;
use crate::target::{TargetArgs, print_changed};

#[derive(Debug, clap::Args)]
pub(crate) struct RerunArgs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Only results that rest on another split, test list or backbone than today's.
    #[arg(long, conflicts_with = "job")]
    pub(crate) stale: bool,
    /// Also jobs that other experiments show too: they are computed again for all of them.
    #[arg(long)]
    pub(crate) shared: bool,
}

pub(super) async fn run(context: &Context, args: RerunArgs) -> anyhow::Result<u8> {
    let RerunArgs { target: named, stale, shared } = args;
    let changed = context.client(&named.coordinator)?.rerun(named.target()?, stale, shared).await?;
    let nothing = if stale { "no result is stale" } else { "there are no results yet" };
    print_changed(context, changed, (changed.changed == 0).then(|| nothing.to_owned()))
}
