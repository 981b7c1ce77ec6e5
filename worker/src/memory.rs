//! How much memory a job takes, and how much there is for jobs.
//!
//! Of a process on the CPU the kernel keeps the peak, which is set back when a job begins. Of a process on a GPU the driver says
//! what it uses now, which is asked with every report. What can't be measured costs nothing but the number. A trainer is
//! resident: what it keeps of earlier jobs counts as well, since it is there while the next one runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::devices::{in_place, is_gpu, is_slice};

pub(crate) const MIB: u64 = 1 << 20;
const KIB_PER_MIB: u64 = 1 << 10;
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// What a machine's memory is looked at with.
pub(crate) struct Gauge {
    /// The GPUs' driver; `None` where it isn't needed or isn't there.
    driver: Option<Box<Nvml>>,
    /// What `CUDA_VISIBLE_DEVICES` says.
    visible: Option<String>,
    /// The slices of GPUs among the devices.
    slices: Vec<String>,
}

impl std::fmt::Debug for Gauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gauge").field("driver", &self.driver.is_some()).finish_non_exhaustive()
    }
}

impl Gauge {
    /// One for a worker's devices.
    pub(crate) fn new(devices: &[String], visible: Option<&str>) -> Self {
        let driver = devices.iter().any(|device| is_gpu(device)).then(Nvml::init).and_then(|driver| {
            driver.inspect_err(|error| tracing::warn!("the GPUs' memory can't be looked at: {error}")).ok()
        });
        let slices = devices.iter().filter(|device| is_slice(device)).cloned().collect();
        Self { driver: driver.map(Box::new), visible: visible.map(str::to_owned), slices }
    }

    /// The memory that jobs on these devices share, in MiB: the GPUs', or the machine's if there is none among them.
    pub(crate) fn total_mib(&self, devices: &[String]) -> Option<u64> {
        let gpus: BTreeSet<&String> = devices.iter().filter(|device| is_gpu(device)).collect();
        if gpus.is_empty() {
            let machine = kib(&fs_err::read_to_string("/proc/meminfo").ok()?, "MemTotal:")? / KIB_PER_MIB;
            return Some(allowed_mib().map_or(machine, |allowed| allowed.min(machine)));
        }
        let totals = gpus.into_iter().map(|name| Some(self.gpu(name)?.memory_info().ok()?.total));
        totals.sum::<Option<u64>>().map(|bytes| bytes / MIB)
    }

    /// A GPU, by the name that CUDA gives it here.
    pub(crate) fn gpu(&self, name: &str) -> Option<Device<'_>> {
        let driver = self.driver.as_ref()?;
        let known = match name.strip_prefix("cuda:") {
            // CUDA numbers the devices that the variable leaves; the driver numbers them all.
            Some(place) => in_place(self.visible.as_deref(), place.parse().ok()?)?,
            None => name.to_owned(),
        };
        known.parse().map_or_else(|_| driver.device_by_uuid(known.as_str()), |index| driver.device_by_index(index)).ok()
    }

    /// The bytes that a process uses on all GPUs now.
    fn used_on_gpus(&self, process: u32) -> Result<u64, NvmlError> {
        let Some(driver) = &self.driver else { return Ok(0) };
        let mut used = 0;
        let whole = (0..driver.device_count()?).map(|index| driver.device_by_index(index));
        // What runs on a slice is told by the slice.
        let slices = self.slices.iter().map(|name| driver.device_by_uuid(name.as_str()));
        for device in whole.chain(slices) {
            for found in device?.running_compute_processes()? {
                if let (true, UsedGpuMemory::Used(bytes)) = (found.pid == process, found.used_gpu_memory) {
                    used += bytes;
                }
            }
        }
        Ok(used)
    }
}

/// Measures one job's memory.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    gauge: &'a Gauge,
    process: u32,
    on_gpu: bool,
    /// The most bytes that were seen on the GPUs.
    most: AtomicU64,
    /// Processes that the kernel had ended for want of memory when the job began.
    killed: Option<u64>,
}

