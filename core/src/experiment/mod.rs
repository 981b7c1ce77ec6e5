//! Experiments: what a researcher asks for (interfaces.md, section 6).

pub mod dataset;
pub mod matrix;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::experiment::dataset::{Catalogue, DEFAULT_SOURCE, all_of};
use crate::experiment::matrix::MOST_JOBS;
use crate::input::{InvalidInput, Refusals, from_toml, from_value, one_of};
use crate::job::spec::SpecHash;
use crate::method::value::Values;
use crate::method::{Method, Methods};
use crate::names::{Precision, shown_name};
use crate::protocol::Protocol;

/// Methods × data sets × seeds × shots under one protocol.
///
/// What is deserialised was accepted once, and isn't checked again: the names that it uses may no longer be known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Experiment {
    /// A name for people; two experiments may share one.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The methods, each once.
    pub methods: Vec<Method>,
    /// The data sets' keys, each once; under cross-dataset transfer the targets.
    pub datasets: Vec<String>,
    /// Under cross-dataset transfer, what is trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The seeds, each once.
    pub seeds: Vec<u64>,
    /// Training images per class, each once.
    pub shots: Vec<u32>,
    /// The backbone's name.
    pub backbone: String,
    /// The arithmetic.
    #[serde(default)]
    #[schema(required = true)]
    pub precision: Precision,
    /// Jobs of greater priority run first.
    #[serde(default)]
    #[schema(required = true)]
    pub priority: i32,
    /// At most so many of its jobs run at once; `None` for as many as there is room for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Only workers that carry all of these labels get its jobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Values that replace the presets'.
    #[serde(default)]
    #[schema(required = true)]
    pub overrides: OverrideTable,
    /// Keys with several values each; every combination multiplies the matrix.
    #[serde(default)]
    #[schema(required = true)]
    pub sweep: BTreeMap<String, Vec<Value>>,
}

/// Overrides for every job, and for the jobs of single data sets.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OverrideTable {
    /// For every job.
    #[serde(flatten)]
    pub all: Values,
    /// For the jobs of one data set, by its key.
    #[serde(flatten)]
    pub datasets: BTreeMap<String, Values>,
}

impl<'de> Deserialize<'de> for OverrideTable {
    /// Reads a table that was accepted once. Of its keys, those with a table are data sets, but for the methods' own tables.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Self::default();
        for (key, value) in BTreeMap::<String, Value>::deserialize(deserializer)? {
            if value.is_object() && Methods::built_in().value(&key, &[]).is_none() {
                let values = serde_json::from_value(value).map_err(serde::de::Error::custom)?;
                table.datasets.insert(key, values);
            } else {
                table.all.0.insert(key, value);
            }
        }
        Ok(table)
    }
}

impl utoipa::PartialSchema for OverrideTable {
    /// The keys of [`Values`], and any other key with such a table of its own.
    fn schema() -> RefOr<Schema> {
        match Values::schema() {
            RefOr::T(Schema::Object(mut table)) => {
                table.description = Some("Overrides for every job, and by data set for the jobs of one.".to_owned());
                table.additional_properties = Some(Box::new(Ref::from_schema_name(Values::name()).into()));
                table.into()
            }
            other => other,
        }
    }
}

impl utoipa::ToSchema for OverrideTable {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Values::name().into(), Values::schema()));
        Values::schemas(schemas);
    }
}

/// An experiment as written: names are checked when it's read, and what is absent gets the usual value.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ExperimentDocument)]
pub struct Document {
    /// A name for people; two experiments may share one.
    name: String,
    /// The protocol.
    #[schema(value_type = Protocol)]
    protocol: Value,
    /// The methods, each once.
    #[schema(value_type = Vec<Method>)]
    methods: Vec<Value>,
    /// The data sets' keys, each once.
    datasets: Datasets,
    /// Only under cross-dataset transfer: what is trained on.
    #[serde(default)]
    source: Option<String>,
    /// The seeds, each once.
    #[serde(default = "default_seeds")]
    seeds: Vec<u64>,
    /// Training images per class, each once.
    #[serde(default = "default_shots")]
    shots: Vec<u32>,
    /// The backbone's name.
    backbone: String,
    /// The arithmetic; `fp32` if absent.
    #[serde(default)]
    #[schema(value_type = Option<Precision>)]
    precision: Option<Value>,
    /// Jobs of greater priority run first.
    #[serde(default)]
    priority: i32,
    /// At most so many of its jobs run at once; absent: as many as there is room for.
    #[serde(default)]
    max_running: Option<u32>,
    /// Only workers that carry all of these labels get its jobs.
    #[serde(default)]
    labels: Vec<String>,
    /// Values that replace the presets': for every job, and by data set.
    #[serde(default)]
    #[schema(value_type = OverrideTable)]
    overrides: serde_json::Map<String, Value>,
    /// Keys with several values each; every combination multiplies the matrix.
    #[serde(default)]
    sweep: BTreeMap<String, Vec<Value>>,
}

