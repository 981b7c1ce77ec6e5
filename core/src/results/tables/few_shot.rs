//! Few-shot: data sets × methods over the number of training images per class.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Cell, Collected, Entry, Grid, GridCell, csv_field, method_words, place, summary_csv};
use crate::method::{Method, Methods};
use crate::protocol::Stage;

/// The few-shot table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FewShot {
    /// The columns: training images per class; 0 for methods that learn nothing.
    pub shots: Vec<u32>,
    /// One row for each data set, method and variant, in that order.
    pub rows: Vec<FewShotRow>,
    /// One row for each method and variant: the means over the data sets.
    pub average: Vec<FewShotRow>,
}

/// A method's line on one data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FewShotRow {
    /// The data set; `None` for the average.
    pub dataset: Option<String>,
    /// The method.
    pub method: Method,
    /// The sweep's values.
    pub variant: String,
    /// Accuracy in per cent, for each number of shots.
    pub cells: Vec<Cell>,
}

/// A row while it is collected, by the number of shots.
type Line = BTreeMap<u32, Collected>;

impl FewShot {
    pub(super) fn new<'a>(entries: impl IntoIterator<Item = Entry<'a>>, methods: &Methods) -> Self {
        let (mut datasets, mut shots): (Vec<&str>, BTreeSet<u32>) = (Vec::new(), BTreeSet::new());
        let mut lines: BTreeMap<(usize, usize, Method, &str), Line> = BTreeMap::new();
        for entry in entries {
            let spec = entry.spec;
            shots.insert(spec.shots);
            let line = lines
                .entry((place(&mut datasets, &spec.dataset), methods.place(spec.method), spec.method, entry.variant))
                .or_default();
            match spec.stage {
                Stage::Train => line.entry(spec.shots).or_default().add(&entry),
                // Few-shot tests nothing besides.
                Stage::Test => {}
            }
        }
        let shots: Vec<u32> = shots.into_iter().collect();
        let mut averaged: BTreeMap<(usize, Method, &str), Vec<&Line>> = BTreeMap::new();
        let row = |dataset: Option<&str>, (_, method, variant): (usize, Method, &str), cell: &dyn Fn(&u32) -> Cell| {
            let (dataset, variant) = (dataset.map(str::to_owned), variant.to_owned());
            FewShotRow { dataset, method, variant, cells: shots.iter().map(cell).collect() }
        };
        let mut rows = Vec::new();
        for (&(dataset, place, method, variant), line) in &lines {
            let cell = |shots: &u32| line.get(shots).map(Collected::cell).unwrap_or_default();
            rows.push(row(Some(datasets[dataset]), (place, method, variant), &cell));
            averaged.entry((place, method, variant)).or_default().push(line);
        }
        let average = |(key, lines): (_, Vec<&Line>)| {
            row(None, key, &|shots| Collected::average(lines.iter().filter_map(|line| line.get(shots))).cell())
        };
        let average = averaged.into_iter().map(average).collect();
        Self { shots, rows, average }
    }

    pub(super) fn grid(&self, methods: &Methods) -> Grid {
        let shots = self.shots.iter().map(|shots| format!("{shots} shot{}", if *shots == 1 { "" } else { "s" }));
        let header = ["Data set", "Method"].map(str::to_owned).into_iter().chain(shots).collect();
        let lines = |rows: &[FewShotRow]| -> Vec<Vec<GridCell>> { rows.iter().map(|row| row.words(methods)).collect() };
        let mut groups: Vec<_> = self.rows.chunk_by(|a, b| a.dataset == b.dataset).map(lines).collect();
        if groups.len() > 1 {
            groups.push(lines(&self.average));
        }
        Grid { header, groups, notes: Vec::new() }.ranked_down()
    }

    pub(super) fn csv(&self) -> String {
        let mut text = String::from("dataset,method,variant,shots,mean,std,n\n");
        for row in self.rows.iter().chain(&self.average) {
            let (dataset, variant) = (csv_field(row.dataset.as_deref().unwrap_or("average")), csv_field(&row.variant));
            for (shots, cell) in self.shots.iter().zip(&row.cells).filter(|(_, cell)| cell.jobs.total() > 0) {
                text.push_str(&format!("{dataset},{},{variant},{shots},{}\n", row.method, summary_csv(cell.summary)));
            }
        }
        text
    }
}

impl FewShotRow {
    fn words(&self, methods: &Methods) -> Vec<GridCell> {
        let dataset = self.dataset.clone().unwrap_or_else(|| "average".to_owned());
        let method = method_words(methods.label(self.method), None, &self.variant);
        // A method that learns nothing has no cell but one: empty is not missing.
        let cell = |cell: &Cell| match cell.jobs.total() {
            0 => GridCell::from(""),
            _ => GridCell::of(cell, self.dataset.is_none()),
        };
        [dataset.into(), method.into()].into_iter().chain(self.cells.iter().map(cell)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, Known, matrix};
    use crate::job::outcome::TestResult;
    use crate::scheduler::JobStateName;

    #[test]
    fn shots_stand_across_and_a_method_without_shots_has_a_column_of_its_own() {
        let known = Known::built_in();
        let text = "name = \"x\"\nprotocol = \"few_shot\"\nbackbone = \"B\"\nmethods = [\"zero_shot\", \"mmrlpp\"]\n\
                    datasets = [\"dtd\", \"eurosat\"]\nseeds = [1, 3]\nshots = [4, 1]";
        let experiment = Experiment::from_toml(text, &known).unwrap();
        let jobs = matrix::written_out(&experiment, &known);
        let result = |accuracy| TestResult {
            total: 1,
            correct: 0,
            accuracy,
            error: 0.0,
            macro_f1: 0.0,
            calibration_error: None,
        };
        let results: Vec<Option<TestResult>> = jobs
            .iter()
            .map(|job| {
                let dataset = if job.spec.dataset == "dtd" { 50.0 } else { 70.0 };
                let missing = job.spec.shots == 4 && job.spec.seed == 3 && job.spec.dataset == "eurosat";
                (!missing).then(|| result(dataset + f64::from(job.spec.shots) + job.spec.seed as f64))
            })
            .collect();
        let table = FewShot::new(
            jobs.iter().zip(&results).map(|(job, result)| Entry {
                spec: &job.spec,
                variant: &job.variant,
                state: if result.is_some() { JobStateName::Completed } else { JobStateName::Running },
                result: result.as_ref(),
            }),
            Methods::built_in(),
        );
        assert_eq!(
            table.grid(Methods::built_in()).markdown(),
            "| Data set | Method | 0 shots | 1 shot | 4 shots |\n\
             | --- | --- | --- | --- | --- |\n\
             | dtd | MMRL++ |  | 53.00 ± 1.00 | 56.00 ± 1.00 |\n\
             | dtd | CLIP (zero-shot) | 50.00 |  |  |\n\
             | eurosat | MMRL++ |  | 73.00 ± 1.00 | 75.00* |\n\
             | eurosat | CLIP (zero-shot) | 70.00 |  |  |\n\
             | average | MMRL++ |  | 63.00 ± 1.00 | 65.50* |\n\
             | average | CLIP (zero-shot) | 60.00 |  |  |\n"
        );
        assert!(table.csv().contains("\neurosat,mmrlpp,,4,75,0,1\n"), "{}", table.csv());
    }
}
