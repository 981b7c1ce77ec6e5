//! A job for a trainer (interfaces.md, section 3): names and numbers of the specification, with this machine's paths.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::experiment::dataset::{DatasetDefinition, check_template};
use crate::input::{InvalidInput, Refusals, from_json};
use crate::job::backbone::ArchitectureSettings;
use crate::job::spec::{BasisHash, JobSpec, SpecHash};
use crate::method::value::Values;
use crate::method::{Declaration, Method, Methods};
use crate::names::{Precision, path_segment};
use crate::protocol::{Protocol, Stage};

/// What `promptfield-trainer run` reads and a worker sends. The keys from `backbone` on are optional: a job written by hand
/// leaves them out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerJob {
    /// The method.
    pub method: Method,
    /// The protocol.
    pub protocol: Protocol,
    /// The protocol's part to do.
    pub stage: Stage,
    /// The data set's key.
    pub dataset: String,
    /// Training images per class.
    pub shots: u32,
    /// The seed.
    pub seed: u64,
    /// The configuration's name.
    pub config: String,
    /// The weights file.
    pub weights: PathBuf,
    /// The folder that holds the data sets' folders.
    pub data_root: PathBuf,
    /// The output folder; it appears when the job is complete.
    pub output: PathBuf,
    /// For `test`: the checkpoint file, or the training folder it lies in.
    #[serde(default)]
    pub checkpoint: Option<PathBuf>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The arithmetic.
    #[serde(default)]
    pub precision: Precision,
    /// Of a job written by hand: values that replace the preset's.
    #[serde(default, skip_serializing_if = "Values::is_empty")]
    pub overrides: Values,
    /// Of a worker's job: all values, resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Values>,
    /// The backbone's name; absent: the configuration's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone: Option<String>,
    /// The prompt template; absent: the data set's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The training job's identity; absent: what the checkpoint says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_by: Option<SpecHash>,
    /// A folder of user-defined data sets; absent: `datasets` below the data root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datasets: Option<PathBuf>,
    /// What this machine's settings say of the backbone.
    #[serde(default, skip_serializing_if = "ArchitectureSettings::is_empty")]
    pub architecture: ArchitectureSettings,
    /// The identity that the backbone must have; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backbone_sha256: Option<BasisHash>,
    /// The SHA-256 that the method's declaration must have; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method_sha256: Option<BasisHash>,
    /// Whether a complete folder is to be put aside instead of adopted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub afresh: bool,
}

/// This machine's places for one job.
#[derive(Clone, Debug)]
pub struct Places {
    /// The weights file.
    pub weights: PathBuf,
    /// The folder that holds the data sets' folders.
    pub data_root: PathBuf,
    /// The output folder.
    pub output: PathBuf,
    /// The checkpoint, for a job that tests one.
    pub checkpoint: Option<PathBuf>,
    /// The folder of user-defined data sets.
    pub datasets: Option<PathBuf>,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// What the settings say of the backbone.
    pub architecture: ArchitectureSettings,
}

impl TrainerJob {
    /// The job that computes `spec` with this machine's `places`.
    pub fn new(spec: &JobSpec, places: Places) -> Self {
        Self {
            method: spec.method,
            protocol: spec.protocol,
            stage: spec.stage,
            dataset: spec.dataset.clone(),
            shots: spec.shots,
            seed: spec.seed,
            config: spec.config.clone(),
            weights: places.weights,
            data_root: places.data_root,
            output: places.output,
            checkpoint: places.checkpoint,
            device: places.device,
            precision: spec.precision,
            overrides: Values::default(),
            values: Some(spec.hyper.with(&spec.options)),
            backbone: Some(spec.backbone.clone()),
            template: Some(spec.template.clone()),
            trained_by: spec.trained_by,
            datasets: places.datasets,
            architecture: places.architecture,
            backbone_sha256: None,
            method_sha256: None,
            afresh: false,
        }
    }

    /// Reads a job from JSON and checks every value that doesn't need the machine's files.
    pub fn parse(text: &str) -> Result<Self, InvalidInput> {
        let job: Self = from_json(text)?;
        job.check()?;
        Ok(job)
    }

