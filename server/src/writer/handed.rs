//! Whether a request has handed the writer anything yet.
//!
//! Until then its work can end at any moment, and nothing has happened. Afterwards it's carried out whatever becomes of the request,
//! so that whoever asked must hear what became of it.

use std::cell::Cell;
use std::pin::pin;

tokio::task_local! {
    static HANDED: Cell<bool>;
}

/// Notes that the request which this task works on has handed the writer something.
pub(super) fn note() {
    // Not everything that asks the writer is a request.
    let _ = HANDED.try_with(|handed| handed.set(true));
}

/// Works until `end` comes; `None` if it came first and the writer has been handed nothing. Otherwise the work goes on to its end.
pub(crate) async fn or_end<T>(work: impl Future<Output = T>, end: impl Future<Output = ()>) -> Option<T> {
    let work = async {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = end => {}
        }
        if HANDED.with(Cell::get) { Some(work.await) } else { None }
    };
    // One that works for another shares what is known.
    match HANDED.try_with(Cell::get) {
        Ok(_) => work.await,
        Err(_) => HANDED.scope(Cell::new(false), work).await,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn what_was_handed_over_is_waited_for_and_nothing_else() {
        let handing = async {
            note();
            yield_now().await;
            1
        };
        assert_eq!(or_end(handing, ready(())).await, Some(1));
        assert_eq!(or_end(pending::<u8>(), ready(())).await, None);
        // A limit within another knows what the outer one does.
        let inner = async {
            note();
            or_end(async { yield_now().await }, ready(())).await
        };
        assert_eq!(or_end(inner, ready(())).await, Some(Some(())));
    }
}
