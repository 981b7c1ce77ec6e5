//! How fast a body must come: whoever sends it slowly holds a place, and what came so far is in memory.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout};

/// The least bytes in a second, in the long run.
const LEAST_RATE: f64 = 16_384.0;

/// Why a body was no longer waited for.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
pub(super) struct TooSlow;

impl TooSlow {
    /// Whether it's the reason of an error.
    pub(super) fn is_behind(error: &(dyn std::error::Error + 'static)) -> bool {
        std::iter::successors(Some(error), |error| error.source()).any(<dyn std::error::Error + 'static>::is::<Self>)
    }
}

/// Bounds the time that a request's body takes.
pub(super) async fn bound(State(patience): State<Duration>, request: Request, next: Next) -> Response {
    next.run(request.map(|body| bounded(body, patience))).await
}

/// A body that ends with [`TooSlow`] when its client has been waited for too long. Each piece gives it more time, up to `patience`:
/// what the handler does between two pieces doesn't count.
fn bounded(body: Body, patience: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    let state = (body.into_data_stream(), patience);
    Body::from_stream(stream::try_unfold(state, move |(mut pieces, left)| async move {
        let begun = Instant::now();
        let piece = timeout(left, pieces.next()).await.map_err(|_| axum::Error::new(TooSlow))?;
        let Some(piece) = piece.transpose()? else { return Ok(None) };
        let earned = Duration::from_secs_f64(piece.len() as f64 / LEAST_RATE);
        let left = (left.saturating_sub(begun.elapsed()) + earned).min(patience);
        Ok::<_, axum::Error>(Some((piece, (pieces, left))))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body of pieces of so many bytes, one each second, and what came of it.
    async fn read(bytes: usize, pieces: usize) -> (usize, Option<axum::Error>) {
        let drops = stream::iter(0..pieces).then(move |_| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, axum::Error>(vec![b' '; bytes])
        });
        let mut body = bounded(Body::from_stream(drops), Duration::from_secs(30)).into_data_stream();
        let mut came = 0;
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) => came += piece.len(),
                Err(error) => return (came, Some(error)),
            }
        }
        (came, None)
    }

    #[tokio::test(start_paused = true)]
    async fn drops_are_not_waited_for_without_end() {
        let (came, error) = read(1, 1_000).await;
        assert!(TooSlow::is_behind(&error.unwrap()));
        assert!((29..=30).contains(&came), "{came}");
        // A slow line is fast enough.
        let (came, error) = read(20_000, 1_000).await;
        assert!(error.is_none());
        assert_eq!(came, 20_000_000);
    }
}