    /// Checks every value that doesn't need the machine's files.
    pub fn check(&self) -> Result<(), InvalidInput> {
        let mut refusals = Refusals::default();
        refusals.keep(path_segment("config", &self.config));
        refusals.keep(path_segment("dataset", &self.dataset));
        let overrides = self.overrides.0.clone();
        refusals.keep(Methods::built_in().read("overrides", &[self.method], overrides));
        let method = refusals.keep(self.declaration());
        if method.is_some_and(|method| method.learns) {
            if self.shots == 0 {
                refusals.add(InvalidInput::new("shots", 0, "a whole number of at least 1"));
            }
            if self.stage == Stage::Test && self.checkpoint.is_none() {
                refusals.add(InvalidInput::new("checkpoint", "null", "the checkpoint that a `test` job evaluates"));
            }
        }
        let device = self.device.strip_prefix("cuda:").map(|index| index.parse::<u32>().is_ok());
        if self.device != "cpu" && device != Some(true) {
            refusals.add(InvalidInput::new("device", &self.device, "`cpu` or `cuda:N`"));
        }
        refusals.keep(self.architecture.check().map_err(|error| error.under("architecture")));
        if let Some(template) = &self.template {
            refusals.keep(check_template("template", template));
        }
        refusals.finish(())
    }

