//! `serve`: a coordinator.

use std::net::SocketAddr;

use anyhow::Context as _;
use promptfield_client::host_name;
use promptfield_core::scheduler::Policy;
use promptfield_server::{Coordinator, Options, Security};
use tokio::signal::unix::{SignalKind, signal as unix_signal};

use crate::context::Context;
use crate::settings::Settings;
use crate::{exit, print};

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The address to listen on [default: the settings', or 127.0.0.1:7878].
    #[arg(long, env = "PROMPTFIELD_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
}

pub(super) async fn run(context: &Context, args: &ServeArgs) -> anyhow::Result<u8> {
    let settings = &context.settings;
    let coordinator = start(settings, args.listen).await?;
    let others = match (&settings.url, args.listen.unwrap_or(settings.listen)) {
        (Some(url), _) => format!(", for others at {url}"),
        (None, listen) if listen.ip().is_unspecified() => {
            format!(
                ", for others by one of this host's addresses, such as {}: name it as `coordinator.url`",
                host_name()
            )
        }
        _ => String::new(),
    };
    print::talk(format_args!("coordinator at {}{others}", coordinator.url()));
    signal().await?;
    stop(settings, coordinator).await;
    Ok(exit::DONE)
}

/// Stops a coordinator, and takes its note of where it listens away.
pub(super) async fn stop(settings: &Settings, coordinator: Coordinator) {
    coordinator.shutdown().await;
    // Mostly there is none.
    let _ = fs_err::remove_file(settings.address_note());
}

/// Starts a coordinator with this machine's settings.
pub(super) async fn start(settings: &Settings, listen: Option<SocketAddr>) -> anyhow::Result<Coordinator> {
    let state = &settings.state;
    fs_err::create_dir_all(state)?;
    let security =
        Security { tokens: settings.tokens, tls: settings.tls.clone(), trusted_proxy: settings.trusted_proxy };
    let options = Options {
        listen: listen.unwrap_or(settings.listen),
        database: settings.database(),
        artefacts: state.join("artefacts"),
        known: settings.known()?,
        policy: Policy::default(),
        limits: settings.limits,
        retention: settings.retention,
        security,
        webhooks: settings.webhooks()?,
        pilots: Some(settings.pilots.clone()),
        output_root: Some(settings.output.clone()),
        pins: settings.pins.clone(),
    };
    let coordinator = Coordinator::start(options).await?;
    let note = settings.address_note();
    let noted = if listen.is_some_and(|listen| listen != settings.listen) && settings.url.is_none() {
        fs_err::write(note, own_url(settings, &coordinator))
    } else if note.exists() {
        // Of one that was killed.
        fs_err::remove_file(note)
    } else {
        Ok(())
    };
    if let Err(error) = noted {
        tracing::warn!("commands with these settings may not find this coordinator without `--coordinator`: {error}");
    }
    Ok(coordinator)
}

/// Where this machine finds the coordinator that it has started: by the name in its certificate, if it has one.
pub(super) fn own_url(settings: &Settings, coordinator: &Coordinator) -> String {
    match &settings.url {
        Some(url) if settings.tls.is_some() => url.trim_end_matches('/').to_owned(),
        _ => coordinator.url(),
    }
}

/// Waits for Ctrl-C or SIGTERM; gives the exit code of who ends by it before everything is done.
pub(super) async fn signal() -> anyhow::Result<u8> {
    let mut terminate = unix_signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.context("can't listen for Ctrl-C").map(|()| exit::INTERRUPTED),
        _ = terminate.recv() => Ok(exit::TERMINATED),
    }
}
