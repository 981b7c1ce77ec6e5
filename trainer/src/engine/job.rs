//! One job from its JSON to its complete folder.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use promptfield_core::layout::{CHECKPOINT_FILE, CHECKPOINT_FOLDER, EVALUATION_FILE, LOG_FILE, STATE_FILE};
use promptfield_core::names::Stage;
use promptfield_core::outcome::{Manifest, Seconds, TestResult};
use promptfield_core::spec::JobSpec;
use promptfield_core::trainer_job::TrainerJob;
use promptfield_core::trainer_wire::{Outcome, Progress};
use promptfield_core::unfinished::Origin;
use promptfield_core::{VERSION, time::Timestamp};
use tch::{Cuda, Device, Kind, Tensor};

use super::checkpoint::{self, CheckpointError, Provenance};
use super::error::JobError;
use super::evaluate::{self, evaluate};
use super::folder::{self, Opened, WorkFolder};
use super::log::result_block;
use super::report::{CancelFlag, Report, Reporter};
use super::session::Session;
use super::train::{self, Begun, evaluates_after, train};
use crate::clip::Clip;
use crate::data::{self, Split};
use crate::image::ImageCache;
use crate::methods::{self, Classes, Evaluated, Model, NamedTensors};

/// What a job reads while it runs, on whichever thread.
pub(super) struct Inputs<'a> {
    pub(super) spec: &'a JobSpec,
    pub(super) split: &'a Split,
    pub(super) images: &'a ImageCache,
    /// Pixels of an image's edge.
    pub(super) image_size: usize,
    pub(super) device: Device,
    cancel: &'a CancelFlag,
}

impl Inputs<'_> {
    /// An error if the job was cancelled.
    pub(super) fn go_on(&self) -> Result<(), JobError> {
        if self.cancel.is_cancelled() { Err(JobError::Cancelled) } else { Ok(()) }
    }

    /// Pixels `[B·3·S·S]` as images `[B, 3, S, S]` on the device, or on their way there. Not to be called from the threads that prepare
    /// batches: libtorch would have a second set of threads for them, and those of both sets would only get short turns.
    pub(super) fn to_device(&self, pixels: &[f32]) -> Tensor {
        let size = self.image_size as i64;
        let images = Tensor::from_slice(pixels).view([-1, 3, size, size]);
        // From pinned memory a GPU fetches them while it computes.
        let images = if self.device.is_cuda() { images.pin_memory(self.device) } else { images };
        images.to_device_(self.device, Kind::Float, true, false)
    }
}

/// What jobs can name as `device` on this machine.
pub fn devices() -> Vec<String> {
    let gpus = (0..Cuda::device_count()).map(|index| format!("cuda:{index}"));
    std::iter::once("cpu".to_owned()).chain(gpus).collect()
}

fn device(name: &str) -> Result<Device, JobError> {
    let there = devices();
    match name.strip_prefix("cuda:").map(str::parse) {
        None if name == "cpu" => Ok(Device::Cpu),
        Some(Ok(index)) if there.iter().any(|device| device == name) => Ok(Device::Cuda(index)),
        _ => Err(JobError::Device { asked: name.to_owned(), there }),
    }
}

/// A checkpoint to test.
struct Trained {
    path: PathBuf,
    provenance: Provenance,
    parameters: NamedTensors,
}

impl Trained {
    /// Reads the checkpoint file, or the one in the training folder, that `path` names.
    fn read(path: &Path) -> Result<Self, CheckpointError> {
        let path = if path.is_dir() { path.join(CHECKPOINT_FOLDER).join(CHECKPOINT_FILE) } else { path.to_owned() };
        let (provenance, parameters) = checkpoint::read(&path)?;
        Ok(Self { path, provenance, parameters })
    }

    fn unfit(&self, difference: impl ToString) -> CheckpointError {
        CheckpointError::Unfit { path: self.path.clone(), difference: difference.to_string() }
    }
}

