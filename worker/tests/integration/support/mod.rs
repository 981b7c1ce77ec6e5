//! The coordinator, the hosts and the puppet trainers of the tests.

use std::time::Duration;

pub(crate) mod coordinator;
pub(crate) mod host;
pub(crate) mod puppet;
pub(crate) mod wire;

pub(crate) use coordinator::Coordinator;
pub(crate) use host::Host;
pub(crate) use puppet::evaluation;
pub(crate) use wire::Wire;

/// The value of something that must happen, or a failed test instead of one that hangs.
pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), event).await.expect("it did not happen within 30 seconds")
}
