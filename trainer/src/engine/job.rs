//! One job from its JSON to its complete folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use promptfield_core::experiment::dataset::DatasetDefinition;
use promptfield_core::input::{InvalidInput, from_value};
use promptfield_core::job::layout::{self, EVALUATION_FILE, LOG_FILE, STATE_FILE};
use promptfield_core::job::outcome::{LeftOut, Manifest, Outcome, Progress, Seconds, TestResult};
use promptfield_core::job::spec::JobSpec;
use promptfield_core::job::unfinished::Origin;
use promptfield_core::method::Methods;
use promptfield_core::protocol::{ClassSubset, Protocol, Stage};
use promptfield_core::wire::trainer_job::TrainerJob;
use promptfield_core::{VERSION, time::Timestamp};
use promptfield_output::{Foreign, Opened, Today, WorkFolder, file};
use tch::{Cuda, Device, Kind, Tensor};

use super::checkpoint::{self, CheckpointError, Provenance};
use super::error::JobError;
use super::evaluate::{self, evaluate};
use super::log::result_block;
use super::report::{CancelFlag, Report, Reporter};
use super::session::Session;
use super::train::{self, Begun, evaluates_after, train};
use crate::clip::{Backbone, Clip, WeightsError};
use crate::data::{self, DataError, KeptSplits, Split};
use crate::image::{ImageCache, PixelScale};
use crate::methods::values::{self, Interim, Schedule};
use crate::methods::{self, Classes, Evaluated, Model, NamedTensors};
use crate::working;

/// What a job reads while it runs, on whichever thread.
pub(super) struct Inputs<'a> {
    pub(super) spec: &'a JobSpec,
    pub(super) schedule: Schedule,
    pub(super) interim: Interim,
    pub(super) split: &'a Split,
    pub(super) images: &'a ImageCache,
    /// Pixels of an image's edge.
    pub(super) image_size: usize,
    pub(super) scale: PixelScale,
    pub(super) device: Device,
    cancel: &'a CancelFlag,
}

