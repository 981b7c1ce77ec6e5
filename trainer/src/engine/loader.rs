//! Batches are prepared while the batch before them is computed on.

use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// Prepared batches that may wait.
const AHEAD: usize = 2;

/// Makes `count` batches in order on a thread of its own and hands each to `take`, with the time that was spent waiting for it.
/// The first error of either ends it; a panic of `make` goes on in the caller's thread.
pub(super) fn each_prefetched<T: Send, E: Send>(
    count: usize,
    mut make: impl FnMut(usize) -> Result<T, E> + Send,
    mut take: impl FnMut(usize, T, Duration) -> Result<(), E>,
) -> Result<(), E> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        let maker = scope.spawn(move || {
            for index in 0..count {
                let made = make(index);
                let stop = made.is_err();
                if sender.send(made).is_err() || stop {
                    break;
                }
            }
        });
        for index in 0..count {
            let asked = Instant::now();
            let Ok(made) = receiver.recv() else { break };
            take(index, made?, asked.elapsed())?;
        }
        maker.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_in_order_and_the_first_error_ends_it() {
        let mut taken = Vec::new();
        let ended = each_prefetched(
            9,
            |index| if index == 5 { Err(index) } else { Ok(index * 10) },
            |index, made, _| {
                taken.push((index, made));
                Ok(())
            },
        );
        assert_eq!(ended, Err(5));
        assert_eq!(taken, [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40)]);
    }

    #[test]
    fn a_consumer_that_stops_stops_the_maker() {
        let ended = each_prefetched(usize::MAX, Ok, |index, _, _| if index == 3 { Err("enough") } else { Ok(()) });
        assert_eq!(ended, Err("enough"));
    }

    #[test]
    #[should_panic(expected = "no batch 2")]
    fn a_panic_of_the_maker_keeps_its_message() {
        let _ = each_prefetched(
            3,
            |index| if index == 2 { panic!("no batch {index}") } else { Ok::<_, ()>(index) },
            |_, _, _| Ok(()),
        );
    }
}
