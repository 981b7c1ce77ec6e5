//! `logs`: a job's log.

use std::time::Duration;

use anyhow::Context as _;
use promptfield_client::{Client, Message};
use promptfield_core::id::{JobId, LeaseId};
use promptfield_core::wire::api::LogLine;

use crate::context::{Context, CoordinatorArgs};
use crate::waiting::patient;
use crate::{exit, print};

/// Before a log that broke off is asked for again.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct LogsArgs {
    /// The job's number.
    pub(crate) job: JobId,
    /// Go on with the lines that come, until the attempt ends.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// The log of an earlier attempt, by its lease.
    #[arg(long, value_name = "LEASE")]
    pub(crate) attempt: Option<LeaseId>,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

pub(super) async fn run(context: &Context, args: LogsArgs) -> anyhow::Result<u8> {
    let client = context.client(&args.coordinator)?;
    if args.follow {
        let client = patient(client);
        return tokio::select! {
            done = follow_log(context, &client, args.job, args.attempt) => done,
            () = print::reader_gone() => Ok(exit::DONE),
        };
    }
    let log = client.log(args.job, args.attempt).await?;
    context.print(&log.lines().collect::<Vec<_>>(), |_| log.clone())?;
    Ok(exit::DONE)
}

/// Prints lines as they come, as JSON one document for each, over connections that break.
async fn follow_log(context: &Context, client: &Client, job: JobId, attempt: Option<LeaseId>) -> anyhow::Result<u8> {
    let mut last = None;
    loop {
        let mut messages = client.follow_log(job, attempt, last.as_deref()).await?;
        while let Some(Message { id, event, data }) = messages.next().await {
            if event.as_deref() == Some("end") {
                return Ok(exit::DONE);
            }
            let line: LogLine = serde_json::from_str(&data).context("the log can't be understood")?;
            last = id.or(last);
            if context.json {
                print::line(data)?;
            } else {
                print::line(line.text)?;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
