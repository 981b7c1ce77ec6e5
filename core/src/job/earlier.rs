//! Specifications as versions before 0.4 wrote them: a job carried the values of every method, 0 where its own method hadn't one.
//!
//! Databases, manifests and checkpoints have such documents. Here they are read, and here alone is known what identity and what folder
//! a job of today had then.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::input::{InvalidInput, from_value};
use crate::job::spec::{JobSpec, SpecHash, config_tag};
use crate::method::Methods;
use crate::method::value::Values;

/// The values that every job had, each with what stood for none.
const EVERY_JOBS: [(&str, Zero); 16] = [
    ("epochs", Zero::Whole),
    ("lr", Zero::Number),
    ("warmup_epochs", Zero::Whole),
    ("warmup_lr", Zero::Number),
    ("weight_decay", Zero::Number),
    ("train_batch", Zero::Whole),
    ("test_batch", Zero::Whole),
    ("alpha", Zero::Number),
    ("beta", Zero::Number),
    ("reg_weight", Zero::Number),
    ("final_norm", Zero::Number),
    ("seq_norm", Zero::Number),
    ("rep_dim", Zero::Whole),
    ("n_rep_tokens", Zero::Whole),
    ("proj_lora_dim", Zero::Whole),
    ("res_lora_dim", Zero::Whole),
];

#[derive(Clone, Copy)]
enum Zero {
    Whole,
    Number,
}

/// Whether a specification's document, or that of a recipe, is an earlier one: only those have `eval` among what changes a number.
pub fn is_earlier(document: &Value) -> bool {
    document["hyper"].get("eval").is_some()
}

/// The identity that the specification of an earlier document had.
pub fn identity(document: &Value) -> SpecHash {
    let mut document = document.clone();
    if let Some(fields) = document.as_object_mut() {
        fields.remove("config");
    }
    if let Some(hyper) = document["hyper"].as_object_mut() {
        hyper.remove("eval");
    }
    SpecHash(Sha256::digest(document.to_string()).into())
}

/// Brings the values of an earlier document, a specification's or a recipe's, to today's form. Those of a method that isn't known
/// stay as they are.
///
/// The configuration's name follows, but for a cross-dataset test with values of its own: it has its training's name.
pub fn update(document: &mut Value, methods: &Methods) -> Result<(), InvalidInput> {
    let earlier_config = config_of(document);
    let mut values: BTreeMap<String, Value> = from_value(document["hyper"].clone())?;
    let known = document["method"].as_str().and_then(|key| methods.known("method", key).ok());
    let (hyper, options) = if let Some(known) = known {
        values.retain(|name, _| known.values.contains_key(name));
        known.resolved("hyper", &Values(values))?
    } else {
        let eval = values.remove("eval").map(|eval| ("eval".to_owned(), eval));
        (Values(values), Values(eval.into_iter().collect()))
    };
    if document["config"] == json!(earlier_config) && known.is_some() {
        let name = earlier_config.rsplit_once('-').map_or(earlier_config.as_str(), |(name, _)| name);
        document["config"] =
            json!(format!("{name}-{}", config_tag(&json!([hyper, document["precision"]]).to_string())));
    }
    document["hyper"] = json!(hyper);
    if !options.is_empty() {
        document["options"] = json!(options);
    }
    Ok(())
}

/// The configuration's name of a document if it carries the tag that earlier versions made of the document's own values; else without
/// any meaning.
fn config_of(document: &Value) -> String {
    let mut hyper = document["hyper"].clone();
    hyper["eval"] = json!({ "every_epochs": 0 });
    let config = document["config"].as_str().unwrap_or_default();
    let name = config.rsplit_once('-').map_or(config, |(name, _)| name);
    format!("{name}-{}", config_tag(&json!([hyper, document["precision"]]).to_string()))
}

