//! The paper's tables, from jobs and their results (method.md, section 7).
//!
//! A table is data first: cells with mean, deviation, number of seeds and jobs by state. [`ResultTable::grid`] puts it into
//! words, and every format (terminal, Markdown, CSV, LaTeX) is a way to print that grid.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::method::Method;
use crate::names::{ClassSubset, named};
use crate::outcome::TestResult;
use crate::scheduler::{Counts, JobStateName};
use crate::spec::JobSpec;
use crate::stats::{Summary, harmonic_mean};

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "protocol", rename_all = "snake_case")]
pub enum ResultTable {
    /// Base and new accuracy and their harmonic mean.
    BaseToNew {
        /// One row for each data set, method, shots and variant, in that order.
        rows: Vec<BaseToNewRow>,
        /// One row for each method, shots and variant: the means over the data sets.
        average: Vec<BaseToNewRow>,
    },
}

/// A line of the base-to-new table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseToNewRow {
    /// The data set; `None` for the average.
    pub dataset: Option<String>,
    /// The method.
    pub method: Method,
    /// Training images per class; 0 for a method that learns nothing.
    pub shots: u32,
    /// The sweep's values.
    pub variant: String,
    /// Accuracy on the base classes, in per cent.
    pub base: Cell,
    /// Accuracy on the new classes, in per cent.
    pub new: Cell,
    /// The harmonic mean of the two means.
    pub harmonic_mean: Option<f64>,
}

/// A number of the table and what it rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The mean over the seeds that are in. In the average row: over the data sets' means, without a deviation.
    pub summary: Option<Summary>,
    /// The cell's jobs by state.
    pub jobs: Counts,
}

impl Cell {
    /// Whether every job of the cell has its result.
    pub const fn is_final(&self) -> bool {
        self.jobs.done() == self.jobs.total()
    }
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

type RowKey<'a> = (usize, Method, u32, &'a str);

impl ResultTable {
    /// The base-to-new table. Data sets stand in the order in which they first appear.
    pub fn base_to_new<'a>(entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let mut datasets: Vec<&str> = Vec::new();
        let mut cells: BTreeMap<RowKey<'a>, [(Vec<f64>, Counts); 2]> = BTreeMap::new();
        for entry in entries {
            let spec = entry.spec;
            let dataset = datasets.iter().position(|name| *name == spec.dataset).unwrap_or_else(|| {
                datasets.push(&spec.dataset);
                datasets.len() - 1
            });
            let pair = cells.entry((dataset, spec.method, spec.shots, entry.variant)).or_default();
            let (values, jobs) = &mut pair[usize::from(spec.classes() == ClassSubset::New)];
            *jobs.of(entry.state) += 1;
            values.extend(entry.result.map(|result| result.accuracy));
        }
        let rows: Vec<BaseToNewRow> = cells
            .into_iter()
            .map(|((dataset, method, shots, variant), pair)| {
                let [base, new] = pair.map(|(values, jobs)| Cell { summary: Summary::of(&values), jobs });
                let key = (method, shots, variant.to_owned());
                BaseToNewRow::new(Some(datasets[dataset].to_owned()), key, base, new)
            })
            .collect();
        let average = averages(&rows);
        Self::BaseToNew { rows, average }
    }

    /// The table in words: a header, and rows of cells.
    pub fn grid(&self) -> Grid {
        let Self::BaseToNew { rows, average } = self;
        let header = ["Data set", "Method", "Base", "New", "H"].map(str::to_owned).to_vec();
        let shots = distinct_shots(rows);
        let lines = |rows: &[BaseToNewRow]| -> Vec<Vec<String>> { rows.iter().map(|row| row.words(shots)).collect() };
        let mut groups: Vec<Vec<Vec<String>>> = rows.chunk_by(|a, b| a.dataset == b.dataset).map(lines).collect();
        if groups.len() > 1 {
            groups.push(lines(average));
        }
        Grid { header, groups }
    }

    /// The table in one of the printed formats; JSON is the table itself.
    pub fn print(&self, format: Format) -> String {
        match format {
            Format::Json => serde_json::json!(self).to_string(),
            Format::Csv => self.csv(),
            Format::Markdown => self.grid().markdown(),
            Format::Latex => self.grid().latex(),
        }
    }

    fn csv(&self) -> String {
        let Self::BaseToNew { rows, average } = self;
        let mut text = String::from(
            "dataset,method,shots,variant,base_mean,base_std,base_n,new_mean,new_std,new_n,harmonic_mean\n",
        );
        for row in rows.iter().chain(average) {
            let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
            let cell = |cell: &Cell| {
                let of = |pick: fn(&Summary) -> f64| number(cell.summary.as_ref().map(pick));
                format!("{},{},{}", of(|s| s.mean), of(|s| s.std), cell.summary.map_or(0, |s| s.n))
            };
            text.push_str(&format!(
                "{},{},{},{},{},{},{}\n",
                csv_field(row.dataset.as_deref().unwrap_or("average")),
                row.method,
                row.shots,
                csv_field(&row.variant),
                cell(&row.base),
                cell(&row.new),
                number(row.harmonic_mean)
            ));
        }
        text
    }
}

