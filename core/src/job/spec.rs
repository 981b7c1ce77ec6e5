//! A job's specification and its identity.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::method::Method;
use crate::method::value::Values;
use crate::names::Precision;
use crate::protocol::{ClassSubset, Protocol, Stage};

/// Everything that changes a job's number, and nothing that doesn't, but for [`JobSpec::config`] and [`JobSpec::options`], which
/// [`JobSpec::hash`] leaves out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// The method.
    pub method: Method,
    /// The protocol.
    pub protocol: Protocol,
    /// The protocol's part that this job does.
    pub stage: Stage,
    /// The data set's key.
    pub dataset: String,
    /// The prompt template, `{}` standing for the class name.
    pub template: String,
    /// Training images per class; 0 for a method that learns nothing.
    pub shots: u32,
    /// The seed of every random draw; 0 for a method that learns nothing.
    pub seed: u64,
    /// The backbone's name: `ViT-B/16`.
    pub backbone: String,
    /// The configuration's name in output folders. It follows from the other fields.
    pub config: String,
    /// The method's values, resolved.
    pub hyper: Values,
    /// The method's values that change no number.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub options: Values,
    /// The arithmetic.
    pub precision: Precision,
    /// For a test of a trained checkpoint: the training job's identity.
    pub trained_by: Option<SpecHash>,
}

impl JobSpec {
    /// The job's identity: SHA-256 of the specification as JSON with sorted keys, whole numbers without a point: a program that reads
    /// and writes the specification may make `1` of `1.0`.
    pub fn hash(&self) -> SpecHash {
        let mut value = serde_json::json!(self);
        if let Some(fields) = value.as_object_mut() {
            fields.remove("config");
            fields.remove("options");
        }
        plain_numbers(&mut value["hyper"]);
        SpecHash(Sha256::digest(value.to_string()).into())
    }

    /// Whether the job's method learns anything.
    pub const fn learns(&self) -> bool {
        self.shots > 0
    }

    /// The classes that the job is evaluated on.
    pub const fn classes(&self) -> ClassSubset {
        ClassSubset::of(self.protocol, self.stage)
    }

    /// A short name for people: `train alignednorm on eurosat, 16 shots, seed 1`.
    pub fn title(&self) -> String {
        let Self { stage, method, dataset, shots, seed, .. } = self;
        if self.learns() {
            format!("{stage} {method} on {dataset}, {shots} shots, seed {seed}")
        } else {
            format!("{method} on {dataset}, {} classes", self.classes())
        }
    }

    /// The same with the sweep's values, if there are any: `train alignednorm on eurosat, 16 shots, seed 1, beta=0.1`.
    pub fn title_with(&self, variant: &str) -> String {
        let title = self.title();
        if variant.is_empty() { title } else { format!("{title}, {variant}") }
    }
}

/// What many jobs of a matrix share: a specification without its stage, its draw and the training job it rests on. The fields
/// are those of [`JobSpec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is explained at the field of the same name of `JobSpec`")]
pub struct Recipe {
    pub method: Method,
    pub protocol: Protocol,
    pub dataset: String,
    pub template: String,
    pub backbone: String,
    pub config: String,
    pub hyper: Values,
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub options: Values,
    pub precision: Precision,
}

/// A [`JobSpec`] in little memory, for who holds a million of them.
#[derive(Clone, Debug, PartialEq)]
pub struct CompactSpec {
    /// What it shares with other jobs.
    pub recipe: Arc<Recipe>,
    /// See [`JobSpec::stage`].
    pub stage: Stage,
    /// See [`JobSpec::shots`].
    pub shots: u32,
    /// See [`JobSpec::seed`].
    pub seed: u64,
    /// See [`JobSpec::trained_by`].
    pub trained_by: Option<SpecHash>,
}

impl CompactSpec {
    /// The specification, written out.
    pub fn to_spec(&self) -> JobSpec {
        let Self { stage, shots, seed, trained_by, .. } = *self;
        let Recipe { method, protocol, dataset, template, backbone, config, hyper, options, precision } =
            self.recipe.as_ref();
        JobSpec {
            method: *method,
            protocol: *protocol,
            stage,
            dataset: dataset.clone(),
            template: template.clone(),
            shots,
            seed,
            backbone: backbone.clone(),
            config: config.clone(),
            hyper: hyper.clone(),
            options: options.clone(),
            precision: *precision,
            trained_by,
        }
    }
}

impl From<JobSpec> for CompactSpec {
    fn from(spec: JobSpec) -> Self {
        let JobSpec { stage, shots, seed, trained_by, .. } = spec;
        let JobSpec { method, protocol, dataset, template, backbone, config, hyper, options, precision, .. } = spec;
        let recipe = Recipe { method, protocol, dataset, template, backbone, config, hyper, options, precision };
        Self { recipe: Arc::new(recipe), stage, shots, seed, trained_by }
    }
}

