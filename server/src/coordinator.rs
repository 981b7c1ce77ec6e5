//! Starting and stopping.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use promptfield_core::chain::chain;
use promptfield_core::experiment::Known;
use promptfield_core::job::spec::BasisHash;
use promptfield_core::scheduler::pilot_records::{PoolSettings, PoolState};
use promptfield_core::scheduler::{Command, Policy, Scheduler};
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::artefacts::Artefacts;
use crate::clock::Clock;
use crate::http;
use crate::launch::keeper::Keeper;
use crate::launch::{Launcher, Launchers, PilotOptions, Site, TokenFile};
use crate::limits::{Gate, Limits, Rate};
use crate::listener::{Bounds, Server, most_connections};
use crate::loads::Loads;
use crate::metrics::Metrics;
use crate::retention::Retention;
use crate::room::Room;
use crate::store::{Reader, Store, StoreError, network_file_system};
use crate::tls::Tls;
use crate::tokens::Tokens;
use crate::upkeep::Upkeep;
use crate::webhooks::{Courier, Webhook};
use crate::writer::{Setup, Signals, WriteError, Writer};

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
    /// How much is taken on at once.
    pub limits: Limits,
    /// What is kept for how long.
    pub retention: Retention,
    /// Who may ask.
    pub security: Security,
    /// Who is told what happens.
    pub webhooks: Vec<Webhook>,
    /// What workers are started with on demand; `None` if none are.
    pub pilots: Option<PilotOptions>,
    /// The output root of this machine, where it has one: workers with the same one are told so.
    pub output_root: Option<PathBuf>,
    /// The identities that the settings pin backbones' names to. What a name is pinned to already stays: another pin is a command.
    pub pins: BTreeMap<String, BasisHash>,
}

/// Who may ask a coordinator, and how it's asked.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// When a token is needed.
    pub tokens: TokenRule,
    /// For HTTPS; without it, HTTP.
    pub tls: Option<Tls>,
    /// The proxy that is let through where no token is needed: it knows itself who may ask.
    pub trusted_proxy: Option<IpAddr>,
}

/// When a token is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenRule {
    /// Unless the coordinator listens on a loopback address, where only this machine's users can ask it.
    #[default]
    LoopbackFree,
    /// Always.
    Required,
}

