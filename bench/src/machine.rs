//! The machine, as far as it bears on the numbers.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Where and when it was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) processor: String,
    /// Cores that may be used.
    pub(crate) cores: usize,
    /// The kernel's version.
    pub(crate) kernel: String,
    /// The file system of the databases.
    pub(crate) file_system: String,
    /// How many threads wanted to run before anything was measured, in the last 1, 5 and 15 minutes.
    pub(crate) load: String,
}

impl Machine {
    /// This one; `folder` is where the databases are made.
    pub(crate) fn here(folder: &Path) -> Result<Self> {
        let load = fs_err::read_to_string("/proc/loadavg")?;
        let processors = fs_err::read_to_string("/proc/cpuinfo")?;
        let mounts = fs_err::read_to_string("/proc/mounts")?;
        Ok(Self {
            processor: processor(&processors).unwrap_or("a processor without a name").to_owned(),
            cores: std::thread::available_parallelism().context("can't count the cores")?.get(),
            kernel: fs_err::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            file_system: file_system(&mounts, &fs_err::canonicalize(folder)?).unwrap_or("an unknown one").to_owned(),
            load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        })
    }
}

fn processor(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// The type of what is mounted nearest above a folder.
fn file_system<'a>(mounts: &'a str, folder: &Path) -> Option<&'a str> {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    // Of two at one place, the later hides the earlier.
    mounted.filter(|(place, _)| folder.starts_with(place)).max_by_key(|(place, _)| place.len()).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n";
        for (folder, kind) in [("/var", "ext4"), ("/tmp/x", "tmpfs"), ("/tmp/disk/x", "xfs"), ("/tmpfoo", "ext4")] {
            assert_eq!(file_system(mounts, Path::new(folder)), Some(kind), "{folder}");
        }
        assert_eq!(file_system("", Path::new("/var")), None);
    }

    #[test]
    fn the_processor_has_a_name() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: A B\nmodel name\t: A B\n"), Some("A B"));
        assert_eq!(processor("processor\t: 0\n"), None);
    }
}
