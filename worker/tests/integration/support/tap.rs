//! A way to the coordinator on which a test listens.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Coordinator;

/// Passes everything on, and keeps what goes to the coordinator.
pub(crate) struct Tap {
    pub(crate) url: String,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    pub(crate) async fn on(coordinator: &Coordinator) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tap = Self { url: format!("http://{}", listener.local_addr().unwrap()), sent: Arc::default() };
        let (sent, coordinator) = (tap.sent.clone(), coordinator.url().strip_prefix("http://").unwrap().to_owned());
        tokio::spawn(async move {
            while let Ok((worker, _)) = listener.accept().await {
                let server = TcpStream::connect(&coordinator).await.unwrap();
                tokio::spawn(pass_on(worker, server, sent.clone()));
            }
        });
        tap
    }

    /// What went to the coordinator so far.
    pub(crate) fn sent(&self) -> Vec<u8> {
        self.sent.lock().unwrap().clone()
    }
}

async fn pass_on(worker: TcpStream, server: TcpStream, sent: Arc<Mutex<Vec<u8>>>) {
    let (mut from_worker, mut to_worker) = worker.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(bytes @ 1..) = from_worker.read(&mut buffer).await {
            sent.lock().unwrap().extend_from_slice(&buffer[..bytes]);
            if to_server.write_all(&buffer[..bytes]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = there => {}
        _ = tokio::io::copy(&mut from_server, &mut to_worker) => {}
    }
}
