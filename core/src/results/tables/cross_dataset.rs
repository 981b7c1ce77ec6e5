//! Cross-dataset transfer: the source, each target, the mean of the targets, and the mean of ImageNet's variants.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Cell, Collected, Entry, Grid, GridCell, csv_field, method_words, place, several_shots, summary_csv};
use crate::experiment::dataset::IMAGENET_VARIANTS;
use crate::method::{Method, Methods};
use crate::protocol::Stage;

/// The cross-dataset table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CrossDataset {
    /// The data set that was trained on.
    pub source: Option<String>,
    /// The targets, in the order of the cells; the variants of `ImageNet` are among them.
    pub targets: Vec<String>,
    /// One row for each method, shots and variant.
    pub rows: Vec<CrossDatasetRow>,
}

/// A method's line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CrossDatasetRow {
    /// The method.
    pub method: Method,
    /// Training images per class; 0 for a method that learns nothing.
    pub shots: u32,
    /// The sweep's values.
    pub variant: String,
    /// Accuracy on the source, in per cent.
    pub source: Cell,
    /// Accuracy on each target, in per cent.
    pub targets: Vec<Cell>,
    /// The mean of the targets that are not variants of `ImageNet`.
    pub average: Cell,
    /// The mean of the variants of `ImageNet`.
    pub variants_average: Cell,
}

type Key<'a> = (usize, Method, u32, &'a str);

/// A row while it is collected.
#[derive(Default)]
struct Line {
    source: Collected,
    /// By the target's place.
    targets: BTreeMap<usize, Collected>,
}

fn is_variant(target: &str) -> bool {
    IMAGENET_VARIANTS.contains(&target)
}