/// Runs a job; see [`super::run`].
pub(super) fn run(
    job: &TrainerJob,
    session: &mut Session,
    reporter: &mut dyn Reporter,
    cancel: &CancelFlag,
) -> Result<Outcome, JobError> {
    let (started, started_at) = (Instant::now(), Timestamp::from(SystemTime::now()));
    job.check()?;
    let device = device(&job.device)?;
    // Without a slash at the end, which would make `….partial` lie inside the folder.
    let output: PathBuf = job.output.components().collect();
    let definition = data::find_definition(job.datasets.as_deref(), &job.data_root, &job.dataset)?;

    let tested = job.checkpoint.as_deref().filter(|_| job.stage == Stage::Test && job.method.learns());
    let mut trained = None;
    let mut trained_by = job.trained_by;
    if let (Some(path), None) = (tested, trained_by) {
        let read = Trained::read(path)?;
        trained_by = Some(read.provenance.spec_hash);
        trained = Some(read);
    }
    let spec = job.spec(&definition, trained_by)?;
    if let Some(outcome) = folder::adopt(&output, spec.hash()) {
        return Ok(outcome);
    }
    if let (Some(path), None) = (tested, &trained) {
        trained = Some(Trained::read(path)?);
    }

    let split = session.splits.load(&definition, &job.data_root, spec.shots, spec.seed, spec.classes())?;
    let (clip, images) = session.prepare(&job.weights, (device, spec.precision), &job.data_root, &definition)?;
    if let Some(trained) = &trained
        && let Some(difference) = trained.provenance.difference(&spec, clip.sha256())
    {
        return Err(trained.unfit(difference).into());
    }
    let origin = Origin {
        spec,
        weights_sha256: clip.sha256().to_owned(),
        split_sha256: split.hash(),
        code_version: VERSION.to_owned(),
    };
    let folder = match folder::open(&output, &origin)? {
        Opened::Complete(outcome) => return Ok(*outcome),
        Opened::Busy { partial, holder } => return Err(JobError::Busy { partial, holder }),
        Opened::Partial(folder) => folder,
    };
    let mut report = Report::open(&folder.file(LOG_FILE), &output, reporter)?;
    let inputs = Inputs {
        spec: &origin.spec,
        split: &split,
        images,
        image_size: clip.geometry().vision.image_size as usize,
        device,
        cancel,
    };
    for line in introduction(&origin, job, &split).iter().chain(&folder.notes) {
        report.log(line)?;
    }
    let (result, seconds) = compute(&inputs, clip, &origin, trained.as_ref(), &folder, &mut report, started)?;
    drop(report);
    let manifest = folder.complete(&[STATE_FILE], |files| Manifest {
        format: Manifest::FORMAT,
        spec_hash: origin.spec.hash(),
        spec: origin.spec,
        weights_sha256: origin.weights_sha256,
        split_sha256: origin.split_sha256,
        code_version: origin.code_version,
        device: job.device.clone(),
        threads: u32::try_from(tch::get_num_threads()).unwrap_or(0),
        result,
        started_at,
        seconds,
        files,
    })?;
    Ok(Outcome { result, adopted: false, manifest: Some(manifest) })
}

/// Trains and evaluates in `folder`.
fn compute(
    inputs: &Inputs,
    clip: &Clip,
    origin: &Origin,
    trained: Option<&Trained>,
    folder: &WorkFolder,
    report: &mut Report,
    started: Instant,
) -> Result<(TestResult, Seconds), JobError> {
    let spec = inputs.spec;
    let trains = spec.stage == Stage::Train && spec.method.learns();
    let begun = if trains { begin(folder, spec, report)? } else { None };
    report.progress = plan(inputs, trains, begun.as_ref());
    let model = model(inputs, clip, trained, begun.as_ref())?;
    let mut seconds = Seconds { prepare: started.elapsed().as_secs_f64(), ..Seconds::default() };
    if trains {
        let training = Instant::now();
        train(inputs, model.as_ref(), begun.as_ref(), folder, report)?;
        let provenance =
            Provenance { spec: spec.clone(), spec_hash: spec.hash(), weights_sha256: origin.weights_sha256.clone() };
        write_checkpoint(folder, &provenance, model.as_ref()).map_err(|error| folder.error(error))?;
        seconds.train = training.elapsed().as_secs_f64();
    }
    let testing = Instant::now();
    let evaluated = match spec.stage {
        Stage::Train => Evaluated::Trained,
        Stage::Test => Evaluated::Unseen,
    };
    let (result, evaluation) = evaluate(inputs, model.as_ref(), evaluated, report)?;
    fs_err::write(folder.file(EVALUATION_FILE), evaluation.to_text()).map_err(|error| folder.error(error))?;
    seconds.test = testing.elapsed().as_secs_f64();
    report.log(&result_block(&result))?;
    Ok((result, seconds))
}

