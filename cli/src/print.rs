//! What goes to stdout and to stderr.
//!
//! A command's output is what it was asked for: one that can't be written is an error. Talk is not: whatever becomes of stderr,
//! the work goes on.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::exit::Coded;
use crate::terminal::shown;

/// Between two looks whether somebody still reads.
const LOOK: Duration = Duration::from_millis(250);

/// Prints output, and a line's end. A reader that is gone, as `head` is when it has seen enough, wants no more and is no failure.
pub(crate) fn line(output: impl Display) -> Result<(), Coded> {
    text(format_args!("{output}\n"))
}

/// Prints output as it is.
pub(crate) fn text(output: impl Display) -> Result<(), Coded> {
    match write(output) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Coded::Unwritten { source: error }),
        _ => Ok(()),
    }
}

/// Writes output; a reader that is gone is told from other failures by the error's kind.
pub(crate) fn write(output: impl Display) -> io::Result<()> {
    let text = output.to_string();
    let text = if io::stdout().is_terminal() { shown(&text) } else { text.as_str().into() };
    let mut stdout = anstream::stdout();
    write!(stdout, "{text}")?;
    stdout.flush()
}

/// Says something on stderr, if that can be.
pub(crate) fn talk(text: impl Display) {
    let text = text.to_string();
    let text = if io::stderr().is_terminal() { shown(&text) } else { text.as_str().into() };
    // There is nobody to tell.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Returns when nobody reads stdout any more, which otherwise only the next line would tell.
pub(crate) async fn reader_gone() {
    let gone = || {
        let stdout = io::stdout();
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        let found = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        found.is_ok() && watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    };
    while !gone() {
        tokio::time::sleep(LOOK).await;
    }
}
