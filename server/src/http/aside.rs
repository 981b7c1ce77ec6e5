//! Work that takes a processor's time: off the threads that answer.

use super::problem::ApiError;

/// Works aside, and waits for it.
pub(super) async fn work<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::Internal(error.into()))
}