/// The first lines of an attempt's log.
fn introduction(origin: &Origin, job: &TrainerJob, split: &Split) -> Vec<String> {
    let spec = &origin.spec;
    vec![
        format!("Promptfield {}: {}", origin.code_version, spec.title()),
        format!("specification {} {}", spec.hash(), serde_json::json!(spec)),
        format!("weights {} SHA-256 {}", job.weights.display(), origin.weights_sha256),
        format!(
            "split SHA-256 {}: {} {} classes, {} training images, {} test images",
            origin.split_sha256,
            split.classnames.len(),
            spec.classes(),
            split.train.len(),
            split.test.len()
        ),
        format!(
            "device {}, {} CPU threads, precision {}{}",
            job.device,
            tch::get_num_threads(),
            spec.precision,
            crate::clip::precision_note(job.device == "cpu", spec.precision)
        ),
    ]
}

/// What an earlier attempt left, if it can be read: its epochs can be done again.
fn begin(folder: &WorkFolder, spec: &JobSpec, report: &mut Report) -> Result<Option<Begun>, JobError> {
    let (begun, line) = match Begun::read(folder, spec.hash()) {
        Ok(None) => return Ok(None),
        Ok(Some(begun)) => {
            let line = format!("resumed after epoch [{}/{}]", begun.epochs, spec.hyper.epochs);
            (Some(begun), line)
        }
        Err(error) => (None, format!("training starts from the first epoch: {error}")),
    };
    report.log(&line)?;
    Ok(begun)
}

/// Where the job starts, and how many steps it has in all.
fn plan(inputs: &Inputs, trains: bool, begun: Option<&Begun>) -> Progress {
    let hyper = &inputs.spec.hyper;
    let evaluation = evaluate::batches(inputs.split.test.len(), hyper.test_batch) as u64;
    if !trains {
        return Progress { steps: evaluation, ..Progress::default() };
    }
    let epoch = u64::from(train::batches(inputs.split.train.len(), hyper.train_batch));
    let steps_of = |epochs: u32| {
        let evaluations = (1..=epochs).filter(|&done| evaluates_after(hyper, done)).count() as u64;
        u64::from(epochs) * epoch + evaluations * evaluation
    };
    let done = begun.map_or(0, |begun| begun.epochs);
    Progress { epoch: done, epochs: hyper.epochs, step: steps_of(done), steps: steps_of(hyper.epochs) + evaluation }
}

/// The model with the parameters of the checkpoint, of an earlier attempt, or new ones.
fn model<'a>(
    inputs: &Inputs<'a>,
    clip: &'a Clip,
    trained: Option<&Trained>,
    begun: Option<&Begun>,
) -> Result<Box<dyn Model + 'a>, JobError> {
    let spec = inputs.spec;
    let classes = Classes { names: &inputs.split.classnames, template: &spec.template };
    let build = |parameters: &NamedTensors| methods::build(spec.method, clip, classes, &spec.hyper, parameters);
    match (trained, begun) {
        (Some(trained), _) => build(&trained.parameters).map_err(|error| trained.unfit(error).into()),
        (None, Some(begun)) => Ok(build(&begun.parameters)?),
        (None, None) => Ok(build(&methods::initial(spec.method, clip, &spec.hyper, spec.seed)?)?),
    }
}

fn write_checkpoint(folder: &WorkFolder, provenance: &Provenance, model: &dyn Model) -> std::io::Result<()> {
    fs_err::create_dir_all(folder.file(CHECKPOINT_FOLDER))?;
    let path = folder.file(CHECKPOINT_FOLDER).join(CHECKPOINT_FILE);
    checkpoint::write(&path, provenance, model.parameters().named())
}
