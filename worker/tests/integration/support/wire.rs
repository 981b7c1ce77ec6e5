//! A wire between a worker and its coordinator on which answers can get lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::Coordinator;

pub(crate) struct Wire {
    address: SocketAddr,
    loses_answers: Arc<AtomicBool>,
    _task: AbortOnDropHandle<()>,
}

impl Wire {
    pub(crate) async fn to(coordinator: &Coordinator) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, loses_answers) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let (far_end, loses) = (coordinator.address(), Arc::clone(&loses_answers));
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, far_end, Arc::clone(&loses)));
            }
        });
        Self { address, loses_answers, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests still arrive, but a connection breaks when the answer comes.
    pub(crate) fn lose_answers(&self) {
        self.loses_answers.store(true, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.loses_answers.store(false, Ordering::SeqCst);
    }
}

/// Carries one connection until either end is gone.
async fn carry(near: TcpStream, far_end: SocketAddr, loses_answers: Arc<AtomicBool>) {
    let Ok(far) = TcpStream::connect(far_end).await else { return };
    let ((mut asks, mut hears), (mut answers, mut is_asked)) = (near.into_split(), far.into_split());
    let answering = async {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = answers.read(&mut bytes).await {
            if loses_answers.load(Ordering::SeqCst) || hears.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = copy(&mut asks, &mut is_asked) => {}
        () = answering => {}
    }
}