impl TokenRule {
    fn requires_tokens(self, listen: SocketAddr) -> bool {
        self == Self::Required || !listen.ip().is_loopback()
    }
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
    /// The place for copies of the database can't be used.
    #[error("can't use the folder for copies of the database beside `{}`", database.display())]
    Copies {
        /// The database.
        database: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Certificate and key can't be used.
    #[error("can't use the certificate `{}` with its key", certificate.display())]
    Tls {
        /// The certificate.
        certificate: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody could be answered.
    #[error(
        "listening on {address} needs a token, and there is none that is valid: make one with \
         `promptfield token create NAME --scope admin`, or listen on 127.0.0.1 without tokens"
    )]
    NoToken {
        /// The address.
        address: SocketAddr,
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
    is_https: bool,
    stop: DropGuard,
    server: JoinHandle<()>,
    writer: JoinHandle<()>,
    /// Kept until the readers are closed: the writer ends when nobody can ask it any more.
    requests: Writer,
    upkeep: JoinHandle<()>,
    couriers: JoinSet<()>,
    keepers: JoinSet<()>,
    reader: Reader,
    /// Ends the writer when no more requests are wanted.
    close: CancellationToken,
}

impl Coordinator {
    /// Opens the database, rebuilds the state, and listens. When this returns, requests are answered.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options {
            listen,
            database,
            artefacts,
            known,
            policy,
            limits,
            retention,
            security,
            webhooks,
            pilots,
            output_root,
            pins,
        } = options;
        let policy = Policy { methods: Arc::clone(&known.methods), ..policy };
        let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let room = Room {
            folders: vec![("database", folder.to_owned()), ("artefacts", artefacts.clone())],
            least: limits.least_room,
        };
        let unusable = |source: StoreError| StartError::Database { path: database.clone(), source: source.into() };
        let unusable_now = |source: WriteError| StartError::Database { path: database.clone(), source: source.into() };
        let acceptor = security.tls.map(|tls| {
            tls.acceptor().map_err(|source| StartError::Tls { certificate: tls.certificate, source: source.into() })
        });
        let acceptor = acceptor.transpose()?;
        outlive_file_limits();
        let mut store = Store::open(&database).await.map_err(unusable)?;
        if let Some(network) = network_file_system(&database) {
            tracing::warn!(
                "the database lies on {network}, which doesn't keep SQLite's promises: name a folder on a disk of this machine \
                 as `coordinator.state`"
            );
        }
        let rows = store.load().await.map_err(unusable)?;
        let tokens = Tokens::new(store.load_tokens().await.map_err(unusable)?);
        let instance = store.instance().await.map_err(unusable)?;
        let took = store.durations().await.map_err(unusable)?;
        let clock = Clock::start();
        let tokens_required = security.tokens.requires_tokens(listen);
        if tokens_required && !tokens.list().iter().any(|token| token.is_valid(clock.now())) {
            return Err(StartError::NoToken { address: listen });
        }
        let reader = Reader::open(&database).await.map_err(unusable)?;
        let copies = http::Copies::beside(&database)
            .await
            .map_err(|source| StartError::Copies { database: database.clone(), source })?;
        let artefacts = Artefacts::open(artefacts.clone())
            .await
            .map_err(|source| StartError::Artefacts { path: artefacts, source: source.into() })?;
        let listener =
            TcpListener::bind(listen).await.map_err(|source| StartError::Listen { address: listen, source })?;
        let address = listener.local_addr().map_err(|source| StartError::Listen { address: listen, source })?;
        let (jobs, experiments) = (rows.jobs.len(), rows.experiments.len());
        let mut scheduler = Scheduler::restore(policy.clone(), rows, clock.now());
        scheduler.recall(&took);
        tracing::info!(%address, jobs, experiments, "listening on {address}, with {jobs} jobs of {experiments} experiments");
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());
        let signals = Signals { stop: stop.clone(), close: close.clone() };
        let metrics = Metrics::new();
        let setup =
            Setup { policy: policy.clone(), limits, clock, tokens: tokens.clone(), metrics: metrics.clone(), signals };
        let (writer, writer_task) = Writer::start(store, scheduler, setup);
        let upkeep = Upkeep {
            writer: writer.clone(),
            reader: reader.clone(),
            tokens: tokens.clone(),
            retention,
            clock,
            metrics: metrics.clone(),
            stop: stop.clone(),
        };
        let couriers = webhooks.into_iter().map(|webhook| Courier {
            webhook,
            reader: reader.clone(),
            writer: writer.clone(),
            clock,
            stop: stop.clone(),
        });
        let couriers: JoinSet<()> = couriers.map(Courier::run).collect();
        let upkeep = tokio::spawn(upkeep.run());
        let requests = writer.clone();
        pin_backbones(&writer, pins).await.map_err(unusable_now)?;
        if let Some(pilots) = &pilots {
            set_pools(&writer, &pilots.pools).await.map_err(unusable_now)?;
        }
        let marker = output_root.and_then(|root| mark(&root, &instance));
        let is_https = acceptor.is_some();
        let (launchers, keepers) = match pilots {
            None => (Launchers::none(), JoinSet::new()),
            Some(pilots) => {
                let token = match pilots.token_file {
                    Some(path) => TokenFile::Given(path),
                    None if tokens_required => TokenFile::Own(pilots.folder.join("token")),
                    None => TokenFile::None,
                };
                let site = Arc::new(Site {
                    instance,
                    program: pilots.program,
                    settings: pilots.settings,
                    is_known_elsewhere: pilots.url.is_some() || !address.ip().is_unspecified(),
                    url: pilots.url.unwrap_or_else(|| url_here(is_https, address)),
                    token,
                    folder: pilots.folder,
                });
                let launchers = Launchers::new(&site, pilots.look_every);
                let keeper = |launcher: &Arc<dyn Launcher>| Keeper {
                    launcher: Arc::clone(launcher),
                    site: Arc::clone(&site),
                    writer: writer.clone(),
                    tokens: tokens.clone(),
                    clock,
                    beat: pilots.beat,
                    stop: stop.clone(),
                };
                let keepers = launchers.iter().map(keeper).map(Keeper::run).collect();
                (launchers, keepers)
            }
        };
        let most = most_connections(limits.connections);
        if most < limits.connections {
            tracing::info!(most, "at most {most} connections at once, since this process may have no more files open");
        }
        let bounds =
            Bounds { most, patience: limits.patience, cut_off: metrics.cut_off(), turned_away: metrics.turned_away() };
        let app = http::App {
            writer,
            reader: reader.clone(),
            artefacts,
            known: known.into(),
            policy,
            metrics,
            registrations: Rate::new(limits.registrations),
            streams: Gate::new(limits.streams),
            heartbeat: limits.heartbeat,
            patience: limits.patience,
            room,
            loads: Loads::default(),
            tokens,
            copies,
            launchers,
            marker,
            tokens_required,
            trusted_proxy: security.trusted_proxy,
            clock,
            stop: stop.clone(),
        };
        let server = Server { listener, acceptor, router: http::router(app), bounds, stop: stop.clone() };
        let server = tokio::spawn(server.run());
        let (stop, writer) = (stop.drop_guard(), writer_task);
        Ok(Self { address, is_https, stop, server, writer, requests, upkeep, couriers, keepers, reader, close })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is found on this machine.
    pub fn url(&self) -> String {
        url_here(self.is_https, self.address)
    }

    /// Stops in bounded time: no new connections, waiting workers and followers of events are sent home at once, requests in
    /// progress get a few seconds, and what was answered is on the disk.
    pub async fn shutdown(self) {
        let Self { address, is_https: _, stop, mut server, writer, requests, upkeep, couriers, keepers, reader, close } =
            self;
        drop(stop);
        if tokio::time::timeout(GRACE, &mut server).await.is_err() {
            tracing::warn!("requests that took longer than {} s were cut off", GRACE.as_secs());
            server.abort();
        }
        if let Err(error) = upkeep.await {
            tracing::error!(error = chain(&error), "the upkeep ended badly");
        }
        couriers.join_all().await;
        keepers.join_all().await;
        // The writer's connection is the last to close, and takes SQLite's write-ahead log with it.
        reader.close().await;
        close.cancel();
        drop(requests);
        if let Err(error) = writer.await {
            tracing::error!(error = chain(&error), "the writer ended badly");
        }
        tracing::info!(%address, "stopped");
    }
}

