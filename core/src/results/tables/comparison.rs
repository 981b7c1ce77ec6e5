//! Published numbers beside our own.
//!
//! A row is compared only with numbers of the same thing: protocol, backbone, shots and data set are those of the paper, and
//! the values are the preset's. The average is compared only if it's over the same data sets.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::base_to_new::{BaseToNew, BaseToNewRow};
use super::{Entry, Grid};
use crate::method::{Declaration, Methods, Numbers, Published};
use crate::protocol::Protocol;
use crate::results::published::is_of;
use crate::results::stats::Summary;

/// The published numbers of a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Comparison {
    /// Accuracy on the base classes.
    pub base: Beside,
    /// Accuracy on the new classes.
    pub new: Beside,
    /// The harmonic mean.
    pub harmonic_mean: Beside,
}

/// A published number beside one of ours, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Beside {
    /// The published number.
    pub published: f64,
    /// Our mean less the published number; absent while there is none of ours.
    pub difference: Option<f64>,
}

impl Beside {
    fn new(ours: Option<Summary>, published: f64) -> Self {
        Self { published, difference: ours.map(|ours| ours.mean - published) }
    }

    /// `96.10 (+0.23)`.
    fn words(&self) -> String {
        match self.difference {
            None => format!("{:.2}", self.published),
            Some(difference) => format!("{:.2} ({})", self.published, signed(difference)),
        }
    }

    /// `published,difference`.
    fn csv(&self) -> String {
        let difference = self.difference.map_or_else(String::new, |difference| difference.to_string());
        format!("{},{difference}", self.published)
    }
}

/// Two places and a sign, which nothing that rounds to zero has.
fn signed(number: f64) -> String {
    let text = format!("{number:+.2}");
    match text.as_str() {
        "+0.00" | "-0.00" => "0.00".to_owned(),
        _ => text.replace('-', "−"),
    }
}

impl Comparison {
    fn new(row: &BaseToNewRow, numbers: Numbers) -> Self {
        Self {
            base: Beside::new(row.base.summary, numbers.base),
            new: Beside::new(row.new.summary, numbers.new),
            harmonic_mean: Beside::new(row.harmonic_mean, numbers.hm),
        }
    }

    /// The words below those of the row's own base, new and H.
    pub(super) fn words(&self) -> [String; 3] {
        [self.base, self.new, self.harmonic_mean].map(|beside| beside.words())
    }

    /// The CSV columns after the row's own; empty ones without a comparison.
    pub(super) fn csv(comparison: Option<&Self>) -> String {
        comparison.map_or_else(
            || ",,,,,".to_owned(),
            |Self { base, new, harmonic_mean }| format!("{},{},{}", base.csv(), new.csv(), harmonic_mean.csv()),
        )
    }
}

/// The columns of [`Comparison::csv`].
pub(super) const CSV_HEADER: &str =
    "base_published,base_difference,new_published,new_difference,harmonic_published,harmonic_difference";

/// Puts the published numbers beside the rows that they are of. `entries` are those that `table` was made of.
pub(super) fn compare<'a>(table: &mut BaseToNew, entries: impl IntoIterator<Item = Entry<'a>>, methods: &Methods) {
    let of = |method| -> Option<(&Declaration, &Published)> {
        let known = methods.get(method)?;
        let published = known.published.iter().find(|published| published.protocol == Protocol::BaseToNew)?;
        Some((known, published))
    };
    // Rows of which some job computes something else.
    let others: HashSet<_> = entries
        .into_iter()
        .filter(|entry| {
            let published = of(entry.spec.method);
            !published.is_some_and(|(known, published)| is_of(published, known, entry.spec, entry.variant))
        })
        .map(|entry| (entry.spec.dataset.as_str(), entry.spec.method, entry.spec.shots, entry.variant))
        .collect();
    let mut sources = BTreeSet::new();
    for row in &mut table.rows {
        let Some((dataset, (_, published))) = row.dataset.as_deref().zip(of(row.method)) else { continue };
        if others.contains(&(dataset, row.method, row.shots, row.variant.as_str())) {
            continue;
        }
        row.published = published.datasets.get(dataset).map(|&numbers| Comparison::new(row, numbers));
        sources.insert(published.source.clone());
    }
    for average in &mut table.average {
        let key = (average.method, average.shots, average.variant.as_str());
        let rows = || table.rows.iter().filter(|row| (row.method, row.shots, row.variant.as_str()) == key);
        let datasets = rows().filter_map(|row| row.dataset.as_deref()).collect();
        if rows().all(|row| row.published.is_some()) {
            let numbers = of(average.method).and_then(|(_, published)| published.average_over(&datasets));
            average.published = numbers.map(|numbers| Comparison::new(average, numbers));
        }
    }
    table.compared_with = Some(sources.into_iter().collect());
}