    /// What this version knows of the method. Only its own methods have an implementation in the trainer.
    pub fn declaration(&self) -> Result<&'static Declaration, InvalidInput> {
        Methods::built_in().known("method", self.method.key())
    }

    /// The same, if it is the declaration that the job is to be done by.
    pub fn agreed_declaration(&self) -> Result<&'static Declaration, InvalidInput> {
        let declaration = self.declaration()?;
        let own = BasisHash(declaration.sha256());
        match self.method_sha256 {
            Some(wanted) if wanted != own => {
                let expected = format!("{own}, the declaration that this trainer has of `{}`", self.method);
                Err(InvalidInput::new("method_sha256", wanted, expected))
            }
            _ => Ok(declaration),
        }
    }

    /// The specification that this job computes. `definition` is the data set's; `checkpoint_of` is what the checkpoint
    /// says of the job that trained it, if the job itself doesn't say.
    pub fn spec(
        &self,
        definition: &DatasetDefinition,
        checkpoint_of: Option<SpecHash>,
    ) -> Result<JobSpec, InvalidInput> {
        let backbone = self.backbone.clone().unwrap_or_else(|| self.config.clone());
        let method = self.agreed_declaration()?;
        let learns = method.learns;
        let (hyper, options) = if let Some(values) = &self.values {
            method.resolved("values", values)?
        } else {
            let preset = method.resolve(self.protocol, &self.dataset, &backbone, &self.overrides)?;
            (preset.hyper, preset.options)
        };
        Ok(JobSpec {
            method: self.method,
            protocol: self.protocol,
            stage: self.stage,
            dataset: self.dataset.clone(),
            template: self.template.clone().unwrap_or_else(|| definition.template.clone()),
            shots: if learns { self.shots } else { 0 },
            seed: if learns { self.seed } else { 0 },
            backbone,
            config: self.config.clone(),
            hyper,
            options,
            precision: self.precision,
            trained_by: if learns { self.trained_by.or(checkpoint_of) } else { None },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = r#"{"method": "alignednorm", "protocol": "base_to_new", "stage": "train", "dataset": "caltech101",
        "shots": 16, "seed": 1, "config": "vit_b16", "weights": "w", "data_root": "d", "output": "o", "checkpoint": null,
        "device": "cpu", "precision": "fp32", "overrides": {"epochs": 2}}"#;

    #[test]
    fn a_job_written_by_hand_gets_the_preset_with_its_overrides() {
        let job = TrainerJob::parse(JOB).unwrap();
        let catalogue = crate::experiment::dataset::Catalogue::built_in();
        let spec = job.spec(catalogue.get("caltech101").unwrap(), None).unwrap();
        let hyper = &spec.hyper;
        assert_eq!(
            (hyper.count("epochs"), hyper.number("beta"), hyper.count("rep_dim")),
            (Some(2), Some(0.6), Some(512))
        );
        assert_eq!(spec.template, "a photo of a {}.");
    }

    /// The document that other people's scripts write: every key of it, under these names.
    #[test]
    fn a_job_with_every_value_is_read_word_for_word() {
        let text = r#"{"method": "alignednorm", "protocol": "base_to_new", "stage": "train", "dataset": "caltech101", "shots": 16,
            "seed": 1, "config": "vit_b16", "weights": "w", "data_root": "d", "output": "o", "checkpoint": null, "device": "cuda:0",
            "precision": "amp_bf16", "overrides": {"epochs": 10, "lr": 0.001, "train_batch": 4, "test_batch": 128, "alpha": 0.7,
            "beta": 0.9, "reg_weight": 1.0, "final_norm": 0.1, "seq_norm": 0.1, "rep_layers": [6, 7, 8, 9, 10, 11, 12],
            "rep_dim": 512, "n_rep_tokens": 5, "proj_lora_dim": 64, "res_lora_dim": 4, "eval": {"every_epochs": 0}}}"#;
        let job = TrainerJob::parse(text).unwrap();
        let catalogue = crate::experiment::dataset::Catalogue::built_in();
        let spec = job.spec(catalogue.get("caltech101").unwrap(), None).unwrap();
        let document: serde_json::Value = serde_json::from_str(text).unwrap();
        for (name, value) in document["overrides"].as_object().unwrap() {
            assert_eq!(spec.hyper.get(name).or(spec.options.get(name)), Some(value), "{name}");
        }
        // What the document doesn't name is the preset's.
        assert_eq!((spec.hyper.count("warmup_epochs"), spec.hyper.number("weight_decay")), (Some(1), Some(5e-4)));
        assert_eq!((spec.config.as_str(), spec.shots, spec.seed), ("vit_b16", 16, 1));
        // Other methods take the same document, and leave what they haven't.
        let mmrl = TrainerJob::parse(&text.replace("alignednorm", "mmrl")).unwrap();
        let spec = mmrl.spec(catalogue.get("caltech101").unwrap(), None).unwrap();
        assert_eq!((spec.hyper.number("alpha"), spec.hyper.get("beta")), (Some(0.7), None));
    }

    #[test]
    fn a_specification_comes_back_from_its_job() {
        let job = TrainerJob::parse(JOB).unwrap();
        let catalogue = crate::experiment::dataset::Catalogue::built_in();
        let definition = catalogue.get("caltech101").unwrap();
        for method in Methods::built_in().list() {
            let job = TrainerJob { method: method.key(), ..job.clone() };
            let spec = JobSpec { backbone: "ViT-B/16".into(), ..job.spec(definition, None).unwrap() };
            let places = Places {
                weights: "w".into(),
                data_root: "d".into(),
                output: "o".into(),
                checkpoint: None,
                datasets: None,
                device: "cpu".into(),
                architecture: ArchitectureSettings::default(),
            };
            let text = serde_json::to_string(&TrainerJob::new(&spec, places)).unwrap();
            assert_eq!(TrainerJob::parse(&text).unwrap().spec(definition, None).unwrap(), spec);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |from: &str, to: &str| TrainerJob::parse(&JOB.replace(from, to)).unwrap_err().to_string();
        assert!(wrong("\"epochs\"", "\"epoch\"").contains("did you mean `epochs`?"));
        assert!(wrong("\"seed\": 1", "\"seed\": \"one\"").starts_with("`seed`: `one` is not valid"));
        assert!(wrong("\"cpu\"", "\"gpu\"").contains("`cpu` or `cuda:N`"));
        assert!(wrong("\"shots\": 16", "\"shots\": 0").starts_with("`shots`"));
        assert!(wrong("\"train\"", "\"test\"").starts_with("`checkpoint`"));
        assert!(wrong("alignednorm", "alinednorm").contains("did you mean `alignednorm`?"));
    }
}
