//! Whole jobs: what a folder holds afterwards, resuming, adopting, and every kind of bad input.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use promptfield_core::job::evaluation::Evaluation;
use promptfield_core::job::layout::{STATE_FILE, parse_log_result};
use promptfield_core::job::outcome::{Failure, FailureClass, LeftOut, Manifest, Outcome, Progress};
use promptfield_core::job::unfinished::Reached;
use promptfield_core::method::{Declaration, Methods};
use promptfield_core::protocol::ClassSubset;
use promptfield_core::scheduler::machine_fault::Cause;
use promptfield_core::wire::trainer_job::TrainerJob;
use promptfield_trainer::clip::FrozenCache;
use promptfield_trainer::engine::{self, CancelFlag, JobError, Reporter, Session};
use promptfield_trainer::tokenizer::Tokenizer;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

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
    assert_eq!(outcome.result.unwrap().total, 216);
    assert!(outcome.result.unwrap().accuracy > 100.0 / 12.0 * 2.0, "{:?}", outcome.result);
    let log = fs_err::read_to_string(base.join("log.txt")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), notes.lines);
    assert!(log.contains("\nepoch [1/2] batch [6/6] time "), "{log}");
    assert!(log.contains("\nepoch [1/2] test accuracy "), "{log}");
    assert!(log.contains(&format!("specification {}", manifest.spec_hash)), "{log}");
    let evaluation = Evaluation::parse(&fs_err::read_to_string(base.join("evaluation.json")).unwrap()).unwrap();
    evaluation.check(&outcome.result.unwrap()).unwrap();
    assert_eq!(evaluation.classes.len(), 12);
    let calibration = outcome.result.unwrap().calibration_error.unwrap();
    assert!((0.0..=100.0).contains(&calibration), "{calibration}");
    let read = parse_log_result(&log).unwrap();
    assert_eq!((read.total, read.correct), (216, outcome.result.unwrap().correct));
    assert_eq!(notes.metrics.len(), 12);
    assert!(notes.metrics.iter().all(|(_, values)| values.contains_key("loss/seq_norm")));
    let last = notes.progress.last().unwrap();
    assert_eq!((last.epoch, last.epochs, last.step, last.steps), (2, 2, 16, 16));

    let test = photos(&new, json!({"stage": "test", "checkpoint": base, "overrides": {"epochs": 2, "test_batch": 50}}));
    let outcome = complete(&test);
    let tested = outcome.manifest.unwrap();
    assert_eq!(tested.spec.trained_by, Some(manifest.spec_hash));
    assert_eq!(outcome.result.unwrap().total, 216);
    assert_eq!(names(&new), ["evaluation.json", "log.txt", "manifest.json"]);
    assert_ne!(tested.split_sha256, manifest.split_sha256);
}

#[test]
fn zero_shot_evaluates_in_both_stages_and_needs_no_checkpoint() {
    let room = Room::new();
    for stage in ["train", "test"] {
        let outcome =
            complete(&room.job(stage, json!({"method": "zero_shot", "shots": 0, "stage": stage, "overrides": {}})));
        assert_eq!(outcome.result.unwrap().total, 9);
        assert_eq!(names(&room.path(stage)), ["evaluation.json", "log.txt", "manifest.json"]);
        assert_eq!(outcome.manifest.unwrap().spec.trained_by, None);
    }
}

