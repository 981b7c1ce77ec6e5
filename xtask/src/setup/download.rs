//! Downloading: into a `.part` file that the next run goes on with, renamed once size and hash are right.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use fs_err::{File, OpenOptions};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::machine::python;
use super::pip;
use super::wheels::Wheel;

const FETCH: &str = include_str!("fetch.py");
/// How often a dropped connection is taken up again.
const ATTEMPTS: u32 = 5;

/// Makes sure that the wheel lies in the folder.
pub(super) fn fetch(wheel: &Wheel, folder: &Path) -> Result<()> {
    let file = folder.join(&wheel.file);
    if !file.exists() {
        let part = folder.join(format!("{}.part", wheel.file));
        match &wheel.url {
            Some(url) if stream(url, wheel, &part)? => fs_err::rename(&part, &file)?,
            _ => pip::download(&wheel.requirement, folder)?,
        }
    }
    verify(wheel, &file)
}

/// Fetches what's missing from the part file; `false` if this way is closed here (not a byte came).
fn stream(url: &str, wheel: &Wheel, part: &Path) -> Result<bool> {
    let mut problem = String::new();
    let mut came = false;
    for _ in 0..ATTEMPTS {
        match attempt(url, wheel, part)? {
            Attempt::Complete => return Ok(true),
            Attempt::Dropped(why) => (came, problem) = (true, why),
            Attempt::Refused(why) => problem = why,
        }
    }
    if came {
        bail!("the download of {} keeps breaking off ({problem}): run `cargo xtask setup` again to go on", wheel.file);
    }
    eprintln!("{}: {problem}; leaving it to pip", wheel.file);
    Ok(false)
}

enum Attempt {
    Complete,
    Dropped(String),
    Refused(String),
}

