//! A run given from outside (interfaces.md, section 4): initial parameters, batches and evaluation images come from a file, and
//! everything that can be compared goes into another. It is how this trainer is held against other implementations.
//!
//! Rule of this room: nothing is drawn and nothing is computed here; the models and the optimiser are those of a job.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use promptfield_core::experiment::dataset::check_template;
use promptfield_core::input::{InvalidInput, from_json};
use promptfield_core::job::backbone::ArchitectureSettings;
use promptfield_core::method::value::Values;
use promptfield_core::method::{Method, Methods};
use promptfield_core::names::Precision;
use promptfield_core::protocol::Protocol;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

use crate::clip::Clip;
use crate::methods::{self, Classes, NamedTensors, TERMS, TrainingLoss};

/// What to replay.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayJob {
    pub(crate) method: Method,
    pub(crate) classnames: Vec<String>,
    template: String,
    /// The learning rate of every step.
    pub(crate) lr: f64,
    pub(crate) weight_decay: f64,
    /// What differs from the method's base-to-new preset.
    #[serde(default)]
    overrides: Values,
}

impl ReplayJob {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs_err::read_to_string(path)?;
        let parse = || {
            let job: Self = from_json(&text)?;
            Methods::built_in().known("method", job.method.key())?;
            Methods::built_in().read("overrides", &[job.method], job.overrides.0.clone())?;
            check_template("template", &job.template)?;
            if job.classnames.is_empty() {
                return Err(InvalidInput::new("classnames", "[]", "at least one name"));
            }
            Ok(job)
        };
        parse().with_context(|| format!("the job `{}`", path.display()))
    }

    pub(crate) fn classes(&self) -> Classes<'_> {
        Classes { names: &self.classnames, template: &self.template }
    }

    pub(crate) fn hyper(&self) -> anyhow::Result<Values> {
        let known = Methods::built_in().known("method", self.method.key())?;
        Ok(known.resolve(Protocol::BaseToNew, "", "", &self.overrides)?.hyper)
    }
}

/// What a replay runs on.
struct Given {
    parameters: NamedTensors,
    /// Images and labels.
    batches: Vec<(Tensor, Tensor)>,
    eval: Option<Tensor>,
}

impl Given {
    /// Reads and checks the input for a model that takes images of `size` pixels and knows `classes`.
    fn read(path: &Path, size: i64, classes: usize) -> anyhow::Result<Self> {
        let tensors = Tensor::read_safetensors(path).context("it is not a safetensors file")?;
        let mut tensors: NamedTensors = tensors.into_iter().collect();
        let mut batches = Vec::new();
        for index in 0.. {
            let [images, labels] = ["images", "labels"].map(|part| format!("batch/{index}/{part}"));
            match (tensors.remove(&images), tensors.remove(&labels)) {
                (Some(image_tensor), Some(label_tensor)) => {
                    let image_tensor = checked_images(&images, &image_tensor, size)?;
                    check_labels(&labels, &label_tensor, image_tensor.size()[0], classes)?;
                    batches.push((image_tensor, label_tensor));
                }
                (None, None) => break,
                (None, Some(_)) => bail!("`{images}` is missing, expected the images of `{labels}`"),
                (Some(_), None) => bail!("`{labels}` is missing, expected the labels of `{images}`"),
            }
        }
        let eval = tensors.remove("eval/images");
        let eval = eval.map(|images| checked_images("eval/images", &images, size)).transpose()?;
        let mut parameters = NamedTensors::new();
        for (name, tensor) in tensors {
            let Some(parameter) = name.strip_prefix("init/") else {
                bail!(
                    "`{name}` is not a known key, expected `init/<parameter>`, `batch/<i>/images`, `batch/<i>/labels` \
                     (i from 0, without gaps) or `eval/images`"
                );
            };
            check_kind(&name, &tensor, Kind::Float)?;
            parameters.insert(parameter.to_owned(), tensor);
        }
        Ok(Self { parameters, batches, eval })
    }
}

fn check_kind(name: &str, tensor: &Tensor, kind: Kind) -> anyhow::Result<()> {
    ensure!(tensor.kind() == kind, "`{name}` is of kind {:?}, expected {kind:?}", tensor.kind());
    Ok(())
}

fn checked_images(name: &str, images: &Tensor, size: i64) -> anyhow::Result<Tensor> {
    check_kind(name, images, Kind::Float)?;
    let shape = images.size();
    ensure!(
        matches!(shape[..], [batch, 3, height, width] if batch > 0 && (height, width) == (size, size)),
        "`{name}` is {shape:?}, expected [B, 3, {size}, {size}]"
    );
    Ok(images.shallow_clone())
}

