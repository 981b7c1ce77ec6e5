//! `inspect outputs`: output folders of jobs that have results, and the data sets that they rest on, as they are now.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use promptfield_core::chain::chain;
use promptfield_core::input;
use promptfield_core::job::spec::BasisHash;
use promptfield_core::wire::output_report::{ListHashes, OutputQuestion, OutputReport};
use promptfield_core::wire::trainer_job::TrainerJob;
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use crate::data::{self, KeptSplits, Split};
use crate::working;

/// `inspect outputs`.
#[derive(Debug, Args)]
pub struct OutputsArgs {
    /// Read every image file of the splits, and say what they hash to
    #[arg(long)]
    images: bool,
}

/// Answers a question a line on stdin with a line on stdout.
pub(crate) fn run(args: &OutputsArgs) -> anyhow::Result<()> {
    let mut splits = KeptSplits::default();
    let mut digests = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let OutputQuestion { job, places } = input::from_json(&line.context("could not read standard input")?)?;
        let (state, manifest, reason) = promptfield_output::look_at_output(&places.output, working::goes_on);
        let (lists, problem) = match lists(&places, &mut splits, args.images.then_some(&mut digests)) {
            Ok(lists) => (Some(lists), None),
            Err(error) => (None, Some(chain(error.as_ref()))),
        };
        let report = OutputReport { job, folder: places.output, state, reason, manifest, lists, problem };
        writeln!(std::io::stdout().lock(), "{}", serde_json::to_string(&report)?)
            .context("could not write to standard output")?;
    }
    Ok(())
}

/// What the lists of a job's data set are now. `digests` are those of image files, by split.
fn lists(
    job: &TrainerJob,
    splits: &mut KeptSplits,
    digests: Option<&mut HashMap<String, BasisHash>>,
) -> anyhow::Result<ListHashes> {
    let definition = data::find_definition(job.datasets.as_deref(), &job.data_root, &job.dataset)?;
    let spec = job.spec(&definition, None)?;
    let split = splits.load(&definition, &job.data_root, spec.shots, spec.seed, spec.classes())?;
    let hash = split.hash();
    let images_sha256 = match digests {
        None => None,
        Some(digests) => Some(match digests.get(&hash) {
            Some(known) => *known,
            None => *digests.entry(hash.clone()).or_insert(digest_of_images(&split)?),
        }),
    };
    Ok(ListHashes { split_sha256: hash.parse()?, test_sha256: split.test_hash().parse()?, images_sha256 })
}

/// SHA-256 over the paths and the SHA-256 of the image files of a split, each once, by path.
fn digest_of_images(split: &Split) -> std::io::Result<BasisHash> {
    let mut items: Vec<(&str, &Path)> = [&split.train, &split.val, &split.test]
        .into_iter()
        .flatten()
        .map(|item| (item.relative.as_str(), item.path.as_path()))
        .collect();
    items.sort_unstable();
    items.dedup();
    let digest = |(name, path): &(&str, &Path)| Ok((name.to_string(), Sha256::digest(fs_err::read(path)?)));
    let digests: Vec<_> = items.par_iter().map(digest).collect::<std::io::Result<_>>()?;
    let whole = digests.iter().fold(Sha256::new(), |whole, (name, digest)| {
        whole.chain_update((name.len() as u64).to_le_bytes()).chain_update(name).chain_update(digest)
    });
    Ok(BasisHash(whole.finalize().into()))
}
