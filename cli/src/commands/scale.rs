//! `scale`: pools of workers that are started on demand.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use promptfield_client::Client;
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::pilot_records::{LauncherKind, PoolSettings, PoolState, pool_name};
use promptfield_core::wire::api::pools::PoolSummary;

use crate::context::{Context, CoordinatorArgs};
use crate::exit::{self, Coded};
use crate::output;
use crate::span::{Span, WallTime};
use crate::waiting::patient;

/// What stands in a pool's place to turn pools off.
const OFF: &str = "off";
/// Between two looks at pools that are being turned off.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(crate) enum ScaleCommand {
    /// Have a pool of workers that are jobs of a Slurm cluster: `scale slurm NAME …`; or turn pools off: `scale slurm off [NAMES]`.
    Slurm(Box<ScaleSlurmArgs>),
    /// Have a pool of workers on the coordinator's host: `scale local NAME …`; or turn pools off: `scale local off [NAMES]`.
    Local(ScaleLocalArgs),
    /// Show the pools and the latest pilots.
    Status(ScaleStatusArgs),
    /// Let a pool that was paused go on.
    Resume(ScaleResumeArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScaleLocalArgs {
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScaleStatusArgs {
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScaleResumeArgs {
    /// The pool.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

/// What all pools have.
#[derive(Debug, clap::Args)]
pub(crate) struct PoolArgs {
    /// The pool's name; or `off`, and the pools to turn off [default: all of this launcher].
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// The most workers at once, those that still wait included.
    #[arg(long, value_name = "N")]
    pub(crate) max: Option<u32>,
    /// So many are kept whatever there is to do.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) min: u32,
    /// A worker goes when it had nothing to do for so long [default: 5m].
    #[arg(long, value_name = "TIME")]
    pub(crate) idle: Option<Span>,
    /// Jobs at once for each GPU of a worker.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) slots_per_gpu: u32,
    /// What experiments may ask these workers for; may be given several times.
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// The memory that the slots of a worker share, in MiB [default: what it finds].
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_mib: Option<u64>,
    /// The time between two submissions [default: 10s].
    #[arg(long, value_name = "TIME")]
    pub(crate) submit_every: Option<Span>,
    /// So long before its time is up, a worker takes no more jobs [default: 2m].
    #[arg(long, value_name = "TIME")]
    pub(crate) lead: Option<Span>,
    /// With `off`: don't wait until no worker is left.
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) coordinator: CoordinatorArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ScaleSlurmArgs {
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    /// Slurm's partition.
    #[arg(long, value_name = "NAME")]
    pub(crate) partition: Option<String>,
    /// What each worker gets besides processors, such as `gpu:1`.
    #[arg(long, value_name = "LIST")]
    pub(crate) gres: Option<String>,
    /// How long each worker may run, as Slurm writes it or with a unit: `4:00:00`, `4h`.
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<WallTime>,
    /// Whose account pays.
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// The quality of service.
    #[arg(long, value_name = "NAME")]
    pub(crate) qos: Option<String>,
    /// The features that nodes must have.
    #[arg(long, value_name = "LIST")]
    pub(crate) constraint: Option<String>,
    /// Memory of each node.
    #[arg(long, value_name = "SIZE")]
    pub(crate) mem: Option<String>,
    /// Processors of each worker.
    #[arg(long, value_name = "N")]
    pub(crate) cpus_per_task: Option<u32>,
    /// A shell script that each worker's job runs first, such as `module load cuda`.
    #[arg(long, value_name = "FILE")]
    pub(crate) setup: Option<PathBuf>,
    /// Any other options of `sbatch`, each as one word: `-- --exclude=n7 --reservation=vision`.
    #[arg(last = true, value_name = "SBATCH OPTIONS")]
    pub(crate) options: Vec<String>,
}

impl ScaleSlurmArgs {
    /// What is passed on to `sbatch` as it is.
    pub(crate) fn sbatch_options(&self) -> Vec<String> {
        let Self { account, qos, constraint, mem, cpus_per_task, options, .. } = self;
        let cpus = cpus_per_task.map(|cpus| cpus.to_string());
        let named = [
            ("account", account.as_ref()),
            ("qos", qos.as_ref()),
            ("constraint", constraint.as_ref()),
            ("mem", mem.as_ref()),
            ("cpus-per-task", cpus.as_ref()),
        ];
        let given = named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
        given.chain(options.iter().cloned()).collect()
    }
}

pub(super) async fn run(context: &Context, what: ScaleCommand) -> anyhow::Result<u8> {
    match what {
        ScaleCommand::Slurm(args) => {
            let client = context.client(&args.pool.coordinator)?;
            match named(&args.pool)? {
                Some(name) => set(context, &client, name, slurm_settings(&args)?).await,
                None => turn_off(context, client, LauncherKind::Slurm, &args.pool).await,
            }
        }
        ScaleCommand::Local(ScaleLocalArgs { pool }) => {
            let client = context.client(&pool.coordinator)?;
            match named(&pool)? {
                Some(name) => set(context, &client, name, settings(LauncherKind::Local, &pool)?).await,
                None => turn_off(context, client, LauncherKind::Local, &pool).await,
            }
        }
        ScaleCommand::Status(args) => status(context, &args).await,
        ScaleCommand::Resume(args) => {
            context.client(&args.coordinator)?.resume_pool(&args.name).await?;
            context
                .print(&serde_json::json!({ "resumed": args.name }), |_| format!("the pool `{}` goes on", args.name))?;
            Ok(exit::DONE)
        }
    }
}

/// The pool to have; `None` to turn pools off.
fn named(args: &PoolArgs) -> anyhow::Result<Option<&str>> {
    match args.names.as_slice() {
        [first, ..] if first == OFF => Ok(None),
        [name] => {
            pool_name(name)?;
            Ok(Some(name))
        }
        names => Err(Coded::BadInput(format!("expected one pool's name, or `off` and names, not {names:?}")).into()),
    }
}

fn settings(launcher: LauncherKind, args: &PoolArgs) -> anyhow::Result<PoolSettings> {
    let max = args.max.ok_or_else(|| InvalidInput::new("--max", "nothing", "the most pilots there may be at once"))?;
    let mut settings = PoolSettings::new(launcher, max);
    let whole = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
    settings.min = args.min;
    settings.slots_per_gpu = args.slots_per_gpu;
    settings.labels.clone_from(&args.labels);
    settings.memory_mib = args.memory_mib;
    settings.idle_s = args.idle.map_or(settings.idle_s, |span| whole(span.0));
    settings.submit_every_s = args.submit_every.map_or(settings.submit_every_s, |span| whole(span.0));
    settings.lead_s = args.lead.map_or(settings.lead_s, |span| whole(span.0));
    Ok(settings)
}

fn slurm_settings(args: &ScaleSlurmArgs) -> anyhow::Result<PoolSettings> {
    let mut settings = settings(LauncherKind::Slurm, &args.pool)?;
    settings.time_s = args.time.map(|time| u32::try_from(time.0.as_secs()).unwrap_or(u32::MAX));
    settings.partition.clone_from(&args.partition);
    settings.gres.clone_from(&args.gres);
    settings.options = args.sbatch_options();
    settings.setup = match &args.setup {
        None => None,
        Some(path) => Some(fs_err::read_to_string(path).context("can't read the script of `--setup`")?),
    };
    Ok(settings.checked()?)
}

async fn set(context: &Context, client: &Client, name: &str, settings: PoolSettings) -> anyhow::Result<u8> {
    let pool = client.set_pool(name, &settings.checked()?).await?;
    context.print(&pool, |pool| {
        let PoolSettings { min, max, launcher, .. } = pool.settings;
        format!("the pool `{name}` has {min} to {max} pilots ({launcher}), as jobs need them")
    })?;
    Ok(exit::DONE)
}

async fn turn_off(context: &Context, client: Client, launcher: LauncherKind, args: &PoolArgs) -> anyhow::Result<u8> {
    let client = if args.no_wait { client } else { patient(client) };
    let all = client.pools().await?.pools;
    let is_on = |pool: &&PoolSummary| pool.settings.launcher == launcher && pool.state != PoolState::Off;
    let named = args.names.get(1..).unwrap_or_default();
    let names: Vec<String> = match named {
        [] => all.iter().filter(is_on).map(|pool| pool.name.clone()).collect(),
        named => named.to_vec(),
    };
    for name in &names {
        client.end_pool(name).await?;
    }
    let pools = loop {
        let mut pools = client.pools().await?.pools;
        pools.retain(|pool| names.contains(&pool.name));
        if args.no_wait || pools.iter().all(|pool| pool.state == PoolState::Off) {
            break pools;
        }
        tokio::time::sleep(LOOK).await;
    };
    let line = |pool: &PoolSummary| {
        let left = match pool.pilots.total() {
            0 => String::new(),
            left => format!(": {left} pilots are left"),
        };
        format!("the pool `{}` is {}{left}", pool.name, pool.state)
    };
    context.print(&pools, |pools| output::lines(pools, line))?;
    Ok(exit::DONE)
}

async fn status(context: &Context, args: &ScaleStatusArgs) -> anyhow::Result<u8> {
    let client = context.client(&args.coordinator)?;
    let (pools, pilots) = (client.pools().await?.pools, client.pilots().await?.pilots);
    context.print(&serde_json::json!({ "pools": pools, "pilots": pilots }), |_| {
        format!("{}\n{}", output::pools(&pools), output::pilots(&pilots))
    })?;
    Ok(exit::DONE)
}
