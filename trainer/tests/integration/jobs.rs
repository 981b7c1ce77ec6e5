//! Whole jobs: what a folder holds afterwards, resuming, adopting, and every kind of bad input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use promptfield_core::evaluation::Evaluation;
use promptfield_core::layout::{STATE_FILE, parse_log_result};
use promptfield_core::method::Method;
use promptfield_core::outcome::{FailureClass, Manifest};
use promptfield_core::trainer_job::TrainerJob;
use promptfield_core::trainer_wire::{Outcome, Progress};
use promptfield_core::unfinished::Reached;
use promptfield_trainer::clip::FrozenCache;
use promptfield_trainer::engine::{self, CancelFlag, JobError, Reporter, Session};
use serde_json::{Value, json};

use crate::fixture::{checkpoint, demo, job_json, tensors, tiny, weights};

/// A folder for one test, with the data set `tiny` in it.
struct Room {
    root: tempfile::TempDir,
    data: PathBuf,
}

impl Room {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let data = tiny(root.path());
        Self { root, data }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn job(&self, output: &str, changes: Value) -> TrainerJob {
        job(&self.data, &self.path(output), changes)
    }
}

fn job(data: &Path, output: &Path, changes: Value) -> TrainerJob {
    TrainerJob::parse(&job_json(data, output, changes).to_string()).unwrap()
}

/// Notes what a job reports, and cancels it, or panics, when so many steps are done.
#[derive(Default)]
struct Notes {
    lines: Vec<String>,
    progress: Vec<Progress>,
    metrics: Vec<(u64, BTreeMap<String, f64>)>,
    cancel: CancelFlag,
    cancel_at: Option<u64>,
    panic_at: Option<u64>,
}

impl Reporter for Notes {
    fn log(&mut self, line: &str) {
        self.lines.push(line.to_owned());
    }

    fn progress(&mut self, progress: Progress) {
        if self.cancel_at == Some(progress.step) {
            self.cancel.cancel();
        }
        assert_ne!(self.panic_at, Some(progress.step), "stumbled");
        self.progress.push(progress);
    }

    fn metrics(&mut self, step: u64, values: &BTreeMap<String, f64>) {
        self.metrics.push((step, values.clone()));
    }
}

fn run_in(session: &mut Session, job: &TrainerJob, notes: &mut Notes) -> Result<Outcome, JobError> {
    // Tests run side by side; this thread's share of the cores is one.
    tch::set_num_threads(1);
    let cancel = notes.cancel.clone();
    engine::run(job, session, notes, &cancel)
}

fn run(job: &TrainerJob, notes: &mut Notes) -> Result<Outcome, JobError> {
    run_in(&mut Session::new(1 << 20), job, notes)
}

fn complete(job: &TrainerJob) -> Outcome {
    run(job, &mut Notes::default()).unwrap()
}