impl CrossDataset {
    pub(super) fn new<'a>(entries: impl IntoIterator<Item = Entry<'a>>, methods: &Methods) -> Self {
        let (mut source, mut targets): (Option<String>, Vec<&str>) = (None, Vec::new());
        let mut lines: BTreeMap<Key<'_>, Line> = BTreeMap::new();
        for entry in entries {
            let spec = entry.spec;
            let line = lines.entry((methods.place(spec.method), spec.method, spec.shots, entry.variant)).or_default();
            match spec.stage {
                Stage::Train => {
                    source.get_or_insert_with(|| spec.dataset.clone());
                    line.source.add(&entry);
                }
                Stage::Test => line.targets.entry(place(&mut targets, &spec.dataset)).or_default().add(&entry),
            }
        }
        let row = |((_, method, shots, variant), Line { source, targets: cells }): (Key<'_>, Line)| {
            let mean = |variants: bool| {
                let wanted = cells.iter().filter(|(target, _)| is_variant(targets[**target]) == variants);
                Collected::average(wanted.map(|(_, cell)| cell)).cell()
            };
            CrossDatasetRow {
                method,
                shots,
                variant: variant.to_owned(),
                source: source.cell(),
                targets: (0..targets.len()).map(|i| cells.get(&i).map(Collected::cell).unwrap_or_default()).collect(),
                average: mean(false),
                variants_average: mean(true),
            }
        };
        let rows = lines.into_iter().map(row).collect();
        Self { source, targets: targets.into_iter().map(str::to_owned).collect(), rows }
    }

    /// Data sets down, methods across: fifteen data sets don't fit across a page.
    pub(super) fn grid(&self, methods: &Methods) -> Grid {
        let several = several_shots(self.rows.iter().map(|row| row.shots));
        let methods = self
            .rows
            .iter()
            .map(|row| method_words(methods.label(row.method), several.then_some(row.shots), &row.variant));
        let header = ["Data set".to_owned(), String::new()].into_iter().chain(methods).collect();
        let line = |name: &str, role: &str, cell: &dyn Fn(&CrossDatasetRow) -> Cell| -> Vec<GridCell> {
            let cells = self.rows.iter().map(|row| GridCell::of(&cell(row), role.is_empty()));
            [name.into(), role.into()].into_iter().chain(cells).collect()
        };
        let mut groups = Vec::new();
        if let Some(source) = &self.source {
            groups.push(vec![line(source, "source", &|row| row.source)]);
        }
        for (variants, average) in
            [(false, (|row| row.average) as fn(&CrossDatasetRow) -> Cell), (true, |row| row.variants_average)]
        {
            let wanted = self.targets.iter().enumerate().filter(|(_, target)| is_variant(target) == variants);
            let mut group: Vec<_> = wanted.map(|(i, target)| line(target, "target", &|row| row.targets[i])).collect();
            if group.len() > 1 {
                group.push(line("average", "", &average));
            }
            if !group.is_empty() {
                groups.push(group);
            }
        }
        Grid { header, groups, notes: Vec::new() }.ranked_across()
    }

    pub(super) fn csv(&self) -> String {
        let mut text = String::from("dataset,role,method,shots,variant,mean,std,n\n");
        for row in &self.rows {
            let mut add = |dataset: &str, role: &str, cell: &Cell| {
                let (dataset, variant) = (csv_field(dataset), csv_field(&row.variant));
                text.push_str(&format!(
                    "{dataset},{role},{},{},{variant},{}\n",
                    row.method,
                    row.shots,
                    summary_csv(cell.summary)
                ));
            };
            add(self.source.as_deref().unwrap_or_default(), "source", &row.source);
            self.targets.iter().zip(&row.targets).for_each(|(target, cell)| add(target, "target", cell));
            add("average", "targets", &row.average);
            if self.targets.iter().any(|target| is_variant(target)) {
                add("average", "imagenet_variants", &row.variants_average);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, Known, matrix};
    use crate::job::outcome::TestResult;
    use crate::scheduler::JobStateName;

    #[test]
    fn variants_of_imagenet_have_a_mean_of_their_own() {
        let known = Known::built_in();
        let text = "name = \"x\"\nprotocol = \"cross_dataset\"\nbackbone = \"B\"\nmethods = [\"zero_shot\", \"mmrlpp\"]\n\
                    datasets = [\"dtd\", \"imagenet_a\", \"eurosat\", \"imagenet_r\"]\nseeds = [1, 3]";
        let experiment = Experiment::from_toml(text, &known).unwrap();
        let jobs = matrix::written_out(&experiment, &known);
        let accuracy = |dataset: &str| {
            ["imagenet", "dtd", "imagenet_a", "eurosat", "imagenet_r"].iter().position(|d| *d == dataset)
        };
        let results: Vec<TestResult> = jobs
            .iter()
            .map(|job| {
                let accuracy = 10.0 * accuracy(&job.spec.dataset).unwrap() as f64 + job.spec.seed as f64;
                TestResult { total: 1, correct: 0, accuracy, error: 0.0, macro_f1: 0.0, calibration_error: None }
            })
            .collect();
        let table = CrossDataset::new(
            jobs.iter().zip(&results).map(|(job, result)| Entry {
                spec: &job.spec,
                variant: &job.variant,
                state: JobStateName::Completed,
                result: Some(result),
            }),
            Methods::built_in(),
        );
        assert_eq!(
            table.grid(Methods::built_in()).markdown(),
            "| Data set |  | MMRL++ | CLIP (zero-shot) |\n\
             | --- | --- | --- | --- |\n\
             | imagenet | source | **2.00 ± 1.00** | <u>0.00</u> |\n\
             | dtd | target | **12.00 ± 1.00** | <u>10.00</u> |\n\
             | eurosat | target | **32.00 ± 1.00** | <u>30.00</u> |\n\
             | average |  | **22.00 ± 1.00** | <u>20.00</u> |\n\
             | imagenet_a | target | **22.00 ± 1.00** | <u>20.00</u> |\n\
             | imagenet_r | target | **42.00 ± 1.00** | <u>40.00</u> |\n\
             | average |  | **32.00 ± 1.00** | <u>30.00</u> |\n"
        );
        assert!(table.csv().contains("\naverage,imagenet_variants,mmrlpp,16,,32,1,2\n"), "{}", table.csv());
    }
}