/// A list of data sets, or `all` for those of the protocol.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected a list of data sets, or \"all\"")]
enum Datasets {
    Word(String),
    List(Vec<String>),
}

fn default_seeds() -> Vec<u64> {
    vec![1, 2, 3]
}

fn default_shots() -> Vec<u32> {
    vec![16]
}

/// The names that an experiment may use on this coordinator.
#[derive(Clone, Debug)]
pub struct Known {
    /// Data sets.
    pub datasets: Catalogue,
    /// Methods.
    pub methods: Arc<Methods>,
    /// Backbones; empty if the coordinator doesn't know what its workers have.
    pub backbones: Vec<String>,
}

impl Known {
    /// The data sets of the literature and the built-in methods, under any backbone.
    pub fn built_in() -> Self {
        let methods = Arc::clone(Methods::built_in());
        Self { datasets: Catalogue::built_in(), methods, backbones: Vec::new() }
    }
}

impl Document {
    /// Refuses lists that can't be right for their lengths alone, before any of their entries is looked at.
    fn check_lengths(&self, known: &Known) -> Result<(), InvalidInput> {
        let Self { methods, datasets, seeds, shots, labels, overrides, sweep, .. } = self;
        let listed = match datasets {
            Datasets::Word(_) => 0,
            Datasets::List(list) => list.len(),
        };
        let known_sets = known.datasets.keys().count();
        let known_values = known.methods.values().count();
        let swept = sweep.values().map(Vec::len).max().unwrap_or_default();
        for (field, found, most) in [
            ("methods", methods.len(), known.methods.list().len() + SLIPS),
            ("datasets", listed, known_sets + SLIPS),
            ("seeds", seeds.len(), MOST_JOBS),
            ("shots", shots.len(), MOST_JOBS),
            ("labels", labels.len(), MOST_LABELS),
            ("overrides", overrides.len(), known_sets + known_values + SLIPS),
            ("sweep", sweep.len(), known_values + SLIPS),
            ("sweep", swept, MOST_JOBS),
        ] {
            if found > most {
                return Err(InvalidInput::new(field, format!("{found} entries"), format!("at most {most}")));
            }
        }
        Ok(())
    }
}

impl Experiment {
    /// Reads and checks an experiment file.
    pub fn from_toml(text: &str, known: &Known) -> Result<Self, InvalidInput> {
        Self::from_document(from_toml(text)?, known)
    }

    /// Reads and checks the same as JSON.
    pub fn from_json(value: Value, known: &Known) -> Result<Self, InvalidInput> {
        Self::from_document(from_value(value)?, known)
    }