/// The class and the reason of a job that must fail and leave nothing under its final name.
fn failure(job: &TrainerJob) -> (FailureClass, String) {
    let failure = run(job, &mut Notes::default()).unwrap_err().failure();
    assert!(!job.output.exists());
    (failure.class, failure.reason)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn training_on_the_bundled_photographs_beats_chance_and_its_checkpoint_is_tested() {
    let root = tempfile::tempdir().unwrap();
    let (base, new) = (root.path().join("train_base/seed1"), root.path().join("test_new/seed1"));
    let photos = |output: &Path, changes: Value| {
        let mut whole =
            json!({"dataset": "caltech101", "shots": 2, "overrides": {"epochs": 2, "eval": {"every_epochs": 1}}});
        whole.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        job(&demo(), output, whole)
    };
    let mut notes = Notes::default();
    let outcome = run(&photos(&base, json!({})), &mut notes).unwrap();

    assert_eq!(names(&base), ["MultiModalRepresentationLearner", "evaluation.json", "log.txt", "manifest.json"]);
    assert_eq!(names(base.parent().unwrap()), ["seed1"]);
    let manifest: Manifest = serde_json::from_slice(&fs_err::read(base.join("manifest.json")).unwrap()).unwrap();
    assert_eq!((outcome.adopted, outcome.manifest.as_ref()), (false, Some(&manifest)));
    assert_eq!(
        manifest.files.keys().collect::<Vec<_>>(),
        ["MultiModalRepresentationLearner/model.safetensors", "evaluation.json", "log.txt"]
    );
    // 12 of 24 classes; 2 images of each in batches of 4 are 6 steps an epoch; 216 test images in batches of 128, evaluated
    // after the first epoch and at the end, are 4 more steps.
    assert_eq!(outcome.result.total, 216);
    assert!(outcome.result.accuracy > 100.0 / 12.0 * 2.0, "{:?}", outcome.result);
    let log = fs_err::read_to_string(base.join("log.txt")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), notes.lines);
    assert!(log.contains("\nepoch [1/2] batch [6/6] time "), "{log}");
    assert!(log.contains("\nepoch [1/2] test accuracy "), "{log}");
    assert!(log.contains(&format!("specification {}", manifest.spec_hash)), "{log}");
    let evaluation = Evaluation::parse(&fs_err::read_to_string(base.join("evaluation.json")).unwrap()).unwrap();
    evaluation.check(&outcome.result).unwrap();
    assert_eq!(evaluation.classes.len(), 12);
    let calibration = outcome.result.calibration_error.unwrap();
    assert!((0.0..=100.0).contains(&calibration), "{calibration}");
    let read = parse_log_result(&log).unwrap();
    assert_eq!((read.total, read.correct), (216, outcome.result.correct));
    assert_eq!(notes.metrics.len(), 12);
    assert!(notes.metrics.iter().all(|(_, values)| values.contains_key("loss/seq_norm")));
    let last = notes.progress.last().unwrap();
    assert_eq!((last.epoch, last.epochs, last.step, last.steps), (2, 2, 16, 16));

    let test = photos(&new, json!({"stage": "test", "checkpoint": base, "overrides": {"epochs": 2, "test_batch": 50}}));
    let outcome = complete(&test);
    let tested = outcome.manifest.unwrap();
    assert_eq!(tested.spec.trained_by, Some(manifest.spec_hash));
    assert_eq!(outcome.result.total, 216);
    assert_eq!(names(&new), ["evaluation.json", "log.txt", "manifest.json"]);
    assert_ne!(tested.split_sha256, manifest.split_sha256);
}

#[test]
fn zero_shot_evaluates_in_both_stages_and_needs_no_checkpoint() {
    let room = Room::new();
    for stage in ["train", "test"] {
        let outcome =
            complete(&room.job(stage, json!({"method": "zero_shot", "shots": 0, "stage": stage, "overrides": {}})));
        assert_eq!(outcome.result.total, 9);
        assert_eq!(names(&room.path(stage)), ["evaluation.json", "log.txt", "manifest.json"]);
        assert_eq!(outcome.manifest.unwrap().spec.trained_by, None);
    }
}

#[test]
fn a_resumed_job_gives_the_same_bytes_as_an_uninterrupted_one() {
    for method in Method::all().filter(|method| method.learns()) {
        let room = Room::new();
        let job = |output: &str| room.job(output, json!({"method": method}));
        let whole = complete(&job("whole"));
        // 3 steps an epoch: cancelled in the second epoch, in the third, and in the evaluation.
        for cancel_at in [5, 7, 9] {
            let output = format!("cut{cancel_at}");
            let mut first = Notes { cancel_at: Some(cancel_at), ..Notes::default() };
            assert!(matches!(run(&job(&output), &mut first), Err(JobError::Cancelled)));
            assert_eq!(first.progress.len() as u64, cancel_at);
            assert!(!room.path(&output).exists());
            let state = fs_err::read(room.path(&format!("{output}.partial")).join(STATE_FILE)).unwrap();
            let reached =
                Reached { spec_hash: whole.manifest.as_ref().unwrap().spec_hash, epochs: cancel_at as u32 / 3 };
            assert_eq!(Reached::of(&state), Some(reached), "a worker can tell how far it is");
            let mut second = Notes::default();
            let outcome = run(&job(&output), &mut second).unwrap();
            assert_eq!(second.progress[0].step, cancel_at / 3 * 3 + 1, "goes on after the last whole epoch");
            assert_eq!(checkpoint(&room.path(&output)), checkpoint(&room.path("whole")), "{method}, {cancel_at}");
            assert_eq!(outcome.result, whole.result);
            let log = fs_err::read_to_string(room.path(&output).join("log.txt")).unwrap();
            let lines: Vec<_> = first.lines.iter().chain(&second.lines).collect();
            assert_eq!(log.lines().collect::<Vec<_>>(), lines);
            assert!(log.contains(&format!("\nresumed after epoch [{}/3]\n", cancel_at / 3)), "{log}");
        }
    }
}