/// Computes [`JobSpec::hash`] of the many jobs of one recipe: what they share is put into words and hashed once.
#[derive(Clone, Debug)]
pub struct RecipeHasher {
    shared: Sha256,
    template: String,
}

impl RecipeHasher {
    /// Prepares for the jobs of a recipe.
    pub fn new(recipe: &Recipe) -> Self {
        let mut value = serde_json::json!(recipe);
        let mut template = String::new();
        if let Some(fields) = value.as_object_mut() {
            fields.remove("config");
            fields.remove("options");
            template = fields.remove("template").unwrap_or_default().to_string();
        }
        plain_numbers(&mut value["hyper"]);
        // The keys are sorted, and those of the recipe but for `template` come before those of a job.
        let text = value.to_string();
        let shared = Sha256::new().chain_update(text.strip_suffix('}').unwrap_or(&text));
        Self { shared, template }
    }

    /// The identity of one of its jobs.
    pub fn hash(&self, stage: Stage, shots: u32, seed: u64, trained_by: Option<SpecHash>) -> SpecHash {
        let trained_by = trained_by.map_or_else(|| "null".to_owned(), |hash| format!("\"{hash}\""));
        let own = format!(
            ",\"seed\":{seed},\"shots\":{shots},\"stage\":\"{stage}\",\"template\":{},\"trained_by\":{trained_by}}}",
            self.template
        );
        SpecHash(self.shared.clone().chain_update(own).finalize().into())
    }
}

/// What tells a configuration's name from the preset's: eight digits of the SHA-256 of its values as JSON.
pub fn config_tag(values: &str) -> String {
    hex(&Sha256::digest(values)[..4])
}

/// Writes whole numbers without a point, and zero without a sign.
fn plain_numbers(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Number(number) => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < EXACT);
            if let Some(whole) = whole {
                *number = (whole as i64).into();
            }
        }
        serde_json::Value::Array(entries) => entries.iter_mut().for_each(plain_numbers),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(plain_numbers),
        _ => {}
    }
}

/// Whole numbers below this are exact as a 64-bit float.
const EXACT: f64 = (1_u64 << 53) as f64;

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Whether a text is a SHA-256 as [`hex`] writes it.
pub fn is_sha256(text: &str) -> bool {
    is_hex(text, 64)
}

/// Whether a text is so many digits as [`hex`] writes them.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Declares a SHA-256 with a meaning of its own; as text 64 lower-case hexadecimal digits.
macro_rules! sha256 {
    ($(#[$meta:meta])* $name:ident, $what:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, utoipa::ToSchema)]
        #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
        pub struct $name(pub [u8; 32]);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotAHash;

            fn from_str(text: &str) -> Result<Self, NotAHash> {
                bytes_of(text).map(Self).ok_or(NotAHash($what))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

sha256!(
    /// SHA-256 of a specification.
    SpecHash,
    "a specification's hash"
);
sha256!(
    /// SHA-256 of something that a number rests on: weights, a split, a test list.
    BasisHash,
    "a SHA-256"
);

impl BasisHash {
    /// Its first twelve digits, which tell people enough.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }
}

/// A text that isn't 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("{0} is 64 hexadecimal digits")]
pub struct NotAHash(&'static str);

fn bytes_of(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, Known, matrix};

    #[test]
    fn a_specification_that_another_program_wrote_again_is_the_same() {
        let text = "name = \"x\"\nprotocol = \"base_to_new\"\nbackbone = \"ViT-B/16\"\nmethods = [\"alignednorm\"]\n\
             datasets = [\"dtd\"]\nseeds = [1]\n[overrides]\nreg_weight = 1.0\nfinal_norm = 0.0";
        let known = Known::built_in();
        let jobs = matrix::expand(&Experiment::from_toml(text, &known).unwrap(), &known).unwrap();
        let spec = jobs[0].spec.to_spec();
        let written = serde_json::json!(spec).to_string();
        assert!(written.contains("\"reg_weight\":1.0") && written.contains("\"final_norm\":0.0"), "{written}");
        for (whole, zero) in [("1", "0"), ("1e0", "-0.0"), ("1.00", "-0")] {
            let again = written.replace("\"reg_weight\":1.0", &format!("\"reg_weight\":{whole}"));
            let again = again.replace("\"final_norm\":0.0", &format!("\"final_norm\":{zero}"));
            let read: JobSpec = serde_json::from_str(&again).unwrap();
            assert_eq!((read.hash(), jobs[0].hash), (spec.hash(), spec.hash()), "{whole}, {zero}");
        }
    }
}
