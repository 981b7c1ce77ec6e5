//! `submit`, and what `run` shares with it: reading experiments, handing them over, waiting, printing their tables.

use std::path::Path;

use anyhow::Context as _;
use promptfield_client::{Client, Target};
use promptfield_core::chain::chain;
use promptfield_core::experiment::Experiment;
use promptfield_core::id::ExperimentId;
use promptfield_core::input::{InvalidInput, from_toml, one_of};
use promptfield_core::job::spec::hex;
use promptfield_core::scheduler::{Counts, JobStateName};
use promptfield_core::wire::api::{Changed, ExperimentSummary, SubmitResponse};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::context::{Context, CoordinatorArgs};
use crate::display::Display;
use crate::output_folders::{self, Images};
use crate::settings::Settings;
use crate::{exit, output, print, waiting};

/// The experiments that need no file.
const BUILT_IN: &[(&str, &str)] = &[
    ("base_to_new", include_str!("../../../configs/experiments/base_to_new.toml")),
    ("cross_dataset", include_str!("../../../configs/experiments/cross_dataset.toml")),
    ("few_shot", include_str!("../../../configs/experiments/few_shot.toml")),
    ("demo", include_str!("../../../configs/experiments/demo.toml")),
];

/// Which experiments, and what is different from their files.
#[derive(Debug, clap::Args)]
pub(crate) struct ExperimentArgs {
    /// Experiment files, or names of built-in experiments: `base_to_new`, `cross_dataset`, `few_shot`, `demo`.
    #[arg(required = true, value_name = "EXPERIMENT")]
    pub(crate) experiments: Vec<String>,
    /// The methods, separated by commas or spaces.
    #[arg(long, value_name = "NAMES")]
    pub(crate) methods: Option<String>,
    /// The data sets, separated by commas or spaces, or `all`.
    #[arg(long, env = "DATASETS", value_name = "NAMES")]
    pub(crate) datasets: Option<String>,
    /// The seeds, separated by commas or spaces.
    #[arg(long, env = "SEEDS", value_name = "NUMBERS")]
    pub(crate) seeds: Option<String>,
    /// Training images per class, separated by commas or spaces.
    #[arg(long, env = "SHOTS", value_name = "NUMBERS")]
    pub(crate) shots: Option<String>,
    /// The backbone.
    #[arg(long, value_name = "NAME")]
    pub(crate) backbone: Option<String>,
    /// A value that replaces the preset's for every job, such as `epochs=2`; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
    /// Wait for the end, and print the tables.
    #[arg(long)]
    pub(crate) wait: bool,
}

pub(super) async fn run(context: &Context, args: SubmitArgs) -> anyhow::Result<u8> {
    let client = context.client(&args.coordinator)?;
    let client = if args.wait { waiting::patient(client) } else { client };
    let experiments = documents(&args.experiment, &context.settings)?;
    let display = Display::new(context.json || !args.wait);
    let submitted = hand_over(&client, &experiments, &display).await?;
    if args.wait {
        for known in submitted.iter().map(|handed| &handed.submitted).filter(|submitted| !submitted.created) {
            // Who has neither trainer nor data here waits all the same.
            if let Err(error) = look_at_known(context, &client, known.experiment.id, &display).await {
                tracing::debug!("the output folders can't be looked at: {error:#}");
            }
        }
        return wait_and_print(context, &client, submitted).await;
    }
    context.print_each(&submitted, |submitted| {
        output::lines(submitted, |HandedOver { submitted: SubmitResponse { experiment, .. }, .. }| {
            format!("experiment {}: {}", experiment.id, output::counts(&experiment.counts))
        })
    })?;
    if !context.json {
        for HandedOver { submitted, revived } in &submitted {
            if let Some(revived) = revived {
                print::talk(format_args!("experiment {}: {revived}", submitted.experiment.id));
            }
        }
    }
    Ok(exit::DONE)
}

/// Reads the experiments and puts in what the command line says.
pub(super) fn documents(args: &ExperimentArgs, settings: &Settings) -> anyhow::Result<Vec<Value>> {
    args.experiments.iter().map(|name| document(name, args, settings)).collect()
}