/// The document that earlier versions wrote of a job of today. `trained_by` is the identity that its training had then.
pub fn document(spec: &JobSpec, trained_by: Option<SpecHash>) -> Value {
    let mut hyper = spec.hyper.0.clone();
    for (name, zero) in EVERY_JOBS {
        hyper.entry(name.to_owned()).or_insert_with(|| match zero {
            Zero::Whole => json!(0),
            Zero::Number => json!(0.0),
        });
    }
    let eval = spec.options.get("eval").cloned();
    hyper.insert("eval".to_owned(), eval.unwrap_or_else(|| json!({ "every_epochs": 0 })));
    let mut document = json!(JobSpec { options: Values::default(), trained_by, ..spec.clone() });
    document["hyper"] = json!(hyper);
    document
}

/// The name that earlier versions gave the configuration of a job of today, from its own values.
pub fn config(spec: &JobSpec) -> String {
    match spec.config.rsplit_once('-') {
        Some((name, digits)) if digits == config_tag(&json!([spec.hyper, spec.precision]).to_string()) => {
            let document = document(spec, None);
            config_of(&json!({ "config": name, "hyper": document["hyper"], "precision": spec.precision }))
        }
        _ => spec.config.clone(),
    }
}

/// A training that a test rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Training {
    /// The identity that it had.
    pub earlier: SpecHash,
    /// The one that it has.
    pub today: SpecHash,
}

