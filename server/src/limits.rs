//! How much at once: whoever comes above these bounds is told to come again, and nothing waits without one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a coordinator takes on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that wait for the writer.
    pub inbox: usize,
    /// Workers that wait for jobs.
    pub waiting: usize,
    /// Open streams: followers of the events and of logs.
    pub streams: usize,
    /// Registrations of workers in a minute.
    pub registrations: u32,
    /// Connections, or as many as the limit on open files permits.
    pub connections: usize,
    /// How often a quiet stream sends a comment, which keeps proxies from cutting it and finds dead connections.
    pub heartbeat: Duration,
    /// How long a client may take nothing of what is sent to it, or send nothing of a request, before its connection is ended.
    pub patience: Duration,
    /// The least free space in bytes, on the disks of the database and of the artefacts, with which the coordinator is ready.
    pub least_room: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inbox: 4096,
            waiting: 4096,
            streams: 1024,
            registrations: 600,
            connections: 8192,
            heartbeat: Duration::from_secs(15),
            patience: Duration::from_secs(30),
            least_room: 64 << 20,
        }
    }
}

/// Lets so many in, and no more. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    size: usize,
}

/// All places are taken.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{size} streams are open, which is the most at once")]
pub(crate) struct Full {
    size: usize,
}

impl Gate {
    pub(crate) fn new(size: usize) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(size)), size }
    }

    /// Takes a place, which is free again when what this returns is dropped.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit, Full> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| Full { size: self.size })
    }
}

/// Lets so many in within a minute, and no more. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Rate {
    most: u32,
    /// When the minute began, and how many have come since.
    minute: Arc<Mutex<(Instant, u32)>>,
}

/// So many have come within a minute.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{most} registrations came within a minute, which is the most: come again later")]
pub(crate) struct TooMany {
    most: u32,
}

impl Rate {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, minute: Arc::new(Mutex::new((Instant::now(), 0))) }
    }

    /// Counts one more.
    pub(crate) fn admit(&self) -> Result<(), TooMany> {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if minute.0.elapsed() >= Duration::from_mins(1) {
            *minute = (Instant::now(), 0);
        }
        if minute.1 >= self.most {
            return Err(TooMany { most: self.most });
        }
        minute.1 += 1;
        Ok(())
    }
}