fn document(name: &str, args: &ExperimentArgs, settings: &Settings) -> anyhow::Result<Value> {
    let mut document: Map<String, Value> = read(name)?;
    for (key, text) in [("methods", &args.methods), ("datasets", &args.datasets)] {
        if let Some(text) = text {
            let names = list(text, |name| Value::from(name));
            let all = key == "datasets" && text.trim() == "all";
            document.insert(key.to_owned(), if all { "all".into() } else { names });
        }
    }
    for (key, text) in [("seeds", &args.seeds), ("shots", &args.shots)] {
        if let Some(text) = text {
            document.insert(key.to_owned(), list(text, number_or_text));
        }
    }
    if let Some(backbone) = &args.backbone {
        document.insert("backbone".to_owned(), backbone.clone().into());
    } else if !document.contains_key("backbone") && settings.backbones.len() == 1 {
        document.extend(settings.backbones.keys().map(|name| ("backbone".to_owned(), name.clone().into())));
    }
    for text in &args.overrides {
        let Some((key, value)) = text.split_once('=') else {
            return Err(InvalidInput::new("--set", text, "KEY=VALUE, such as `epochs=2`").into());
        };
        let overrides = document.entry("overrides").or_insert_with(|| Value::Object(Map::new()));
        if let Some(overrides) = overrides.as_object_mut() {
            overrides.insert(key.trim().to_owned(), number_or_text(value.trim()));
        }
    }
    Ok(document.into())
}

/// Checks experiments against this machine's names, so that a slip is found before anything is started.
pub(super) fn check(documents: &[Value], settings: &Settings) -> anyhow::Result<()> {
    let known = settings.known()?;
    for document in documents {
        Experiment::from_json(document.clone(), &known)?;
    }
    Ok(())
}

fn read(name: &str) -> anyhow::Result<Map<String, Value>> {
    let path = Path::new(name);
    if path.is_file() {
        let text = fs_err::read_to_string(path)?;
        return from_toml(&text).with_context(|| format!("in {}", path.display()));
    }
    let built_in = BUILT_IN.iter().find(|(key, _)| *key == name);
    let (_, text) = built_in.ok_or_else(|| {
        let names = one_of(name, BUILT_IN.iter().map(|(key, _)| *key));
        InvalidInput::new("EXPERIMENT", name, format!("an experiment file, or a built-in experiment: {names}"))
    })?;
    Ok(from_toml(text)?)
}

fn list(text: &str, item: impl Fn(&str) -> Value) -> Value {
    text.split([',', ' ']).filter(|part| !part.is_empty()).map(item).collect()
}

fn number_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// A name for what this run of the command submits, that no other has.
fn random_key() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("can't get random bytes: {error}"))?;
    Ok(hex(&bytes))
}

/// An experiment that the coordinator has.
#[derive(Debug, Serialize)]
pub(super) struct HandedOver {
    #[serde(flatten)]
    pub(super) submitted: SubmitResponse,
    /// What is tried again of an earlier run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revived: Option<String>,
}

/// Hands experiments over. What failed or was cancelled in an earlier run of the same experiment is tried again.
pub(super) async fn hand_over(
    client: &Client,
    experiments: &[Value],
    display: &Display,
) -> anyhow::Result<Vec<HandedOver>> {
    let run = random_key()?;
    let mut all = Vec::with_capacity(experiments.len());
    for (place, experiment) in experiments.iter().enumerate() {
        let mut submitted = client.submit(experiment, Some(&format!("{run}-{place}"))).await?;
        let summary = &mut submitted.experiment;
        let what = if submitted.created { "submitted" } else { "known already" };
        let (id, name, counts) = (summary.id, &summary.name, output::counts(&summary.counts));
        display.say(&format!("experiment {id} `{name}` ({what}): {counts}"));
        let mut revived = None;
        if summary.cancelled || summary.counts.failed + summary.counts.cancelled > 0 {
            let retried = client.retry(Target::Experiment(id)).await?.changed;
            let text = tried_again(summary, retried);
            display.say(&text);
            revived = Some(text);
            *summary = client.experiment(id).await?;
        }
        all.push(HandedOver { submitted, revived });
    }
    Ok(all)
}

