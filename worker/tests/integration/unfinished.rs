//! Trainings that are given back, between machines that share nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use promptfield_core::VERSION;
use promptfield_core::job::layout::{LOCK_FILE, LOG_FILE, ORIGIN_FILE, STATE_FILE};
use promptfield_core::job::spec::JobSpec;
use promptfield_core::job::unfinished::{METADATA_KEY, Origin, Reached, Unfinished};
use promptfield_core::scheduler::JobStateName;

use crate::support::{Coordinator, Host};

/// What a trainer on a machine leaves of a job.
#[derive(Clone)]
struct Attempt {
    spec: JobSpec,
    weights: &'static str,
    version: &'static str,
    epochs: u32,
}

impl Attempt {
    fn of(spec: JobSpec, epochs: u32) -> Self {
        Self { spec, weights: "w", version: VERSION, epochs }
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let Self { spec, weights, version, epochs } = self.clone();
        let reached = Reached { spec_hash: spec.hash(), epochs };
        let metadata = serde_json::json!({ METADATA_KEY: serde_json::json!(reached).to_string() });
        let head = serde_json::json!({ "__metadata__": metadata }).to_string();
        let state = [&(head.len() as u64).to_le_bytes()[..], head.as_bytes(), b"tensors"].concat();
        let (backbone_sha256, code_version) = (weights.to_owned(), version.to_owned());
        let origin = Origin { spec, backbone_sha256, split_sha256: "s".to_owned(), code_version };
        let log = format!("epoch [{epochs}/50]\n");
        BTreeMap::from([
            (ORIGIN_FILE.to_owned(), serde_json::to_vec_pretty(&origin).unwrap()),
            (STATE_FILE.to_owned(), state),
            (LOG_FILE.to_owned(), log.into_bytes()),
        ])
    }

    fn leave_in(&self, partial: &Path) {
        fs_err::create_dir_all(partial).unwrap();
        fs_err::write(partial.join(LOCK_FILE), "process 7 on nowhere").unwrap();
        for (name, bytes) in self.files() {
            fs_err::write(partial.join(name), bytes).unwrap();
        }
    }
}

fn partial(output: &Path) -> PathBuf {
    output.with_added_extension("partial")
}

/// The files in a folder, but for the lock.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let named = entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path));
    named.filter(|(name, _)| name != LOCK_FILE).map(|(name, path)| (name, fs_err::read(path).unwrap())).collect()
}

/// Has a worker take the job and give it back, with what `leave` makes of the folder to work in meanwhile. Gives what the trainer
/// found in there.
async fn given_back(host: &Host, leave: impl FnOnce(JobSpec, &Path)) -> BTreeMap<String, Vec<u8>> {
    let (worker, mut trainer) = host.start_with_trainer().await;
    let training = trainer.hear_job().await;
    let partial = partial(&training.job.output);
    let found = files(&partial);
    leave(training.spec(), &partial);
    worker.shutdown.cancel();
    trainer.obey_cancel(&training).await;
    drop(trainer);
    worker.end().await.unwrap();
    found
}

#[tokio::test]
async fn a_training_goes_on_at_a_machine_with_another_output_root() {
    let coordinator = Coordinator::start().await;
    let [train, _] = coordinator.submit("alignednorm").await;
    let [one, other, third] = ["one", "other", "third"].map(|name| Host::new(name, &coordinator));
    let mut left = BTreeMap::new();
    let none = given_back(&one, |spec, partial| {
        let attempt = Attempt::of(spec, 3);
        attempt.leave_in(partial);
        left = attempt.files();
    });
    assert_eq!(none.await, BTreeMap::new());
    assert_eq!(given_back(&other, |_, _| {}).await, left);
    let mut further = BTreeMap::new();
    let found = given_back(&third, |spec, partial| {
        let attempt = Attempt::of(spec, 5);
        attempt.leave_in(partial);
        further = attempt.files();
    });
    assert_eq!(found.await, left, "what has nothing new leaves what was there");
    assert_eq!(given_back(&other, |_, _| {}).await, further, "the same training has gone on elsewhere");
    let (worker, mut trainer) = one.start_with_trainer().await;
    let training = trainer.do_job().await;
    assert_eq!(files(&partial(&training.job.output)), further);
    coordinator.until(train, JobStateName::Completed).await;
    worker.stop().await.unwrap();
    assert!(names_beside(&training.job.output).iter().all(|name| !name.contains("aside")));
}

