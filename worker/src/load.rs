//! What the devices are at, for whoever looks for idle ones. It is said now and then; what isn't heard is lost, and no job
//! waits for it.

use std::collections::BTreeSet;
use std::time::Duration;

use promptfield_core::wire::api::usage::{DeviceLoad, LoadReport};

use crate::Agent;
use crate::devices::is_gpu;
use crate::memory::{Gauge, MIB, kib};

const PERIOD: Duration = Duration::from_secs(30);

/// The processors' time since the machine started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    fn now() -> Option<Self> {
        Self::read(&fs_err::read_to_string("/proc/stat").ok()?)
    }

    fn read(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // User, nice, system, idle, waiting for disks, interrupts (two), stolen. What guests take is in the first two.
        let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|number| number.parse().ok()).collect();
        Some(Self { all: ticks.iter().sum(), idle: ticks.get(3)? + ticks.get(4)? })
    }

    /// How busy they were between two times, in per cent.
    fn busy_percent(self, later: Self) -> Option<f64> {
        let all = later.all.checked_sub(self.all).filter(|all| *all > 0)?;
        let idle = later.idle.checked_sub(self.idle)?.min(all);
        Some((all - idle) as f64 / all as f64 * 100.0)
    }
}

/// Says it at once and then twice a minute, until the worker shuts down.
pub(crate) async fn report(agent: &Agent, devices: &[String]) {
    let devices: BTreeSet<&String> = devices.iter().collect();
    let mut before = Ticks::now();
    loop {
        let now = Ticks::now();
        let busy = before.zip(now).and_then(|(before, now)| before.busy_percent(now));
        before = now;
        let report = LoadReport { devices: devices.iter().map(|device| look(&agent.gauge, device, busy)).collect() };
        let worker = agent.registration.current().await;
        match agent.unless_shut_down(agent.coordinator.client.report_load(worker, &report)).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!("nobody hears what the devices are at: {error}"),
            None => return,
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = agent.shutdown.cancelled() => return,
        }
    }
}

/// A GPU, or else the machine, whose processors were so busy.
fn look(gauge: &Gauge, device: &str, busy: Option<f64>) -> DeviceLoad {
    let nothing =
        DeviceLoad { device: device.to_owned(), busy_percent: None, memory_mib: None, memory_total_mib: None };
    if is_gpu(device) {
        let Some(gpu) = gauge.gpu(device) else { return nothing };
        let memory = gpu.memory_info().ok();
        return DeviceLoad {
            busy_percent: gpu.utilization_rates().ok().map(|rates| f64::from(rates.gpu)),
            memory_mib: memory.as_ref().map(|memory| memory.used / MIB),
            memory_total_mib: memory.as_ref().map(|memory| memory.total / MIB),
            ..nothing
        };
    }
    let table = fs_err::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = kib(&table, "MemTotal:").map(|kib| kib / 1024);
    let available = kib(&table, "MemAvailable:").map(|kib| kib / 1024);
    DeviceLoad {
        busy_percent: busy,
        memory_mib: total.zip(available).map(|(total, available)| total.saturating_sub(available)),
        memory_total_mib: total,
        ..nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_busy_when_they_are_neither_idle_nor_wait() {
        let ticks = |stat: &str| Ticks::read(stat).unwrap();
        let before = ticks("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\n");
        assert_eq!(before, Ticks { all: 1000, idle: 850 });
        let after = ticks("cpu  160 0 65 820 55 0 0 0 7 0\n");
        assert_eq!(before.busy_percent(after), Some(75.0));
        assert_eq!((before.busy_percent(before), after.busy_percent(before)), (None, None));
        assert_eq!(Ticks::read("cpu0 1 2 3 4 5"), None);
    }

    #[test]
    fn a_machine_without_a_gpu_says_what_its_memory_is_at() {
        let load = look(&Gauge::new(&["cpu".to_owned()], None), "cpu", Some(12.5));
        assert_eq!((load.device.as_str(), load.busy_percent), ("cpu", Some(12.5)));
        assert!(load.memory_mib.unwrap() > 0 && load.memory_mib < load.memory_total_mib, "{load:?}");
    }
}