impl<'a> Meter<'a> {
    /// A job begins in a trainer process.
    pub(crate) fn start(gauge: &'a Gauge, process: u32, device: &str) -> Self {
        let on_gpu = is_gpu(device);
        // Where it can't be set back, the peak is that of an earlier job or a larger one: a careful number too.
        if !on_gpu && let Err(error) = fs_err::write(of_process(process, "clear_refs"), "5") {
            tracing::debug!("the peak of an earlier job stays: {error}");
        }
        Self { gauge, process, on_gpu, most: AtomicU64::new(0), killed: killed() }
    }

    /// Looks at what can only be seen while the job runs.
    pub(crate) fn look(&self) {
        if self.on_gpu {
            match self.gauge.used_on_gpus(self.process) {
                Ok(used) => drop(self.most.fetch_max(used, Ordering::Relaxed)),
                Err(error) => tracing::debug!("the trainer's memory can't be looked at: {error}"),
            }
        }
    }

    /// The most memory that the process took since the job began, in MiB, while it's still there.
    pub(crate) fn most_mib(&self) -> Option<u32> {
        let most = if self.on_gpu {
            self.look();
            self.most.load(Ordering::Relaxed).div_ceil(MIB)
        } else {
            peak_mib(&fs_err::read_to_string(of_process(self.process, "status")).ok()?)?
        };
        u32::try_from(most).ok().filter(|most| *most > 0)
    }

    /// Whether the kernel has ended processes for want of memory since the job began.
    pub(crate) fn has_memory_run_out(&self) -> bool {
        matches!((self.killed, killed()), (Some(before), Some(now)) if now > before)
    }
}

/// A process's peak without the files that it has mapped, which processes share.
fn peak_mib(status: &str) -> Option<u64> {
    let peak = kib(status, "VmHWM:")?;
    Some(peak.saturating_sub(kib(status, "RssFile:").unwrap_or(0)).div_ceil(KIB_PER_MIB))
}

/// What the control groups of this process allow, in MiB: a container's limit, or a batch system's.
fn allowed_mib() -> Option<u64> {
    let groups = fs_err::read_to_string("/proc/self/cgroup").ok()?;
    let own = Path::new(CONTROL_GROUPS).join(groups.lines().find_map(|line| line.strip_prefix("0::/"))?);
    let folders = own.ancestors().take_while(|folder| folder.starts_with(CONTROL_GROUPS));
    let limits =
        folders.filter_map(|folder| fs_err::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok());
    limits.min().map(|bytes: u64| bytes / MIB)
}

/// How many processes the kernel has ended for want of memory since it started.
fn killed() -> Option<u64> {
    let text = fs_err::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
}

/// A line's number of KiB in the kernel's tables.
pub(crate) fn kib(table: &str, field: &str) -> Option<u64> {
    table.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok())
}

fn of_process(process: u32, file: &str) -> PathBuf {
    Path::new("/proc").join(process.to_string()).join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_files_do_not_count() {
        let status =
            "Name:\ttrainer\nVmPeak:\t 9000000 kB\nVmHWM:\t  409600 kB\nVmRSS:\t  300000 kB\nRssFile:\t  102400 kB\n";
        assert_eq!(peak_mib(status), Some(300));
        assert_eq!(peak_mib("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn a_job_s_peak_is_its_own() {
        let gauge = Gauge::new(&["cpu".to_owned()], None);
        let peak = || Meter::start(&gauge, std::process::id(), "cpu");
        let before = peak().most_mib().unwrap();
        let large = peak();
        let bytes = std::hint::black_box(vec![1_u8; 256 << 20]);
        drop(bytes);
        let with = large.most_mib().unwrap();
        assert!(with >= before + 200, "{with} MiB with 256, {before} without");
        let after = peak().most_mib().unwrap();
        assert!(after + 200 <= with, "{after} MiB after {with}");
        assert!(!large.has_memory_run_out());
    }

    #[test]
    fn a_machine_without_a_gpu_shares_its_own_memory() {
        let devices = ["cpu".to_owned()];
        let total = Gauge::new(&devices, None).total_mib(&devices).unwrap();
        let machine = kib(&fs_err::read_to_string("/proc/meminfo").unwrap(), "MemTotal:").unwrap() / 1024;
        assert!((1..=machine).contains(&total), "{total} of {machine}");
        let gauge = Gauge { driver: None, visible: None, slices: Vec::new() };
        assert_eq!(gauge.total_mib(&["cpu".to_owned(), "cuda:0".to_owned()]), None, "nobody to ask");
    }
}
