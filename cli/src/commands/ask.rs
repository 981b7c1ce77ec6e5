//! The commands that ask the coordinator something, or tell it something short, and print the answer.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use promptfield_client::{Client, Message, Target};
use promptfield_core::id::{JobId, LeaseId};
use promptfield_core::time::Timestamp;
use promptfield_core::wire::api::{Changed, ExperimentSummary, JobSummary, LogLine, PinnedBackbone};

use super::Context;
use crate::args::{JobArgs, LogsArgs, PinArgs, RecheckArgs, RerunArgs, ResultsArgs, StatusArgs, TargetArgs};
use crate::exit::{self, Coded};
use crate::terminal::in_line;
use crate::waiting::patient;
use crate::{output, print};

/// Before a log that broke off is asked for again.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn status(context: &Context, args: StatusArgs) -> anyhow::Result<u8> {
    let client = context.client(args.coordinator.url.as_deref())?;
    if let Some(id) = args.experiment {
        let (experiment, jobs) = (client.experiment(id).await?, client.jobs(id, None).await?);
        if context.json {
            output::json(&serde_json::json!({ "experiment": experiment, "jobs": jobs }))?;
        } else {
            print::line(format_args!("{}\n{}", output::experiments(&[experiment]), output::jobs(&jobs)))?;
        }
    } else {
        let (experiments, workers) = (client.experiments().await?, client.workers().await?);
        let (backbones, faults) = (client.backbones().await?, client.faults().await?);
        if context.json {
            let all = serde_json::json!({ "experiments": experiments, "workers": workers, "backbones": backbones, "faults": faults });
            output::json(&all)?;
        } else {
            print::line(format_args!("{}\n{}", output::experiments(&experiments), output::workers(&workers)))?;
            let others = output::other_backbones(&workers, &backbones);
            for line in others.into_iter().chain(output::faults(&faults, Timestamp::from(SystemTime::now()))) {
                print::line(in_line(&line))?;
            }
        }
    }
    Ok(exit::DONE)
}