fn check_labels(name: &str, labels: &Tensor, batch: i64, classes: usize) -> anyhow::Result<()> {
    check_kind(name, labels, Kind::Int64)?;
    ensure!(labels.size() == [batch], "`{name}` is {:?}, expected [{batch}]", labels.size());
    for label in Vec::<i64>::try_from(labels)? {
        ensure!((0..classes as i64).contains(&label), "`{name}` holds {label}, expected 0 to {}", classes - 1);
    }
    Ok(())
}

/// Trains `job` with `weights` and what is said of them on what `input` holds, on the CPU, evaluates, and writes the results to
/// `output`.
pub fn run(
    job: &Path,
    (weights, settings): (&Path, &ArchitectureSettings),
    input: &Path,
    output: &Path,
) -> anyhow::Result<()> {
    let job = ReplayJob::read(job)?;
    let clip = Clip::open(weights, settings, Device::Cpu, Precision::Fp32)?;
    let given = Given::read(input, clip.geometry().vision.image_size, job.classnames.len());
    let results = given.and_then(|given| replay(&job, &clip, &given));
    let results = results.with_context(|| format!("the input `{}`", input.display()))?;
    Tensor::write_safetensors(&results, output).with_context(|| format!("cannot write `{}`", output.display()))
}

fn replay(job: &ReplayJob, clip: &Clip, given: &Given) -> anyhow::Result<Vec<(String, Tensor)>> {
    let hyper = job.hyper()?;
    let model = methods::build(job.method, clip, job.classes(), &hyper, &given.parameters)?;
    let mut optimiser = model.optimiser(job.weight_decay);
    let mut results = Vec::new();
    for (index, (images, labels)) in given.batches.iter().enumerate() {
        let loss = model.training_loss(images, labels);
        optimiser.step(&loss.total, job.lr);
        results.push((format!("loss_terms/{index}"), terms(&loss)));
        results.push((format!("loss/{index}"), loss.total.detach()));
        results.push((format!("logits/{index}"), loss.logits.native));
        results.extend(loss.logits.rep.map(|logits| (format!("logits_rep/{index}"), logits)));
    }
    results.extend(model.parameters().named().iter().map(|(name, tensor)| (format!("param/{name}"), tensor.detach())));
    if let Some(images) = &given.eval {
        let logits = model.classifier()(images);
        results.push(("eval/fused".to_owned(), logits.fused()));
        results.push(("eval/logits".to_owned(), logits.native));
        results.extend(logits.rep.map(|logits| ("eval/logits_rep".to_owned(), logits)));
    }
    Ok(results)
}

/// The loss terms [7]; 0 for what the method doesn't have. The seventh column is reserved.
fn terms(loss: &TrainingLoss) -> Tensor {
    let term =
        |name: &&str| loss.terms.iter().find(|(term, _)| term == name).map_or(0.0, |(_, term)| term.double_value(&[]));
    let values: Vec<f32> = TERMS.iter().map(|name| term(name) as f32).chain([0.0]).collect();
    Tensor::from_slice(&values)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document that other people's scripts write.
    #[test]
    fn a_replay_with_every_value_is_read_word_for_word() {
        let text = r#"{"method": "mmrlpp", "classnames": ["llama", "stop_sign"], "template": "a photo of a {}.", "lr": 0.001,
            "weight_decay": 0.0005, "overrides": {"epochs": 10, "lr": 0.001, "train_batch": 4, "test_batch": 128, "alpha": 0.7,
            "beta": 0.9, "reg_weight": 1.0, "final_norm": 0.1, "seq_norm": 0.1, "rep_layers": [3, 4], "rep_dim": 512,
            "n_rep_tokens": 5, "proj_lora_dim": 64, "res_lora_dim": 4, "eval": {"every_epochs": 0}}}"#;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.json");
        fs_err::write(&path, text).unwrap();
        let job = ReplayJob::read(&path).unwrap();
        let hyper = job.hyper().unwrap();
        assert_eq!((job.lr, job.weight_decay, job.classes().names.len()), (0.001, 0.0005, 2));
        assert_eq!(
            (hyper.number("beta"), hyper.count("n_rep_tokens"), hyper.get("final_norm")),
            (Some(0.9), Some(5), None)
        );
        fs_err::write(&path, text.replace("rep_dim", "rep_dims")).unwrap();
        let error = format!("{:#}", ReplayJob::read(&path).err().unwrap());
        assert!(error.contains("did you mean `rep_dim`?"), "{error}");
    }
}
