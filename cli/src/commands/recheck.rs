//! `recheck`: machines are given again what they were found unable to do.

use promptfield_core::wire::api::Changed;

use crate::context::{Context, CoordinatorArgs};
use crate::exit;

#[derive(Debug, clap::Args)]
pub(crate) struct RecheckArgs {
    /// The machine's host, as `status` names it.
    pub(crate) host: Option<String>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

pub(super) async fn run(context: &Context, args: RecheckArgs) -> anyhow::Result<u8> {
    let ended = context.client(&args.coordinator)?.recheck(args.host).await?;
    context.print(&ended, |Changed { changed }| format!("{changed} faults of machines no longer count"))?;
    Ok(exit::DONE)
}
