//! `work`: a worker.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use promptfield_client::host_name;
use promptfield_core::scheduler::pilot_records::PilotKey;
use promptfield_worker::{Machine, Options, Pilot, Rejected, Stops, Worker, WorkerError, slurm_time_left};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use super::serve;
use crate::context::{Context, CoordinatorArgs};
use crate::exit::{self, Coded};
use crate::span::Span;
use crate::{local, print};

/// How long a pilot that nobody told waits for a coordinator that is out of reach.
const PATIENCE: Duration = Duration::from_mins(5);

#[derive(Debug, clap::Args)]
pub(crate) struct WorkArgs {
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
    /// The worker's name; one that stays the same when it is started again [default: the settings', or the host's name].
    #[arg(long, env = "PROMPTFIELD_WORKER", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Jobs at once [default: the settings', or 1].
    #[arg(long, env = "PROMPTFIELD_SLOTS", value_name = "N")]
    pub(crate) slots: Option<usize>,
    /// CPU threads of each trainer [default: the settings', or the host's cores divided by the slots].
    #[arg(long, env = "PROMPTFIELD_THREADS", value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// The output root is the coordinator host's own: checkpoints needn't be sent.
    #[arg(long)]
    pub(crate) shared_output: bool,
    /// The pilot that it is; set by what starts pilots.
    #[arg(long, value_name = "KEY", requires = "leave_after")]
    pub(crate) pilot: Option<PilotKey>,
    /// A pilot goes when the coordinator has been out of reach for so long.
    #[arg(long, value_name = "TIME", requires = "pilot")]
    pub(crate) leave_after: Option<Span>,
    /// So long before its time is up, a pilot takes no more jobs.
    #[arg(long, value_name = "TIME", requires = "pilot", default_value = "120s")]
    pub(crate) lead: Span,
    /// Instead of `--slots`: jobs at once for each GPU that `CUDA_VISIBLE_DEVICES` names, or in all if it names none.
    #[arg(long, value_name = "N")]
    pub(crate) slots_per_gpu: Option<usize>,
    /// The memory that the slots share, in MiB [default: the settings', or what there is].
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<u64>,
    /// What experiments may ask this worker for, besides what the settings say; may be given several times.
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// The trainer's binary [default: the settings', or beside this program].
    #[arg(long, value_name = "FILE")]
    pub(crate) trainer: Option<PathBuf>,
    /// Stop when stdin ends: what `run` and `up` start doesn't outlive them.
    #[arg(long)]
    pub(crate) until_stdin_ends: bool,
}

pub(super) async fn run(context: &Context, args: WorkArgs) -> anyhow::Result<u8> {
    let settings = &context.settings;
    let host = host_name();
    let visible_gpus = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let slots = match args.slots_per_gpu {
        Some(each) => each.max(1) * gpus_in(visible_gpus.as_deref()),
        None => args.slots.unwrap_or(settings.slots).max(1),
    };
    let pilot = match args.pilot {
        None => None,
        Some(key) => Some(Pilot {
            key: key.to_string(),
            leave_after: args.leave_after.map_or(PATIENCE, |span| span.0),
            lead: args.lead.0,
            time_left: slurm_time_left().await,
        }),
    };
    let is_pilot = pilot.is_some();
    let url = settings.coordinator_url(args.coordinator.url.as_deref())?;
    let options = Options {
        coordinator: url.clone(),
        connection: context.connection()?,
        name: args.name.or_else(|| settings.worker_name.clone()).unwrap_or_else(|| host.clone()),
        host,
        slots,
        devices: settings.devices.clone(),
        visible_gpus,
        machine: Machine {
            data_root: settings.data.clone(),
            output_root: settings.output.clone(),
            backbones: settings.backbones.clone(),
            datasets: settings.datasets_folder(),
            methods: settings.methods()?,
            // Pilots find out: whoever starts them may not know.
            shared_output: (args.shared_output || !is_pilot).then_some(args.shared_output),
        },
        trainer: args.trainer.unwrap_or_else(|| settings.trainer.clone()),
        threads_per_slot: args.threads.or(settings.threads).or(Some(local::threads_for(slots))),
        labels: settings.labels.iter().chain(&args.labels).cloned().collect(),
        memory_mib: args.memory_mib.or(settings.memory_mib),
        silence: settings.silence,
        caches: settings.caches.clone(),
        pilot,
    };
    let stops = Stops::default();
    let Stops { shutdown: stop, ending } = stops.clone();
    if is_pilot {
        // Slurm says with it that the end is near.
        let mut near = signal(SignalKind::user_defined1()).context("can't listen for SIGUSR1")?;
        tokio::spawn(async move {
            near.recv().await;
            ending.cancel();
        });
    }
    let until_stdin_ends = args.until_stdin_ends;
    tokio::spawn(async move {
        tokio::select! {
            _ = serve::signal() => {}
            () = stdin_ends(), if until_stdin_ends => {}
        }
        stop.cancel();
    });
    match Worker::run(options, stops).await {
        Ok(()) => Ok(exit::DONE),
        Err(WorkerError::Refused { source: Rejected::Stale(reason) }) if is_pilot => {
            print::talk(reason);
            Ok(exit::DONE)
        }
        Err(WorkerError::Options(error)) => Err(Coded::BadInput(format!("{:#}", anyhow::Error::new(error))).into()),
        Err(WorkerError::Refused { source: Rejected::Refused { status: 401 | 403, detail, .. } }) => {
            Err(Coded::Refused { url, detail }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns at the end of stdin: when the process that started this one is gone, however it went.
async fn stdin_ends() {
    let mut stdin = tokio::io::stdin();
    let mut nothing = [0; 64];
    while stdin.read(&mut nothing).await.is_ok_and(|n| n > 0) {}
}

/// How many GPUs `CUDA_VISIBLE_DEVICES` names; without it there is one device, whatever it is.
fn gpus_in(visible: Option<&str>) -> usize {
    visible.unwrap_or_default().split(',').filter(|name| !name.trim().is_empty()).count().max(1)
}
