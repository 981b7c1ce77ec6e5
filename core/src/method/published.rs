//! Published results: what a paper's table says of a method, as its declaration holds it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::input::InvalidInput;
use crate::protocol::Protocol;

/// A method's published results under one protocol.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Where the numbers stand.
    pub source: String,
    /// What was measured.
    pub protocol: Protocol,
    /// The backbone.
    pub backbone: String,
    /// Training images per class.
    pub shots: u32,
    /// The seeds that the numbers are the means of.
    pub seeds: Vec<u64>,
    /// By the data set's key.
    pub datasets: BTreeMap<String, Numbers>,
    /// The means over all of the data sets.
    pub average: Numbers,
}

/// A published row, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbers {
    /// Accuracy on the base classes.
    pub base: f64,
    /// Accuracy on the new classes.
    pub new: f64,
    /// The harmonic mean of the two.
    pub hm: f64,
}

impl Published {
    /// Refuses numbers that are no rates, and results without a source. `field` is where they stand.
    pub(super) fn check(&self, field: &str) -> Result<(), InvalidInput> {
        if self.source.trim().is_empty() {
            return Err(InvalidInput::new(format!("{field}.source"), &self.source, "where the numbers stand"));
        }
        let average = [("average", &self.average)].into_iter();
        for (row, numbers) in self.datasets.iter().map(|(key, numbers)| (key.as_str(), numbers)).chain(average) {
            for (name, rate) in [("base", numbers.base), ("new", numbers.new), ("hm", numbers.hm)] {
                if !(0.0..=100.0).contains(&rate) {
                    return Err(InvalidInput::new(format!("{field}.{row}.{name}"), rate, "a number from 0 to 100"));
                }
            }
        }
        Ok(())
    }

    /// The published average, if it's over just these data sets.
    pub fn average_over(&self, datasets: &BTreeSet<&str>) -> Option<Numbers> {
        self.datasets.keys().map(String::as_str).eq(datasets.iter().copied()).then_some(self.average)
    }
}
