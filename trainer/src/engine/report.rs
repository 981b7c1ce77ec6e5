//! How a running job speaks to whoever started it and to its `log.txt`, and how it is told to stop.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fs_err::File;
use promptfield_core::job::outcome::Progress;

use promptfield_output::FolderError;

/// Takes what a job has to say while it runs. Losing any of it changes no result.
pub trait Reporter {
    /// A line that was written into `log.txt`.
    fn log(&mut self, line: &str);

    /// How far the job is, after each step.
    fn progress(&mut self, progress: Progress);

    /// The numbers of one training step, before the step's [`Reporter::progress`].
    fn metrics(&mut self, step: u64, values: &BTreeMap<String, f64>);
}

/// Asks a running job to stop at its next step. Clones are the same flag.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Asks for the stop; it can't be taken back.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the stop was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A job's own side: the log file, the reporter, and how far the job is.
pub(super) struct Report<'a> {
    output: PathBuf,
    file: File,
    reporter: &'a mut dyn Reporter,
    /// Where the job stands; [`Report::step`] moves it on.
    pub(super) progress: Progress,
}

impl<'a> Report<'a> {
    /// Opens the log of the job that makes `output` for appending: lines of an attempt before this one stay, a line that it
    /// left unfinished is ended.
    pub(super) fn open(log: &Path, output: &Path, reporter: &'a mut dyn Reporter) -> Result<Self, FolderError> {
        let file = open_log(log).map_err(|source| FolderError { output: output.to_owned(), source })?;
        Ok(Self { output: output.to_owned(), file, reporter, progress: Progress::default() })
    }

    /// Logs `text`, which may have several lines.
    pub(super) fn log(&mut self, text: &str) -> Result<(), FolderError> {
        let written = self.file.write_all(format!("{text}\n").as_bytes());
        written.map_err(|source| FolderError { output: self.output.clone(), source })?;
        for line in text.lines() {
            self.reporter.log(line);
        }
        Ok(())
    }

    /// Hands on the numbers of the training step that is about to be done.
    pub(super) fn metrics(&mut self, step: u64, values: &BTreeMap<String, f64>) {
        self.reporter.metrics(step, values);
    }

    /// One more step is done, which may have been an epoch's last.
    pub(super) fn step(&mut self, ends_epoch: bool) {
        self.progress.step += 1;
        self.progress.epoch += u32::from(ends_epoch);
        self.reporter.progress(self.progress);
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Lines(Vec<String>);

    impl Reporter for Lines {
        fn log(&mut self, line: &str) {
            self.0.push(line.to_owned());
        }
        fn progress(&mut self, _: Progress) {}
        fn metrics(&mut self, _: u64, _: &BTreeMap<String, f64>) {}
    }

    #[test]
    fn a_second_attempt_appends_after_what_the_first_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        fs_err::write(&path, "first\ncut sh").unwrap();
        let mut lines = Lines::default();
        let mut report = Report::open(&path, folder.path(), &mut lines).unwrap();
        report.log("second\nthird").unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "first\ncut sh\nsecond\nthird\n");
        assert_eq!(lines.0, ["second", "third"]);
    }
}
