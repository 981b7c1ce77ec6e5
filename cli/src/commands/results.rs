//! `results`: an experiment's table, or one job's numbers by class.

use promptfield_core::id::{ExperimentId, JobId};
use promptfield_core::results::published::Reference;
use promptfield_core::results::tables::Format;

use crate::context::{Context, CoordinatorArgs};
use crate::exit::{self, Coded};
use crate::{output, print};

#[derive(Debug, clap::Args)]
pub(crate) struct ResultsArgs {
    /// The experiment's number; without one, the latest.
    pub(crate) experiment: Option<ExperimentId>,
    /// `csv`, `markdown`, `latex` or `json` instead of a table for the terminal.
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// What to put beside the table: `published`, the numbers of the papers, for base-to-new.
    #[arg(long, value_name = "WITH")]
    pub(crate) compare: Option<Reference>,
    /// One job instead: its numbers by class.
    #[arg(long, conflicts_with_all = ["experiment", "format", "compare"])]
    pub(crate) job: Option<JobId>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

pub(super) async fn run(context: &Context, args: ResultsArgs) -> anyhow::Result<u8> {
    let client = context.client(&args.coordinator)?;
    if let Some(job) = args.job {
        let evaluation = client.evaluation(job).await?;
        if context.json {
            // As the job's folder has it.
            print::text(evaluation.to_text())?;
        } else {
            print::line(output::evaluation(&client.job(job).await?.summary, &evaluation))?;
        }
        return Ok(exit::DONE);
    }
    let latest = match args.experiment {
        None => client.experiments().await?.into_iter().map(|experiment| experiment.id).max(),
        named => named,
    };
    let id = latest.ok_or_else(|| Coded::BadInput("no experiment has been submitted yet".to_owned()))?;
    if let Some(format) = args.format {
        print::line(client.printed_results(id, format, args.compare).await?.trim_end())?;
    } else {
        let methods = context.settings.methods()?;
        context.print(&client.results(id, args.compare).await?, |results| output::results(results, &methods))?;
    }
    Ok(exit::DONE)
}