/// What a reader of a compared table must know.
pub(super) fn notes(sources: &[String], grid: &mut Grid) {
    if sources.is_empty() {
        let note =
            "No row has published numbers beside it: there are none of the same method, backbone, shots and values.";
        grid.notes.push(note.to_owned());
    }
    for source in sources {
        grid.notes.push(format!("published: {source}. In brackets: our mean less the published number."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, Known, matrix};
    use crate::input::InvalidInput;
    use crate::job::outcome::TestResult;
    use crate::protocol::Protocol;
    use crate::results::tables::{Format, ResultTable};
    use crate::scheduler::JobStateName;

    /// The compared table of an experiment whose jobs all have the accuracy 90, but for those of `missing`.
    fn compared(experiment: &str, missing: &str) -> Result<ResultTable, InvalidInput> {
        let known = Known::built_in();
        let experiment = Experiment::from_toml(&format!("name = \"x\"\n{experiment}"), &known).unwrap();
        let jobs = matrix::written_out(&experiment, &known);
        let result =
            TestResult { total: 10, correct: 9, accuracy: 90.0, error: 10.0, macro_f1: 90.0, calibration_error: None };
        let entries = jobs.iter().map(|job| Entry {
            spec: &job.spec,
            variant: &job.variant,
            state: JobStateName::Completed,
            result: (job.spec.dataset != missing).then_some(&result),
        });
        let mut table = ResultTable::new(experiment.protocol, entries.clone(), Methods::built_in());
        table.compare(entries, Methods::built_in()).map(|()| table)
    }

    fn base_to_new(more: &str) -> BaseToNew {
        let text = format!("protocol = \"base_to_new\"\n{more}");
        let Ok(ResultTable::BaseToNew(table)) = compared(&text, "") else { panic!("{more}") };
        table
    }

    const VIT: &str = "backbone = \"ViT-B/16\"\nmethods = [\"alignednorm\", \"zero_shot\"]";

    #[test]
    fn a_row_of_the_same_thing_has_the_published_numbers_beside_it() {
        let table = base_to_new(&format!("{VIT}\ndatasets = [\"eurosat\"]"));
        let [ours, zero_shot] = &table.rows[..] else { panic!("{table:?}") };
        let comparison = ours.published.unwrap();
        assert_eq!((comparison.base.published, comparison.new.published), (96.1, 86.63));
        assert!((comparison.base.difference.unwrap() + 6.1).abs() < 1e-9);
        assert_eq!((zero_shot.published, table.average[0].published), (None, None));
        assert_eq!(table.compared_with.as_ref().map(Vec::len), Some(1));
    }

    #[test]
    fn the_average_is_compared_over_the_same_data_sets_only() {
        let all = base_to_new(&format!("{VIT}\ndatasets = \"all\""));
        assert!(all.rows.iter().all(|row| row.published.is_some() == (row.method.key() == "alignednorm")));
        assert_eq!(all.average[0].published.map(|comparison| comparison.harmonic_mean.published), Some(81.45));
    }

    #[test]
    fn what_is_not_the_same_has_none() {
        let eurosat = "datasets = [\"eurosat\"]";
        let other_backbone = format!("{}\n{eurosat}", VIT.replace("ViT-B/16", "clip-mini"));
        for different in [
            other_backbone,
            format!("{VIT}\n{eurosat}\nshots = [8]"),
            format!("{VIT}\n{eurosat}\n[overrides]\nepochs = 3"),
            format!("{VIT}\n{eurosat}\n[sweep]\nepochs = [3, 10]"),
        ] {
            let table = base_to_new(&different);
            assert!(table.rows.iter().chain(&table.average).all(|row| row.published.is_none()), "{different}");
            assert_eq!(table.compared_with, Some(Vec::new()));
            assert!(table.grid(Methods::built_in()).notes[0].starts_with("No row has published numbers"));
        }
        let shots = base_to_new(&format!("{VIT}\n{eurosat}\nshots = [8, 16]"));
        assert!(shots.rows.iter().all(|row| row.published.is_some() == (row.shots == 16)));
        // Evaluating more often changes no number.
        let eval = base_to_new(&format!("{VIT}\n{eurosat}\n[overrides]\neval = {{ every_epochs = 2 }}"));
        assert!(eval.rows[0].published.is_some());
    }

    #[test]
    fn the_published_numbers_stand_below_ours_in_every_format() {
        let text = format!("protocol = \"base_to_new\"\n{VIT}\ndatasets = [\"eurosat\", \"dtd\"]");
        let table = compared(&text, "dtd").unwrap();
        let markdown = table.print(Format::Markdown, &[], Methods::built_in());
        assert!(
            markdown.starts_with(
                "| Data set | Method | Base | New | H |\n\
                 | --- | --- | --- | --- | --- |\n\
                 | eurosat | AlignedNorm | **90.00 ± 0.00** | **90.00 ± 0.00** | **90.00 ± 0.00** |\n\
                 |  | published | 96.10 (−6.10) | 86.63 (+3.37) | 91.12 (−1.12) |\n\
                 | eurosat | CLIP (zero-shot) | **90.00** | **90.00** | **90.00** |\n\
                 | dtd | AlignedNorm | – | – | – |\n\
                 |  | published | 84.63 | 65.23 | 73.67 |\n"
            ),
            "{markdown}"
        );
        let note = "\n\npublished: AlignedNorm (ICML 2026), base-to-new, ViT-B/16, 16 shots, mean over seeds 1-3, per cent; as \
                    quoted in the public Jittor port's results page. In brackets: our mean less the published number.\n";
        assert!(markdown.ends_with(note), "{markdown}");
        let latex = table.print(Format::Latex, &[], Methods::built_in());
        assert!(latex.contains(" & published & 96.10 ($-$6.10) & 86.63 (+3.37) & 91.12 ($-$1.12) \\\\\n"), "{latex}");
        assert!(latex.contains("\n% published: AlignedNorm"), "{latex}");
        let csv = table.print(Format::Csv, &[], Methods::built_in());
        let mut lines = csv.lines();
        assert!(lines.next().unwrap().ends_with(&format!("harmonic_n,{CSV_HEADER}")), "{csv}");
        assert!(lines.next().unwrap().starts_with("eurosat,alignednorm,16,,90,0,3,90,0,3,90,0,3,96.1,-6.0"), "{csv}");
        assert_eq!(lines.next(), Some("eurosat,zero_shot,0,,90,0,1,90,0,1,90,0,1,,,,,,"));
        assert_eq!(lines.next(), Some("dtd,alignednorm,16,,,,0,,,0,,,0,84.63,,65.23,,73.67,"));
        assert!(lines.all(|line| line.split(',').count() == 19), "{csv}");
    }

    #[test]
    fn differences_have_their_sign() {
        assert_eq!([0.234, -1.0, 0.004, -0.004, 10.0].map(signed), ["+0.23", "−1.00", "0.00", "0.00", "+10.00"]);
    }

    #[test]
    fn other_protocols_have_no_published_numbers() {
        for protocol in [Protocol::FewShot, Protocol::CrossDataset] {
            let text = format!("protocol = \"{protocol}\"\n{VIT}\ndatasets = [\"dtd\"]");
            let error = compared(&text, "").unwrap_err().errors.remove(0);
            assert_eq!((error.field.as_str(), error.value.as_str()), ("compare", "published"));
            assert!(error.expected.contains("`base_to_new`"), "{error}");
        }
    }
}
