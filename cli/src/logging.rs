//! What this program says of itself: lines on stderr as `PROMPTFIELD_LOG` wants them, and traces where they are wanted.

use std::io::IsTerminal as _;

use tokio::runtime::Handle;
use tracing_subscriber::EnvFilter;

/// As long as it lives, what is said goes somewhere; what was said is delivered when it's dropped.
pub(crate) struct Logging {
    #[cfg(feature = "otel")]
    _traces: Option<crate::traces::Export>,
}

/// Begins; traces are sent by `runtime`.
#[cfg(feature = "otel")]
pub(crate) fn start(runtime: &Handle) -> anyhow::Result<Logging> {
    use tracing_subscriber::layer::{Layer, SubscriberExt};
    use tracing_subscriber::util::SubscriberInitExt;

    let lines = tracing_subscriber::fmt::layer().with_ansi(colours()).with_writer(std::io::stderr);
    // A line that can't be written would be complained of on stderr, and that can't be written either.
    let lines = lines.log_internal_errors(false).with_filter(filter());
    let (traces, export) = crate::traces::layer(runtime)?.unzip();
    tracing_subscriber::registry().with(lines).with(traces).init();
    Ok(Logging { _traces: export })
}

/// Begins.
#[cfg(not(feature = "otel"))]
#[expect(clippy::unnecessary_wraps, reason = "with traces, it can fail")]
pub(crate) fn start(_: &Handle) -> anyhow::Result<Logging> {
    let lines = tracing_subscriber::fmt().with_env_filter(filter()).with_ansi(colours());
    // A line that can't be written would be complained of on stderr, and that can't be written either.
    lines.with_writer(std::io::stderr).log_internal_errors(false).init();
    Ok(Logging {})
}

/// Whether lines are coloured: only where a person sees them, and wants it (no-color.org).
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn filter() -> EnvFilter {
    EnvFilter::try_from_env("PROMPTFIELD_LOG").unwrap_or_else(|_| EnvFilter::new("warn"))
}
