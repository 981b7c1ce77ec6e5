//! `scale`: pools of workers that are started on demand.

use std::time::Duration;

use anyhow::Context as _;
use promptfield_core::input::InvalidInput;
use promptfield_core::scheduler::pilot_records::{LauncherKind, PoolSettings, PoolState, pool_name};
use promptfield_core::wire::api::pools::PoolSummary;

use super::Context;
use crate::args::{PoolArgs, ScaleCommand, ScaleLocalArgs, ScaleSlurmArgs, ScaleStatusArgs};
use crate::exit::{self, Coded};
use crate::waiting::patient;
use crate::{output, print};
use promptfield_client::Client;

/// What stands in a pool's place to turn pools off.
const OFF: &str = "off";
/// Between two looks at pools that are being turned off.
const LOOK: Duration = Duration::from_millis(500);

pub(super) async fn scale(context: &Context, what: ScaleCommand) -> anyhow::Result<u8> {
    match what {
        ScaleCommand::Slurm(args) => {
            let client = context.client(args.pool.coordinator.url.as_deref())?;
            match named(&args.pool)? {
                Some(name) => set(context, &client, name, slurm_settings(&args)?).await,
                None => turn_off(context, client, LauncherKind::Slurm, &args.pool).await,
            }
        }
        ScaleCommand::Local(ScaleLocalArgs { pool }) => {
            let client = context.client(pool.coordinator.url.as_deref())?;
            match named(&pool)? {
                Some(name) => set(context, &client, name, settings(LauncherKind::Local, &pool)?).await,
                None => turn_off(context, client, LauncherKind::Local, &pool).await,
            }
        }
        ScaleCommand::Status(args) => status(context, &args).await,
        ScaleCommand::Resume(args) => {
            context.client(args.coordinator.url.as_deref())?.resume_pool(&args.name).await?;
            if context.json {
                output::json(&serde_json::json!({ "resumed": args.name }))?;
            } else {
                print::line(format_args!("the pool `{}` goes on", args.name))?;
            }
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
    if context.json {
        output::json(&pool)?;
    } else {
        let PoolSettings { min, max, launcher, .. } = pool.settings;
        print::line(format_args!("the pool `{name}` has {min} to {max} pilots ({launcher}), as jobs need them"))?;
    }
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
    if context.json {
        output::json(&pools)?;
    } else {
        for pool in pools {
            let left = match pool.pilots.total() {
                0 => String::new(),
                left => format!(": {left} pilots are left"),
            };
            print::line(format_args!("the pool `{}` is {}{left}", pool.name, pool.state))?;
        }
    }
    Ok(exit::DONE)
}

async fn status(context: &Context, args: &ScaleStatusArgs) -> anyhow::Result<u8> {
    let client = context.client(args.coordinator.url.as_deref())?;
    let (pools, pilots) = (client.pools().await?.pools, client.pilots().await?.pilots);
    if context.json {
        output::json(&serde_json::json!({ "pools": pools, "pilots": pilots }))?;
    } else {
        print::line(format_args!("{}\n{}", output::pools(&pools), output::pilots(&pilots)))?;
    }
    Ok(exit::DONE)
}
