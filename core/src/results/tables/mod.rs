//! The paper's tables, from jobs and their results (method.md, section 7).
//!
//! A table is data first: cells with mean, deviation, number of seeds and jobs by state. [`ResultTable::grid`] puts it into
//! words, and every format (terminal, Markdown, CSV, LaTeX) is a way to print that grid or the cells themselves.

mod base_to_new;
mod comparison;
mod cross_dataset;
mod few_shot;
mod grid;
mod notes;
mod seeded;

use serde::{Deserialize, Serialize};

pub use base_to_new::{BaseToNew, BaseToNewRow};
pub use comparison::{Beside, Comparison};
pub use cross_dataset::{CrossDataset, CrossDatasetRow};
pub use few_shot::{FewShot, FewShotRow};
pub use grid::{Grid, GridCell, Rank};
pub use notes::notes;
use seeded::Seeded;

use crate::input::InvalidInput;
use crate::job::outcome::TestResult;
use crate::job::spec::JobSpec;
use crate::method::Methods;
use crate::names::named;
use crate::protocol::Protocol;
use crate::results::published;
use crate::results::stats::Summary;
use crate::scheduler::{Counts, JobStateName};

/// A job as a table sees it.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What it computes.
    pub spec: &'a JobSpec,
    /// The sweep's values.
    pub variant: &'a str,
    /// Its state.
    pub state: JobStateName,
    /// Its numbers.
    pub result: Option<&'a TestResult>,
}

/// A protocol's table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum ResultTable {
    /// Base and new accuracy and their harmonic mean.
    BaseToNew(BaseToNew),
    /// The source, each target, and the targets' means.
    CrossDataset(CrossDataset),
    /// Each data set over the number of shots.
    FewShot(FewShot),
}

/// A number of the table and what it rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Cell {
    /// The mean over the seeds that are in; in an average row, over the cells' means. The deviation is over the seeds for which
    /// every part is in.
    pub summary: Option<Summary>,
    /// The cell's jobs by state.
    pub jobs: Counts,
}

named! {
    /// How to print a table.
    pub enum Format("format") {
        /// The cells as data.
        Json = "json",
        /// Comma-separated values, one number a column.
        Csv = "csv",
        /// A Markdown table.
        Markdown = "markdown",
        /// A LaTeX `tabular` for the `booktabs` package.
        Latex = "latex",
    }
}

impl ResultTable {
    /// The table of `protocol`. Data sets stand in the order in which they first appear.
    pub fn new<'a>(protocol: Protocol, entries: impl IntoIterator<Item = Entry<'a>>, methods: &Methods) -> Self {
        match protocol {
            Protocol::BaseToNew => Self::BaseToNew(BaseToNew::new(entries, methods)),
            Protocol::CrossDataset => Self::CrossDataset(CrossDataset::new(entries, methods)),
            Protocol::FewShot => Self::FewShot(FewShot::new(entries, methods)),
        }
    }

    /// Puts the published numbers beside the rows that they are of, or says which protocol has any. `entries` are those that
    /// the table was made of.
    pub fn compare<'a>(
        &mut self,
        entries: impl IntoIterator<Item = Entry<'a>>,
        methods: &Methods,
    ) -> Result<(), InvalidInput> {
        match self {
            Self::BaseToNew(table) => {
                comparison::compare(table, entries, methods);
                Ok(())
            }
            Self::CrossDataset(_) => Err(published::none_of(Protocol::CrossDataset)),
            Self::FewShot(_) => Err(published::none_of(Protocol::FewShot)),
        }
    }

    /// The table in words.
    pub fn grid(&self, methods: &Methods) -> Grid {
        match self {
            Self::BaseToNew(table) => table.grid(methods),
            Self::CrossDataset(table) => table.grid(methods),
            Self::FewShot(table) => table.grid(methods),
        }
    }

    /// The table in one of the printed formats, with `notes` below it where the format has room for them; JSON is the table itself.
    pub fn print(&self, format: Format, notes: &[String], methods: &Methods) -> String {
        let grid = || {
            let mut grid = self.grid(methods);
            grid.notes.extend_from_slice(notes);
            grid
        };
        match format {
            Format::Json => serde_json::json!(self).to_string(),
            Format::Csv => match self {
                Self::BaseToNew(table) => table.csv(),
                Self::CrossDataset(table) => table.csv(),
                Self::FewShot(table) => table.csv(),
            },
            Format::Markdown => grid().markdown(),
            Format::Latex => grid().latex(),
        }
    }
}

/// The accuracies of a cell's jobs while they are collected.
#[derive(Clone, Debug, Default)]
struct Collected {
    numbers: Seeded,
    jobs: Counts,
}

impl Collected {
    fn add(&mut self, entry: &Entry<'_>) {
        *self.jobs.of(entry.state) += 1;
        if let Some(result) = entry.result {
            self.numbers.add(entry.spec.seed, result.accuracy);
        }
    }

    /// The mean of the cells' means.
    fn average<'a>(cells: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let mut jobs = Counts::default();
        for &state in JobStateName::ALL {
            *jobs.of(state) = cells.clone().map(|cell| *cell.jobs.clone().of(state)).sum();
        }
        Self { numbers: Seeded::average(cells.map(|cell| &cell.numbers)), jobs }
    }

    fn cell(&self) -> Cell {
        Cell { summary: self.numbers.summary(), jobs: self.jobs }
    }
}

/// The place of `key` among those seen so far, in the order in which they first appear.
fn place<'a>(seen: &mut Vec<&'a str>, key: &'a str) -> usize {
    seen.iter().position(|name| *name == key).unwrap_or_else(|| {
        seen.push(key);
        seen.len() - 1
    })
}

impl Cell {
    /// Whether every job of the cell has its result.
    pub const fn is_final(&self) -> bool {
        self.jobs.done() == self.jobs.total()
    }

    /// `83.12 ± 0.41`; `*` while seeds are missing; `–` without a number.
    fn words(&self) -> String {
        match self.summary {
            None if self.jobs.failed > 0 => "failed".to_owned(),
            summary => summary_words(summary, self.is_final()),
        }
    }
}

/// `83.12 ± 0.41`, with a `*` if it isn't final; `–` without a number.
fn summary_words(summary: Option<Summary>, is_final: bool) -> String {
    let mark = if is_final { "" } else { "*" };
    match summary {
        None => "–".to_owned(),
        Some(Summary { mean, std, n }) if n > 1 => format!("{mean:.2} ± {std:.2}{mark}"),
        Some(Summary { mean, .. }) => format!("{mean:.2}{mark}"),
    }
}

/// `mean,std,n`.
fn summary_csv(summary: Option<Summary>) -> String {
    match summary {
        None => ",,0".to_owned(),
        Some(Summary { mean, std, n }) => format!("{mean},{std},{n}"),
    }
}

/// A method's name for a row, with what tells it from the others.
fn method_words(label: String, shots: Option<u32>, variant: &str) -> String {
    let mut words = label;
    if let Some(shots) = shots.filter(|shots| *shots > 0) {
        words.push_str(&format!(", {shots} shots"));
    }
    if !variant.is_empty() {
        words.push_str(&format!(" ({variant})"));
    }
    words
}

/// Whether rows have different numbers of shots, those of methods that learn nothing aside.
fn several_shots(shots: impl Iterator<Item = u32>) -> bool {
    let mut shots = shots.filter(|shots| *shots > 0);
    let first = shots.next();
    shots.any(|shots| Some(shots) != first)
}

fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
