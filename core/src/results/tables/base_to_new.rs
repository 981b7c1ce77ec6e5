//! Base-to-new: data sets × methods, base, new and their harmonic mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::comparison::{self, Comparison};
use super::{
    Cell, Collected, Entry, Grid, GridCell, Seeded, csv_field, method_words, place, several_shots, summary_csv,
    summary_words,
};
use crate::method::{Method, Methods};
use crate::protocol::Stage;
use crate::results::stats::Summary;

/// The base-to-new table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BaseToNew {
    /// One row for each data set, method, shots and variant, in that order.
    pub rows: Vec<BaseToNewRow>,
    /// One row for each method, shots and variant: the means over the data sets.
    pub average: Vec<BaseToNewRow>,
    /// Where the published numbers beside the rows come from; absent without a comparison.
    #[serde(default)]
    pub compared_with: Option<Vec<String>>,
}

/// A line of the base-to-new table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
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
    /// The harmonic mean of the two means; its deviation is that of the seeds' own harmonic means.
    pub harmonic_mean: Option<Summary>,
    /// The published numbers, where there are any of the same thing and they were asked for.
    #[serde(default)]
    pub published: Option<Comparison>,
}

/// What tells the rows of one data set apart, in their order: the method's place, method, shots, variant.
type Key<'a> = (usize, Method, u32, &'a str);

/// A row while it is collected.
#[derive(Default)]
struct Line {
    base: Collected,
    new: Collected,
}

impl BaseToNew {
    pub(super) fn new<'a>(entries: impl IntoIterator<Item = Entry<'a>>, methods: &Methods) -> Self {
        let mut datasets: Vec<&str> = Vec::new();
        let mut lines: BTreeMap<(usize, Key<'_>), Line> = BTreeMap::new();
        for entry in entries {
            let spec = entry.spec;
            let dataset = place(&mut datasets, &spec.dataset);
            let line = lines
                .entry((dataset, (methods.place(spec.method), spec.method, spec.shots, entry.variant)))
                .or_default();
            match spec.stage {
                Stage::Train => line.base.add(&entry),
                Stage::Test => line.new.add(&entry),
            }
        }
        let mut averaged: BTreeMap<Key<'_>, Vec<&Line>> = BTreeMap::new();
        let mut rows = Vec::new();
        for (&(dataset, key), line) in &lines {
            rows.push(BaseToNewRow::new(Some(datasets[dataset]), key, line));
            averaged.entry(key).or_default().push(line);
        }
        let average =
            averaged.iter().map(|(key, lines)| BaseToNewRow::new(None, *key, &Line::average(lines))).collect();
        Self { rows, average, compared_with: None }
    }

    pub(super) fn grid(&self, methods: &Methods) -> Grid {
        let header = ["Data set", "Method", "Base", "New", "H"].map(str::to_owned).to_vec();
        let several = several_shots(self.rows.iter().map(|row| row.shots));
        let lines = |rows: &[BaseToNewRow]| -> Vec<Vec<GridCell>> {
            rows.iter().flat_map(|row| row.words(several, methods)).collect()
        };
        let mut groups: Vec<_> = self.rows.chunk_by(|a, b| a.dataset == b.dataset).map(lines).collect();
        if groups.len() > 1 {
            groups.push(lines(&self.average));
        }
        let mut grid = Grid { header, groups, notes: Vec::new() }.ranked_down();
        if let Some(sources) = &self.compared_with {
            comparison::notes(sources, &mut grid);
        }
        grid
    }

    pub(super) fn csv(&self) -> String {
        let mut text = String::from(
            "dataset,method,shots,variant,base_mean,base_std,base_n,new_mean,new_std,new_n,harmonic_mean,harmonic_std,harmonic_n",
        );
        let compared = self.compared_with.is_some();
        if compared {
            text.push_str(&format!(",{}", comparison::CSV_HEADER));
        }
        text.push('\n');
        for row in self.rows.iter().chain(&self.average) {
            text.push_str(&format!(
                "{},{},{},{},{},{},{}",
                csv_field(row.dataset.as_deref().unwrap_or("average")),
                row.method,
                row.shots,
                csv_field(&row.variant),
                summary_csv(row.base.summary),
                summary_csv(row.new.summary),
                summary_csv(row.harmonic_mean)
            ));
            if compared {
                text.push_str(&format!(",{}", Comparison::csv(row.published.as_ref())));
            }
            text.push('\n');
        }
        text
    }
}

