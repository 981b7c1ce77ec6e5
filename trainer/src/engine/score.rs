//! From predictions to the numbers that are reported (method.md, section 4).

use std::collections::BTreeMap;

use promptfield_core::job::evaluation::{ClassCounts, Evaluation};
use promptfield_core::job::outcome::TestResult;

use super::calibration::Calibration;

/// Counts of one evaluation, by class.
#[derive(Clone, Debug)]
pub(super) struct Score {
    classes: Vec<Counts>,
}

/// Everything that a job's own evaluation counts.
#[derive(Clone, Debug)]
pub(super) struct FullScore {
    score: Score,
    /// Images of each class by the other class that they were taken for.
    confused: Vec<BTreeMap<u32, u64>>,
    calibration: Calibration,
}

/// The rates that a score comes to, in per cent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    /// 100·correct/total.
    pub(super) accuracy: f64,
    /// The mean over the classes that occur among the true labels, as Dassl's evaluator takes it.
    pub(super) macro_f1: f64,
}

/// What the F1 score of one class needs.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Images of the class.
    actual: u64,
    /// Images that were taken for the class.
    predicted: u64,
    /// Images of the class that were taken for it.
    correct: u64,
}

impl Score {
    /// No image seen yet.
    pub(super) fn new(classes: usize) -> Self {
        Self { classes: vec![Counts::default(); classes] }
    }

    /// Counts one image.
    ///
    /// # Panics
    /// If one of the labels isn't below the number of classes.
    pub(super) fn add(&mut self, predicted: usize, actual: usize) {
        self.classes[predicted].predicted += 1;
        self.classes[actual].actual += 1;
        self.classes[actual].correct += u64::from(predicted == actual);
    }

    fn total(&self) -> u64 {
        self.classes.iter().map(|class| class.actual).sum()
    }

    fn correct(&self) -> u64 {
        self.classes.iter().map(|class| class.correct).sum()
    }

    /// The rates; with no image at all each is 0.
    pub(super) fn rates(&self) -> Rates {
        let scores: Vec<f64> = self
            .classes
            .iter()
            .filter(|class| class.actual > 0)
            .map(|class| 2.0 * class.correct as f64 / (class.actual + class.predicted) as f64)
            .collect();
        let percent = |part: f64, whole: f64| if whole > 0.0 { 100.0 * part / whole } else { 0.0 };
        Rates {
            accuracy: percent(self.correct() as f64, self.total() as f64),
            macro_f1: percent(scores.iter().sum(), scores.len() as f64),
        }
    }
}

impl FullScore {
    /// No image seen yet.
    pub(super) fn new(classes: usize) -> Self {
        let confused = vec![BTreeMap::new(); classes];
        Self { score: Score::new(classes), confused, calibration: Calibration::default() }
    }

    /// Counts one image; `confidence` is the predicted class's probability.
    ///
    /// # Panics
    /// If one of the labels isn't below the number of classes.
    pub(super) fn add(&mut self, predicted: usize, actual: usize, confidence: f64) {
        self.score.add(predicted, actual);
        self.calibration.add(confidence, predicted == actual);
        if predicted != actual {
            *self.confused[actual].entry(predicted as u32).or_default() += 1;
        }
    }

    /// The numbers, in per cent.
    pub(super) fn result(&self) -> TestResult {
        let (total, correct) = (self.score.total(), self.score.correct());
        let Rates { accuracy, macro_f1 } = self.score.rates();
        let error = if total > 0 { 100.0 - accuracy } else { 0.0 };
        TestResult { total, correct, accuracy, error, macro_f1, calibration_error: self.calibration.error() }
    }

    /// The numbers by class.
    pub(super) fn evaluation(self, names: &[String]) -> Evaluation {
        let counts = self.score.classes.into_iter().zip(self.confused);
        let class = |(name, (counts, confused)): (&String, (Counts, BTreeMap<u32, u64>))| ClassCounts {
            name: name.clone(),
            images: counts.actual,
            predicted: counts.predicted,
            correct: counts.correct,
            confused: confused.into_iter().collect(),
        };
        Evaluation { format: Evaluation::FORMAT, classes: names.iter().zip(counts).map(class).collect() }
    }
}

/// A value and its mean since the start of an epoch: the two numbers of `val (avg)` in log lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RunningMean {
    /// The latest value.
    pub(super) value: f64,
    sum: f64,
    count: u64,
}

impl RunningMean {
    /// Takes one more value in.
    pub(super) fn add(&mut self, value: f64) {
        self.value = value;
        self.sum += value;
        self.count += 1;
    }

    /// The mean; 0 before the first value.
    pub(super) fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full_score(classes: usize, pairs: &[(usize, usize)]) -> FullScore {
        let mut score = FullScore::new(classes);
        for &(predicted, actual) in pairs {
            score.add(predicted, actual, 0.75);
        }
        score
    }

    fn score(classes: usize, pairs: &[(usize, usize)]) -> TestResult {
        full_score(classes, pairs).result()
    }

    #[test]
    fn macro_f1_is_the_mean_of_the_classes() {
        // By hand. Class 0: 2 of its 3 found, nothing else taken for it: 2·2/(3+2) = 0.8. Class 1: 1 of 2 found, taken
        // twice: 2·1/(2+2) = 0.5. Class 2: 1 of 1 found, taken twice: 2·1/(1+2) = 2/3.
        let result = score(3, &[(0, 0), (0, 0), (1, 0), (1, 1), (2, 1), (2, 2)]);
        assert_eq!((result.total, result.correct), (6, 4));
        assert!((result.accuracy - 100.0 * 4.0 / 6.0).abs() < 1e-12);
        assert!((result.error - 100.0 * 2.0 / 6.0).abs() < 1e-12);
        assert!((result.macro_f1 - 100.0 * (0.8 + 0.5 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_score_has_its_numbers_by_class() {
        let score = full_score(3, &[(0, 0), (0, 0), (2, 0), (1, 0), (2, 0), (1, 1), (2, 2)]);
        let result = score.result();
        // Always as confident, four of seven correct.
        assert!((result.calibration_error.unwrap() - 100.0 * (0.75 - 4.0 / 7.0)).abs() < 1e-12);
        let evaluation = score.evaluation(&["a", "b", "c"].map(str::to_owned));
        evaluation.check(&result).unwrap();
        let a = &evaluation.classes[0];
        assert_eq!((a.name.as_str(), a.images, a.predicted, a.correct), ("a", 5, 2, 2));
        assert_eq!(a.confused, [(1, 1), (2, 2)]);
    }

    #[test]
    fn classes_without_an_image_do_not_count() {
        // Class 2 never occurs but is predicted once: it lowers class 0's recall, and is no term of the mean itself.
        let result = score(4, &[(0, 0), (2, 0), (1, 1)]);
        assert!((result.macro_f1 - 100.0 * (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_class_that_is_never_found_scores_zero() {
        let result = score(2, &[(0, 0), (0, 1)]);
        assert!((result.macro_f1 - 100.0 * (2.0 / 3.0) / 2.0).abs() < 1e-12);
        assert!(score(2, &[]).macro_f1.abs() < 1e-12);
    }

    #[test]
    fn the_running_mean_keeps_the_latest_value_beside_it() {
        let mut mean = RunningMean::default();
        assert!(mean.mean().abs() < 1e-12);
        mean.add(1.0);
        mean.add(4.0);
        assert_eq!((mean.value, mean.mean()), (4.0, 2.5));
    }
}
