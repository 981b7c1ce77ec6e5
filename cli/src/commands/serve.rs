//! `serve`: a coordinator.

use std::net::SocketAddr;

use anyhow::Context as _;
use promptfield_core::scheduler::Policy;
use promptfield_server::{Coordinator, Options, Security};
use tokio::signal::unix::{SignalKind, signal as unix_signal};

use super::Context;
use crate::args::ServeArgs;
use crate::settings::Settings;
use crate::{exit, print};

pub(super) async fn serve(context: &Context, args: &ServeArgs) -> anyhow::Result<u8> {
    let coordinator = start(&context.settings, args.listen).await?;
    print::talk(format_args!("coordinator at {}", coordinator.url()));
    signal().await?;
    coordinator.shutdown().await;
    Ok(exit::DONE)
}

/// Starts a coordinator with this machine's settings.
pub(super) async fn start(settings: &Settings, listen: Option<SocketAddr>) -> anyhow::Result<Coordinator> {
    let state = &settings.state;
    fs_err::create_dir_all(state)?;
    let security = Security { tokens: settings.tokens, tls: settings.tls.clone() };
    let options = Options {
        listen: listen.unwrap_or(settings.listen),
        database: settings.database(),
        artefacts: state.join("artefacts"),
        known: settings.known()?,
        policy: Policy { speculation: settings.speculation, ..Policy::default() },
        limits: settings.limits,
        retention: settings.retention,
        security,
        webhooks: settings.webhooks()?,
        pilots: Some(settings.pilots.clone()),
        output_root: Some(settings.output.clone()),
        pins: settings.pins.clone(),
    };
    Ok(Coordinator::start(options).await?)
}

/// Where this machine finds the coordinator that it has started: by the name in its certificate, if it has one.
pub(super) fn own_url(settings: &Settings, coordinator: &Coordinator) -> String {
    match &settings.url {
        Some(url) if settings.tls.is_some() => url.trim_end_matches('/').to_owned(),
        _ => coordinator.url(),
    }
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn signal() -> anyhow::Result<()> {
    let mut terminate = unix_signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.context("can't listen for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}
