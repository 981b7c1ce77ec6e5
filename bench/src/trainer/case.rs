//! What is measured: a backbone, a number of classes and a batch.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::weights;
use super::work::Geometry;
use crate::args::TrainerArgs;

/// A CLIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Backbone {
    /// The bundled one
    Miniature,
    /// ViT-B/16 with random weights
    VitB16,
}

impl std::fmt::Display for Backbone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Miniature => "miniature",
            Self::VitB16 => "ViT-B/16",
        })
    }
}

impl Backbone {
    pub(super) const fn geometry(self) -> Geometry {
        match self {
            Self::Miniature => {
                Geometry { vision: [128, 4, 2], image: 64, patch: 16, text: [128, 3, 2], embedding: 128 }
            }
            Self::VitB16 => {
                Geometry { vision: [768, 12, 12], image: 224, patch: 16, text: [512, 12, 8], embedding: 512 }
            }
        }
    }

    /// Its weights file; random weights are made in `folder` and kept there.
    pub(super) fn weights(self, folder: &Path) -> Result<PathBuf> {
        match self {
            Self::Miniature => Ok(PathBuf::from("demo/clip-mini.safetensors")),
            Self::VitB16 => {
                let path = folder.join("vit-b16-random.safetensors");
                weights::make(&self.geometry(), &path)?;
                Ok(path)
            }
        }
    }
}

/// Classes and images of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) classes: u32,
    pub(crate) batch: u32,
}

/// `100x4`: 100 classes, batches of 4 images.
impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = |number: &str| number.parse().ok().filter(|number| *number > 0);
        let cell = text
            .split_once('x')
            .and_then(|(classes, batch)| Some(Self { classes: parse(classes)?, batch: parse(batch)? }));
        cell.ok_or_else(|| format!("`{text}` is not a number of classes and a batch, expected such as `100x4`"))
    }
}

/// The cells of the targets, with how many times more multiplications the plain order of operations takes than one in which
/// texts are cut and prefixes shared, without the cache and with it: what a step should be faster by.
pub(crate) const TARGETS: [(Cell, [f64; 2]); 7] = [
    (Cell { classes: 12, batch: 4 }, [1.65, 3.0]),
    (Cell { classes: 50, batch: 4 }, [2.5, 4.1]),
    (Cell { classes: 100, batch: 4 }, [3.4, 4.9]),
    (Cell { classes: 198, batch: 4 }, [4.4, 5.9]),
    (Cell { classes: 50, batch: 32 }, [1.5, 2.7]),
    (Cell { classes: 500, batch: 32 }, [2.8, 4.3]),
    (Cell { classes: 1000, batch: 32 }, [3.7, 5.3]),
];

impl Cell {
    pub(super) fn target(self) -> Option<[f64; 2]> {
        TARGETS.iter().find(|(cell, _)| *cell == self).map(|(_, target)| *target)
    }
}

/// A cell that is measured, and with what.
pub(super) struct Case<'a> {
    pub(super) cell: Cell,
    pub(super) weights: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) args: &'a TrainerArgs,
}

/// Representation tokens of both towers.
pub(super) const TOKENS: i64 = 5;

const TEMPLATE: &str = "a photo of a {}.";
const WORDS: [&str; 30] = [
    "red", "great", "wild", "small", "old", "northern", "golden", "river", "mountain", "sea", "stone", "garden",
    "house", "sparrow", "falcon", "otter", "maple", "orchid", "ferry", "tractor", "lantern", "violin", "bottle",
    "bridge", "castle", "harbour", "engine", "pickup", "market", "forest",
];

impl Case<'_> {
    /// The job of a replay.
    pub(super) fn job(&self) -> Value {
        json!({
            "method": "alignednorm", "classnames": classnames(self.cell.classes as usize), "template": TEMPLATE,
            "lr": 1e-3, "weight_decay": 5e-4,
            "overrides": {
                "alpha": 0.7, "beta": 0.9, "reg_weight": 1.0, "final_norm": 0.1, "seq_norm": 0.1,
                "n_rep_tokens": TOKENS, "rep_dim": 512, "res_lora_dim": 4, "proj_lora_dim": 64,
            },
        })
    }

    /// The class prompts.
    pub(super) fn prompts(&self) -> Vec<String> {
        classnames(self.cell.classes as usize).iter().map(|name| TEMPLATE.replace("{}", name)).collect()
    }
}

/// So many different names of one to three words.
fn classnames(count: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut index = 0;
    while names.len() < count {
        let word = |place: usize| WORDS[(index * 7 + place * 11 + index / WORDS.len() * (place + 1)) % WORDS.len()];
        let name = (0..=index % 3).map(word).collect::<Vec<_>>().join(" ");
        index += 1;
        // Where the words run out, a number makes the difference.
        let name = if index > WORDS.len() * WORDS.len() { format!("{name} {index}") } else { name };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_two_numbers() {
        assert_eq!("100x4".parse(), Ok(Cell { classes: 100, batch: 4 }));
        for wrong in ["100", "x4", "100x0", "1x2x3"] {
            assert!(wrong.parse::<Cell>().unwrap_err().contains(wrong));
        }
    }

    #[test]
    fn class_names_differ() {
        let mut names = classnames(1000);
        assert_eq!(names[..3], ["red", "river ferry", "falcon harbour golden"]);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 1000);
    }
}
