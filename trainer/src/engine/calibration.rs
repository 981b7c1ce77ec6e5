//! The expected calibration error (Guo et al. 2017): how far confidence and accuracy lie apart.

/// Bins of equal width between 0 and 1.
const BINS: usize = 15;

/// Predictions by their confidence.
#[derive(Clone, Debug, Default)]
pub(super) struct Calibration([Bin; BINS]);

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    images: u64,
    correct: u64,
    /// The sum of the confidences.
    confidence: f64,
}

impl Calibration {
    /// Counts one image; `confidence` is the predicted class's probability. A bin's upper edge belongs to it, as in the
    /// published code.
    pub(super) fn add(&mut self, confidence: f64, is_correct: bool) {
        let above = (confidence * BINS as f64).ceil() as usize;
        let bin = &mut self.0[above.saturating_sub(1).min(BINS - 1)];
        bin.images += 1;
        bin.correct += u64::from(is_correct);
        bin.confidence += confidence;
    }

    /// The sum over the bins of |accuracy − mean confidence| · share of the images, in per cent; `None` before the first image.
    pub(super) fn error(&self) -> Option<f64> {
        let images: u64 = self.0.iter().map(|bin| bin.images).sum();
        // In each bin the difference of two means, times its share, is the difference of two sums over all images.
        let gaps: f64 = self.0.iter().map(|bin| (bin.correct as f64 - bin.confidence).abs()).sum();
        (images > 0).then(|| 100.0 * gaps / images as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(predictions: &[(f64, bool)]) -> f64 {
        let mut calibration = Calibration::default();
        for &(confidence, is_correct) in predictions {
            calibration.add(confidence, is_correct);
        }
        calibration.error().unwrap()
    }

    #[test]
    fn the_error_is_the_mean_gap_between_confidence_and_accuracy() {
        assert!(error(&[(1.0, true), (1.0, true)]).abs() < 1e-12);
        assert!((error(&[(1.0, false)]) - 100.0).abs() < 1e-12);
        // By hand. The bin up to 14/15: accuracy 1/2, confidence 0.9. The one up to 9/15: accuracy 1, confidence 0.55 and 0.59.
        let expected = 100.0 * (0.5 * (0.9 - 0.5) + 0.5 * (1.0 - 0.57));
        assert!((error(&[(0.9, true), (0.9, false), (0.55, true), (0.59, true)]) - expected).abs() < 1e-12);
        assert_eq!(Calibration::default().error(), None);
    }

    #[test]
    fn errors_of_one_bin_cancel_and_those_of_two_do_not() {
        // An upper edge belongs to its bin: 0.2 is in the third of fifteen, with 0.15, and a little more is in the fourth.
        assert!((error(&[(0.2, true), (0.15, false)]) - 65.0 / 2.0).abs() < 1e-12);
        assert!((error(&[(0.201, true), (0.15, false)]) - 100.0 * f64::midpoint(0.799, 0.15)).abs() < 1e-12);
        assert!((error(&[(0.0, false), (1.0, true)])).abs() < 1e-12);
    }
}
