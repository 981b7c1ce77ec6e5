//! What a machine gives to jobs: threads, and memory and disk for what is kept.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, value_parser};

use crate::clip::FrozenCache;
use crate::engine::Session;

/// What this machine gives to jobs.
#[derive(Debug, Args)]
pub struct Machine {
    /// CPU threads; all cores if not given
    #[arg(long, value_name = "N", env = "PROMPTFIELD_THREADS", value_parser = value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Memory for decoded images that are kept between epochs and jobs, in MiB
    #[arg(long, value_name = "MIB", env = "PROMPTFIELD_IMAGE_CACHE_MIB", default_value_t = 1024)]
    image_cache_mib: u64,
    /// A folder that this machine's trainers share: what the frozen towers make of images is kept there
    #[arg(long, value_name = "DIR", env = "PROMPTFIELD_FROZEN_CACHE")]
    frozen_cache: Option<PathBuf>,
    /// The most that it may take, in MiB
    #[arg(long, value_name = "MIB", env = "PROMPTFIELD_FROZEN_CACHE_MIB", default_value_t = 8192)]
    frozen_cache_mib: u64,
}

impl Machine {
    /// What is kept between the jobs of a process, which has this many threads from now on.
    pub(super) fn session(&self) -> anyhow::Result<Session> {
        self.use_threads()?;
        Ok(Session::new(self.image_cache_mib << 20).with_cache(self.frozen_cache()?))
    }

    pub(super) fn frozen_cache(&self) -> anyhow::Result<Option<FrozenCache>> {
        let Some(folder) = &self.frozen_cache else { return Ok(None) };
        let cache = FrozenCache::open(folder, self.frozen_cache_mib << 20);
        Ok(Some(cache.with_context(|| format!("cannot use `{}` as the frozen cache", folder.display()))?))
    }

    pub(super) fn use_threads(&self) -> anyhow::Result<()> {
        let threads = match self.threads {
            Some(threads) => usize::from(threads),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        tch::set_num_threads(i32::try_from(threads)?);
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
        Ok(())
    }
}
