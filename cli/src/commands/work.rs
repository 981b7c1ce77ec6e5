//! `work`: a worker.

use promptfield_worker::{Machine, Options, Rejected, Worker, WorkerError};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::{Context, serve};
use crate::args::WorkArgs;
use crate::exit::{self, Coded};
use crate::local;

pub(super) async fn work(context: &Context, args: WorkArgs) -> anyhow::Result<u8> {
    let settings = &context.settings;
    let host = host_name();
    let slots = args.slots.unwrap_or(settings.slots).max(1);
    let url = settings.coordinator_url(args.coordinator.url.as_deref());
    let options = Options {
        coordinator: url.clone(),
        connection: context.connection()?,
        name: args.name.or_else(|| settings.worker_name.clone()).unwrap_or_else(|| host.clone()),
        host,
        slots,
        devices: settings.devices.clone(),
        machine: Machine {
            data_root: settings.data.clone(),
            output_root: settings.output.clone(),
            weights: settings.backbones.clone(),
            datasets: settings.datasets_folder(),
            shared_output: args.shared_output,
        },
        trainer: settings.trainer.clone(),
        threads_per_slot: args.threads.or(settings.threads).or(Some(local::threads_for(slots))),
        labels: settings.labels.clone(),
        memory_mib: settings.memory_mib,
        caches: settings.caches.clone(),
    };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let until_stdin_ends = args.until_stdin_ends;
    tokio::spawn(async move {
        tokio::select! {
            _ = serve::signal() => {}
            () = stdin_ends(), if until_stdin_ends => {}
        }
        stop.cancel();
    });
    match Worker::run(options, shutdown).await {
        Ok(()) => Ok(exit::DONE),
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

/// This host's name for lists.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
