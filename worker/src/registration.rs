//! The worker's identifier at the coordinator.
//!
//! It changes when the coordinator has given the worker up. Registering under a name ends the registration before it, so
//! that of several slots which notice at the same time only one may register.

use promptfield_core::id::WorkerId;
use promptfield_core::scheduler::WorkerDescription;
use promptfield_core::wire::api::Registered;
use tokio::sync::Mutex;

use crate::coordinator::{Coordinator, Rejected};
use crate::pilot::Deadline;

/// A worker that the coordinator knows.
#[derive(Debug)]
pub(crate) struct Registration {
    description: WorkerDescription,
    current: Mutex<WorkerId>,
}

impl Registration {
    /// Registers. Waits for as long as the coordinator is out of reach. Also gives its answer.
    pub(crate) async fn new(
        coordinator: &Coordinator,
        description: WorkerDescription,
        deadline: &Deadline,
    ) -> Result<(Self, Registered), Rejected> {
        let registered = register(coordinator, &description, deadline).await?;
        Ok((Self { description, current: Mutex::new(registered.worker) }, registered))
    }

    /// The identifier; waits while it's being renewed.
    pub(crate) async fn current(&self) -> WorkerId {
        *self.current.lock().await
    }

    /// Registers anew, unless that has been done since `unknown` was the identifier. Waits for as long as the coordinator is
    /// out of reach.
    pub(crate) async fn renew(
        &self,
        coordinator: &Coordinator,
        deadline: &Deadline,
        unknown: WorkerId,
        reason: &str,
    ) -> Result<(), Rejected> {
        let mut current = self.current.lock().await;
        if *current == unknown {
            tracing::warn!(worker = %unknown, "{reason}");
            *current = register(coordinator, &self.description, deadline).await?.worker;
        }
        Ok(())
    }
}

async fn register(
    coordinator: &Coordinator,
    description: &WorkerDescription,
    deadline: &Deadline,
) -> Result<Registered, Rejected> {
    let call = async || {
        let time_left_ms = deadline.left_ms();
        coordinator.client.register(&WorkerDescription { time_left_ms, ..description.clone() }).await
    };
    let registered = coordinator.until_answered(call).await?;
    let worker = registered.worker;
    tracing::info!(%worker, name = description.name, "registered as worker {worker}");
    Ok(registered)
}