fn attempt(url: &str, wheel: &Wheel, part: &Path) -> Result<Attempt> {
    let have = if part.exists() { fs_err::metadata(part)?.len() } else { 0 };
    if have > 0 && Some(have) == wheel.size {
        return Ok(Attempt::Complete);
    }
    let mut child = python()
        .args(["-c", FETCH, url, &have.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting python3")?;
    let received = receive(&mut child, wheel, part);
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    child.wait()?;
    let why = || said.trim().lines().last().unwrap_or("the connection ended").to_owned();
    Ok(match received? {
        None => Attempt::Refused(why()),
        Some(Received { size, total }) if size == total => Attempt::Complete,
        Some(_) => Attempt::Dropped(why()),
    })
}

/// Sizes in bytes: of the part file, and of the whole.
struct Received {
    size: u64,
    total: u64,
}

/// Appends what the fetching process sends; `None` if it ended without sending anything.
///
/// Its output is closed on return, so it ends even where writing failed here.
fn receive(child: &mut Child, wheel: &Wheel, part: &Path) -> Result<Option<Received>> {
    let mut incoming = BufReader::new(child.stdout.take().context("python3 has no output")?);
    let mut head = String::new();
    incoming.read_line(&mut head)?;
    let Some((start, total)) = read_head(&head) else {
        return Ok(None);
    };
    let mut out = OpenOptions::new().create(true).write(true).truncate(false).open(part)?;
    out.set_len(start)?;
    out.seek(SeekFrom::End(0))?;

    let progress = Progress::new(&wheel.requirement, start, total);
    let mut size = start;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = incoming.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        out.write_all(&buffer[..count])?;
        size += count as u64;
        progress.at(size);
    }
    progress.end_at(size);
    Ok(Some(Received { size, total }))
}

/// `START TOTAL`, as `fetch.py` writes it.
fn read_head(line: &str) -> Option<(u64, u64)> {
    let (start, total) = line.trim_end().split_once(' ')?;
    Some((start.parse().ok()?, total.parse().ok()?))
}

/// Compares size and hash with what they must be; a wrong file is deleted.
fn verify(wheel: &Wheel, file: &Path) -> Result<()> {
    let size = fs_err::metadata(file)?.len();
    let digits = sha256(file)?;
    if digits == wheel.sha256 && wheel.size.is_none_or(|right| right == size) {
        return Ok(());
    }
    fs_err::remove_file(file)?;
    let right = wheel.size.map_or_else(String::new, |size| format!("{size} bytes and "));
    bail!(
        "{} came as {size} bytes with SHA-256 {digits}, but {right}SHA-256 {} are right: the download was damaged, or \
         the package index serves another file; it was deleted, so run `cargo xtask setup` again",
        wheel.file,
        wheel.sha256
    )
}

/// In hexadecimal digits.
fn sha256(file: &Path) -> Result<String> {
    let mut file = File::open(file)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let mut digits = String::with_capacity(64);
    for byte in hash.finalize() {
        write!(digits, "{byte:02x}")?;
    }
    Ok(digits)
}

/// How many bytes lie between two lines where there is no terminal.
const STEP: u64 = 100_000_000;

/// A bar on a terminal, otherwise a line now and then.
struct Progress {
    bar: ProgressBar,
    name: String,
    steps: Cell<u64>,
}

impl Progress {
    fn new(name: &str, start: u64, total: u64) -> Self {
        let bar = ProgressBar::new(total).with_position(start).with_prefix(name.to_owned());
        let template = "{prefix:29} {bar:30} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.reset_elapsed();
        if bar.is_hidden() && start > 0 {
            eprintln!("{name}: going on at {} MB", start / 1_000_000);
        }
        Self { bar, name: name.to_owned(), steps: (start / STEP).into() }
    }

    fn at(&self, position: u64) {
        self.bar.set_position(position);
        let steps = position / STEP;
        if self.bar.is_hidden() && steps > self.steps.replace(steps) {
            self.say(position);
        }
    }

    fn end_at(&self, position: u64) {
        if self.bar.is_hidden() {
            self.say(position);
        } else {
            self.bar.abandon();
        }
    }

    fn say(&self, position: u64) {
        let total = self.bar.length().unwrap_or(position);
        eprintln!("{}: {:.1} of {:.1} MB", self.name, position as f64 / 1e6, total as f64 / 1e6);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wheel(size: Option<u64>, sha256: &str) -> Wheel {
        Wheel { file: "x.whl".to_owned(), url: None, requirement: "x==1".to_owned(), size, sha256: sha256.to_owned() }
    }

    /// Of the three bytes `abc`.
    const SHA256_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn file_with(content: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.whl");
        fs_err::write(&file, content).unwrap();
        (folder, file)
    }

    #[test]
    fn the_right_file_is_kept() {
        let (_folder, file) = file_with("abc");
        verify(&wheel(Some(3), SHA256_ABC), &file).unwrap();
        verify(&wheel(None, SHA256_ABC), &file).unwrap();
        assert!(file.exists());
    }

    #[test]
    fn a_damaged_file_is_named_and_deleted() {
        let (_folder, file) = file_with("abd");
        let error = verify(&wheel(Some(3), SHA256_ABC), &file).unwrap_err().to_string();
        assert!(error.contains("x.whl came as 3 bytes"), "{error}");
        assert!(error.contains(SHA256_ABC), "{error}");
        assert!(!file.exists());
    }

    #[test]
    fn a_wrong_size_is_refused_whatever_the_hash() {
        let (_folder, file) = file_with("abc");
        verify(&wheel(Some(4), SHA256_ABC), &file).unwrap_err();
    }

    #[test]
    fn the_head_says_where_the_bytes_start() {
        assert_eq!(read_head("100 526574961\n"), Some((100, 526_574_961)));
        assert_eq!(read_head(""), None);
    }

    #[test]
    fn a_source_that_cannot_resume_starts_over() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source.whl");
        fs_err::write(&source, "abc").unwrap();
        let part = folder.path().join("x.whl.part");
        fs_err::write(&part, "zz").unwrap();
        let url = format!("file://{}", source.display());
        assert!(stream(&url, &wheel(Some(3), SHA256_ABC), &part).unwrap());
        assert_eq!(fs_err::read_to_string(&part).unwrap(), "abc");
    }

    #[test]
    fn an_address_that_gives_nothing_is_left_to_pip() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/absent.whl", folder.path().display());
        assert!(!stream(&url, &wheel(Some(3), SHA256_ABC), &folder.path().join("x.part")).unwrap());
    }
}