impl BaseToNewRow {
    fn new(dataset: Option<String>, (method, shots, variant): (Method, u32, String), base: Cell, new: Cell) -> Self {
        let harmonic_mean = base.summary.zip(new.summary).map(|(base, new)| harmonic_mean(base.mean, new.mean));
        Self { dataset, method, shots, variant, base, new, harmonic_mean }
    }

    fn words(&self, several_shots: bool) -> Vec<String> {
        let mut method = self.method.label().to_owned();
        if several_shots && self.shots > 0 {
            method.push_str(&format!(", {} shots", self.shots));
        }
        if !self.variant.is_empty() {
            method.push_str(&format!(" ({})", self.variant));
        }
        let final_ = self.base.is_final() && self.new.is_final();
        let harmonic = self.harmonic_mean.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}{}", mark(final_)));
        vec![
            self.dataset.clone().unwrap_or_else(|| "average".to_owned()),
            method,
            self.base.words(),
            self.new.words(),
            harmonic,
        ]
    }
}

impl Cell {
    /// `83.12 ± 0.41`; `*` while seeds are missing; `–` without a number.
    fn words(&self) -> String {
        match self.summary {
            None if self.jobs.failed > 0 => "failed".to_owned(),
            None => "–".to_owned(),
            Some(Summary { mean, std, n }) if n > 1 => format!("{mean:.2} ± {std:.2}{}", mark(self.is_final())),
            Some(Summary { mean, .. }) => format!("{mean:.2}{}", mark(self.is_final())),
        }
    }
}

const fn mark(is_final: bool) -> &'static str {
    if is_final { "" } else { "*" }
}

fn distinct_shots(rows: &[BaseToNewRow]) -> bool {
    let mut shots = rows.iter().map(|row| row.shots).filter(|shots| *shots > 0);
    let first = shots.next();
    shots.any(|shots| Some(shots) != first)
}

/// The mean of the data sets' means, and the harmonic mean of those two means. Provisional while a data set is missing.
fn averages(rows: &[BaseToNewRow]) -> Vec<BaseToNewRow> {
    let mut groups: BTreeMap<(Method, u32, &str), Vec<&BaseToNewRow>> = BTreeMap::new();
    for row in rows {
        groups.entry((row.method, row.shots, &row.variant)).or_default().push(row);
    }
    let mean = |rows: &[&BaseToNewRow], pick: fn(&BaseToNewRow) -> &Cell| {
        let means: Vec<f64> = rows.iter().filter_map(|row| pick(row).summary).map(|summary| summary.mean).collect();
        let mut jobs = Counts::default();
        for state in JobStateName::ALL {
            *jobs.of(*state) = rows.iter().map(|row| *pick(row).jobs.clone().of(*state)).sum();
        }
        let summary = Summary::of(&means).map(|Summary { mean, .. }| Summary { mean, std: 0.0, n: 1 });
        Cell { summary, jobs }
    };
    groups
        .into_iter()
        .map(|((method, shots, variant), rows)| {
            let (base, new) = (mean(&rows, |row| &row.base), mean(&rows, |row| &row.new));
            BaseToNewRow::new(None, (method, shots, variant.to_owned()), base, new)
        })
        .collect()
}

/// A table in words. Groups of rows are separated by a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// The columns' names.
    pub header: Vec<String>,
    /// The rows, in groups.
    pub groups: Vec<Vec<Vec<String>>>,
}

impl Grid {
    fn markdown(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = line(&self.header);
        text.push_str(&line(&self.header.iter().map(|_| "---".to_owned()).collect::<Vec<_>>()));
        for row in self.groups.iter().flatten() {
            text.push_str(&line(row));
        }
        text
    }

    fn latex(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| latex_text(cell)).collect();
            format!("{} \\\\\n", cells.join(" & "))
        };
        let numbers = self.header.len().saturating_sub(2);
        let mut text = format!("\\begin{{tabular}}{{ll{}}}\n\\toprule\n{}", "c".repeat(numbers), line(&self.header));
        for group in &self.groups {
            text.push_str("\\midrule\n");
            for row in group {
                text.push_str(&line(row));
            }
        }
        text.push_str("\\bottomrule\n\\end{tabular}\n");
        text
    }
}

fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn latex_text(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '±' => "$\\pm$".to_owned(),
            '–' => "--".to_owned(),
            '\\' => "\\textbackslash{}".to_owned(),
            '~' => "\\textasciitilde{}".to_owned(),
            '^' => "\\textasciicircum{}".to_owned(),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{c}"),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Catalogue;
    use crate::experiment::{Experiment, Known};
    use crate::matrix;

    /// A table of two data sets, two seeds and two methods; `accuracy` gives a job's number, or `None` while it's missing.
    fn table(accuracy: impl Fn(&JobSpec) -> Option<f64>) -> ResultTable {
        let known = Known { datasets: Catalogue::built_in(), backbones: Vec::new() };
        let text = "name = \"x\"\nprotocol = \"base_to_new\"\nbackbone = \"B\"\nmethods = [\"zero_shot\", \"alignednorm\"]\n\
                    datasets = [\"eurosat\", \"dtd\"]\nseeds = [1, 2]";
        let experiment = Experiment::from_toml(text, &known).unwrap();
        let jobs = matrix::expand(&experiment, &known.datasets).unwrap();
        let results: Vec<_> = jobs
            .iter()
            .map(|job| {
                accuracy(&job.spec).map(|accuracy| TestResult {
                    total: 100,
                    correct: 0,
                    accuracy,
                    error: 100.0 - accuracy,
                    macro_f1: 0.0,
                })
            })
            .collect();
        ResultTable::base_to_new(jobs.iter().zip(&results).map(|(job, result)| Entry {
            spec: &job.spec,
            variant: &job.variant,
            state: if result.is_some() { JobStateName::Completed } else { JobStateName::Queued },
            result: result.as_ref(),
        }))
    }

    fn numbers(spec: &JobSpec) -> f64 {
        let dataset = if spec.dataset == "eurosat" { 80.0 } else { 60.0 };
        let classes = if spec.classes() == ClassSubset::New { -20.0 } else { 0.0 };
        dataset + classes + spec.seed as f64
    }

    #[test]
    fn the_average_is_the_mean_of_means_and_its_own_harmonic_mean() {
        let ResultTable::BaseToNew { rows, average } = table(|spec| Some(numbers(spec)));
        assert_eq!(rows.len(), 4);
        let eurosat = &rows[0];
        assert_eq!((eurosat.dataset.as_deref(), eurosat.method.key()), (Some("eurosat"), "alignednorm"));
        assert_eq!(eurosat.base.summary, Some(Summary { mean: 81.5, std: 0.5, n: 2 }));
        let average = &average[0];
        assert_eq!(average.base.summary.map(|summary| summary.mean), Some(71.5));
        assert_eq!(average.new.summary.map(|summary| summary.mean), Some(51.5));
        assert_eq!(average.harmonic_mean, Some(harmonic_mean(71.5, 51.5)));
    }

    #[test]
    fn the_table_reads_as_papers_print_it() {
        let text = table(|spec| Some(numbers(spec))).print(Format::Markdown);
        assert_eq!(
            text,
            "| Data set | Method | Base | New | H |\n\
             | --- | --- | --- | --- | --- |\n\
             | eurosat | AlignedNorm | 81.50 ± 0.50 | 61.50 ± 0.50 | 70.10 |\n\
             | eurosat | CLIP (zero-shot) | 80.00 | 60.00 | 68.57 |\n\
             | dtd | AlignedNorm | 61.50 ± 0.50 | 41.50 ± 0.50 | 49.56 |\n\
             | dtd | CLIP (zero-shot) | 60.00 | 40.00 | 48.00 |\n\
             | average | AlignedNorm | 71.50 | 51.50 | 59.87 |\n\
             | average | CLIP (zero-shot) | 70.00 | 50.00 | 58.33 |\n"
        );
    }

    #[test]
    fn missing_seeds_make_a_number_provisional_and_missing_cells_stay_empty() {
        let grid = table(|spec| (spec.seed == 1 && spec.classes() == ClassSubset::Base).then_some(50.0)).grid();
        assert_eq!(grid.groups[0][0][2..], ["50.00*", "–", "–"].map(str::to_owned));
        assert_eq!(grid.groups[0][1][2..], ["–", "–", "–"].map(str::to_owned));
    }

    #[test]
    fn formats_escape_what_they_must() {
        assert_eq!(latex_text("a_b & 50% ± 1 –"), "a\\_b \\& 50\\% $\\pm$ 1 --");
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
        let csv = table(|spec| Some(numbers(spec))).print(Format::Csv);
        assert!(csv.contains("\neurosat,alignednorm,16,,81.5,0.5,2,61.5,0.5,2,70.1"), "{csv}");
        assert!(table(|spec| Some(numbers(spec))).print(Format::Latex).contains("71.50 & 51.50 & 59.87 \\\\\n"));
    }
}
