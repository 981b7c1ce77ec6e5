//! Starting and stopping.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::serve::ListenerExt;
use promptfield_core::chain::chain;
use promptfield_core::experiment::Known;
use promptfield_core::scheduler::{Policy, Scheduler};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::artefacts::Artefacts;
use crate::clock::Clock;
use crate::http;
use crate::store::{Reader, Store, StoreError};
use crate::writer::Writer;

/// How long requests in progress may take when the coordinator stops.
const GRACE: Duration = Duration::from_secs(5);

/// What a coordinator needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The database file; it and its folder are made if there is none. A lock and the files that `SQLite` makes lie beside it.
    pub database: PathBuf,
    /// The folder of the artefacts, made if there is none.
    pub artefacts: PathBuf,
    /// The names that experiments may use.
    pub known: Known,
    /// The scheduler's numbers.
    pub policy: Policy,
}

/// Why a coordinator didn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another coordinator has the database, or it can't be opened, is damaged, or was written by a later version.
    #[error("can't use the database `{}`", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The artefacts' folder can't be used.
    #[error("can't use the artefacts' folder `{}`", path.display())]
    Artefacts {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}: choose another address, or stop whoever has it")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A running coordinator. Dropping it begins to stop it; [`Coordinator::shutdown`] also waits.
#[derive(Debug)]
pub struct Coordinator {
    address: SocketAddr,
    stop: DropGuard,
    server: JoinHandle<io::Result<()>>,
    writer: JoinHandle<()>,
    reader: Reader,
    /// Ends the writer when no more requests are wanted.
    close: CancellationToken,
}

impl Coordinator {
    /// Opens the database, rebuilds the state, and listens. When this returns, requests are answered.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { listen, database, artefacts, known, policy } = options;
        let unusable = |source: StoreError| StartError::Database { path: database.clone(), source: source.into() };
        let mut store = Store::open(&database).await.map_err(unusable)?;
        let rows = store.load().await.map_err(unusable)?;
        let reader = Reader::open(&database).await.map_err(unusable)?;
        let artefacts = Artefacts::open(artefacts.clone())
            .await
            .map_err(|source| StartError::Artefacts { path: artefacts, source: source.into() })?;
        let listener =
            TcpListener::bind(listen).await.map_err(|source| StartError::Listen { address: listen, source })?;
        let address = listener.local_addr().map_err(|source| StartError::Listen { address: listen, source })?;
        let clock = Clock::start();
        let (jobs, experiments) = (rows.jobs.len(), rows.experiments.len());
        let scheduler = Scheduler::restore(policy, rows, clock.now());
        tracing::info!(%address, jobs, experiments, "listening on {address}, with {jobs} jobs of {experiments} experiments");
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());
        let (writer, writer_task) = Writer::start(store, scheduler, policy, clock, stop.clone(), close.clone());
        let app =
            http::App { writer, reader: reader.clone(), artefacts, known: known.into(), policy, stop: stop.clone() };
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(error = chain(&error), "can't send small packets at once");
            }
        });
        let server = axum::serve(listener, http::router(app)).with_graceful_shutdown(stop.clone().cancelled_owned());
        let server = tokio::spawn(server.into_future());
        Ok(Self { address, stop: stop.drop_guard(), server, writer: writer_task, reader, close })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops in bounded time: no new connections, waiting workers and followers of events are sent home at once, requests in
    /// progress get a few seconds, and what was answered is on the disk.
    pub async fn shutdown(self) {
        let Self { address, stop, mut server, writer, reader, close } = self;
        drop(stop);
        if tokio::time::timeout(GRACE, &mut server).await.is_err() {
            tracing::warn!("requests that took longer than {} s were cut off", GRACE.as_secs());
            server.abort();
        }
        // The writer's connection is the last to close, and takes SQLite's write-ahead log with it.
        reader.close().await;
        close.cancel();
        if let Err(error) = writer.await {
            tracing::error!(error = chain(&error), "the writer ended badly");
        }
        tracing::info!(%address, "stopped");
    }
}
