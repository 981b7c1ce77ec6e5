//! `cargo xtask bench matrix`: what whole matrices take.
//!
//! | file | what |
//! | --- | --- |
//! | `demo` | the demo matrix, by `promptfield run` and by a shell loop |
//! | `gaps` | what lies between two jobs of a slot |
//! | `full` | the full matrix, simulated |
//! | `cluster` | the real scheduler in virtual time |
//! | `work` | what a job has to do |
//! | `speed` | how long that takes |
//! | `cache` | what a host needn't compute again |

mod cache;
mod cluster;
mod demo;
mod full;
mod gaps;
mod markdown;
mod speed;
mod work;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::args::MatrixArgs;
use crate::machine::Machine;
use crate::trainer;
use demo::{Demo, all_gaps};
use full::{Full, Preparation};

/// What the demo matrix is to be faster by than a process for each job, in the quicker of both loops.
const FASTER: f64 = 3.0;

/// Everything that one run found, as `matrix.json` holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    machine: Machine,
    /// Unless it was left out.
    demo: Option<Demo>,
    /// Unless it was left out.
    full: Option<Full>,
}

/// Runs and simulates what the arguments ask for; writes it as JSON, and prints it as Markdown. What it's at goes to stderr.
pub(crate) async fn run(args: &MatrixArgs) -> Result<()> {
    let machine = Machine::here(&args.folder)?;
    // What is missing is said before anything takes its time.
    let measured = if args.no_full { None } else { Some(trainer_report(args)?) };
    let demo = if args.no_demo { None } else { Some(demo::measure(args).await?) };
    let full = match measured {
        Some(measured) => Some(full::simulate(args, measured, preparation(demo.as_ref()))?),
        None => None,
    };
    let report = Report { machine, demo, full };
    fs_err::create_dir_all(&args.results)?;
    let json = serde_json::to_string_pretty(&report).context("can't put the report into JSON")?;
    fs_err::write(args.results.join("matrix.json"), json + "\n")?;
    print!("{}", markdown::tables(&report));
    Ok(())
}

/// The step times.
fn trainer_report(args: &MatrixArgs) -> Result<trainer::Report> {
    let path = args.results.join(trainer::FILE);
    if !path.is_file() {
        bail!(
            "the full matrix needs step times, and there is no {}: `cargo xtask bench trainer --backbones vit_b16` measures them; \
             `--no-full` leaves the full matrix out",
            path.display()
        );
    }
    serde_json::from_slice(&fs_err::read(&path)?).with_context(|| format!("{} has another form", path.display()))
}

/// What was measured on the demo matrix goes by before every job's first step; without it, nothing.
fn preparation(demo: Option<&Demo>) -> Preparation {
    let median = |runs| all_gaps(runs).map_or(0.0, |gaps| gaps.median);
    demo.map_or_else(Preparation::default, |demo| Preparation {
        scripts_s: median(&demo.fresh),
        ours_s: median(&demo.ours),
    })
}
