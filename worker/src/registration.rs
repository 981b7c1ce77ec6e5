//! The worker's identifier at the coordinator.
//!
//! It changes when the coordinator has given the worker up. Registering under a name ends the registration before it, so
//! that of several slots which notice at the same time only one may register.

use promptfield_core::id::WorkerId;
use promptfield_core::scheduler::WorkerDescription;
use tokio::sync::Mutex;

use crate::client::{Client, Rejected};

/// A worker that the coordinator knows.
#[derive(Debug)]
pub(crate) struct Registration {
    description: WorkerDescription,
    current: Mutex<WorkerId>,
}

impl Registration {
    /// Registers. Waits for as long as the coordinator is out of reach.
    pub(crate) async fn new(client: &Client, description: WorkerDescription) -> Result<Self, Rejected> {
        let worker = register(client, &description).await?;
        Ok(Self { description, current: Mutex::new(worker) })
    }

    /// The identifier; waits while it's being renewed.
    pub(crate) async fn current(&self) -> WorkerId {
        *self.current.lock().await
    }

    /// Registers anew, unless that has been done since `unknown` was the identifier. Waits for as long as the coordinator is
    /// out of reach.
    pub(crate) async fn renew(&self, client: &Client, unknown: WorkerId, reason: &str) -> Result<(), Rejected> {
        let mut current = self.current.lock().await;
        if *current == unknown {
            tracing::warn!(worker = %unknown, "{reason}");
            *current = register(client, &self.description).await?;
        }
        Ok(())
    }
}

async fn register(client: &Client, description: &WorkerDescription) -> Result<WorkerId, Rejected> {
    let worker = client.until_answered(|| client.register(description)).await?.worker;
    tracing::info!(%worker, name = description.name, "registered as worker {worker}");
    Ok(worker)
}
