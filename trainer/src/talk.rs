//! What is said on stderr.

use std::fmt::Display;
use std::io::Write as _;

/// Says something, if that can be: whatever becomes of stderr, the work goes on.
pub fn talk(text: impl Display) {
    // There is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}
