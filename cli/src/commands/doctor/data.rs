//! `doctor --data`: the trainer looks at the data sets, since it has the readers and decoders of the jobs; this prints what it found.

use std::process::Stdio;

use anyhow::Context as _;
use promptfield_core::input::InvalidInput;
use promptfield_core::wire::data_report::DataReport;
use tokio::process::Command;

use super::{DoctorArgs, data_text};
use crate::context::Context;
use crate::exit;

pub(super) async fn run(context: &Context, args: DoctorArgs) -> anyhow::Result<u8> {
    let settings = &context.settings;
    let (field, root) = match args.root {
        Some(root) => ("--root", std::path::absolute(root).context("can't tell the working directory")?),
        None => ("paths.data", settings.data.clone()),
    };
    if !root.is_dir() {
        let expected = "a folder that is there; name it as `paths.data` in the settings, or with `--root`";
        return Err(InvalidInput::new(field, root.display(), expected).into());
    }
    let trainer = context.trainer()?;
    let mut command = Command::new(trainer);
    command.args(["inspect", "data", "--data-root"]).arg(root);
    if let Some(folder) = settings.datasets_folder() {
        command.arg("--datasets").arg(folder);
    }
    if let Some(threads) = args.threads.map(usize::from).or(settings.threads) {
        command.arg("--threads").arg(threads.to_string());
    }
    command.args(args.quick.then_some("--quick")).arg("--").args(&args.names);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().with_context(|| format!("can't start the trainer at {}", trainer.display()))?;
    let output = child.wait_with_output().await.context("can't wait for the trainer")?;
    match output.status.code() {
        Some(0) => {}
        // It has said why on stderr.
        Some(code) if code == i32::from(exit::BAD_INPUT) => return Ok(exit::BAD_INPUT),
        _ => anyhow::bail!("the trainer at {} ended with {}", trainer.display(), output.status),
    }
    let report: DataReport = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("the trainer at {} gave another report than this program reads: build both anew", trainer.display())
    })?;
    context.print(&report, data_text::text)?;
    Ok(if report.is_wrong(!args.names.is_empty()) { exit::FAILED } else { exit::DONE })
}
