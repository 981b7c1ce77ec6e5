//! Connections: how many there are, and how long a silent one is waited for.
//!
//! Whoever can reach the socket can open connections, with or without a token. So each costs little until it has shown something,
//! none is waited for without end, and there are never more than leave the coordinator files for its own work. When there are as
//! many as there may be, the oldest that was of no use yet makes room for the next.
//!
//! What is sent to a client is made as it is taken: a follower of events has a page of them in memory, and what fits into the
//! connection's buffers. A client that stops reading so costs little; here it's also not waited for without end.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::serve::Listener;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use promptfield_core::chain::chain;
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::tls::shake_hands;

/// The most bytes that are read before they're looked at, and so of a request's head.
const BUFFER: usize = 32 << 10;

/// Files that the coordinator needs for itself: the database's, artefacts, what it asks others.
const OWN_FILES: u64 = 56;

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// No request of it was answered.
    New,
    /// A request was answered.
    Answered,
    /// It showed that it may ask for something.
    Known,
}

/// What has been seen of a connection, for those who deal with its requests. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Who is at its other end.
    pub(crate) address: IpAddr,
    rank: Arc<AtomicU8>,
}

impl Peer {
    fn new(address: IpAddr) -> Self {
        Self { address, rank: Arc::new(AtomicU8::new(Rank::New as u8)) }
    }

    /// Its token is valid, or none is needed.
    pub(crate) fn is_known(&self) {
        self.rank.fetch_max(Rank::Known as u8, Ordering::Relaxed);
    }

    fn was_answered(&self) {
        self.rank.fetch_max(Rank::Answered as u8, Ordering::Relaxed);
    }

    fn rank(&self) -> Rank {
        match self.rank.load(Ordering::Relaxed) {
            0 => Rank::New,
            1 => Rank::Answered,
            _ => Rank::Known,
        }
    }
}

/// What connections are bounded by, and what counts those that were ended.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// The most connections.
    pub(crate) most: usize,
    pub(crate) patience: Duration,
    /// Those whose client took nothing for too long.
    pub(crate) cut_off: Counter,
    /// Those that made room, and those for which there was none.
    pub(crate) turned_away: Counter,
}

/// As many connections as were asked for, or as this process may have files for.
pub(crate) fn most_connections(wanted: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current;
    let left = files.map_or(usize::MAX, |files| {
        let own = OWN_FILES.max(files / 8).min(files / 2);
        usize::try_from(files - own).unwrap_or(usize::MAX)
    });
    wanted.min(left).max(1)
}

/// Accepts connections and attends to them. Dropping what [`Server::run`] returns ends all of them.
pub(crate) struct Server {
    pub(crate) listener: TcpListener,
    pub(crate) acceptor: Option<TlsAcceptor>,
    pub(crate) router: Router,
    pub(crate) bounds: Bounds,
    /// No more connections are accepted, and those that there are end after the request that they are at.
    pub(crate) stop: CancellationToken,
}

impl Server {
    /// Ends when it's told to stop and the last connection has ended.
    pub(crate) async fn run(self) {
        let Self { mut listener, acceptor, router, bounds, stop } = self;
        let mut open = Open::default();
        loop {
            let (stream, address) = tokio::select! {
                accepted = Listener::accept(&mut listener) => accepted,
                Some(ended) = open.tasks.join_next() => {
                    open.forget(ended);
                    continue;
                }
                () = stop.cancelled() => break,
            };
            if open.tasks.len() >= bounds.most {
                bounds.turned_away.inc();
                if !open.make_room(bounds.most).await {
                    continue;
                }
            }
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(error = chain(&error), "can't send small packets at once");
            }
            let peer = Peer::new(address.ip().to_canonical());
            let attendant =
                Attendant { router: router.clone(), peer: peer.clone(), bounds: bounds.clone(), stop: stop.clone() };
            open.add(peer, attendant.attend(stream, acceptor.clone()));
        }
        drop(listener);
        while open.tasks.join_next().await.is_some() {}
    }
}

/// The connections that there are, by their age.
#[derive(Default)]
struct Open {
    tasks: JoinSet<u64>,
    connections: BTreeMap<u64, (Peer, AbortHandle)>,
    next: u64,
}

impl Open {
    fn add(&mut self, peer: Peer, attend: impl Future<Output = ()> + Send + 'static) {
        let number = self.next;
        self.next += 1;
        let task = self.tasks.spawn(async move {
            attend.await;
            number
        });
        self.connections.insert(number, (peer, task));
    }

    fn forget(&mut self, ended: Result<u64, JoinError>) {
        match ended {
            Ok(number) => drop(self.connections.remove(&number)),
            Err(_) => self.connections.retain(|_, (_, task)| !task.is_finished()),
        }
    }

    /// Ends the oldest connection of those of which the least is known; `false` if all may ask for something.
    async fn make_room(&mut self, most: usize) -> bool {
        while self.tasks.len() >= most {
            let others = self.connections.iter().map(|(number, (peer, _))| (peer.rank(), *number));
            let Some((_, number)) = others.filter(|(rank, _)| *rank != Rank::Known).min() else { return false };
            if let Some((_, task)) = self.connections.remove(&number) {
                task.abort();
            }
            if let Some(ended) = self.tasks.join_next().await {
                self.forget(ended);
            }
        }
        true
    }
}

/// Deals with one connection.
struct Attendant {
    router: Router,
    peer: Peer,
    bounds: Bounds,
    stop: CancellationToken,
}

impl Attendant {
    async fn attend(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        match acceptor {
            None => self.serve(stream).await,
            Some(acceptor) => {
                if let Some(stream) = shake_hands(acceptor, stream, self.peer.address).await {
                    self.serve(stream).await;
                }
            }
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Self { router, peer, bounds: Bounds { patience, cut_off, .. }, stop } = self;
        let stream = Connection { stream, patience, stalled: None, cut_off };
        let router = TowerToHyperService::new(router);
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let (answer, peer) = (router.call(request), peer.clone());
            answer.inspect(move |_| peer.was_answered())
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(BUFFER);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(peer = %peer.address, error = chain(&error), "a connection ended");
        }
    }
}

/// A connection with a limit on how long a write may take nothing.
#[derive(Debug)]
struct Connection<S> {
    stream: S,
    patience: Duration,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    cut_off: Counter,
}

impl<S> Connection<S> {
    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        self.stalled = None;
        self.cut_off.inc();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client took nothing for too long")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
