//! How long a method's steps take, without data to load: for `cargo xtask bench trainer`.
//!
//! Rule of this room: what is measured is what a job runs; here it's only timed. The same parameters and batches are written for
//! another implementation to be measured with.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use promptfield_core::names::Precision;
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::inspect_model::BackboneArgs;
use super::machine::Machine;
use super::replay::ReplayJob;
use crate::clip::Clip;
use crate::draws::Draws;
use crate::methods;

/// `measure`.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// The method, class names and values, as for a replay
    #[arg(long)]
    job: PathBuf,
    /// The CLIP weights
    #[arg(long)]
    weights: PathBuf,
    /// Images of a training batch
    #[arg(long, value_name = "N")]
    batch: u32,
    /// Training steps
    #[arg(long, value_name = "N")]
    steps: u32,
    /// Images that are classified at once
    #[arg(long, value_name = "N")]
    images: u32,
    /// Where the initial parameters, batches and images go, in the form of a replay's input
    #[arg(long, value_name = "X.safetensors")]
    input: PathBuf,
    #[command(flatten)]
    backbone: BackboneArgs,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Measured {
    version: &'static str,
    threads: i32,
    /// Floating-point operations of products of matrices in a second of CPU time.
    gemm_flops_per_cpu_s: f64,
    /// Rows of the text tower that all classes share, and for each group of classes their number and own rows.
    text_rows: (i64, Vec<(i64, i64)>),
    /// From the weights file to the first step.
    prepare_s: f64,
    losses: Vec<f64>,
    step_s: Vec<f64>,
    /// What all threads together ran.
    step_cpu_s: Vec<f64>,
    /// The part of each step before its backward pass.
    forward_s: Vec<f64>,
    /// The most memory that was in RAM during the steps.
    peak_bytes: u64,
    /// What of it lies in mapped files, which processes share.
    file_bytes: u64,
    /// Of the evaluation's images, once the texts are encoded; three times.
    evaluation_s: Vec<f64>,
    evaluation_cpu_s: Vec<f64>,
}

