//! What the coordinator does by itself now and then: it notes when tokens were last used.

use std::time::Duration;

use promptfield_core::chain::chain;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::tokens::Tokens;
use crate::writer::Writer;

const EVERY: Duration = Duration::from_mins(1);

/// Runs until `stop`, and once more then.
pub(crate) async fn run(writer: Writer, tokens: Tokens, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => {}
        }
        note_uses(&writer, &tokens).await;
    }
}

async fn note_uses(writer: &Writer, tokens: &Tokens) {
    let uses = tokens.take_uses();
    if uses.is_empty() {
        return;
    }
    if let Err(error) = writer.change_tokens(uses).await {
        tracing::warn!(error = chain(&error), "can't note when tokens were last used");
    }
}