pub(super) async fn results(context: &Context, args: ResultsArgs) -> anyhow::Result<u8> {
    let client = context.client(args.coordinator.url.as_deref())?;
    if let Some(job) = args.job {
        let evaluation = client.evaluation(job).await?;
        if context.json {
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
        let results = client.results(id, args.compare).await?;
        if context.json {
            output::json(&results)?;
        } else {
            print::line(output::results(&results))?;
        }
    }
    Ok(exit::DONE)
}

pub(super) async fn logs(context: &Context, args: LogsArgs) -> anyhow::Result<u8> {
    let client = context.client(args.coordinator.url.as_deref())?;
    if args.follow {
        let client = patient(client);
        return tokio::select! {
            done = follow_log(context, &client, args.job, args.attempt) => done,
            () = print::reader_gone() => Ok(exit::DONE),
        };
    }
    let log = client.log(args.job, args.attempt).await?;
    if context.json {
        output::json(&log.lines().collect::<Vec<_>>())?;
    } else {
        print::text(log)?;
    }
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

pub(super) async fn explain(context: &Context, args: JobArgs) -> anyhow::Result<u8> {
    let explanation = context.client(args.coordinator.url.as_deref())?.explain(args.job).await?;
    if context.json {
        output::json(&explanation)?;
    } else {
        print::line(format_args!(
            "job {} is {}: {}",
            explanation.job,
            explanation.state,
            in_line(&explanation.because)
        ))?;
    }
    Ok(exit::DONE)
}

/// What is asked for jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Cancel,
    Retry,
}

pub(super) async fn act(context: &Context, args: TargetArgs, act: Act) -> anyhow::Result<u8> {
    let client = context.client(args.coordinator.url.as_deref())?;
    let target = target(&args)?;
    let was_cancelled = match args.experiment {
        Some(id) => client.experiment(id).await?.cancelled,
        None => false,
    };
    let changed = match act {
        Act::Cancel => client.cancel(target).await?,
        Act::Retry => client.retry(target).await?,
    };
    let because = match (args.experiment, args.job) {
        (Some(id), _) => {
            let experiment = client.experiment(id).await?;
            why_others_stay(&experiment, act, changed.changed, was_cancelled)
        }
        (_, Some(job)) if changed.changed == 0 => Some(why_it_stays(&client.job(job).await?.summary, act)),
        _ => None,
    };
    say_changed(context, changed, because)
}

/// Why jobs of an experiment are as they were.
fn why_others_stay(experiment: &ExperimentSummary, act: Act, changed: usize, was_cancelled: bool) -> Option<String> {
    let (id, counts) = (experiment.id, &experiment.counts);
    match act {
        Act::Cancel if counts.open() > 0 => {
            let already = if was_cancelled { "it was cancelled already; " } else { "" };
            Some(format!("{already}{} jobs of it go on: other experiments want them", counts.open()))
        }
        Act::Retry if changed == 0 && was_cancelled => Some(format!(
            "experiment {id} isn't cancelled any more, and none of its jobs failed or was cancelled ({})",
            output::counts(counts)
        )),
        Act::Retry if changed == 0 => {
            Some(format!("no job of experiment {id} failed or was cancelled ({})", output::counts(counts)))
        }
        Act::Cancel if changed == 0 => {
            Some(format!("all jobs of experiment {id} have ended ({})", output::counts(counts)))
        }
        _ => None,
    }
}

/// Why a job is as it was.
fn why_it_stays(job: &JobSummary, act: Act) -> String {
    let (id, state) = (job.id, job.state);
    match act {
        Act::Cancel => format!("job {id} is {state}, and has ended"),
        Act::Retry if state.is_done() => {
            format!("job {id} is {state}: `promptfield rerun --job {id}` computes it again")
        }
        Act::Retry => format!("job {id} is {state}: what failed or was cancelled is tried again"),
    }
}

pub(super) async fn rerun(context: &Context, args: RerunArgs) -> anyhow::Result<u8> {
    let RerunArgs { target: named, stale, shared } = args;
    let client = context.client(named.coordinator.url.as_deref())?;
    let changed = client.rerun(target(&named)?, stale, shared).await?;
    let nothing = if stale { "no result is stale" } else { "there are no results yet" };
    say_changed(context, changed, (changed.changed == 0).then(|| nothing.to_owned()))
}

fn target(args: &TargetArgs) -> anyhow::Result<Target> {
    match (args.experiment, args.job) {
        (_, Some(job)) => Ok(Target::Job(job)),
        (Some(experiment), None) => Ok(Target::Experiment(experiment)),
        (None, None) => Err(Coded::BadInput("name an experiment, or a job with `--job`".to_owned()).into()),
    }
}

pub(super) async fn recheck(context: &Context, args: RecheckArgs) -> anyhow::Result<u8> {
    let client = context.client(args.coordinator.url.as_deref())?;
    let ended = client.recheck(args.host).await?;
    if context.json {
        output::json(&ended)?;
    } else {
        print::line(format_args!("{} faults of machines no longer count", ended.changed))?;
    }
    Ok(exit::DONE)
}

pub(super) async fn pin(context: &Context, args: PinArgs) -> anyhow::Result<u8> {
    let client = context.client(args.coordinator.url.as_deref())?;
    if let (Some(backbone), Some(sha256)) = (args.backbone, args.sha256) {
        client.pin(&PinnedBackbone { backbone, sha256 }).await?;
    }
    let pinned = client.backbones().await?;
    if context.json {
        output::json(&pinned)?;
    } else {
        for PinnedBackbone { backbone, sha256 } in pinned {
            print::line(format_args!("{backbone}: {sha256}"))?;
        }
    }
    Ok(exit::DONE)
}

fn say_changed(context: &Context, changed: Changed, because: Option<String>) -> anyhow::Result<u8> {
    let Changed { changed } = changed;
    if context.json {
        output::json(&serde_json::json!({ "changed": changed, "because": because }))?;
    } else {
        let because = because.map_or_else(String::new, |because| format!("; {because}"));
        print::line(format_args!("{changed} jobs changed{because}"))?;
    }
    Ok(exit::DONE)
}