/// Measures on the CPU and prints one line of JSON.
pub fn run(args: &MeasureArgs, machine: &Machine) -> anyhow::Result<()> {
    machine.use_threads()?;
    let cache = machine.frozen_cache()?;
    let mut gemm = gemm_flops_per_cpu_s()?;
    let job = ReplayJob::read(&args.job)?;
    let began = Instant::now();
    let clip = Clip::open(&args.weights, &args.backbone.settings(), Device::Cpu, Precision::Fp32)?.with_cache(cache);
    let hyper = job.hyper()?;
    let initial = methods::initial(job.method, &clip, &hyper, 1)?;
    let model = methods::build(job.method, &clip, job.classes(), &hyper, &initial)?;
    let mut optimiser = model.optimiser(job.weight_decay);
    let (_, texts) = clip.text.embed(&job.classes().prompts()?, 0)?;
    let text_rows = texts.with_more(i64::from(hyper.count("n_rep_tokens").unwrap_or_default())).rows();
    let prepare_s = began.elapsed().as_secs_f64();

    let size = clip.geometry().vision.image_size;
    let batch = |step| {
        let labels = (0..i64::from(args.batch)).map(|image| (image * 7 + step) % job.classnames.len() as i64);
        (images(step as u64 + 1, args.batch, size), Tensor::from_slice(&labels.collect::<Vec<_>>()))
    };
    let batches: Vec<_> = (0..i64::from(args.steps)).map(batch).collect();
    let evaluated = images(0, args.images, size);
    let mut input: Vec<(String, Tensor)> = vec![("eval/images".to_owned(), evaluated.shallow_clone())];
    input.extend(initial.iter().map(|(name, value)| (format!("init/{name}"), value.shallow_clone())));
    for (index, (images, labels)) in batches.iter().enumerate() {
        input.push((format!("batch/{index}/images"), images.shallow_clone()));
        input.push((format!("batch/{index}/labels"), labels.shallow_clone()));
    }
    Tensor::write_safetensors(&input, &args.input)
        .with_context(|| format!("cannot write `{}`", args.input.display()))?;
    drop(input);

    // From here on the peak counts.
    fs_err::write("/proc/self/clear_refs", "5")?;
    let (mut losses, mut step_s, mut step_cpu_s, mut forward_s) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (images, labels) in &batches {
        let (began, cpu) = (Instant::now(), cpu_s()?);
        let loss = model.training_loss(images, labels);
        forward_s.push(began.elapsed().as_secs_f64());
        optimiser.step(&loss.total, job.lr);
        losses.push(loss.total.double_value(&[]));
        step_s.push(began.elapsed().as_secs_f64());
        step_cpu_s.push(cpu_s()? - cpu);
    }
    let (peak_bytes, file_bytes) = (memory_bytes("VmHWM:")?, memory_bytes("RssFile:")?);
    let classifier = model.classifier();
    let (mut evaluation_s, mut evaluation_cpu_s) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (began, cpu) = (Instant::now(), cpu_s()?);
        let labels = Vec::<i64>::try_from(classifier(&evaluated).fused().argmax(-1, false))?;
        anyhow::ensure!(labels.len() == args.images as usize, "an image has no label");
        evaluation_s.push(began.elapsed().as_secs_f64());
        evaluation_cpu_s.push(cpu_s()? - cpu);
    }
    gemm = gemm.max(gemm_flops_per_cpu_s()?);
    let measured = Measured {
        version: promptfield_core::VERSION,
        threads: tch::get_num_threads(),
        gemm_flops_per_cpu_s: gemm,
        text_rows,
        prepare_s,
        losses,
        step_s,
        step_cpu_s,
        forward_s,
        peak_bytes,
        file_bytes,
        evaluation_s,
        evaluation_cpu_s,
    };
    let line = serde_json::to_string(&measured)?;
    writeln!(std::io::stdout().lock(), "{line}").context("could not write to standard output")
}

/// Numbers of the size of normalised pixels [count, 3, size, size].
fn images(which: u64, count: u32, size: i64) -> Tensor {
    let mut draws = Draws::new("measured images", 1, "", &[which]);
    let pixels: Vec<f32> = (0..i64::from(count) * 3 * size * size).map(|_| draws.between(-2.0, 2.0) as f32).collect();
    Tensor::from_slice(&pixels).view([-1, 3, size, size])
}

/// The best of several products of the shape that most of ViT-B/16's time goes to.
fn gemm_flops_per_cpu_s() -> anyhow::Result<f64> {
    const SHAPE: [i64; 3] = [2048, 768, 3072];
    let ones = |rows, columns| Tensor::ones([rows, columns], (Kind::Float, Device::Cpu));
    let (a, b) = (ones(SHAPE[0], SHAPE[1]), ones(SHAPE[2], SHAPE[1]));
    let mut least = f64::INFINITY;
    for _ in 0..8 {
        let began = cpu_s()?;
        let _ = a.linear(&b, None::<Tensor>);
        least = least.min(cpu_s()? - began);
    }
    Ok(2.0 * SHAPE.iter().product::<i64>() as f64 / least)
}

/// What this process's threads have run, in seconds.
fn cpu_s() -> anyhow::Result<f64> {
    let mut nanoseconds = 0.0;
    for task in fs_err::read_dir("/proc/self/task")? {
        let stat = fs_err::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += stat.split(' ').next().and_then(|ran| ran.parse::<f64>().ok()).unwrap_or_default();
    }
    Ok(nanoseconds / 1e9)
}

/// A line of what the kernel says of this process's memory.
fn memory_bytes(name: &str) -> anyhow::Result<u64> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kibibytes.with_context(|| format!("/proc/self/status has no line `{name} … kB`"))? * 1024)
}
