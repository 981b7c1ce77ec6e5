//! Looking at the output folders of jobs that have results, and at the data sets that they rest on, on this machine.
//!
//! The trainer looks, since it has the readers of the jobs; this compares what it finds with what the coordinator has recorded, and
//! tells the coordinator which lists of the data sets hold today. A machine without any of the folders may have other data than
//! those that computed the results: what it reads is not passed on.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::Context as _;
use promptfield_client::host_name;
use promptfield_core::id::{ExperimentId, JobId};
use promptfield_core::job::backbone::ArchitectureSettings;
use promptfield_core::job::basis::Finding;
use promptfield_core::job::layout;
use promptfield_core::wire::api::{Findings, JobOutput, MOST_FINDINGS};
use promptfield_core::wire::output_report::{OutputQuestion, OutputReport, OutputState};
use promptfield_core::wire::trainer_job::{Places, TrainerJob};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::context::Context;
use promptfield_client::Client;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Looked {
    /// Jobs that have a result.
    pub(crate) results: usize,
    /// Output folders that lie on this machine.
    pub(crate) here: usize,
    /// How many of the others were made on which host.
    pub(crate) elsewhere: BTreeMap<String, usize>,
    /// Folders that should lie here, or do, and aren't what was recorded.
    pub(crate) changed: Vec<ChangedOutput>,
    /// Data sets that can't be read here, and why.
    pub(crate) unreadable: BTreeMap<String, String>,
    /// Jobs of which the image files aren't those that were recorded.
    pub(crate) other_images: Vec<JobId>,
    /// Jobs of which the digest of the image files was recorded now.
    pub(crate) recorded_images: usize,
}

/// An output folder that isn't what was recorded.
#[derive(Debug, Serialize)]
pub(crate) struct ChangedOutput {
    pub(crate) job: JobId,
    pub(crate) folder: String,
    pub(crate) what: String,
}

/// What is to be done with image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Images {
    /// Nothing: images are bound by their paths.
    Skip,
    /// They are compared with what was recorded, and recorded where nothing is.
    Compare,
    /// They are recorded, whatever was before.
    Record,
}

/// Looks at the outputs of an experiment.
pub(crate) async fn look(
    context: &Context,
    client: &Client,
    experiment: ExperimentId,
    images: Images,
) -> anyhow::Result<Looked> {
    let outputs = client.outputs(experiment).await?;
    let mut looked = Looked { results: outputs.len(), ..Looked::default() };
    if outputs.is_empty() {
        return Ok(looked);
    }
    let reports = ask_trainer(context, &outputs, images).await?;
    let host = host_name();
    let mut findings = Vec::new();
    for (output, report) in outputs.iter().zip(reports) {
        let made_here = output.host.as_ref().is_none_or(|made| *made == host);
        if report.state == OutputState::Absent && !made_here {
            *looked.elsewhere.entry(output.host.clone().unwrap_or_default()).or_default() += 1;
            continue;
        }
        looked.here += usize::from(report.state != OutputState::Absent);
        if let Some(what) = difference(output, &report) {
            let folder = report.folder.display().to_string();
            looked.changed.push(ChangedOutput { job: output.job, folder, what });
        }
        if let Some(problem) = report.problem {
            looked.unreadable.insert(output.spec.dataset.clone(), problem);
        }
        let Some(lists) = report.lists else { continue };
        let mut images_sha256 = lists.images_sha256;
        match (images_sha256, output.images_sha256) {
            (Some(found), Some(recorded)) if found != recorded && images != Images::Record => {
                looked.other_images.push(output.job);
                images_sha256 = None;
            }
            (Some(found), recorded) => looked.recorded_images += usize::from(recorded != Some(found)),
            (None, _) => {}
        }
        let (split_sha256, test_sha256) = (lists.split_sha256, lists.test_sha256);
        findings.push(Finding { job: output.job, split_sha256, test_sha256, images_sha256 });
    }
    if looked.here > 0 {
        for findings in findings.chunks(MOST_FINDINGS) {
            client.note_findings(&Findings { findings: findings.to_vec() }).await?;
        }
    }
    Ok(looked)
}

