//! `run` and `up`: a coordinator and workers on this machine, for some experiments or for as long as one likes.

use std::time::Instant;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::serve::{self, ServeArgs};
use super::submit::{self, ExperimentArgs};
use crate::context::Context;
use crate::display::Display;
use crate::local::Fleet;
use crate::{exit, output, print};

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    /// Worker processes to start on this machine [default: the settings', or 1].
    #[arg(long, env = "PROMPTFIELD_WORKERS", value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Compute stale results again that other experiments show too.
    #[arg(long)]
    pub(crate) shared: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

pub(super) async fn run(context: &Context, args: RunArgs, stay: bool) -> anyhow::Result<u8> {
    let started = Instant::now();
    let experiments = submit::documents(&args.experiment, &context.settings)?;
    submit::check(&experiments, &context.settings)?;
    context.settings.check_backbones()?;
    context.trainer()?;
    let coordinator = serve::start(&context.settings, args.serve.listen).await?;
    let url = serve::own_url(&context.settings, &coordinator);
    let display = Display::new(context.json);
    let workers = args.workers.unwrap_or(context.settings.local_workers).max(1);
    let plural = if workers == 1 { "" } else { "s" };
    display.say(&format!("coordinator at {url}, {workers} worker{plural}"));
    let stop = CancellationToken::new();
    let fleet = tokio::spawn(Fleet::new(context, url.clone(), workers)?.run(stop.clone()));
    let client = context.client_of(&url)?;
    let work = async {
        let submitted = submit::hand_over(&client, &experiments, &display).await?;
        for known in submitted.iter().map(|handed| &handed.submitted).filter(|submitted| !submitted.created) {
            submit::look_at_known(context, &client, known.experiment.id, &display).await?;
            submit::rerun_stale(&client, known.experiment.id, args.shared, &display).await?;
        }
        let printed = submit::wait_and_print(context, &client, submitted).await;
        let code = match printed {
            // Who stays serves whoever asks next.
            Err(error) if stay && exit::code_of(&error) == exit::UNWRITTEN => {
                print::talk(format_args!("error: {error:#}"));
                exit::UNWRITTEN
            }
            printed => printed?,
        };
        if !context.json {
            print::talk(format_args!("done in {}", output::duration(started.elapsed())));
        }
        if stay {
            print::talk(format_args!("the coordinator stays, with the dashboard, at {url}; Ctrl-C stops it"));
            std::future::pending::<()>().await;
        }
        anyhow::Ok(code)
    };
    let mut fleet = std::pin::pin!(fleet);
    let code = tokio::select! {
        code = work => code,
        fleet = &mut fleet => Err(fleet.context("the workers' keeper failed")?.err().unwrap_or_else(|| anyhow::anyhow!("the workers are gone"))),
        signal = serve::signal() => {
            let code = signal?;
            if stay {
                Ok(exit::DONE)
            } else {
                print::talk("interrupted; the same command goes on from here");
                Ok(code)
            }
        }
    };
    stop.cancel();
    if !fleet.is_finished() {
        fleet.await.context("the workers' keeper failed")??;
    }
    serve::stop(&context.settings, coordinator).await;
    code
}