#[test]
fn with_a_cold_cache_a_warm_one_and_none_a_job_gives_the_same_bytes() {
    let room = Room::new();
    let cached = |output: &str, changes: &Value| {
        let cache = FrozenCache::open(&room.path("cache"), 1 << 30).unwrap();
        let mut session = Session::new(1 << 20).with_cache(Some(cache));
        run_in(&mut session, &room.job(output, changes.clone()), &mut Notes::default()).unwrap().result
    };
    let entries = || {
        let folders = fs_err::read_dir(room.path("cache")).unwrap().map(|entry| entry.unwrap().path());
        let files = folders.filter(|folder| folder.is_dir()).flat_map(|folder| names(&folder));
        files.filter(|name| name.ends_with(".frozen")).count()
    };
    // 9 training batches: features and what comes before the first layer with tokens; 3 test batches, the latter alone.
    let mut expected = 2 * 9 + 3;
    for (changes, more) in [
        (json!({"method": "alignednorm"}), 0),
        (json!({"method": "mmrlpp"}), 0),
        (json!({"method": "mmrl"}), 0),
        // It has no such layers in the image tower: the features of test batches are new.
        (json!({"method": "coop"}), 3),
        (json!({"method": "zero_shot"}), 0),
        (json!({"seed": 2}), 2 * 9),
        (json!({"precision": "amp_bf16"}), 2 * 9 + 3),
    ] {
        let name = |kind: &str| format!("{changes}/{kind}").replace([':', '"'], "-");
        let without = complete(&room.job(&name("none"), changes.clone())).result;
        expected += more;
        for kind in ["cold", "warm"] {
            assert_eq!(cached(&name(kind), &changes), without, "{changes}");
            assert_eq!(entries(), expected, "{changes}, {kind}");
            let [with, without] = [kind, "none"].map(|kind| room.path(&name(kind)));
            let evaluation = |folder: &Path| fs_err::read(folder.join("evaluation.json")).unwrap();
            assert_eq!(evaluation(&with), evaluation(&without), "{changes}, {kind}");
            if changes["method"] != "zero_shot" {
                assert_eq!(checkpoint(&with), checkpoint(&without), "{changes}, {kind}");
            }
        }
    }
}

#[test]
fn each_precision_trains_and_gives_the_same_bytes_again_and_resumed() {
    let room = Room::new();
    let mut session = Session::new(1 << 20);
    let mut trained = BTreeMap::new();
    for precision in ["fp32", "tf32", "amp_bf16", "amp_fp16"] {
        let job = |output: &str| room.job(&format!("{precision}/{output}"), json!({"precision": precision}));
        // One session for all precisions: each gets its own backbone.
        let outcome = run_in(&mut session, &job("whole"), &mut Notes::default()).unwrap();
        assert_eq!(outcome.manifest.unwrap().spec.precision.as_str(), precision);
        complete(&job("again"));
        let mut first = Notes { cancel_at: Some(5), ..Notes::default() };
        assert!(matches!(run(&job("cut"), &mut first), Err(JobError::Cancelled)));
        let resumed = complete(&job("cut"));
        let whole = checkpoint(&room.path(&format!("{precision}/whole")));
        assert_eq!(checkpoint(&room.path(&format!("{precision}/again"))), whole, "{precision}");
        assert_eq!(checkpoint(&room.path(&format!("{precision}/cut"))), whole, "{precision}");
        assert_eq!(resumed.result, outcome.result);
        trained.insert(precision, tensors(&whole).to_vec());
    }
    // CPUs have no TF32.
    assert_eq!(trained["tf32"], trained["fp32"]);
    assert_ne!(trained["amp_bf16"], trained["fp32"]);
    assert_ne!(trained["amp_fp16"], trained["fp32"]);
    assert_ne!(trained["amp_fp16"], trained["amp_bf16"]);

    // A checkpoint is tested in the precision that it was trained in.
    let test = json!({"stage": "test", "checkpoint": room.path("fp32/whole"), "precision": "amp_bf16"});
    let (_, reason) = failure(&room.job("new", test));
    assert!(reason.contains("`precision` = \"fp32\", the job tests `precision` = \"amp_bf16\""), "{reason}");
}

#[test]
fn mixed_precision_is_as_accurate_on_the_bundled_photographs() {
    let root = tempfile::tempdir().unwrap();
    let accuracy = |precision: &str| {
        let changes = json!({"dataset": "caltech101", "shots": 2, "precision": precision, "overrides": {"epochs": 2}});
        complete(&job(&demo(), &root.path().join(precision), changes)).result.accuracy
    };
    let single = accuracy("fp32");
    for precision in ["amp_bf16", "amp_fp16"] {
        let mixed = accuracy(precision);
        assert!((mixed - single).abs() < 3.0, "{precision}: {mixed} per cent, fp32: {single}");
    }
}

