//! `cargo xtask simulate`: runs small worlds seed by seed, or one large world, and says what it found.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use promptfield_simulator::{Found, Settings, Size, Summary, Talk, World, simulate};

/// Lines of the history that are shown with a violation.
const SHOWN: usize = 30;

/// Simulates whole installations in virtual time, and checks what must hold
#[derive(Parser)]
#[command(name = "cargo xtask simulate", bin_name = "cargo xtask simulate")]
struct Arguments {
    /// Small worlds with all faults, one for each seed from A up to B without B
    #[arg(long, value_name = "A..B", default_value = "0..300", value_parser = seeds)]
    seeds: std::ops::Range<u64>,
    /// One small world, or the large world's seed
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Print all that happens
    #[arg(long, requires = "seed")]
    verbose: bool,
    /// One large world with at least so many jobs
    #[arg(long, conflicts_with = "seeds")]
    jobs: Option<usize>,
    /// The large world's workers, with two slots each
    #[arg(long, default_value_t = 10_000, requires = "jobs", value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// Let things go wrong in the large world too
    #[arg(long, requires = "jobs")]
    faults: bool,
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>> {
    let (first, end) = text.split_once("..").context("expected two numbers with `..` between: `0..300`")?;
    let range = first.parse()?..end.parse()?;
    if range.is_empty() {
        bail!("expected the second number to be greater than the first");
    }
    Ok(range)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match (arguments.jobs, arguments.seed) {
        (Some(jobs), seed) => large(seed.unwrap_or(0), jobs, arguments.workers as usize, &arguments),
        (None, Some(seed)) => Ok(one(seed, arguments.verbose)),
        (None, None) => Ok(many(arguments.seeds)),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs small worlds until one goes wrong.
fn many(seeds: std::ops::Range<u64>) -> ExitCode {
    let started = Instant::now();
    let (first, mut sum, mut worlds) = (seeds.start, Sum::default(), 0_u64);
    for seed in seeds.clone() {
        match simulate(seed, None, Talk::Silent) {
            Ok(summary) => sum.add(&summary),
            Err(_) => return one(seed, false),
        }
        worlds += 1;
        if worlds.is_multiple_of(100) || seed + 1 == seeds.end {
            println!("seeds {first}..{}: {sum}, in {:.1} s", seed + 1, started.elapsed().as_secs_f64());
        }
    }
    ExitCode::SUCCESS
}

/// Runs one small world.
fn one(seed: u64, verbose: bool) -> ExitCode {
    let talk = if verbose { Talk::Print } else { Talk::Keep(SHOWN) };
    match simulate(seed, None, talk) {
        Ok(summary) => {
            print_summary(seed, &summary);
            ExitCode::SUCCESS
        }
        Err(found) => {
            print_found(&found);
            println!("seed {seed} breaks a promise; see all of it: cargo xtask simulate --seed {seed} --verbose");
            ExitCode::FAILURE
        }
    }
}

/// Runs a large world, and measures.
fn large(seed: u64, jobs: usize, workers: usize, arguments: &Arguments) -> Result<ExitCode> {
    let settings = Settings {
        seed,
        size: Size::Large { jobs, workers },
        faults: arguments.faults,
        flaw: None,
        talk: Talk::Silent,
    };
    let run = || -> Result<Summary, Failed> {
        let mut world = World::new(settings)?;
        let (before, started) = (memory("VmRSS")?, Instant::now());
        world.until_submitted()?;
        let took = started.elapsed().saturating_sub(world.expanding()).as_secs_f64();
        let grown = memory("VmRSS")?.saturating_sub(before);
        let jobs = world.jobs();
        println!(
            "submitted {jobs} jobs: {:.1} s of expanding, {took:.1} s of submitting",
            world.expanding().as_secs_f64()
        );
        println!(
            "memory: {} bytes for each waiting job, and {} of the checks",
            grown.saturating_sub(world.bytes_of_checks()) / jobs.max(1),
            world.bytes_of_checks() / jobs.max(1),
        );
        let (before, started) = (world.commands(), Instant::now());
        let summary = world.until_over()?;
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{} commands and {} decisions in {seconds:.1} s: {:.0} commands and {:.0} decisions a second",
            summary.commands,
            summary.decisions,
            (summary.commands - before) as f64 / seconds,
            summary.decisions as f64 / seconds,
        );
        println!("peak memory {} MB", memory("VmHWM")? / 1_000_000);
        Ok(summary)
    };
    match run() {
        Ok(summary) => {
            print_summary(seed, &summary);
            Ok(ExitCode::SUCCESS)
        }
        Err(Failed::Found(found)) => {
            print_found(&found);
            let faults = if arguments.faults { " --faults" } else { "" };
            println!("run it again: cargo xtask simulate --jobs {jobs} --workers {workers} --seed {seed}{faults}");
            Ok(ExitCode::FAILURE)
        }
        Err(Failed::Unmeasured(error)) => Err(error),
    }
}

/// Why a large world has no summary.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Found(#[from] Found),
    #[error(transparent)]
    Unmeasured(#[from] anyhow::Error),
}

fn print_summary(seed: u64, summary: &Summary) {
    let Summary { digest, lines, virtual_ms, counts, commands, commits, restores, blows, .. } = summary;
    println!(
        "seed {seed}: {} jobs ({} done, {} failed, {} cancelled) in {:.1} virtual hours, {commands} commands, \
         {commits} commits, {restores} restarts, {blows} blows to workers, {lines} lines, digest {digest:016x}",
        counts.total(),
        counts.done(),
        counts.failed,
        counts.cancelled,
        *virtual_ms as f64 / 3_600_000.0,
    );
}

fn print_found(found: &Found) {
    found.history.iter().for_each(|line| println!("{line}"));
    println!("after {}.{:03} virtual seconds: {found}", found.at / 1000, found.at % 1000);
}

/// One of this process's sizes in bytes, as the kernel gives them.
fn memory(name: &str) -> Result<usize> {
    let path = "/proc/self/status";
    let status = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let size = line.and_then(|line| line.trim().strip_suffix("kB")).with_context(|| format!("{path} has no {name}"))?;
    Ok(size.trim().parse::<usize>().with_context(|| format!("reading {name} of {path}"))? * 1024)
}

/// What many worlds had together.
#[derive(Default)]
struct Sum {
    jobs: usize,
    commands: u64,
    restores: u64,
    blows: u64,
    virtual_ms: i64,
    digest: u64,
}

impl Sum {
    fn add(&mut self, summary: &Summary) {
        self.jobs += summary.counts.total();
        self.commands += summary.commands;
        self.restores += summary.restores;
        self.blows += summary.blows;
        self.virtual_ms += summary.virtual_ms;
        self.digest = self.digest.rotate_left(1) ^ summary.digest;
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { jobs, commands, restores, blows, virtual_ms, digest } = self;
        let hours = virtual_ms / 3_600_000;
        write!(
            f,
            "no violation in {hours} virtual hours: {jobs} jobs, {commands} commands, {restores} restarts, \
             {blows} blows to workers, digest {digest:016x}"
        )
    }
}