    fn from_document(document: Document, known: &Known) -> Result<Self, InvalidInput> {
        document.check_lengths(known)?;
        let mut refusals = Refusals::default();
        refusals.keep(shown_name("name", &document.name));
        let protocol = refusals.keep(named::<Protocol>(&document.protocol, "protocol"));
        let methods: Vec<Method> = document
            .methods
            .iter()
            .enumerate()
            .filter_map(|(i, method)| refusals.keep(method_of(method, &format!("methods[{i}]"), known)))
            .collect();
        let datasets = match document.datasets {
            Datasets::Word(word) if word == "all" => protocol.map(all_of).unwrap_or_default(),
            Datasets::Word(word) => {
                refusals.add(InvalidInput::new("datasets", word, "a list of data sets, or `all`"));
                Vec::new()
            }
            Datasets::List(list) => {
                for (i, key) in list.iter().enumerate() {
                    refusals.keep(known.datasets.get(key).map_err(|error| renamed(error, &format!("datasets[{i}]"))));
                }
                list
            }
        };
        let source = refusals.keep(source(document.source, protocol, &datasets, known)).flatten();
        if known.backbones.is_empty() {
            refusals.keep(shown_name("backbone", &document.backbone));
        } else if !known.backbones.contains(&document.backbone) {
            let allowed = one_of(&document.backbone, known.backbones.iter().map(String::as_str));
            refusals.add(InvalidInput::new("backbone", &document.backbone, allowed));
        }
        if document.shots.contains(&0) {
            refusals.add(InvalidInput::new("shots", 0, "whole numbers of at least 1"));
        }
        if document.max_running == Some(0) {
            refusals.add(InvalidInput::new("max_running", 0, "a whole number of at least 1"));
        }
        if let Some((i, label)) = document.labels.iter().enumerate().find(|(_, label)| !is_label(label)) {
            refusals.add(InvalidInput::new(format!("labels[{i}]"), label, LABEL));
        }
        let precision = match &document.precision {
            None => Some(Precision::default()),
            Some(value) => refusals.keep(named::<Precision>(value, "precision")),
        };
        let overrides = refusals.keep(override_table(document.overrides, &methods, known)).unwrap_or_default();
        for (key, values) in &document.sweep {
            refusals.keep(check_sweep(key, values, &methods, known));
        }
        refusals.keep(each_once("methods", document.methods.iter().map(ToString::to_string)));
        refusals.keep(each_once("datasets", &datasets));
        refusals.keep(each_once("seeds", document.seeds.iter().map(ToString::to_string)));
        refusals.keep(each_once("shots", document.shots.iter().map(ToString::to_string)));
        let (Some(protocol), Some(precision)) = (protocol, precision) else {
            return Err(refusals.finish(()).expect_err("a name that could not be read was noted"));
        };
        refusals.finish(Self {
            name: document.name,
            protocol,
            methods,
            datasets,
            source,
            seeds: document.seeds,
            shots: document.shots,
            backbone: document.backbone,
            precision,
            priority: document.priority,
            max_running: document.max_running,
            labels: document.labels,
            overrides,
            sweep: document.sweep,
        })
    }

    /// The experiment's identity: submitting the same one again changes nothing.
    pub fn hash(&self) -> SpecHash {
        SpecHash(Sha256::digest(serde_json::json!(self).to_string()).into())
    }

    /// The overrides of a data set's jobs, without the sweep's.
    pub fn overrides_for(&self, dataset: &str) -> Values {
        match self.overrides.datasets.get(dataset) {
            Some(narrower) => self.overrides.all.with(narrower),
            None => self.overrides.all.clone(),
        }
    }

    /// The combinations of the sweep: a label and the values, one entry with an empty label without a sweep.
    pub fn variants(&self) -> Vec<(String, Values)> {
        let mut variants = vec![(Vec::new(), Values::default())];
        for (key, values) in &self.sweep {
            variants = variants
                .into_iter()
                .flat_map(|(label, chosen)| {
                    values.iter().map(move |value| {
                        let (mut label, mut chosen) = (label.clone(), chosen.clone());
                        label.push(format!("{key}={value}"));
                        chosen.0.insert(key.clone(), value.clone());
                        (label, chosen)
                    })
                })
                .collect();
        }
        variants.into_iter().map(|(label, chosen)| (label.join(" "), chosen)).collect()
    }
}

/// So many wrong names in a list beside all that are right are named by themselves, rather than the list refused for its length.
const SLIPS: usize = 100;

/// The most labels that an experiment asks for.
pub const MOST_LABELS: usize = 100;

/// What a worker's label may be.
pub const LABEL: &str = "1 to 100 letters, digits, `-`, `_`, `.` or `=`";

/// Whether a text is a [`LABEL`].
pub fn is_label(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'='))
}

fn named<T: std::str::FromStr<Err = InvalidInput>>(value: &Value, field: &str) -> Result<T, InvalidInput> {
    let text = value.as_str().ok_or_else(|| InvalidInput::new(field, value, "a name"))?;
    text.parse().map_err(|error| renamed(error, field))
}

fn renamed(mut error: InvalidInput, field: &str) -> InvalidInput {
    for error in &mut error.errors {
        field.clone_into(&mut error.field);
    }
    error
}