/// What is tried again of an experiment, by what it was before.
fn tried_again(before: &ExperimentSummary, retried: usize) -> String {
    let Counts { failed, cancelled, .. } = before.counts;
    let parts = [(failed, "had failed"), (cancelled, if cancelled == 1 { "was cancelled" } else { "were cancelled" })];
    let parts: Vec<String> =
        parts.iter().filter(|(jobs, _)| *jobs > 0).map(|(jobs, what)| format!("{jobs} {what}")).collect();
    let cancelled = if before.cancelled { "it was cancelled, and goes on" } else { "" };
    let jobs =
        if parts.is_empty() { String::new() } else { format!("{retried} jobs tried again: {}", parts.join(", ")) };
    [cancelled, jobs.as_str()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Looks at what an experiment that was there already has brought so far, and says what isn't as it was.
pub(super) async fn look_at_known(
    context: &Context,
    client: &Client,
    experiment: ExperimentId,
    display: &Display,
) -> anyhow::Result<()> {
    let looked = output_folders::look(context, client, experiment, Images::Skip).await?;
    if looked.is_wrong() || !looked.unreadable.is_empty() {
        looked.lines().iter().for_each(|line| display.say(line));
    }
    Ok(())
}

/// Computes those of an experiment's results again that are stale.
pub(super) async fn rerun_stale(
    client: &Client,
    experiment: ExperimentId,
    shared: bool,
    display: &Display,
) -> anyhow::Result<()> {
    let results = client.results(experiment, None).await?;
    if results.stale.is_empty() {
        return Ok(());
    }
    results.notes.iter().filter(|note| note.starts_with("stale")).for_each(|note| display.say(note));
    match client.rerun(Target::Experiment(experiment), true, shared).await {
        Ok(Changed { changed }) => display.say(&format!("{changed} jobs are computed again")),
        // They stay, and the table says so.
        Err(error) => display.say(&format!("stale results stay as they are: {}", chain(&error))),
    }
    Ok(())
}

/// Waits for the end of each experiment and prints its table; the exit code says whether every job has a result.
pub(super) async fn wait_and_print(
    context: &Context,
    client: &Client,
    submitted: Vec<HandedOver>,
) -> anyhow::Result<u8> {
    let (mut tables, mut code) = (Vec::new(), exit::DONE);
    // A table that can't be printed keeps nothing from being computed.
    let methods = context.settings.methods()?;
    let mut printed = Ok(());
    for HandedOver { submitted: SubmitResponse { experiment, .. }, .. } in submitted {
        let mut display = Display::new(context.json);
        let ended = waiting::until_done(client, experiment.id, &mut display).await;
        display.finish();
        let ended = ended?;
        let results = client.results(ended.id, None).await?;
        if !context.json {
            printed = printed.and(print::line(output::results(&results, &methods)));
        }
        tables.push(results);
        for job in client.jobs(ended.id, Some(JobStateName::Failed)).await? {
            print::talk(format_args!("job {} failed: {}: {}", job.id, job.title, output::remark(&job)));
        }
        if ended.counts.done() < ended.counts.total() {
            code = exit::FAILED;
        }
    }
    // As text, each was printed when its experiment had ended.
    context.print_each(&tables, |_| String::new())?;
    printed?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_separated_as_in_the_scripts() {
        assert_eq!(list("1 3", number_or_text), serde_json::json!([1, 3]));
        assert_eq!(list("1, 3,x", number_or_text), serde_json::json!([1, 3, "x"]));
    }

    #[test]
    fn every_built_in_experiment_is_valid() {
        for (name, _) in BUILT_IN {
            assert!(read(name).unwrap().contains_key("protocol"), "{name}");
        }
        let error = read("base_to_knew").unwrap_err().to_string();
        assert!(error.contains("did you mean `base_to_new`?"), "{error}");
    }
}
