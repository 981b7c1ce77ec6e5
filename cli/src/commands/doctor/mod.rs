//! `doctor`: this machine, its coordinator and the workers; or the data sets; or an experiment's output folders.

mod data;
mod data_text;
mod machine;
mod results;

use std::path::PathBuf;

use promptfield_core::id::ExperimentId;

use crate::context::{Context, CoordinatorArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// Check the data sets: which are there, what they lack, which images can't be read, and what to download.
    #[arg(long)]
    pub(crate) data: bool,
    /// Look at the output folders of an experiment that lie on this machine, and at the data sets that its results rest on.
    #[arg(long, value_name = "EXPERIMENT", conflicts_with = "data")]
    pub(crate) results: Option<ExperimentId>,
    /// With `--results`: read every image file too, and compare them with what was recorded; where nothing was, record them.
    #[arg(long, requires = "results")]
    pub(crate) images: bool,
    /// With `--images`: record the image files as they are now, whatever was recorded before.
    #[arg(long, requires = "images")]
    pub(crate) record: bool,
    /// The data sets to check [default: all that are known].
    #[arg(value_name = "NAME", requires = "data")]
    pub(crate) names: Vec<String>,
    /// The folder of the data sets' folders [default: the settings', or `data`].
    #[arg(long, value_name = "DIR", requires = "data")]
    pub(crate) root: Option<PathBuf>,
    /// Look only at how images begin instead of decoding them.
    #[arg(long, requires = "data")]
    pub(crate) quick: bool,
    /// CPU threads [default: the settings', or all cores].
    #[arg(long, env = "PROMPTFIELD_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

pub(super) async fn run(context: &Context, args: DoctorArgs) -> anyhow::Result<u8> {
    match args.results {
        _ if args.data => data::run(context, args).await,
        Some(experiment) => results::run(context, &args, experiment).await,
        None => machine::run(context, &args).await,
    }
}