#[test]
fn a_state_that_cannot_be_read_costs_only_time() {
    let room = Room::new();
    complete(&room.job("whole", json!({})));
    let mut first = Notes { cancel_at: Some(5), ..Notes::default() };
    run(&room.job("cut", json!({})), &mut first).unwrap_err();
    fs_err::write(room.path("cut.partial/state.safetensors"), "no tensors").unwrap();
    complete(&room.job("cut", json!({})));
    assert_eq!(checkpoint(&room.path("cut")), checkpoint(&room.path("whole")));
}

#[test]
fn jobs_of_one_session_do_not_touch_each_other() {
    let room = Room::new();
    let mut session = Session::new(1 << 20);
    let mut run = |output, changes| run_in(&mut session, &room.job(output, changes), &mut Notes::default());
    run("first", json!({})).unwrap();
    run("between", json!({"seed": 2, "method": "mmrlpp"})).unwrap();
    run("again", json!({})).unwrap();
    assert_eq!(checkpoint(&room.path("first")), checkpoint(&room.path("again")));
    assert_ne!(checkpoint(&room.path("first")), checkpoint(&room.path("between")));
}

#[test]
fn a_complete_folder_is_adopted_and_another_specification_puts_it_aside() {
    let room = Room::new();
    let first = complete(&room.job("seed1", json!({})));
    let mut notes = Notes::default();
    let again = run(&room.job("seed1", json!({})), &mut notes).unwrap();
    assert_eq!((again.adopted, again.result, again.manifest), (true, first.result, first.manifest));
    assert!(notes.lines.is_empty() && notes.progress.is_empty());

    let mut notes = Notes::default();
    run(&room.job("seed1", json!({"seed": 2})), &mut notes).unwrap();
    assert!(notes.lines.iter().any(|line| line.ends_with("seed1.aside-1")), "{:?}", notes.lines);
    assert!(room.path("seed1.aside-1/manifest.json").exists());
}

#[test]
fn a_folder_of_another_tool_is_adopted_and_its_test_says_which_checkpoint_is_missing() {
    let room = Room::new();
    let log =
        "epoch [10/10]\n=> result\n* total: 9\n* correct: 8\n* accuracy: 88.9%\n* error: 11.1%\n* macro_f1: 88.0%\n";
    fs_err::create_dir(room.path("seed1")).unwrap();
    fs_err::write(room.path("seed1/log.txt"), log).unwrap();
    let outcome = complete(&room.job("seed1", json!({})));
    assert_eq!((outcome.adopted, outcome.result.correct, outcome.manifest), (true, 8, None));

    let (class, reason) = failure(&room.job("new", json!({"stage": "test", "checkpoint": room.path("seed1")})));
    assert_eq!(class, FailureClass::Missing);
    assert!(reason.contains("seed1/MultiModalRepresentationLearner/model.safetensors"), "{reason}");
}

#[test]
fn a_checkpoint_is_tested_only_for_what_it_was_trained_for() {
    let room = Room::new();
    let trained = complete(&room.job("seed1", json!({}))).manifest.unwrap();
    let test = |changes: Value| {
        let mut whole = json!({"stage": "test", "checkpoint": room.path("seed1")});
        whole.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        room.job("new", whole)
    };
    let refused = |changes: Value, expected: &str| {
        let (class, reason) = failure(&test(changes));
        assert_eq!(class, FailureClass::BadData);
        assert!(reason.contains("model.safetensors") && reason.contains(expected), "{reason}");
    };
    refused(
        json!({"method": "mmrlpp"}),
        "trained with `method` = \"alignednorm\", the job tests `method` = \"mmrlpp\"",
    );
    refused(json!({"seed": 2}), "`seed` = 1");
    refused(
        json!({"overrides": {"epochs": 4, "rep_dim": 32, "proj_lora_dim": 4, "train_batch": 4}}),
        "`hyper.epochs` = 3",
    );
    refused(json!({"trained_by": "0".repeat(64)}), &trained.spec_hash.to_string());
    refused(json!({"dataset": "icons", "data_root": demo()}), "`dataset` = \"tiny\"");
    fs_err::write(room.path("broken"), "no tensors").unwrap();
    let (_, reason) = failure(&test(json!({"checkpoint": room.path("broken")})));
    assert!(reason.contains("broken` is not a checkpoint"), "{reason}");

    complete(&test(json!({"trained_by": trained.spec_hash})));
}