/// Reads a document that names a specification by `spec` and its identity by `spec_hash`: a manifest, or what a checkpoint says of
/// itself. An earlier one is brought to today's form; its earlier identity comes with it. `training` is the one that it may rest on.
pub fn read<T: DeserializeOwned>(
    text: &str,
    methods: &Methods,
    training: Option<Training>,
) -> Result<(T, Option<SpecHash>), InvalidInput> {
    let mut document: Value = crate::input::from_json(text)?;
    if !is_earlier(&document["spec"]) {
        return Ok((from_value(document)?, None));
    }
    let earlier = identity(&document["spec"]);
    update(&mut document["spec"], methods)?;
    let mut spec: JobSpec = from_value(document["spec"].clone()).map_err(|error| error.under("spec"))?;
    if let Some(Training { earlier, today }) = training
        && spec.trained_by == Some(earlier)
    {
        spec.trained_by = Some(today);
    }
    // One that contradicts itself goes on doing so.
    let says_so = document["spec_hash"] == json!(earlier);
    if says_so {
        document["spec_hash"] = json!(spec.hash());
    }
    document["spec"] = json!(spec);
    Ok((from_value(document)?, Some(earlier)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, Known, matrix};
    use crate::job::layout;

    /// Jobs of all methods and protocols as version 0.3 wrote them, each with the identity that it had there, in the order of
    /// [`jobs`].
    const EARLIER: &str = include_str!("earlier_jobs.jsonl");
    /// The identities of the same jobs today, with their folders. Whoever changes one changes what is stored, and needs a migration.
    const TODAY: &str = include_str!("jobs.txt");

    /// Jobs of all methods and protocols, with the presets' values and with others.
    fn jobs() -> Vec<JobSpec> {
        let known = Known::built_in();
        let methods: Vec<String> = known.methods.list().iter().map(|known| known.key().to_string()).collect();
        let mut jobs = Vec::new();
        for protocol in ["base_to_new", "cross_dataset", "few_shot"] {
            for (dataset, more) in [
                ("dtd", ""),
                (
                    "food101",
                    "precision = \"amp_bf16\"\n[overrides]\nlr = 0.5\neval = { every_epochs = 2 }\n[overrides.food101]\nbeta = 0.3",
                ),
            ] {
                let text = format!(
                    "name = \"x\"\nprotocol = \"{protocol}\"\nbackbone = \"ViT-B/16\"\nmethods = {methods:?}\n\
                     datasets = [\"{dataset}\"]\nseeds = [1]\n{more}"
                );
                let planned = matrix::expand(&Experiment::from_toml(&text, &known).unwrap(), &known).unwrap();
                jobs.extend(planned.iter().map(|job| job.spec.to_spec()));
            }
        }
        jobs
    }

    #[test]
    fn a_job_is_the_job_that_it_was() {
        let line = |job: &JobSpec| format!("{} {}\n", job.hash(), layout::folder(job, Methods::built_in()));
        let today: String = jobs().iter().map(line).collect();
        if std::env::var_os("PROMPTFIELD_REFRESH_JOBS").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/job/jobs.txt"), &today).unwrap();
        } else {
            assert_eq!(today, TODAY);
        }
    }

    #[test]
    fn an_earlier_specification_is_read_as_the_job_of_today_and_written_as_it_was() {
        let mut trainings = BTreeMap::new();
        let jobs = jobs();
        assert_eq!(jobs.len(), EARLIER.lines().count());
        for (line, job) in EARLIER.lines().zip(jobs) {
            let line: Value = serde_json::from_str(line).unwrap();
            let earlier = &line["spec"];
            assert!(is_earlier(earlier));
            assert_eq!(json!(identity(earlier)), line["hash"]);
            let mut read = earlier.clone();
            update(&mut read, Methods::built_in()).unwrap();
            assert!(!is_earlier(&read));
            let mut read: JobSpec = from_value(read).unwrap();
            let training: Option<&(Value, JobSpec)> = read.trained_by.map(|hash| &trainings[&hash]);
            read.trained_by = training.map(|(_, today)| today.hash());
            if let Some((_, today)) = training.filter(|(training, _)| training["config"] == earlier["config"]) {
                read.config.clone_from(&today.config);
            }
            assert_eq!(read, job);
            let trained_by: Option<SpecHash> = from_value(earlier["trained_by"].clone()).unwrap();
            assert_eq!(identity(&document(&job, trained_by)), identity(earlier));
            if trained_by.is_none() {
                assert_eq!(json!(config(&job)), earlier["config"]);
            }
            trainings.insert(identity(earlier), (earlier.clone(), job));
        }
    }

    #[test]
    fn a_document_that_names_its_identity_is_read_with_both() {
        let of = |line: &str, training| {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = json!({ "spec": line["spec"], "spec_hash": line["hash"] }).to_string();
            let (read, earlier) = super::read::<Value>(&text, Methods::built_in(), training).unwrap();
            assert_eq!(json!(earlier.unwrap()), line["hash"]);
            from_value::<SpecHash>(read["spec_hash"].clone()).unwrap()
        };
        // MMRL++ hasn't the weights of the norm terms, which every job had.
        let jobs = jobs();
        let [first, second, ..] =
            jobs.iter().enumerate().filter(|(_, job)| job.method.key() == "mmrlpp").collect::<Vec<_>>()[..]
        else {
            panic!("MMRL++ has a training and a test")
        };
        let [training, test] = [first, second].map(|(place, _)| EARLIER.lines().nth(place).unwrap());
        assert_eq!(of(training, None), first.1.hash());
        let earlier: Value = serde_json::from_str(training).unwrap();
        let pair = Training { earlier: from_value(earlier["hash"].clone()).unwrap(), today: first.1.hash() };
        assert_eq!(of(test, Some(pair)), second.1.hash());
        assert_ne!(of(test, None), second.1.hash());
    }

    #[test]
    fn the_values_of_an_unknown_method_stay_as_they_are() {
        let line: Value = serde_json::from_str(EARLIER.lines().next().unwrap()).unwrap();
        let mut document = line["spec"].clone();
        document["method"] = json!("gone");
        update(&mut document, Methods::built_in()).unwrap();
        let spec: JobSpec = from_value(document).unwrap();
        assert_eq!((spec.method.key(), spec.hyper.number("lr"), spec.hyper.get("eval")), ("gone", Some(0.001), None));
    }
}
