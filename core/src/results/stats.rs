//! Means over seeds and data sets (method.md, section 7).

use serde::{Deserialize, Serialize};

/// A mean, and how it varies over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The population standard deviation (division by n).
    pub std: f64,
    /// How many seeds the deviation is over; there is none over one.
    pub n: usize,
}

impl Summary {
    /// The summary of `values`; `None` for none.
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
        Some(Self { mean, std: variance.sqrt(), n: values.len() })
    }

    /// Half the width of the 95 % interval, 1.96·std/√n.
    pub fn interval95(&self) -> f64 {
        1.96 * self.std / (self.n as f64).sqrt()
    }
}

/// `2·B·N/(B+N)`; 0 when both are 0.
pub fn harmonic_mean(base: f64, new: f64) -> f64 {
    if base + new > 0.0 { 2.0 * base * new / (base + new) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deviation_is_the_population_s() {
        let summary = Summary::of(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((summary.mean, summary.n), (2.5, 4));
        assert!((summary.std - 1.25_f64.sqrt()).abs() < 1e-12);
        assert!((summary.interval95() - 1.96 * 1.25_f64.sqrt() / 2.0).abs() < 1e-12);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_harmonic_mean_matches_a_published_row() {
        // MMRL on EuroSAT: base 96.1, new 72.33, harmonic mean 82.54 (data/published_results.json).
        assert!((harmonic_mean(96.1, 72.33) - 82.54).abs() < 0.005);
        assert!(harmonic_mean(0.0, 0.0).abs() < f64::EPSILON);
    }
}
