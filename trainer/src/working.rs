//! Says that work goes on, where a job has nothing else to say for a while.
//!
//! The worker ends a trainer that is silent for too long. So whatever takes long says so after each of its pieces: an image that was
//! decoded, a block that was hashed, a text that was encoded. The thread that works says it, and none does by the clock: a trainer that
//! is stuck in a file system is silent.

use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use promptfield_core::wire::trainer_wire::Reply;

/// At most this often it is said: twice in the time after which the worker expects a word.
const EVERY: Duration = Duration::from_secs(5);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// When it was said last, in milliseconds since [`START`].
static LAST: AtomicU64 = AtomicU64::new(0);
/// The job that runs; 0 before the first.
static JOB: AtomicU64 = AtomicU64::new(0);
static REPLIES: Mutex<Option<File>> = Mutex::new(None);
/// A line is written whole, whoever writes it.
static LINE: Mutex<()> = Mutex::new(());

/// From now on it's said to the worker.
pub fn speak_to(replies: File) {
    *REPLIES.lock().unwrap_or_else(PoisonError::into_inner) = Some(replies);
}

/// Another job begins.
pub(crate) fn begin(job: u64) {
    JOB.store(job, Ordering::Relaxed);
}

/// Nobody else writes a line to the worker while this is held.
pub(crate) fn line() -> MutexGuard<'static, ()> {
    LINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A piece of the work is done.
pub(crate) fn goes_on() {
    let now = START.elapsed().as_millis() as u64;
    let last = LAST.load(Ordering::Relaxed);
    let due = now.saturating_sub(last) >= EVERY.as_millis() as u64;
    // Of several threads one says it.
    if !due || LAST.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return;
    }
    let mut replies = REPLIES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(replies) = replies.as_mut()
        && let Ok(mut line) = serde_json::to_vec(&Reply::Working { id: JOB.load(Ordering::Relaxed) })
    {
        line.push(b'\n');
        let _line = self::line();
        // Whoever doesn't listen any more is noticed by the job's next reply.
        let _ = replies.write_all(&line);
    }
}
