//! A wire between a worker and its coordinator, on which a test listens and answers can get lost.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::Coordinator;

pub(crate) struct Wire {
    address: SocketAddr,
    state: Arc<State>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    loses_answers: AtomicBool,
    sent: Mutex<Vec<u8>>,
}

impl Wire {
    pub(crate) async fn to(coordinator: &Coordinator) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        let (far_end, shared) = (coordinator.address(), Arc::clone(&state));
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, far_end, Arc::clone(&shared)));
            }
        });
        Self { address, state, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What went to the coordinator so far.
    pub(crate) fn sent(&self) -> Vec<u8> {
        self.state.sent.lock().unwrap().clone()
    }

    /// Requests still arrive, but a connection breaks when the answer comes.
    pub(crate) fn lose_answers(&self) {
        self.state.loses_answers.store(true, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.state.loses_answers.store(false, Ordering::SeqCst);
    }
}

/// Carries one connection until either end is gone.
async fn carry(near: TcpStream, far_end: SocketAddr, state: Arc<State>) {
    let Ok(far) = TcpStream::connect(far_end).await else { return };
    let ((mut asks, mut hears), (mut answers, mut is_asked)) = (near.into_split(), far.into_split());
    let asking = async {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = asks.read(&mut bytes).await {
            state.sent.lock().unwrap().extend_from_slice(&bytes[..count]);
            if is_asked.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let answering = async {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = answers.read(&mut bytes).await {
            if state.loses_answers.load(Ordering::SeqCst) || hears.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = asking => {}
        () = answering => {}
    }
}