/// What cross-dataset transfer trains on; the other protocols have no such thing.
fn source(
    given: Option<String>,
    protocol: Option<Protocol>,
    targets: &[String],
    known: &Known,
) -> Result<Option<String>, InvalidInput> {
    if protocol != Some(Protocol::CrossDataset) {
        return match given {
            Some(key) => Err(InvalidInput::new("source", key, "nothing: only `cross_dataset` has a source")),
            None => Ok(None),
        };
    }
    let key = given.unwrap_or_else(|| DEFAULT_SOURCE.to_owned());
    known.datasets.get(&key).map_err(|error| renamed(error, "source"))?;
    if targets.contains(&key) {
        return Err(InvalidInput::new("datasets", key, "targets other than the source, which is tested in any case"));
    }
    Ok(Some(key))
}

fn each_once<T: AsRef<str>>(field: &str, values: impl IntoIterator<Item = T>) -> Result<(), InvalidInput> {
    let mut seen = std::collections::BTreeSet::new();
    for value in values {
        if !seen.insert(value.as_ref().to_owned()) {
            return Err(InvalidInput::new(field, value.as_ref(), "each value once"));
        }
    }
    if seen.is_empty() { Err(InvalidInput::new(field, "[]", "at least one value")) } else { Ok(()) }
}

/// Reads the overrides of an experiment over `methods`: values, and tables of values by data set.
fn override_table(
    table: serde_json::Map<String, Value>,
    methods: &[Method],
    known: &Known,
) -> Result<OverrideTable, InvalidInput> {
    let (mut read, mut refusals) = (OverrideTable::default(), Refusals::default());
    let (values, others): (Vec<_>, Vec<_>) =
        table.into_iter().partition(|(key, value)| known.methods.value(key, methods).is_some() || !value.is_object());
    read.all = refusals.keep(known.methods.read("overrides", methods, values)).unwrap_or_default();
    for (key, value) in others {
        if known.datasets.get(&key).is_err() {
            let allowed = one_of(&key, known.datasets.keys());
            refusals.add(InvalidInput::new("overrides", key, format!("a data set: {allowed}")));
        } else if let Value::Object(own) = value {
            let values = known.methods.read(&format!("overrides.{key}"), methods, own);
            read.datasets.insert(key, refusals.keep(values).unwrap_or_default());
        }
    }
    refusals.finish(read)
}

fn check_sweep(key: &str, values: &[Value], methods: &[Method], known: &Known) -> Result<(), InvalidInput> {
    if !known.methods.value(key, methods).is_some_and(|declaration| declaration.identity) {
        return Err(InvalidInput::new("sweep", key, known.methods.known_value(key, |value| value.identity)));
    }
    let read = values
        .iter()
        .enumerate()
        .map(|(i, value)| known.methods.read_value(&format!("sweep.{key}[{i}]"), methods, key, value));
    let read = read.collect::<Result<Vec<_>, _>>()?;
    each_once(&format!("sweep.{key}"), read.iter().map(ToString::to_string))
}