/// Where who listens on an address is found on the same machine: an address that stands for all is none to call.
pub fn url_here(is_https: bool, listen: SocketAddr) -> String {
    let ip = match listen.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        _ => listen.ip(),
    };
    format!("{}://{}", if is_https { "https" } else { "http" }, SocketAddr::new(ip, listen.port()))
}

/// Has a write beyond the limit on a file's size fail, as on a full disk, instead of ending the process.
fn outlive_file_limits() {
    let signal = SignalKind::from_raw(Signal::XFSZ.as_raw());
    // It needs no listener: that somebody has asked for the signal is enough.
    if let Err(error) = tokio::signal::unix::signal(signal) {
        tracing::debug!(error = chain(&error), "a limit on the size of files would end the coordinator");
    }
}

/// Pins the backbones that the settings pin and nothing has pinned yet.
async fn pin_backbones(writer: &Writer, pins: BTreeMap<String, BasisHash>) -> Result<(), WriteError> {
    let pinned = writer.look(|scheduler, _| scheduler.pins().clone()).await?;
    for (backbone, sha256) in pins {
        match pinned.get(&backbone) {
            None => drop(writer.apply(Command::Pin { backbone, sha256 }).await?),
            Some(other) if *other != sha256 => tracing::warn!(
                "the settings say `backbones.{backbone}.sha256` = {sha256}, and it is pinned to {other}: \
                 `promptfield pin {backbone} {sha256}` changes that, and makes what rests on the other one stale"
            ),
            Some(_) => {}
        }
    }
    Ok(())
}

/// Has the pools that the settings file names, and those that it named earlier no more.
async fn set_pools(writer: &Writer, pools: &BTreeMap<String, PoolSettings>) -> Result<(), WriteError> {
    for (name, settings) in pools {
        let (name, settings) = (name.clone(), Box::new(settings.clone()));
        writer.apply(Command::SetPool { name, settings, from_file: true }).await?;
    }
    let known = writer.look(|scheduler, _| {
        let from_file = scheduler.pools().filter(|pool| pool.from_file && pool.state != PoolState::Off);
        from_file.map(|pool| pool.name.clone()).collect::<Vec<_>>()
    });
    for name in known.await?.into_iter().filter(|name| !pools.contains_key(name)) {
        writer.apply(Command::EndPool(name)).await?;
    }
    Ok(())
}

/// Makes the file by which workers find out that they have the same output root; gives its path below that.
fn mark(root: &Path, instance: &str) -> Option<String> {
    let marker = format!(".promptfield/{instance}");
    let path = root.join(&marker);
    let made = path.parent().map_or(Ok(()), fs_err::create_dir_all).and_then(|()| fs_err::write(&path, ""));
    match made {
        Ok(()) => Some(marker),
        Err(error) => {
            tracing::debug!("workers can't find out whether they have this machine's output root: {error}");
            None
        }
    }
}