/// What lies where a job's output folder does.
fn names_beside(output: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(output.parent().unwrap()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_lies_on_the_machine_stays_unless_the_same_has_gone_on_elsewhere() {
    let coordinator = Coordinator::start().await;
    coordinator.submit("alignednorm").await;
    let one = Host::new("one", &coordinator);
    let mut spec = None;
    given_back(&one, |job, partial| {
        Attempt::of(job.clone(), 3).leave_in(partial);
        spec = Some(job);
    })
    .await;
    let there = Attempt::of(spec.unwrap(), 2);
    let more = Attempt { epochs: 4, ..there.clone() };
    let of_other_weights = Attempt { weights: "other", ..there.clone() };
    let of_older_version = Attempt { version: "0.0.1", epochs: 9, ..there.clone() };
    let travelled = Attempt { epochs: 3, ..there.clone() };
    for (name, local, found, beside) in [
        ("a", &of_other_weights, &of_other_weights, vec!["seed1.partial"]),
        ("b", &there, &travelled, vec!["seed1.partial"]),
        ("c", &of_older_version, &travelled, vec!["seed1.partial", "seed1.partial.aside-1"]),
        // From here on the coordinator has this one.
        ("d", &more, &more, vec!["seed1.partial"]),
    ] {
        let host = Host::new(name, &coordinator);
        let output = host
            .output(&promptfield_core::job::layout::folder(&there.spec, promptfield_core::method::Methods::built_in()));
        local.leave_in(&partial(&output));
        assert_eq!(given_back(&host, |_, _| {}).await, found.files(), "{name}");
        assert_eq!(names_beside(&output), beside, "{name}");
    }
    let last = Host::new("last", &coordinator);
    assert_eq!(given_back(&last, |_, _| {}).await, more.files());
}

#[tokio::test]
async fn damage_on_the_way_costs_epochs_only() {
    let mut coordinator = Coordinator::start().await;
    let [train, _] = coordinator.submit("alignednorm").await;
    let one = Host::new("one", &coordinator);
    let mut left = BTreeMap::new();
    given_back(&one, |spec, partial| {
        let attempt = Attempt::of(spec, 3);
        attempt.leave_in(partial);
        left = attempt.files();
    })
    .await;
    let sent = coordinator.artefacts();
    assert_eq!(sent.len(), 1 + Unfinished::FILES.len());
    for (i, path) in sent.iter().enumerate() {
        let whole = fs_err::read(path).unwrap();
        for damage in [None, Some([&whole[..whole.len() - 1], b"?"].concat()), Some([&whole[..], b"?"].concat())] {
            match &damage {
                Some(bytes) => fs_err::write(path, bytes).unwrap(),
                None => fs_err::remove_file(path).unwrap(),
            }
            let host = Host::new("other", &coordinator);
            assert_eq!(given_back(&host, |_, _| {}).await, BTreeMap::new(), "artefact {i}, {damage:?}");
        }
        fs_err::write(path, whole).unwrap();
    }
    // Nothing is wrong with it now.
    coordinator.stop().await;
    coordinator.restart().await;
    let host = Host::new("other", &coordinator);
    assert_eq!(given_back(&host, |_, _| {}).await, left);
    assert_eq!(coordinator.job(train).await.summary.failures, 0);
}

#[tokio::test]
async fn a_folder_in_which_somebody_works_is_left_alone() {
    let coordinator = Coordinator::start().await;
    coordinator.submit("alignednorm").await;
    let [one, other] = ["one", "other"].map(|name| Host::new(name, &coordinator));
    let mut output = PathBuf::new();
    given_back(&one, |spec, partial| {
        output =
            other.output(&promptfield_core::job::layout::folder(&spec, promptfield_core::method::Methods::built_in()));
        Attempt::of(spec, 3).leave_in(partial);
    })
    .await;
    let partial = partial(&output);
    fs_err::create_dir_all(&partial).unwrap();
    let lock = fs_err::File::create(partial.join(LOCK_FILE)).unwrap();
    lock.lock().unwrap();
    assert_eq!(given_back(&other, |_, _| {}).await, BTreeMap::new());
    drop(lock);
    fs_err::create_dir_all(&output).unwrap();
    assert_eq!(given_back(&other, |_, _| {}).await, BTreeMap::new(), "nor where there is an output folder");
    fs_err::remove_dir(&output).unwrap();
    assert_eq!(given_back(&other, |_, _| {}).await.len(), 3);
}

#[tokio::test]
async fn a_coordinator_that_is_away_holds_nobody_up() {
    let mut coordinator = Coordinator::start().await;
    coordinator.submit("alignednorm").await;
    let host = Host::new("one", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let training = trainer.hear_job().await;
    Attempt::of(training.spec(), 3).leave_in(&partial(&training.job.output));
    coordinator.stop().await;
    let began = Instant::now();
    worker.shutdown.cancel();
    trainer.obey_cancel(&training).await;
    worker.end().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn nothing_travels_where_the_others_see_the_folder() {
    let coordinator = Coordinator::start().await;
    coordinator.submit("alignednorm").await;
    let mut one = Host::new("one", &coordinator);
    one.options.machine.shared_output = Some(true);
    given_back(&one, |spec, partial| Attempt::of(spec, 3).leave_in(partial)).await;
    assert_eq!(coordinator.artefacts(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_job_that_was_taken_away_leaves_nothing() {
    let coordinator = Coordinator::start().await;
    let [train, _] = coordinator.submit("alignednorm").await;
    let host = Host::new("one", &coordinator);
    let (worker, mut trainer) = host.start_with_trainer().await;
    let training = trainer.hear_job().await;
    Attempt::of(training.spec(), 3).leave_in(&partial(&training.job.output));
    coordinator.cancel(train).await;
    trainer.progress(&training, 1).await;
    trainer.obey_cancel(&training).await;
    worker.stop().await.unwrap();
    assert_eq!(coordinator.artefacts(), Vec::<PathBuf>::new());
}