impl Line {
    /// The means of the data sets' means. Provisional while a data set is missing.
    fn average(lines: &[&Self]) -> Self {
        let base = Collected::average(lines.iter().map(|line| &line.base));
        let new = Collected::average(lines.iter().map(|line| &line.new));
        Self { base, new }
    }
}

impl BaseToNewRow {
    fn new(dataset: Option<&str>, (_, method, shots, variant): Key<'_>, line: &Line) -> Self {
        Self {
            dataset: dataset.map(str::to_owned),
            method,
            shots,
            variant: variant.to_owned(),
            base: line.base.cell(),
            new: line.new.cell(),
            harmonic_mean: Seeded::harmonic(&line.base.numbers, &line.new.numbers).summary(),
            published: None,
        }
    }

    /// The row's line, and that of the published numbers below it.
    fn words(&self, several_shots: bool, methods: &Methods) -> Vec<Vec<GridCell>> {
        let is_final = self.base.is_final() && self.new.is_final();
        let is_average = self.dataset.is_none();
        let harmonic_mean = self.harmonic_mean.map(|summary| summary.mean);
        let mut lines = vec![vec![
            self.dataset.clone().unwrap_or_else(|| "average".to_owned()).into(),
            method_words(methods.label(self.method), several_shots.then_some(self.shots), &self.variant).into(),
            GridCell::of(&self.base, is_average),
            GridCell::of(&self.new, is_average),
            GridCell::number(summary_words(self.harmonic_mean, is_final), harmonic_mean)
                .lacking(is_average && !is_final),
        ]];
        if let Some(published) = &self.published {
            let name = [String::new(), "published".to_owned()];
            lines.push(name.into_iter().chain(published.words()).map(GridCell::from).collect());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rank;
    use super::*;
    use crate::experiment::{Experiment, Known, matrix};
    use crate::job::outcome::TestResult;
    use crate::job::spec::JobSpec;
    use crate::results::stats::harmonic_mean;
    use crate::scheduler::JobStateName;

    /// A table of two data sets, two seeds and two methods; `accuracy` gives a job's number, or `None` while it's missing.
    fn table(accuracy: impl Fn(&JobSpec) -> Option<f64>) -> BaseToNew {
        let known = Known::built_in();
        let text = "name = \"x\"\nprotocol = \"base_to_new\"\nbackbone = \"B\"\nmethods = [\"zero_shot\", \"alignednorm\"]\n\
                    datasets = [\"eurosat\", \"dtd\"]\nseeds = [1, 2]";
        let experiment = Experiment::from_toml(text, &known).unwrap();
        let jobs = matrix::written_out(&experiment, &known);
        let results: Vec<_> = jobs
            .iter()
            .map(|job| {
                accuracy(&job.spec).map(|accuracy| TestResult {
                    total: 100,
                    correct: 0,
                    accuracy,
                    error: 100.0 - accuracy,
                    macro_f1: 0.0,
                    calibration_error: None,
                })
            })
            .collect();
        BaseToNew::new(
            jobs.iter().zip(&results).map(|(job, result)| Entry {
                spec: &job.spec,
                variant: &job.variant,
                state: if result.is_some() { JobStateName::Completed } else { JobStateName::Queued },
                result: result.as_ref(),
            }),
            Methods::built_in(),
        )
    }

    fn numbers(spec: &JobSpec) -> f64 {
        let dataset = if spec.dataset == "eurosat" { 80.0 } else { 60.0 };
        let classes = if spec.stage == Stage::Test { -20.0 } else { 0.0 };
        dataset + classes + spec.seed as f64
    }

    #[test]
    fn the_average_is_the_mean_of_means_and_its_own_harmonic_mean() {
        let BaseToNew { rows, average, .. } = table(|spec| Some(numbers(spec)));
        assert_eq!(rows.len(), 4);
        let eurosat = &rows[0];
        assert_eq!((eurosat.dataset.as_deref(), eurosat.method.key()), (Some("eurosat"), "alignednorm"));
        assert_eq!(eurosat.base.summary, Some(Summary { mean: 81.5, std: 0.5, n: 2 }));
        let average = &average[0];
        assert_eq!(average.base.summary.map(|summary| summary.mean), Some(71.5));
        assert_eq!(average.new.summary.map(|summary| summary.mean), Some(51.5));
        let harmonic = average.harmonic_mean.unwrap();
        assert!((harmonic.mean - harmonic_mean(71.5, 51.5)).abs() < 1e-12);
        // Of seed 1 the means are 71 and 51, of seed 2 they are 72 and 52.
        let deviation = (harmonic_mean(72.0, 52.0) - harmonic_mean(71.0, 51.0)) / 2.0;
        assert!((harmonic.std - deviation).abs() < 1e-12);
        assert_eq!((harmonic.n, average.base.summary.unwrap().std), (2, 0.5));
    }

    #[test]
    fn the_table_reads_as_papers_print_it() {
        let text = table(|spec| Some(numbers(spec))).grid(Methods::built_in()).markdown();
        assert_eq!(
            text,
            "| Data set | Method | Base | New | H |\n\
             | --- | --- | --- | --- | --- |\n\
             | eurosat | AlignedNorm | **81.50 ± 0.50** | **61.50 ± 0.50** | **70.10 ± 0.51** |\n\
             | eurosat | CLIP (zero-shot) | <u>80.00</u> | <u>60.00</u> | <u>68.57</u> |\n\
             | dtd | AlignedNorm | **61.50 ± 0.50** | **41.50 ± 0.50** | **49.56 ± 0.52** |\n\
             | dtd | CLIP (zero-shot) | <u>60.00</u> | <u>40.00</u> | <u>48.00</u> |\n\
             | average | AlignedNorm | **71.50 ± 0.50** | **51.50 ± 0.50** | **59.87 ± 0.51** |\n\
             | average | CLIP (zero-shot) | <u>70.00</u> | <u>50.00</u> | <u>58.33</u> |\n"
        );
    }

    #[test]
    fn missing_seeds_make_a_number_provisional_and_missing_cells_stay_empty() {
        let grid =
            table(|spec| (spec.seed == 1 && spec.stage == Stage::Train).then_some(50.0)).grid(Methods::built_in());
        let words = |row: &[GridCell]| row[2..].iter().map(|cell| cell.words.clone()).collect::<Vec<_>>();
        assert_eq!(words(&grid.groups[0][0]), ["50.00*", "–", "–"]);
        assert_eq!(words(&grid.groups[0][1]), ["–", "–", "–"]);
    }

    #[test]
    fn nobody_is_the_best_while_a_job_of_an_average_is_missing() {
        // One method lacks a job of the data set on which everyone is worse: its average is the greatest, and of fewer jobs.
        let missing = |spec: &JobSpec| spec.method.key() == "alignednorm" && spec.dataset == "dtd";
        let grid = table(|spec| (!missing(spec)).then(|| numbers(spec))).grid(Methods::built_in());
        let ranks = |group: usize| -> Vec<_> {
            grid.groups[group].iter().flat_map(|row| row[2..].iter().map(|cell| cell.rank)).collect()
        };
        assert_eq!(ranks(0)[0], Some(Rank::Best), "of a data set all is in");
        assert_eq!(ranks(2), [None; 6]);
        let latex = grid.latex();
        let average = latex.rsplit("\\midrule").next().unwrap();
        assert!(average.contains("81.50") && !average.contains("textbf") && !average.contains("underline"), "{latex}");
        assert!(latex.contains("% Best and second aren't marked among averages"), "{latex}");
        let whole = table(|spec| Some(numbers(spec))).grid(Methods::built_in());
        assert!(whole.notes.is_empty() && whole.groups[2][0][4].rank == Some(Rank::Best));
    }

    #[test]
    fn formats_escape_what_they_must() {
        assert_eq!(csv_field("a,\"b\""), "\"a,\"\"b\"\"\"");
        let csv = table(|spec| Some(numbers(spec))).csv();
        assert!(csv.contains("\neurosat,alignednorm,16,,81.5,0.5,2,61.5,0.5,2,70.1"), "{csv}");
        assert!(table(|spec| Some(numbers(spec))).grid(Methods::built_in()).latex().contains(
            "\\textbf{71.50 $\\pm$ 0.50} & \\textbf{51.50 $\\pm$ 0.50} & \\textbf{59.87 $\\pm$ 0.51} \\\\\n"
        ));
    }
}
