//! `serve`: a coordinator.

use std::net::SocketAddr;

use anyhow::Context as _;
use promptfield_core::scheduler::Policy;
use promptfield_server::{Coordinator, Limits, Options};
use tokio::signal::unix::{SignalKind, signal as unix_signal};

use super::Context;
use crate::args::ServeArgs;
use crate::exit;
use crate::settings::Settings;

pub(super) async fn serve(context: &Context, args: &ServeArgs) -> anyhow::Result<u8> {
    let coordinator = start(&context.settings, args.listen).await?;
    anstream::eprintln!("coordinator at http://{}", coordinator.address());
    signal().await?;
    coordinator.shutdown().await;
    Ok(exit::DONE)
}

/// Starts a coordinator with this machine's settings.
pub(super) async fn start(settings: &Settings, listen: Option<SocketAddr>) -> anyhow::Result<Coordinator> {
    let state = &settings.state;
    fs_err::create_dir_all(state)?;
    let options = Options {
        listen: listen.unwrap_or(settings.listen),
        database: state.join("promptfield.db"),
        artefacts: state.join("artefacts"),
        known: settings.known()?,
        policy: Policy::default(),
        limits: Limits::default(),
    };
    Ok(Coordinator::start(options).await?)
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn signal() -> anyhow::Result<()> {
    let mut terminate = unix_signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    tokio::select! {
        interrupt = tokio::signal::ctrl_c() => interrupt.context("can't listen for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}