impl Inputs<'_> {
    /// An error if the job was cancelled.
    pub(super) fn go_on(&self) -> Result<(), JobError> {
        if self.cancel.is_cancelled() { Err(JobError::Cancelled) } else { Ok(()) }
    }

    /// The error for what isn't made of finite numbers, though nothing but the weights, and perhaps what was `trained` on them, made it.
    pub(super) fn not_finite(&self, what: String, trained: bool) -> JobError {
        JobError::NotFinite { what, backbone: self.spec.backbone.clone(), precision: self.spec.precision, trained }
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

/// The checkpoint file, or the one in the training folder, that `path` names; `checkpoint` is where a training has it.
fn checkpoint_at(path: &Path, checkpoint: &str) -> PathBuf {
    if path.is_dir() { path.join(checkpoint) } else { path.to_owned() }
}

/// SHA-256 of a file in hexadecimal, if it can be read.
fn hash_of(path: &Path) -> Option<String> {
    let mut file = fs_err::File::open(path).ok()?;
    Some(file::digest(&mut file, working::goes_on).ok()?.sha256)
}

/// Whether a file is a checkpoint of this program that a training of `origin` may have written.
fn is_checkpoint_of(path: &Path, origin: &Origin) -> bool {
    checkpoint::read::<Provenance>(path).is_ok_and(|(provenance, _)| {
        let Origin { spec, backbone_sha256, split_sha256, .. } = origin;
        provenance.spec_hash == spec.hash()
            && provenance.backbone_sha256() == *backbone_sha256
            && provenance.split_sha256.as_ref().is_none_or(|trained_on| trained_on == split_sha256)
    })
}

impl Trained {
    /// Reads the checkpoint file, or the one in the training folder, that `path` names. Where a manifest lies with it, its bytes are
    /// those that the manifest names.
    fn read(path: &Path, checkpoint: &str) -> Result<Self, CheckpointError> {
        let folder = if path.is_dir() { Some(path) } else { path.parent().and_then(Path::parent) };
        let path = checkpoint_at(path, checkpoint);
        let manifest = folder.and_then(|folder| promptfield_output::manifest_in(folder, None).ok().flatten());
        let entry = manifest.as_ref().and_then(|manifest| manifest.files.get(checkpoint));
        let (mut provenance, parameters): (Provenance, _) = checkpoint::read_checked(&path, entry)?;
        // What its own metadata doesn't say, its manifest does.
        provenance.split_sha256 = provenance.split_sha256.or_else(|| manifest.map(|manifest| manifest.split_sha256));
        Ok(Self { path, provenance, parameters })
    }

    fn unfit(&self, difference: impl ToString) -> CheckpointError {
        CheckpointError::Unfit { path: self.path.clone(), difference: difference.to_string() }
    }

    /// Refuses a checkpoint that was trained on another backbone, or on other lists than those that its training would read today.
    fn check(&self, job: &TrainerJob, origin: &Origin, splits: &mut KeptSplits) -> Result<(), CheckpointError> {
        if let Some(difference) = self.provenance.difference(&origin.spec, &origin.backbone_sha256) {
            return Err(self.unfit(difference));
        }
        let spec = &self.provenance.spec;
        let (Some(trained_on), Some(today)) = (&self.provenance.split_sha256, training_split(job, spec, splits)) else {
            return Ok(());
        };
        let today = today.hash();
        if *trained_on != today {
            let dataset = &spec.dataset;
            return Err(
                self.unfit(format!("it was trained on the split {trained_on} of `{dataset}`, which is {today} now"))
            );
        }
        Ok(())
    }
}

/// The lists that a training reads today; `None` if its data set isn't on this machine, or can't be read.
fn training_split(job: &TrainerJob, training: &JobSpec, splits: &mut KeptSplits) -> Option<Arc<Split>> {
    let definition = data::find_definition(job.datasets.as_deref(), &job.data_root, &training.dataset).ok()?;
    splits.load(&definition, &job.data_root, training.shots, training.seed, training.classes()).ok()
}

/// The lists of a job. One without test images would have no result, so it's refused before anything is computed; and a training
/// whose checkpoint is to be tested on nothing, too.
fn evaluated(
    job: &TrainerJob,
    spec: &JobSpec,
    definition: &DatasetDefinition,
    splits: &mut KeptSplits,
) -> Result<Arc<Split>, DataError> {
    let mut tested = |classes| {
        let split = splits.load(definition, &job.data_root, spec.shots, spec.seed, classes)?;
        let refusal = split.test.is_empty().then(|| data::no_test_images(definition, &job.data_root, classes));
        refusal.map_or(Ok(split), Err)
    };
    let split = tested(spec.classes())?;
    if spec.learns() && (spec.protocol, spec.stage) == (Protocol::BaseToNew, Stage::Train) {
        tested(ClassSubset::New)?;
    }
    Ok(split)
}

/// What makes a folder of another tool acceptable for a job.
fn foreign(
    job: &TrainerJob,
    spec: &JobSpec,
    output: &Path,
    definition: &DatasetDefinition,
    splits: &mut KeptSplits,
) -> Result<Foreign, DataError> {
    let mut split_of = |classes| splits.load(definition, &job.data_root, spec.shots, spec.seed, classes);
    Ok(match (spec.protocol, spec.stage) {
        _ if !spec.learns() => Foreign::Alone,
        (Protocol::FewShot, _) => Foreign::Alone,
        (Protocol::BaseToNew, Stage::Train) => {
            let images = split_of(ClassSubset::New)?.test.len();
            Foreign::Training { test: promptfield_output::test_of(output).map(|folder| (folder, images)) }
        }
        (Protocol::CrossDataset, Stage::Train) => Foreign::Training { test: None },
        (protocol, Stage::Test) => match job.checkpoint.as_deref().filter(|path| path.is_dir()) {
            None => Foreign::Refused,
            Some(training) => {
                let images = match protocol {
                    Protocol::BaseToNew => Some(split_of(ClassSubset::Base)?.test.len()),
                    // The source's images may not be on this machine.
                    _ => None,
                };
                Foreign::Test { training: training.to_owned(), images }
            }
        },
    })
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
    let method = job.declaration()?;
    let device = device(&job.device)?;
    // Without a slash at the end, which would make `….partial` lie inside the folder.
    let output: PathBuf = job.output.components().collect();
    let definition = data::find_definition(job.datasets.as_deref(), &job.data_root, &job.dataset)?;

    let tested = job.checkpoint.as_deref().filter(|_| job.stage == Stage::Test && method.learns);
    let checkpoint = layout::checkpoint(job.method, Methods::built_in()).unwrap_or_default();
    let mut trained = None;
    let mut trained_by = job.trained_by;
    if let (Some(path), None) = (tested, trained_by) {
        let read = Trained::read(path, &checkpoint)?;
        trained_by = Some(read.provenance.spec_hash);
        trained = Some(read);
    }
    let spec = job.spec(&definition, trained_by)?;
    let backbone = Backbone::identify(&job.weights, &job.architecture)?;
    if let Some(wanted) = job.backbone_sha256.filter(|wanted| backbone.basis() != Some(*wanted)) {
        let path = job.weights.clone();
        return Err(JobError::OtherBackbone { backbone: spec.backbone, path, found: backbone.basis(), wanted });
    }
    let split = evaluated(job, &spec, &definition, &mut session.splits)?;
    let foreign = foreign(job, &spec, &output, &definition, &mut session.splits)?;
    let origin = Origin {
        spec,
        backbone_sha256: backbone.sha256(),
        split_sha256: split.hash(),
        code_version: VERSION.to_owned(),
    };
    let checkpoint_sha256 = tested.and_then(|path| hash_of(&checkpoint_at(path, &checkpoint)));
    let today = Today {
        origin: &origin,
        test_sha256: split.test_hash(),
        left_out: &split.left_out,
        test_images: split.test.len(),
        checkpoint_sha256,
        training: tested.and_then(promptfield_output::earlier_training),
        afresh: job.afresh,
        foreign,
        is_checkpoint_of,
        on_block: working::goes_on,
    };
    if let Some(outcome) = promptfield_output::find_complete(&output, &today) {
        return Ok(outcome);
    }
    if let (Some(path), None) = (tested, &trained) {
        trained = Some(Trained::read(path, &checkpoint)?);
    }
    if let Some(trained) = &trained {
        trained.check(job, &origin, &mut session.splits)?;
    }
    let of_weights = (&*job.weights, &job.architecture, &backbone);
    let (clip, images) = session.prepare(of_weights, (device, origin.spec.precision), &job.data_root, &definition)?;
    if *clip.backbone() != backbone {
        return Err(WeightsError::Changed { path: job.weights.clone() }.into());
    }
    let folder = match promptfield_output::open(&output, &today)? {
        Opened::Complete(outcome) => return Ok(*outcome),
        Opened::Busy { partial, holder } => return Err(JobError::Busy { partial, holder }),
        Opened::Partial(folder) => folder,
    };
    let mut report = Report::open(&folder.file(LOG_FILE), &output, reporter)?;
    let inputs = Inputs {
        spec: &origin.spec,
        schedule: values::read(&origin.spec.hyper)?,
        interim: interim(&origin.spec)?,
        split: &split,
        images,
        image_size: clip.geometry().vision.image_size as usize,
        scale: PixelScale::of(&backbone.architecture),
        device,
        cancel,
    };
    for line in introduction(&origin, &backbone, job, &split).iter().chain(&folder.notes) {
        report.log(line)?;
    }
    let provenance = Provenance {
        spec: origin.spec.clone(),
        spec_hash: origin.spec.hash(),
        weights_sha256: backbone.weights_sha256.clone(),
        architecture: backbone.architecture,
        split_sha256: Some(origin.split_sha256.clone()),
    };
    let (result, seconds) = compute(&inputs, clip, &provenance, trained.as_ref(), &folder, &mut report, started)?;
    drop(report);
    let Today { checkpoint_sha256, test_sha256, .. } = today;
    let manifest = folder.complete(&[STATE_FILE], |files| Manifest {
        format: Manifest::FORMAT,
        spec_hash: origin.spec.hash(),
        spec: origin.spec,
        weights_sha256: backbone.weights_sha256,
        architecture: backbone.architecture,
        assumed: backbone.assumed,
        split_sha256: origin.split_sha256,
        test_sha256: Some(test_sha256),
        checkpoint_sha256,
        left_out: split.left_out.clone(),
        code_version: origin.code_version,
        device: job.device.clone(),
        threads: u32::try_from(tch::get_num_threads()).unwrap_or(0),
        result: Some(result),
        started_at,
        seconds,
        files,
    })?;
    Ok(Outcome { result: Some(result), adopted: false, manifest: Some(manifest) })
}

/// Trains and evaluates in `folder`.
fn compute(
    inputs: &Inputs,
    clip: &Clip,
    provenance: &Provenance,
    trained: Option<&Trained>,
    folder: &WorkFolder,
    report: &mut Report,
    started: Instant,
) -> Result<(TestResult, Seconds), JobError> {
    let spec = inputs.spec;
    let trains = spec.stage == Stage::Train && spec.learns();
    let begun = if trains { begin(folder, inputs, report)? } else { None };
    report.progress = plan(inputs, trains, begun.as_ref());
    let model = model(inputs, clip, trained, begun.as_ref())?;
    let mut seconds = Seconds { prepare: started.elapsed().as_secs_f64(), ..Seconds::default() };
    if trains {
        let training = Instant::now();
        train(inputs, model.as_ref(), begun.as_ref(), folder, report)?;
        write_checkpoint(folder, provenance, model.as_ref()).map_err(|error| folder.error(error))?;
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
fn introduction(origin: &Origin, backbone: &Backbone, job: &TrainerJob, split: &Split) -> Vec<String> {
    let spec = &origin.spec;
    let mut lines = vec![
        format!("Promptfield {}: {}", origin.code_version, spec.title()),
        format!("specification {} {}", spec.hash(), serde_json::json!(spec)),
        format!("weights {} SHA-256 {}", job.weights.display(), backbone.weights_sha256),
        format!("backbone {} {backbone}", origin.backbone_sha256),
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
    ];
    lines.extend(split.left_out.iter().map(|LeftOut { class, images }| {
        format!("class `{class}` has no training image: its {images} test images are left out")
    }));
    lines
}

/// When the job is evaluated before its end.
fn interim(spec: &JobSpec) -> Result<Interim, InvalidInput> {
    let eval = spec.options.get("eval").cloned();
    eval.map_or(Ok(Interim::default()), |eval| from_value(eval).map_err(|error| error.under("options.eval")))
}

/// What an earlier attempt left, if it can be read: its epochs can be done again.
fn begin(folder: &WorkFolder, inputs: &Inputs, report: &mut Report) -> Result<Option<Begun>, JobError> {
    let epochs = inputs.schedule.epochs;
    let (begun, line) = match Begun::read(folder, inputs.spec.hash()) {
        Ok(None) => return Ok(None),
        Ok(Some(begun)) => {
            let line = format!("resumed after epoch [{}/{epochs}]", begun.epochs);
            (Some(begun), line)
        }
        Err(error) => (None, format!("training starts from the first epoch: {error}")),
    };
    report.log(&line)?;
    Ok(begun)
}

/// Where the job starts, and how many steps it has in all.
fn plan(inputs: &Inputs, trains: bool, begun: Option<&Begun>) -> Progress {
    let Schedule { epochs: all, train_batch, test_batch, .. } = inputs.schedule;
    let evaluation = evaluate::batches(inputs.split.test.len(), test_batch) as u64;
    if !trains {
        return Progress { steps: evaluation, ..Progress::default() };
    }
    let epoch = u64::from(train::batches(inputs.split.train.len(), train_batch));
    let steps_of = |epochs: u32| {
        let evaluations = (1..=epochs).filter(|&done| evaluates_after(inputs.interim, all, done)).count() as u64;
        u64::from(epochs) * epoch + evaluations * evaluation
    };
    let done = begun.map_or(0, |begun| begun.epochs);
    Progress { epoch: done, epochs: all, step: steps_of(done), steps: steps_of(all) + evaluation, silent_s: 0 }
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
    let path = folder.file(&layout::checkpoint(provenance.spec.method, Methods::built_in()).unwrap_or_default());
    path.parent().map_or(Ok(()), fs_err::create_dir_all)?;
    checkpoint::write(&path, provenance, model.parameters().named())
}
