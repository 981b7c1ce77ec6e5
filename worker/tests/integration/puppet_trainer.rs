//! A trainer process without a will of its own: it passes on what the worker says, and says what a test tells it to.
//!
//! The worker starts it through a link in the test's folder; beside the link lies the socket on which the test listens. The
//! first line to the test is the process's number and the GPUs that it sees; then follow the requests as they come. Lines from the test: `out LINE`
//! and `err LINE` are written to stdout and stderr, `exit CODE` ends the process. So do the end of stdin and the end of the
//! connection.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::channel;

fn main() -> io::Result<ExitCode> {
    let link = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let commands = UnixStream::connect(link.with_extension("socket"))?;
    let mut requests = commands.try_clone()?;
    let gpus = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    writeln!(requests, "{} {gpus}", std::process::id())?;
    let (ended, end) = channel();
    let stdin_ended = ended.clone();
    std::thread::spawn(move || {
        let copied = io::copy(&mut io::stdin().lock(), &mut requests);
        stdin_ended.send(copied.map(|_| ExitCode::SUCCESS))
    });
    std::thread::spawn(move || ended.send(obey(BufReader::new(commands))));
    end.recv().map_err(io::Error::other)?
}

/// Does what the test says, up to `exit`.
fn obey(commands: impl BufRead) -> io::Result<ExitCode> {
    for command in commands.lines() {
        let command = command?;
        match command.split_once(' ') {
            Some(("out", text)) => {
                println!("{text}");
                io::stdout().flush()?;
            }
            Some(("err", text)) => eprintln!("{text}"),
            Some(("exit", code)) => return code.parse().map(u8::into).map_err(io::Error::other),
            _ => return Err(io::Error::other(format!("the test said `{command}`"))),
        }
    }
    Ok(ExitCode::SUCCESS)
}