fn method_of(value: &Value, field: &str, known: &Known) -> Result<Method, InvalidInput> {
    let key = value.as_str().ok_or_else(|| InvalidInput::new(field, value, "a name"))?;
    Ok(known.methods.known(field, key)?.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn known() -> Known {
        Known { backbones: vec!["ViT-B/16".into()], ..Known::built_in() }
    }

    const TEXT: &str = r#"
        name = "b2n"
        protocol = "base_to_new"
        methods = ["alignednorm", "zero_shot"]
        datasets = ["eurosat", "dtd"]
        backbone = "ViT-B/16"
        [overrides]
        lr = 0.01
        [overrides.eurosat]
        beta = 0.3
        [sweep]
        alpha = [0.5, 0.7]
        beta = [0.1, 0.2]
    "#;

    fn errors(from: &str, to: &str) -> Vec<String> {
        let error = Experiment::from_toml(&TEXT.replace(from, to), &known()).unwrap_err();
        error.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn long_lists_are_refused_by_their_length_and_many_errors_are_counted() {
        let list = |count: usize| {
            let names: Vec<String> = (0..count).map(|name| format!("\"d{name}\"")).collect();
            errors("[\"eurosat\", \"dtd\"]", &format!("[{}]", names.join(", ")))
        };
        let known_sets = known().datasets.keys().count();
        let most = known_sets + SLIPS;
        let expected = format!("`datasets`: `{} entries` is not valid: expected at most {most}", most + 1);
        assert_eq!(list(most + 1), [expected]);
        let methods: Vec<String> = (0..5).map(|name| format!("\"m{name}\"")).collect();
        let text = TEXT.replace("\"alignednorm\", \"zero_shot\"", &methods.join(", "));
        let names: Vec<String> = (0..known_sets).map(|name| format!("\"d{name}\"")).collect();
        let text = text.replace("\"eurosat\", \"dtd\"", &names.join(", ")).replace("\"b2n\"", "\"\"");
        let text = text.replace("labels", "x");
        let error = Experiment::from_toml(&text, &known()).unwrap_err();
        assert_eq!(error.errors.len(), 20);
        assert!(error.errors[19].expected.ends_with("; and 1 more errors"), "{error}");
    }

    #[test]
    fn defaults_are_the_literature_s() {
        let experiment = Experiment::from_toml(TEXT, &known()).unwrap();
        assert_eq!((experiment.seeds.as_slice(), experiment.shots.as_slice()), (&[1, 2, 3][..], &[16][..]));
        let eurosat = experiment.overrides_for("eurosat");
        assert_eq!((eurosat.number("lr"), eurosat.number("beta")), (Some(0.01), Some(0.3)));
        assert_eq!(experiment.overrides_for("dtd").get("beta"), None);
    }

    #[test]
    fn the_sweep_makes_every_combination() {
        let variants = Experiment::from_toml(TEXT, &known()).unwrap().variants();
        let labels: Vec<_> = variants.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["alpha=0.5 beta=0.1", "alpha=0.5 beta=0.2", "alpha=0.7 beta=0.1", "alpha=0.7 beta=0.2"]);
        assert_eq!(variants[3].1.number("alpha"), Some(0.7));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        assert!(errors("\"zero_shot\"", "\"zeroshot\"")[0].contains("`methods[1]`: `zeroshot`"));
        assert!(errors("\"dtd\"", "\"dtdd\"")[0].contains("did you mean `dtd`?"));
        assert!(errors("lr = 0.01", "learning_rate = 0.01")[0].starts_with("`overrides`: `learning_rate`"));
        assert!(errors("beta = 0.3", "bata = 0.3")[0].contains("`overrides.eurosat`: `bata`"));
        assert!(errors("[overrides.eurosat]", "[overrides.eurosta]")[0].contains("did you mean `eurosat`?"));
        assert!(errors("alpha = [0.5", "alpha = [5.0")[0].starts_with("`sweep.alpha[0]`"));
        assert!(errors("ViT-B/16", "ViT-B/32")[0].starts_with("`backbone`"));
        assert!(errors("name =", "seeds = [1, 1]\nname =")[0].starts_with("`seeds`: `1`"));
        assert!(errors("name =", "seeds = [\"x\"]\nname =")[0].starts_with("`seeds[0]`: `x`"));
        assert!(errors("name =", "shots = [0]\nname =")[0].starts_with("`shots`: `0`"));
        assert!(errors("name =", "max_running = 0\nname =")[0].starts_with("`max_running`: `0`"));
        assert!(errors("name =", "labels = [\"a100\", \"a 100\"]\nname =")[0].starts_with("`labels[1]`: `a 100`"));
        assert!(errors("base_to_new", "base_to_old")[0].contains("did you mean `base_to_new`?"));
        assert!(errors("name =", "source = \"dtd\"\nname =")[0].contains("only `cross_dataset` has a source"));
        assert!(errors("base_to_new\"", "cross_dataset\"\nsource = \"dtd\"")[0].starts_with("`datasets`: `dtd`"));
        assert!(errors("[\"eurosat\", \"dtd\"]", "\"everything\"")[0].starts_with("`datasets`: `everything`"));
    }

    #[test]
    fn the_hash_depends_on_what_is_asked_for() {
        let one = Experiment::from_toml(TEXT, &known()).unwrap();
        let other = Experiment::from_toml(&TEXT.replace("0.01", "0.02"), &known()).unwrap();
        assert_eq!(one.hash(), one.clone().hash());
        assert_ne!(one.hash(), other.hash());
    }
}