#[test]
fn a_job_that_stumbles_inside_leaves_the_session_usable() {
    let room = Room::new();
    let mut session = Session::new(1 << 20);
    let mut notes = Notes { panic_at: Some(4), ..Notes::default() };
    let failed = run_in(&mut session, &room.job("seed1", json!({})), &mut notes).unwrap_err().failure();
    assert_eq!(failed.class, FailureClass::Bug);
    assert!(failed.reason.contains("stumbled"), "{}", failed.reason);
    run_in(&mut session, &room.job("seed1", json!({})), &mut Notes::default()).unwrap();
}

#[test]
fn training_that_diverges_names_the_step() {
    let room = Room::new();
    let diverges = |precision: &str, epochs: u32, batch: u32, lr: f64| {
        let overrides = json!({"epochs": epochs, "rep_dim": 32, "proj_lora_dim": 4, "train_batch": batch, "warmup_epochs": 0, "lr": lr});
        failure(&room.job("seed1", json!({"precision": precision, "overrides": overrides})))
    };
    for precision in ["fp32", "amp_fp16"] {
        let (class, reason) = diverges(precision, 3, 4, 1e30);
        assert_eq!(class, FailureClass::BadData);
        assert!(reason.contains("the loss is NaN at step 1 (epoch 1, batch 2)"), "{precision}: {reason}");
        let (_, reason) = diverges(precision, 1, 12, 1e40);
        assert!(reason.contains("is not finite at step 0 (epoch 1, batch 1)"), "{precision}: {reason}");
    }
}

#[test]
fn a_data_set_that_is_not_there_is_named() {
    let room = Room::new();
    let (class, reason) = failure(&room.job("o", json!({"dataset": "tinny"})));
    assert_eq!(class, FailureClass::Missing);
    assert!(reason.contains("`dataset`: `tinny`") && reason.contains("did you mean `tiny`?"), "{reason}");

    fs_err::rename(room.data.join("tiny/images"), room.path("elsewhere")).unwrap();
    let (class, reason) = failure(&room.job("o", json!({})));
    assert_eq!(class, FailureClass::Missing);
    assert!(reason.contains("data/tiny/images"), "{reason}");
}

#[test]
fn an_image_that_is_missing_or_cut_short_is_named() {
    let room = Room::new();
    let split: Value = serde_json::from_slice(&fs_err::read(room.data.join("tiny/split.json")).unwrap()).unwrap();
    let name = split["test"][0][0].as_str().unwrap();
    let path = room.data.join("tiny/images").join(name);
    let bytes = fs_err::read(&path).unwrap();

    fs_err::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let (class, reason) = failure(&room.job("o", json!({})));
    assert_eq!(class, FailureClass::BadData);
    assert!(reason.contains(name), "{reason}");

    fs_err::remove_file(&path).unwrap();
    let (class, reason) = failure(&room.job("o", json!({})));
    assert_eq!(class, FailureClass::BadData);
    assert!(reason.contains(name) && reason.contains("missing"), "{reason}");

    fs_err::write(&path, bytes).unwrap();
    complete(&room.job("o", json!({})));
}

#[test]
fn weights_that_cannot_be_used_are_named() {
    let room = Room::new();
    let (class, reason) = failure(&room.job("o", json!({"weights": room.path("none.safetensors")})));
    assert_eq!(class, FailureClass::Missing);
    assert!(reason.contains("none.safetensors"), "{reason}");

    let bytes = fs_err::read(weights()).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let without = all.iter().filter(|(name, _)| *name != "visual.ln_post.weight");
    fs_err::write(room.path("w.safetensors"), safetensors::serialize(without, None).unwrap()).unwrap();
    let (class, reason) = failure(&room.job("o", json!({"weights": room.path("w.safetensors")})));
    assert_eq!(class, FailureClass::BadData);
    assert!(reason.contains("w.safetensors") && reason.contains("visual.ln_post.weight"), "{reason}");
}

#[test]
fn an_output_root_that_cannot_be_written_and_a_device_that_is_not_there_are_named() {
    let room = Room::new();
    fs_err::write(room.path("file"), "").unwrap();
    let (class, reason) = failure(&room.job("file/seed1", json!({})));
    assert_eq!(class, FailureClass::Storage);
    assert!(reason.contains("file/seed1"), "{reason}");

    let (class, reason) = failure(&room.job("o", json!({"device": "cuda:77"})));
    assert_eq!(class, FailureClass::Missing);
    assert!(reason.contains("`cuda:77`") && reason.contains("cpu"), "{reason}");
}