/// In what a folder isn't what was recorded.
fn difference(output: &JobOutput, report: &OutputReport) -> Option<String> {
    match (report.state, &output.manifest, &report.manifest) {
        (OutputState::Absent, ..) => Some("is not there any more".to_owned()),
        (OutputState::Damaged, ..) => Some(report.reason.clone().unwrap_or_default()),
        (OutputState::Whole, Some(recorded), Some(found)) => {
            let same = (&recorded.result, &recorded.files) == (&found.result, &found.files);
            (!same).then(|| "holds another attempt than the one whose result is recorded".to_owned())
        }
        (OutputState::Whole, ..) => Some("was completed by another tool when its result was recorded".to_owned()),
        (OutputState::Foreign, Some(_), _) => Some("was made by another tool since".to_owned()),
        (OutputState::Foreign, None, _) => None,
    }
}

async fn ask_trainer(context: &Context, outputs: &[JobOutput], images: Images) -> anyhow::Result<Vec<OutputReport>> {
    let settings = &context.settings;
    let trainer = context.trainer()?;
    let mut command = Command::new(trainer);
    command.args(["inspect", "outputs"]).args((images != Images::Skip).then_some("--images"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("can't start the trainer at {}", trainer.display()))?;
    let (stdin, stdout) = child.stdin.take().zip(child.stdout.take()).context("the trainer has no pipes")?;
    let methods = settings.methods()?;
    let question = |output: &JobOutput| {
        let places = Places {
            // It isn't opened.
            weights: settings
                .backbones
                .get(&output.spec.backbone)
                .map_or_else(Default::default, |it| it.weights.clone()),
            data_root: settings.data.clone(),
            output: settings.output.join(layout::folder(&output.spec, &methods)),
            checkpoint: None,
            datasets: settings.datasets_folder(),
            device: "cpu".to_owned(),
            architecture: ArchitectureSettings::default(),
        };
        OutputQuestion { job: output.job, places: TrainerJob::new(&output.spec, places) }
    };
    let questions: Vec<String> = outputs.iter().map(|output| serde_json::json!(question(output)).to_string()).collect();
    let asking = async move {
        let mut stdin = stdin;
        for line in questions {
            stdin.write_all(line.as_bytes()).await?;
            stdin.write_all(b"\n").await?;
        }
        std::io::Result::Ok(())
    };
    let listening = async {
        let mut reports: Vec<OutputReport> = Vec::with_capacity(outputs.len());
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            reports.push(serde_json::from_str(&line).with_context(|| {
                format!(
                    "the trainer at {} gave another report than this program reads: build both anew",
                    trainer.display()
                )
            })?);
        }
        anyhow::Ok(reports)
    };
    // A trainer that ended has broken its pipe; why, it has said on stderr.
    let (_, reports) = tokio::join!(asking, listening);
    let (reports, status) = (reports?, child.wait().await.context("can't wait for the trainer")?);
    anyhow::ensure!(
        status.success() && reports.len() == outputs.len(),
        "the trainer at {} looked at {} of {} output folders and ended with {status}",
        trainer.display(),
        reports.len(),
        outputs.len()
    );
    Ok(reports)
}

impl Looked {
    /// What there is to say, a sentence a line; the first always.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut first = format!("looked at {} of {} output folders on this machine", self.here, self.results);
        for (host, count) in &self.elsewhere {
            let host = if host.is_empty() { "another host" } else { host.as_str() };
            first.push_str(&format!(", {count} lie on {host}"));
        }
        if self.here == 0 && self.results > 0 {
            first.push_str("; what this machine reads of the data sets isn't passed on");
        }
        let mut lines = vec![first];
        lines.extend(
            self.changed.iter().map(|ChangedOutput { job, folder, what }| format!("job {job}: {folder}: {what}")),
        );
        lines.extend(
            self.unreadable.iter().map(|(dataset, problem)| format!("{dataset} can't be read here: {problem}")),
        );
        if !self.other_images.is_empty() {
            let jobs: Vec<String> = self.other_images.iter().map(ToString::to_string).collect();
            lines.push(format!("the image files of jobs {} aren't those that were recorded", jobs.join(", ")));
        }
        if self.recorded_images > 0 {
            lines.push(format!("the image files of {} jobs are recorded now", self.recorded_images));
        }
        lines
    }

    /// Whether a person has to do something.
    pub(crate) const fn is_wrong(&self) -> bool {
        !self.changed.is_empty() || !self.other_images.is_empty()
    }
}
