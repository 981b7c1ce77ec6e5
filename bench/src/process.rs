//! What `/proc` says of a process.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// CPU time that a process has used, in microseconds; the kernel counts it in ticks, most often of 10 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cpu {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
}

impl Cpu {
    /// What a running process has used until now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs_err::read_to_string(&path)?;
        parse_stat(&stat, rustix::param::clock_ticks_per_second()).with_context(|| format!("{path} has another form"))
    }

    /// What the children of this process have used that have ended until now, and theirs.
    pub(crate) fn of_children() -> Result<Self> {
        let path = "/proc/self/stat";
        let ticks = rustix::param::clock_ticks_per_second();
        parse_times(&fs_err::read_to_string(path)?, CHILDREN, ticks).with_context(|| format!("{path} has another form"))
    }

    /// User and system time together.
    pub(crate) const fn total_us(self) -> u64 {
        self.user_us + self.system_us
    }
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
        }
    }
}

impl std::iter::Sum for Cpu {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            user_us: sum.user_us + one.user_us,
            system_us: sum.system_us + one.system_us,
        })
    }
}

/// What the threads of a running process have used until now, together for those of one name; numbers at a name's end don't
/// count. Threads that have ended are not in it.
pub(crate) fn threads(pid: u32) -> Result<BTreeMap<String, Cpu>> {
    let mut threads = BTreeMap::new();
    for entry in fs_err::read_dir(format!("/proc/{pid}/task"))? {
        let folder = entry?.path();
        // It may have ended since it was listed.
        let Ok(stat) = std::fs::read_to_string(folder.join("stat")) else { continue };
        let read = parse_stat(&stat, rustix::param::clock_ticks_per_second());
        let (name, cpu) =
            thread_name(&stat).zip(read).with_context(|| format!("{} has another form", folder.display()))?;
        let sum: &mut Cpu = threads.entry(name).or_default();
        *sum = [*sum, cpu].into_iter().sum();
    }
    Ok(threads)
}

/// The memory of a running process that is in RAM, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    parse_status(&fs_err::read_to_string(&path)?).with_context(|| format!("{path} has no line `VmRSS: … kB`"))
}

/// The place of a process's own times in `/proc/PID/stat`, counted from its state, and that of its children's.
const OWN: usize = 11;
const CHILDREN: usize = 13;

fn parse_stat(stat: &str, ticks_per_second: u64) -> Option<Cpu> {
    parse_times(stat, OWN, ticks_per_second)
}

/// Reads two times of `/proc/PID/stat`: `PID (NAME) STATE …`, where the name may hold anything.
fn parse_times(stat: &str, place: usize, ticks_per_second: u64) -> Option<Cpu> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(place).map(|field| field.parse::<u64>().ok());
    let mut microseconds = || Some(fields.next()?? * 1_000_000 / ticks_per_second);
    Some(Cpu { user_us: microseconds()?, system_us: microseconds()? })
}

fn thread_name(stat: &str) -> Option<String> {
    let (name, _) = stat.split_once('(')?.1.rsplit_once(')')?;
    Some(name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned())
}

fn parse_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_moves_nothing() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 900 0 0 0 250 50 9 9 20 0 4 0 100 1000 200";
        let cpu = Cpu { user_us: 2_500_000, system_us: 500_000 };
        assert_eq!(parse_stat(stat, 100), Some(cpu));
        assert_eq!(cpu.total_us(), 3_000_000);
        assert_eq!(parse_times(stat, CHILDREN, 100), Some(Cpu { user_us: 90_000, system_us: 90_000 }));
        assert_eq!(parse_stat("7 (a) S 1 7", 100), None);
        assert_eq!(thread_name(stat).as_deref(), Some("a) b (c)"));
        assert_eq!(thread_name("7 (tokio-worker-12) S").as_deref(), Some("tokio-worker"));
    }

    #[test]
    fn resident_memory_is_told_in_bytes() {
        assert_eq!(parse_status("Name:\ta\nVmHWM:\t  90 kB\nVmRSS:\t   12 kB\nThreads:\t1\n"), Some(12_288));
        assert_eq!(parse_status("Name:\ta\n"), None);
    }

    #[test]
    fn this_process_is_found() {
        let pid = std::process::id();
        assert!(resident(pid).unwrap() > 100_000);
        let before = Cpu::of(pid).unwrap();
        assert!(!threads(pid).unwrap().is_empty());
        assert!((Cpu::of(pid).unwrap() - before).total_us() < 60_000_000);
    }

    #[test]
    fn cpu_time_adds_up() {
        let [a, b] = [(5, 2), (10, 4)].map(|(user_us, system_us)| Cpu { user_us, system_us });
        assert_eq!([a, b].into_iter().sum::<Cpu>() - a, b);
    }
}