#[test]
fn a_resumed_job_gives_the_same_bytes_as_an_uninterrupted_one() {
    for method in Methods::built_in().list().iter().filter(|known| known.learns).map(Declaration::key) {
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
        complete(&job(&demo(), &root.path().join(precision), changes)).result.unwrap().accuracy
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

/// The log of a whole run of another tool on so many test images.
fn foreign_log(images: usize) -> String {
    format!(
        "epoch [10/10]\nFinish training\nEvaluate on the *test* set\n=> result\n* total: {images}\n* correct: 1\n* macro_f1: 9.0%\n"
    )
}

#[test]
fn a_training_of_another_tool_is_adopted_together_with_its_test_and_done_anew_without() {
    let room = Room::new();
    let folder = |half: &str| format!("base2new/{half}/tiny/shots_4/X/c/seed1");
    let (training, testing) = (folder("train_base"), folder("test_new"));
    let images = |classes| {
        let definition = promptfield_trainer::data::find_definition(None, &room.data, "tiny").unwrap();
        promptfield_trainer::data::load(&definition, &room.data, 4, 1, classes).unwrap().test.len()
    };
    let (base, new) = (images(ClassSubset::Base), images(ClassSubset::New));
    for (folder, images) in [(&training, base), (&testing, new)] {
        fs_err::create_dir_all(room.path(folder)).unwrap();
        fs_err::write(room.path(folder).join("log.txt"), foreign_log(images)).unwrap();
    }
    let trains = room.job(&training, json!({}));
    let tests = |trained_by: Value| {
        let checkpoint = room.path(&training);
        room.job(&testing, json!({"stage": "test", "checkpoint": checkpoint, "trained_by": trained_by}))
    };
    let outcome = complete(&trains);
    assert_eq!((outcome.adopted, outcome.result.unwrap().correct, outcome.manifest), (true, 1, None));
    let outcome = complete(&tests("0".repeat(64).into()));
    assert_eq!((outcome.adopted, outcome.result.unwrap().total as usize, outcome.manifest), (true, new, None));

    // On a validation set, broken off, or on other images: the training is done, and so is the test.
    fs_err::write(room.path(&testing).join("log.txt"), foreign_log(new + 1)).unwrap();
    let mut notes = Notes::default();
    let trained = run(&trains, &mut notes).unwrap();
    assert!(!trained.adopted);
    assert!(notes.lines.iter().any(|line| line.contains("no complete test of it lies beside it")), "{:?}", notes.lines);
    fs_err::write(room.path(&testing).join("log.txt"), foreign_log(new)).unwrap();
    let tested = complete(&tests(trained.manifest.unwrap().spec_hash.to_string().into()));
    assert!(!tested.adopted && tested.manifest.is_some());
}

/// The case of `log-interrupted-val`: a log that ends with a validation in the middle of a training.
#[test]
fn a_broken_off_run_of_another_tool_is_no_result() {
    let room = Room::new();
    let output = "base2new/train_base/tiny/shots_4/X/c/seed1";
    fs_err::create_dir_all(room.path(output)).unwrap();
    let log = "epoch [1/50] batch [1/1]\nEvaluate on the *val* set\n=> result\n* total: 4\n* correct: 4\n* macro_f1: 100.0%\n\
               epoch [2/50] batch [1/1]\n";
    fs_err::write(room.path(output).join("log.txt"), log).unwrap();
    let mut notes = Notes::default();
    assert!(!run(&room.job(output, json!({})), &mut notes).unwrap().adopted);
    assert!(notes.lines.iter().any(|line| line.contains("the run was broken off")), "{:?}", notes.lines);
}

#[test]
fn a_checkpoint_that_was_changed_or_trained_on_other_lists_is_not_tested() {
    let room = Room::new();
    let trained = complete(&room.job("seed1", json!({}))).manifest.unwrap();
    let test = |changes: Value| {
        let mut whole = json!({"stage": "test", "checkpoint": room.path("seed1"), "trained_by": trained.spec_hash});
        whole.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        room.job("new", whole)
    };
    let refused = |job: &TrainerJob| {
        let error = run(job, &mut Notes::default()).unwrap_err();
        assert_eq!(error.cause(), Some(Cause::Checkpoint));
        error.failure().reason
    };
    let file = room.path("seed1/MultiModalRepresentationLearner/model.safetensors");
    let whole = fs_err::read(&file).unwrap();
    let mut changed = whole.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    fs_err::write(&file, &changed).unwrap();
    let reason = refused(&test(json!({})));
    assert!(reason.contains("aren't those that the manifest beside it names"), "{reason}");
    fs_err::write(&file, &whole).unwrap();

    // Of the same name, other lists: one class has another name now.
    let other = tempfile::tempdir().unwrap();
    let data = tiny(other.path());
    let split = data.join("tiny/split.json");
    let text = fs_err::read_to_string(&split).unwrap();
    let name = serde_json::from_str::<Value>(&text).unwrap()["train"][0][2].as_str().unwrap().to_owned();
    fs_err::write(&split, text.replace(&format!("\"{name}\""), "\"another\"")).unwrap();
    let reason = refused(&test(json!({"data_root": data})));
    assert!(reason.contains("it was trained on the split") && reason.contains("of `tiny`"), "{reason}");
    complete(&test(json!({})));
}

#[test]
fn weights_that_are_not_those_of_the_results_are_refused_before_anything_is_begun() {
    let room = Room::new();
    let wanted = "ab".repeat(32);
    let job = room.job("seed1", json!({"backbone_sha256": wanted}));
    let error = run(&job, &mut Notes::default()).unwrap_err();
    let Some(Cause::OtherBackbone { sha256 }) = error.cause() else { panic!("{error}") };
    let found = sha256.to_string();
    let reason = error.failure().reason;
    assert!(reason.contains(&wanted) && reason.contains(&found), "{reason}");
    assert!(!room.path("seed1.partial").exists());
    let manifest = complete(&room.job("seed1", json!({"backbone_sha256": found}))).manifest.unwrap();
    assert_eq!(manifest.backbone_sha256(), found);
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

/// Training starts from other weights than the bundled ones: those that `change` makes of the tensor `name`.
fn job_with_weights(room: &Room, name: &str, changes: Value, change: impl Fn(&Tensor) -> Tensor) -> TrainerJob {
    let tensors = Tensor::read_safetensors(weights()).unwrap();
    let changed = tensors.into_iter().map(|(key, tensor)| {
        let tensor = if key == name { change(&tensor.to_kind(Kind::Float)) } else { tensor };
        (key, tensor)
    });
    let path = room.path("changed.safetensors");
    Tensor::write_safetensors(&changed.collect::<Vec<_>>(), &path).unwrap();
    let mut whole = json!({"weights": path});
    whole.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    room.job("seed1", whole)
}

#[test]
fn weights_that_make_no_numbers_give_no_result_and_the_class_or_image_is_named() {
    let room = Room::new();
    let methods = [
        json!({"method": "zero_shot", "shots": 0, "overrides": {}}),
        json!({"method": "coop", "overrides": {"n_ctx": 4, "epochs": 1, "train_batch": 4}}),
        json!({"method": "alignednorm"}),
    ];
    let nan = |tensor: &Tensor| tensor * f64::NAN;
    let split: Value = serde_json::from_slice(&fs_err::read(room.data.join("tiny/split.json")).unwrap()).unwrap();
    let first_class = format!("the text features of the class `{}` are", split["train"][0][2].as_str().unwrap());
    let first_image = format!("tiny/images/{}` are", split["test"][0][0].as_str().unwrap());
    for changes in methods {
        let refused = |name: &str, change: &dyn Fn(&Tensor) -> Tensor, expected: &str| {
            let (class, reason) = failure(&job_with_weights(&room, name, changes.clone(), change));
            assert_eq!(class, FailureClass::BadData, "{reason}");
            let hints_at_weights = reason.contains("from the weights of `clip_mini`") && !reason.contains("`lr`");
            assert!(reason.contains(expected) && hints_at_weights, "{changes}, {name}: {reason}");
        };
        // While training the first image is that of the epoch's order.
        let trains = changes["method"] != "zero_shot";
        let image = if trains { "the image features of `" } else { &first_image };
        refused("text_projection", &nan, &first_class);
        refused("visual.proj", &nan, image);
        // Every number is finite, but not the norm of the features.
        refused("visual.proj", &|tensor| tensor * 1e30, image);
        refused("text_projection", &|tensor| tensor * 1e30, &first_class);
    }
}

#[test]
fn a_class_whose_name_has_no_numbers_is_named_in_the_evaluation_of_its_half() {
    let room = Room::new();
    let split: Value = serde_json::from_slice(&fs_err::read(room.data.join("tiny/split.json")).unwrap()).unwrap();
    let new = split["test"].as_array().unwrap().iter().find(|entry| entry[1] == 4).unwrap()[2].as_str().unwrap();
    let token = i64::from(Tokenizer::shared().encode(new).unwrap()[1]);
    let job = |stage: &str| {
        let changes = json!({"method": "zero_shot", "shots": 0, "overrides": {}, "stage": stage});
        job_with_weights(&room, "token_embedding.weight", changes, |tensor| {
            let changed = tensor.copy();
            let _ = changed.get(token).fill_(f64::NAN);
            changed
        })
    };
    let (_, reason) = failure(&job("test"));
    assert!(reason.contains(&format!("the text features of the class `{new}` are not finite")), "{reason}");
    assert_eq!(complete(&job("train")).result.unwrap().total, 9);
}

/// Changes a list of `tiny`'s split file.
fn change_split(data: &Path, change: impl Fn(&mut Value)) {
    let file = data.join("tiny/split.json");
    let mut split: Value = serde_json::from_slice(&fs_err::read(&file).unwrap()).unwrap();
    change(&mut split);
    fs_err::write(file, split.to_string()).unwrap();
}

#[test]
fn an_evaluation_of_nothing_is_refused_before_anything_is_trained() {
    let room = Room::new();
    let mut session = Session::new(1 << 20);
    let whole = fs_err::read(room.data.join("tiny/split.json")).unwrap();
    let zero_shot = |stage: &str| json!({"method": "zero_shot", "shots": 0, "overrides": {}, "stage": stage});
    let mut refused = |changes: Value, expected: &str| {
        let job = room.job("seed1", changes);
        let failure = run_in(&mut session, &job, &mut Notes::default()).unwrap_err().failure();
        let Failure { class, reason } = failure;
        assert_eq!(class, FailureClass::BadData);
        assert!(reason.contains(&format!("`tiny` has no test image{expected}: expected at least one in")), "{reason}");
        assert!(reason.contains("tiny/split.json"), "{reason}");
        assert_eq!(names(room.root.path()), ["data"], "nothing was begun");
    };
    change_split(&room.data, |split| split["test"] = json!([]));
    refused(json!({}), " of its base classes");
    refused(json!({"protocol": "few_shot"}), "");
    refused(json!({"protocol": "cross_dataset"}), "");
    refused(zero_shot("train"), " of its base classes");
    refused(zero_shot("test"), " of its new classes");

    // Base classes can be trained on, but their checkpoint couldn't be tested.
    fs_err::write(room.data.join("tiny/split.json"), &whole).unwrap();
    change_split(&room.data, |split| split["test"].as_array_mut().unwrap().retain(|entry| entry[1].as_u64() < Some(3)));
    refused(json!({}), " of its new classes");
    refused(zero_shot("test"), " of its new classes");
    run_in(&mut session, &room.job("zero", zero_shot("train")), &mut Notes::default()).unwrap();
    run_in(&mut session, &room.job("few", json!({"protocol": "few_shot"})), &mut Notes::default()).unwrap();

    fs_err::write(room.data.join("tiny/split.json"), whole).unwrap();
    run_in(&mut session, &room.job("seed1", json!({})), &mut Notes::default()).unwrap();
}

#[test]
fn a_class_without_training_images_is_left_out_of_both_halves_and_said() {
    let room = Room::new();
    change_split(&room.data, |split| split["train"].as_array_mut().unwrap().retain(|entry| entry[1] != 1));
    let split: Value = serde_json::from_slice(&fs_err::read(room.data.join("tiny/split.json")).unwrap()).unwrap();
    let class = split["test"].as_array().unwrap().iter().find(|entry| entry[1] == 1).unwrap()[2].as_str().unwrap();
    let mut total = 0;
    for stage in ["train", "test"] {
        let mut notes = Notes::default();
        let job = room.job(stage, json!({"method": "zero_shot", "shots": 0, "stage": stage, "overrides": {}}));
        let outcome = run(&job, &mut notes).unwrap();
        total += outcome.result.unwrap().total;
        assert_eq!(outcome.manifest.unwrap().left_out, [LeftOut { class: class.to_owned(), images: 3 }]);
        let line = format!("class `{class}` has no training image: its 3 test images are left out");
        assert!(notes.lines.contains(&line), "{:?}", notes.lines);
    }
    assert_eq!(total, 15, "of 18");
}

#[test]
fn a_resident_trainer_sees_an_image_that_was_replaced() {
    let room = Room::new();
    let mut session = Session::new(1 << 20);
    let mut evaluate = |output: &str| {
        let job = room.job(output, json!({"method": "zero_shot", "shots": 0, "overrides": {}}));
        run_in(&mut session, &job, &mut Notes::default()).unwrap();
        fs_err::read(room.path(output).join("evaluation.json")).unwrap()
    };
    let before = evaluate("before");
    let split: Value = serde_json::from_slice(&fs_err::read(room.data.join("tiny/split.json")).unwrap()).unwrap();
    let images: Vec<PathBuf> = split["test"].as_array().unwrap()[..9]
        .iter()
        .map(|entry| room.data.join("tiny/images").join(entry[0].as_str().unwrap()))
        .collect();
    // Each gets the name of the next: the same files, and other labels for three of them.
    fs_err::rename(&images[8], room.path("last")).unwrap();
    for index in (0..8).rev() {
        fs_err::rename(&images[index], &images[index + 1]).unwrap();
    }
    fs_err::rename(room.path("last"), &images[0]).unwrap();
    let after = evaluate("after");
    fs_err::remove_dir_all(room.path("after")).unwrap();
    complete(&room.job("fresh", json!({"method": "zero_shot", "shots": 0, "overrides": {}})));
    assert_eq!(after, fs_err::read(room.path("fresh/evaluation.json")).unwrap());
    assert_ne!(after, before);
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
