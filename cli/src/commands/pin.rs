//! `pin`: the weights for which a backbone's name stands.

use promptfield_core::job::spec::BasisHash;
use promptfield_core::wire::api::PinnedBackbone;

use crate::context::{Context, CoordinatorArgs};
use crate::{exit, output};

#[derive(Debug, clap::Args)]
pub(crate) struct PinArgs {
    /// The backbone's name; without one, all pins are listed.
    #[arg(requires = "sha256")]
    pub(crate) backbone: Option<String>,
    /// The identity: what `promptfield-trainer inspect weights` prints as `backbone_sha256`.
    pub(crate) sha256: Option<BasisHash>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

pub(super) async fn run(context: &Context, args: PinArgs) -> anyhow::Result<u8> {
    let client = context.client(&args.coordinator)?;
    if let (Some(backbone), Some(sha256)) = (args.backbone, args.sha256) {
        client.pin(&PinnedBackbone { backbone, sha256 }).await?;
    }
    context.print(&client.backbones().await?, |pinned| {
        output::lines(pinned, |PinnedBackbone { backbone, sha256 }| format!("{backbone}: {sha256}"))
    })?;
    Ok(exit::DONE)
}
