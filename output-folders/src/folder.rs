//! Output folders: complete or absent.
//!
//! Work happens in the sibling `….partial`, which one trainer at a time may hold (an exclusive lock on a file inside it). A
//! finished folder is synced to the disk, gets its manifest and is then renamed, so a folder under its final name that has a
//! manifest is whole. Whoever is killed after the manifest and before the rename has it done by the next one who takes the
//! folder. What stands in the way is put aside under another name, never deleted. Whether a complete folder is what the job would
//! make today is found out in [`crate::found`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use fs_err::File;
use promptfield_core::job::earlier::{self, Training};
use promptfield_core::job::layout::{LOCK_FILE, MANIFEST_FILE, ORIGIN_FILE};
use promptfield_core::job::outcome::{FileEntry, LeftOut, Manifest, Outcome};
use promptfield_core::job::spec::JobSpec;
use promptfield_core::job::unfinished::Origin;

use crate::file::{digest, replace, sync};
use crate::found::{Foreign, Found, look};
use crate::partial::{self, Lock, leftovers, lock, put_aside};

/// An output folder couldn't be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the output folder `{}`", .output.display())]
pub struct FolderError {
    /// The folder's final name.
    pub output: PathBuf,
    /// What failed, with the path.
    pub source: io::Error,
}

/// What [`open`] found.
#[derive(Debug)]
pub enum Opened {
    /// The folder is complete already.
    Complete(Box<Outcome>),
    /// The folder has to be made.
    Partial(WorkFolder),
    /// Another trainer is making it.
    Busy {
        /// The folder it works in.
        partial: PathBuf,
        /// Which process it is.
        holder: String,
    },
}

/// A `….partial` folder that this process holds.
#[derive(Debug)]
pub struct WorkFolder {
    output: PathBuf,
    partial: PathBuf,
    /// What was put aside on the way here, one sentence each, for the log.
    pub notes: Vec<String>,
    /// Called after each block of a file that was hashed.
    on_block: fn(),
    /// Released when the file is closed.
    _lock: File,
}

/// What a job rests on today, with which a complete folder is compared.
#[derive(Debug)]
pub struct Today<'a> {
    /// What the job is made of.
    pub origin: &'a Origin,
    /// SHA-256 of the class names and the test list of the split that the origin names by its hash.
    pub test_sha256: String,
    /// The classes that the split leaves out.
    pub left_out: &'a [LeftOut],
    /// How many images the split tests.
    pub test_images: usize,
    /// SHA-256 of the checkpoint that a test would test, if it is there.
    pub checkpoint_sha256: Option<String>,
    /// The training whose checkpoint a test would test, if it lies here as an earlier version left it.
    pub training: Option<Training>,
    /// Whether a complete folder is put aside, whatever it holds.
    pub afresh: bool,
    /// What makes a folder that another tool completed acceptable.
    pub foreign: Foreign,
    /// Whether a file is a checkpoint that a training of this origin may have written.
    pub is_checkpoint_of: fn(&Path, &Origin) -> bool,
    /// Called after each block of a file that was hashed.
    pub on_block: fn(),
}

impl Today<'_> {
    /// The same for a folder that only this program can have made.
    fn of_own(&self) -> Self {
        let (test_sha256, checkpoint_sha256) = (self.test_sha256.clone(), self.checkpoint_sha256.clone());
        Self { test_sha256, checkpoint_sha256, afresh: false, foreign: Foreign::Refused, ..*self }
    }
}

/// The outcome that a complete folder holds, if it is what the job would make today.
pub fn find_complete(output: &Path, today: &Today) -> Option<Outcome> {
    match look(output, today) {
        Found::Whole(outcome) if !today.afresh => Some(*outcome),
        _ => None,
    }
}

/// Takes hold of the folder of a job: finds it complete, or locks `<output>.partial`, new or as an earlier attempt of the same
/// origin left it.
pub fn open(output: &Path, today: &Today) -> Result<Opened, FolderError> {
    take(output, today).map_err(|source| FolderError { output: output.to_owned(), source })
}

fn take(output: &Path, today: &Today) -> io::Result<Opened> {
    let partial = partial::of(output);
    let mut notes = Vec::new();
    loop {
        fs_err::create_dir_all(&partial)?;
        let lock = match lock(&partial)? {
            Lock::Held(file) => file,
            Lock::Gone => continue,
            Lock::Busy(holder) => return Ok(Opened::Busy { partial, holder }),
        };
        // Only now can nobody else complete the folder, so only now is it known to be incomplete.
        let left = leftovers(&partial)?;
        let mut found =
            if today.afresh { Found::Other("it is computed again".to_owned()) } else { look(output, today) };
        if matches!(found, Found::Nothing)
            && let Some(earlier) = earlier_name(output, &today.origin.spec)
            && let whole @ Found::Whole(_) = look(&earlier, today)
        {
            fs_err::rename(&earlier, output)?;
            found = whole;
        }
        if let Found::Whole(outcome) = found {
            if left.is_empty() {
                fs_err::remove_file(partial.join(LOCK_FILE))?;
                fs_err::remove_dir(&partial)?;
            }
            return Ok(Opened::Complete(outcome));
        }
        let finished = match look(&partial, &today.of_own()) {
            Found::Whole(outcome) => outcome.manifest,
            _ => None,
        };
        if finished.is_some() {
            // Only its name is missing.
        } else if left.is_empty() {
            let text = serde_json::to_vec_pretty(today.origin).map_err(io::Error::other)?;
            replace(&partial.join(ORIGIN_FILE), &text)?;
        } else if !read_origin(&partial).is_some_and(|found| found.is_that_of(today.origin)) {
            let aside = put_aside(&partial)?;
            notes.push(format!("unfinished work on something else was put aside as {}", aside.display()));
            continue;
        }
        if fs_err::symlink_metadata(output).is_ok() {
            let why = match &found {
                Found::Other(why) => why.as_str(),
                _ => "it was empty",
            };
            let aside = put_aside(output)?;
            notes.push(format!("{}: {why}; it was put aside as {}", output.display(), aside.display()));
        }
        let folder = WorkFolder { output: output.to_owned(), partial, notes, on_block: today.on_block, _lock: lock };
        return Ok(match finished {
            Some(manifest) => {
                folder.publish(&manifest)?;
                Opened::Complete(Box::new(adopted(manifest)))
            }
            None => Opened::Partial(folder),
        });
    }
}

/// Where an earlier version had the folder of a job, if that was under another name of its configuration.
fn earlier_name(output: &Path, spec: &JobSpec) -> Option<PathBuf> {
    let (config, folder) = (earlier::config(spec), output.parent()?);
    let is_other = config != spec.config && folder.file_name()? == spec.config.as_str();
    is_other.then(|| folder.with_file_name(config).join(output.file_name().unwrap_or_default()))
}

fn adopted(manifest: Manifest) -> Outcome {
    Outcome { result: manifest.result, adopted: true, manifest: Some(manifest) }
}

fn read_origin(partial: &Path) -> Option<Origin> {
    serde_json::from_slice(&fs_err::read(partial.join(ORIGIN_FILE)).ok()?).ok()
}

impl WorkFolder {
    /// The file `name` in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.partial.join(name)
    }

    /// Completes the folder: hands the files' sizes and hashes to `manifest`, but those of `scratch` (names of files that only a
    /// resumed attempt needs), writes what it returns, removes `scratch`, and gives the folder its final name.
    pub fn complete(
        self,
        scratch: &[&str],
        manifest: impl FnOnce(BTreeMap<String, FileEntry>) -> Manifest,
    ) -> Result<Manifest, FolderError> {
        self.finish(scratch, manifest).map_err(|source| FolderError { output: self.output.clone(), source })
    }

    /// An error of writing in this folder.
    pub fn error(&self, source: io::Error) -> FolderError {
        FolderError { output: self.output.clone(), source }
    }

    fn finish(
        &self,
        scratch: &[&str],
        manifest: impl FnOnce(BTreeMap<String, FileEntry>) -> Manifest,
    ) -> io::Result<Manifest> {
        let mut files = BTreeMap::new();
        let unlisted = [&[LOCK_FILE, ORIGIN_FILE, MANIFEST_FILE], scratch].concat();
        self.seal(&self.partial, "", &unlisted, &mut files)?;
        let manifest = manifest(files);
        let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::other)?;
        replace(&self.file(MANIFEST_FILE), &text)?;
        self.publish(&manifest)?;
        Ok(manifest)
    }

    /// Removes what `manifest` doesn't list from a folder that is whole, and gives it its final name.
    fn publish(&self, manifest: &Manifest) -> io::Result<()> {
        for name in leftovers(&self.partial)? {
            let path = self.partial.join(&name);
            let is_listed = name.to_str().is_some_and(|name| manifest.files.contains_key(name));
            if !is_listed && name != MANIFEST_FILE && !path.is_dir() {
                fs_err::remove_file(path)?;
            }
        }
        fs_err::rename(&self.partial, &self.output)?;
        self.output.parent().map_or(Ok(()), sync)?;
        // Last, so that until the rename nobody could take the folder.
        fs_err::remove_file(self.output.join(LOCK_FILE))
    }

    /// Syncs every file below `folder` to the disk but those named in `unlisted`, and the folders, and notes the files' sizes and
    /// hashes.
    fn seal(
        &self,
        folder: &Path,
        prefix: &str,
        unlisted: &[&str],
        files: &mut BTreeMap<String, FileEntry>,
    ) -> io::Result<()> {
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.seal(&entry.path(), &format!("{name}/"), unlisted, files)?;
            } else if !unlisted.contains(&name.as_str()) {
                let mut file = File::open(entry.path())?;
                files.insert(name, digest(&mut file, self.on_block)?);
                file.sync_all()?;
            }
        }
        sync(folder)
    }
}

#[cfg(test)]
mod tests {
    use promptfield_core::method::Methods;
    use promptfield_core::method::value::Values;

    use super::*;
    use promptfield_core::job::backbone::Architecture;
    use promptfield_core::job::outcome::{Seconds, TestResult};
    use promptfield_core::job::spec::config_tag;
    use promptfield_core::time::Timestamp;

    const SPLIT: &str = "5555555555555555555555555555555555555555555555555555555555555555";
    const TEST: &str = "7777777777777777777777777777777777777777777777777777777777777777";
    const LOG: &str = "=> result\n* total: 10\n* correct: 9\n* accuracy: 90.0%\n* error: 10.0%\n* macro_f1: 90.0%\n";

    fn origin(seed: u64) -> Origin {
        let spec = JobSpec {
            method: "alignednorm".parse().unwrap(),
            protocol: "base_to_new".parse().unwrap(),
            stage: "train".parse().unwrap(),
            dataset: "icons".into(),
            template: "{}".into(),
            shots: 1,
            seed,
            backbone: "clip-mini".into(),
            config: "clip_mini".into(),
            hyper: promptfield_core::method::value::Values::default(),
            options: promptfield_core::method::value::Values::default(),
            precision: "fp32".parse().unwrap(),
            trained_by: None,
        };
        let backbone_sha256 = "b".repeat(64);
        Origin { spec, backbone_sha256, split_sha256: SPLIT.to_owned(), code_version: "1".into() }
    }

    /// What a job with ten test images rests on.
    fn now(origin: &Origin, afresh: bool, foreign: Foreign) -> Today<'_> {
        Today {
            training: None,
            origin,
            test_sha256: TEST.to_owned(),
            left_out: &[],
            test_images: 10,
            checkpoint_sha256: None,
            afresh,
            foreign,
            is_checkpoint_of: |_, _| false,
            on_block: || (),
        }
    }

    fn open(output: &Path, origin: &Origin) -> Result<Opened, FolderError> {
        super::open(output, &now(origin, false, Foreign::Alone))
    }

    fn adopt(output: &Path, origin: &Origin) -> Option<Outcome> {
        find_complete(output, &now(origin, false, Foreign::Alone))
    }

    fn work(output: &Path, origin: &Origin) -> WorkFolder {
        match open(output, origin).unwrap() {
            Opened::Partial(folder) => folder,
            other => panic!("{other:?}"),
        }
    }

    fn complete(folder: WorkFolder, origin: &Origin) -> Manifest {
        let result = TestResult {
            total: 10,
            correct: 9,
            accuracy: 90.0,
            error: 10.0,
            macro_f1: 90.0,
            calibration_error: Some(1.5),
        };
        folder
            .complete(&["state"], |files| Manifest {
                format: Manifest::FORMAT,
                spec: origin.spec.clone(),
                spec_hash: origin.spec.hash(),
                weights_sha256: origin.backbone_sha256.clone(),
                architecture: Architecture::OPENAI,
                assumed: Vec::new(),
                split_sha256: origin.split_sha256.clone(),
                test_sha256: Some(TEST.to_owned()),
                checkpoint_sha256: None,
                left_out: Vec::new(),
                code_version: String::new(),
                device: "cpu".into(),
                threads: 1,
                result: Some(result),
                started_at: Timestamp(0),
                seconds: Seconds::default(),
                files,
            })
            .unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_finished_folder_appears_whole_and_is_adopted() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("a/b/seed1");
        let folder = work(&output, &origin(1));
        fs_err::write(folder.file("log.txt"), LOG).unwrap();
        fs_err::write(folder.file("state"), "x").unwrap();
        fs_err::create_dir(folder.file("sub")).unwrap();
        fs_err::write(folder.file("sub/model"), "abc").unwrap();
        assert!(!output.exists());
        let manifest = complete(folder, &origin(1));

        assert_eq!(names(&output), ["log.txt", "manifest.json", "sub"]);
        assert_eq!(names(output.parent().unwrap()), ["seed1"]);
        let files: Vec<_> = manifest.files.iter().map(|(name, entry)| (name.as_str(), entry.bytes)).collect();
        assert_eq!(files, [("log.txt", LOG.len() as u64), ("sub/model", 3)]);
        // NIST's SHA-256 example for "abc".
        assert!(manifest.files["sub/model"].sha256.starts_with("ba7816bf8f01cfea"));
        let Opened::Complete(outcome) = open(&output, &origin(1)).unwrap() else { panic!("not adopted") };
        assert_eq!((outcome.adopted, outcome.manifest.as_ref()), (true, Some(&manifest)));
        assert_eq!(names(output.parent().unwrap()), ["seed1"]);
    }

    #[test]
    fn what_stands_in_the_way_is_put_aside() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("seed1");
        complete(work(&output, &origin(1)), &origin(1));
        // Another specification's complete folder, then one that lost a byte, then a bare one.
        complete(work(&output, &origin(2)), &origin(2));
        fs_err::write(output.join("log.txt"), "").unwrap();
        assert!(adopt(&output, &origin(2)).is_some(), "a file that isn't in the manifest");
        let folder = work(&output, &origin(3));
        fs_err::write(folder.file("log.txt"), LOG).unwrap();
        complete(folder, &origin(3));
        fs_err::write(output.join("log.txt"), &LOG[1..]).unwrap();
        let folder = work(&output, &origin(3));
        assert!(folder.notes[0].contains("seed1.aside-3"), "{:?}", folder.notes);
        drop(folder);
        fs_err::create_dir(&output).unwrap();
        let folder = work(&output, &origin(3));
        assert_eq!(
            names(root.path()),
            ["seed1.aside-1", "seed1.aside-2", "seed1.aside-3", "seed1.aside-4", "seed1.partial"]
        );
        drop(folder);
    }

    #[test]
    fn a_folder_that_lacks_only_its_final_name_is_given_it() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("seed1");
        let partial = root.path().join("seed1.partial");
        let folder = work(&output, &origin(1));
        fs_err::write(folder.file("log.txt"), LOG).unwrap();
        complete(folder, &origin(1));
        // As it is when a trainer is killed before the rename, or before it removed what only it needed.
        for scratch in [&[][..], &["state", ORIGIN_FILE]] {
            fs_err::rename(&output, &partial).unwrap();
            for name in scratch {
                fs_err::write(partial.join(name), "{}").unwrap();
            }
            let Opened::Complete(outcome) = open(&output, &origin(1)).unwrap() else { panic!("done anew") };
            assert!(outcome.adopted);
            assert_eq!(names(&output), ["log.txt", "manifest.json"]);
            assert_eq!(names(root.path()), ["seed1"]);
        }
        // With a byte less it isn't whole.
        fs_err::rename(&output, &partial).unwrap();
        fs_err::write(partial.join("log.txt"), &LOG[1..]).unwrap();
        assert_eq!(work(&output, &origin(1)).notes.len(), 1);
        assert_eq!(names(root.path()), ["seed1.partial", "seed1.partial.aside-1"]);
    }

    #[test]
    fn a_folder_of_a_version_without_evaluations_is_adopted() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("seed1");
        complete(work(&output, &origin(1)), &origin(1));
        let path = output.join(MANIFEST_FILE);
        let mut manifest: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        manifest["result"].as_object_mut().unwrap().remove("calibration_error").unwrap();
        fs_err::write(&path, manifest.to_string()).unwrap();
        let outcome = adopt(&output, &origin(1)).unwrap();
        assert_eq!((outcome.result.unwrap().correct, outcome.result.unwrap().calibration_error), (9, None));
    }

    #[test]
    fn a_folder_that_another_tool_completed_is_adopted() {
        let root = tempfile::tempdir().unwrap();
        fs_err::write(root.path().join("log.txt"), LOG).unwrap();
        let outcome = adopt(root.path(), &origin(1)).unwrap();
        assert_eq!((outcome.result.unwrap().correct, outcome.manifest), (9, None));
        fs_err::write(root.path().join("log.txt"), "epoch [1/10]").unwrap();
        assert!(adopt(root.path(), &origin(1)).is_none());
    }

    /// Changes a manifest as text.
    fn rewrite(output: &Path, change: impl FnOnce(&mut serde_json::Value)) {
        let path = output.join(MANIFEST_FILE);
        let mut manifest = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        change(&mut manifest);
        fs_err::write(&path, manifest.to_string()).unwrap();
    }

    #[test]
    fn a_folder_of_the_first_format_is_adopted_and_what_it_does_not_say_is_filled_in() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("seed1");
        complete(work(&output, &origin(1)), &origin(1));
        rewrite(&output, |manifest| {
            manifest["format"] = 1.into();
            for key in ["architecture", "test_sha256"] {
                manifest.as_object_mut().unwrap().remove(key).unwrap();
            }
        });
        let manifest = adopt(&output, &origin(1)).unwrap().manifest.unwrap();
        assert_eq!((manifest.format, manifest.test_sha256), (1, Some(TEST.to_owned())));
    }

    /// What a version before 0.4 made counts: its training, and its test beside that training.
    #[test]
    fn folders_of_an_earlier_version_are_adopted() {
        let coop = Methods::built_in().known("method", "coop").unwrap();
        let preset = coop.resolve("base_to_new".parse().unwrap(), "icons", "clip-mini", &Values::default()).unwrap();
        let of = |stage: &str, trained_by| {
            let Origin { spec, .. } = origin(1);
            let (method, stage) = (coop.key(), stage.parse().unwrap());
            let (hyper, options) = (preset.hyper.clone(), preset.options.clone());
            Origin { spec: JobSpec { method, stage, hyper, options, trained_by, ..spec }, ..origin(1) }
        };
        let training = of("train", None);
        let test = of("test", Some(training.spec.hash()));
        let root = tempfile::tempdir().unwrap();
        let earlier = |origin: &Origin, trained_by| {
            let document = earlier::document(&origin.spec, trained_by);
            (earlier::identity(&document), document)
        };
        let (trained_by, trained) = earlier(&training, None);
        let (tested_by, tested) = earlier(&test, Some(trained_by));
        assert!(trained_by != training.spec.hash() && tested_by != test.spec.hash());
        let folder = |name: &str| root.path().join(name);
        for (name, origin, hash, document) in
            [("training", &training, trained_by, trained), ("test", &test, tested_by, tested)]
        {
            complete(work(&folder(name), origin), origin);
            rewrite(&folder(name), |manifest| {
                (manifest["spec"], manifest["spec_hash"]) = (document, serde_json::json!(hash));
            });
        }
        let manifest = adopt(&folder("training"), &training).unwrap().manifest.unwrap();
        assert_eq!((&manifest.spec, manifest.spec_hash), (&training.spec, training.spec.hash()));
        // A test counts if its training is the one that it names.
        let beside = |place: Option<&Path>| {
            let training = place.and_then(crate::earlier_training);
            find_complete(&folder("test"), &Today { training, ..now(&test, false, Foreign::Alone) })
        };
        let manifest = beside(Some(&folder("training"))).unwrap().manifest.unwrap();
        assert_eq!((&manifest.spec, manifest.spec_hash), (&test.spec, test.spec.hash()));
        assert!(beside(None).is_none());
        // One with values of its own lay under another name, and is given the present one.
        let mut swept = training.clone();
        swept.spec.hyper.0.insert("lr".to_owned(), 0.5.into());
        swept.spec.config =
            format!("clip_mini-{}", config_tag(&serde_json::json!([swept.spec.hyper, "fp32"]).to_string()));
        let output = root.path().join(&swept.spec.config).join("seed1");
        complete(work(&output, &swept), &swept);
        let document = earlier::document(&swept.spec, None);
        rewrite(&output, |manifest| {
            manifest["spec_hash"] = serde_json::json!(earlier::identity(&document));
            manifest["spec"] = document;
        });
        let had = root.path().join(earlier::config(&swept.spec)).join("seed1");
        fs_err::create_dir(had.parent().unwrap()).unwrap();
        fs_err::rename(&output, &had).unwrap();
        let Opened::Complete(outcome) = open(&output, &swept).unwrap() else { panic!("not adopted") };
        assert_eq!(outcome.manifest.unwrap().spec_hash, swept.spec.hash());
        assert!(output.is_dir() && !had.exists() && !partial::of(&output).exists());
        // One that contradicts itself doesn't count.
        rewrite(&folder("training"), |manifest| manifest["spec_hash"] = serde_json::json!(tested_by));
        assert!(adopt(&folder("training"), &training).is_none());
    }

    /// What is done to a complete folder, and what is then said of it.
    type Change<'a> = (&'a dyn Fn(&Path), &'a str);

    #[test]
    fn what_rests_on_something_else_or_was_changed_is_put_aside_and_said() {
        let kept = |output: &Path| -> String {
            let folder = work(output, &origin(1));
            assert_eq!(names(output.parent().unwrap()), ["seed1.aside-1", "seed1.partial"]);
            folder.notes[0].clone()
        };
        let flip = |path: PathBuf| {
            let mut bytes = fs_err::read(&path).unwrap();
            let last = bytes.len() - 1;
            bytes[last / 2] ^= 1;
            fs_err::write(path, bytes).unwrap();
        };
        let other = || serde_json::Value::from("c".repeat(64));
        let changes: [Change; 9] = [
            (&|output| rewrite(output, |manifest| manifest["split_sha256"] = other()), "the split was cccc"),
            (&|output| rewrite(output, |manifest| manifest["weights_sha256"] = other()), "the backbone was cccc"),
            (
                &|output| rewrite(output, |manifest| manifest["architecture"]["activation"] = "gelu".into()),
                "the backbone",
            ),
            (&|output| flip(output.join("log.txt")), "its log.txt isn't the one"),
            (&|output| flip(output.join("sub/model")), "its sub/model isn't the one"),
            (&|output| fs_err::remove_file(output.join("sub/model")).unwrap(), "its sub/model can't be read"),
            (&|output| rewrite(output, |manifest| manifest["result"]["correct"] = 8.into()), "contradicts itself"),
            (
                &|output| {
                    rewrite(output, |manifest| {
                        let result = &mut manifest["result"];
                        result["correct"] = 8.into();
                        (result["accuracy"], result["error"]) = (80.0.into(), 20.0.into());
                    });
                },
                "its log.txt says something else",
            ),
            (&|output| rewrite(output, |manifest| manifest["files"]["../x"] = other()), "can't be understood"),
        ];
        for (change, why) in changes {
            let root = tempfile::tempdir().unwrap();
            let output = root.path().join("seed1");
            let folder = work(&output, &origin(1));
            fs_err::write(folder.file("log.txt"), LOG).unwrap();
            fs_err::create_dir(folder.file("sub")).unwrap();
            fs_err::write(folder.file("sub/model"), "abc").unwrap();
            complete(folder, &origin(1));
            assert!(adopt(&output, &origin(1)).is_some());
            change(&output);
            assert!(adopt(&output, &origin(1)).is_none(), "{why}");
            let note = kept(&output);
            assert!(note.contains(why), "{note}");
        }
    }

    #[test]
    fn a_job_that_is_computed_again_adopts_nothing() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("seed1");
        complete(work(&output, &origin(1)), &origin(1));
        let origin = origin(1);
        let today = now(&origin, true, Foreign::Alone);
        assert!(find_complete(&output, &today).is_none());
        let Opened::Partial(folder) = super::open(&output, &today).unwrap() else { panic!("adopted") };
        assert!(folder.notes[0].contains("seed1: it is computed again; it was put aside"), "{:?}", folder.notes);
    }

    #[test]
    fn another_tools_training_counts_only_with_what_tests_it() {
        let root = tempfile::tempdir().unwrap();
        let training = root.path().join("base2new/train_base/icons/shots_1/X/c/seed1");
        let test = crate::test_of(&training).unwrap();
        assert_eq!(test, root.path().join("base2new/test_new/icons/shots_1/X/c/seed1"));
        let origin = origin(1);
        let found = |folder: &Path, foreign: Foreign| find_complete(folder, &now(&origin, false, foreign)).is_some();
        let trains = || Foreign::Training { test: Some((test.clone(), 10)) };
        let tests = || Foreign::Test { training: training.clone(), images: Some(10) };
        let whole = format!("epoch [1/1]\nFinish training\nEvaluate on the *test* set\n{LOG}");
        for folder in [&training, &test] {
            fs_err::create_dir_all(folder).unwrap();
        }
        fs_err::write(training.join("log.txt"), &whole).unwrap();
        assert!(!found(&training, trains()), "its test isn't there");
        fs_err::write(test.join("log.txt"), format!("Evaluate on the *test* set\n{LOG}")).unwrap();
        assert!(found(&training, trains()) && found(&test, tests()));
        assert!(!found(&training, Foreign::Training { test: None }), "several would test it");
        assert!(!found(&training, Foreign::Refused));
        // The training was broken off, or done again by this program.
        fs_err::write(training.join("log.txt"), whole.replace("Finish training\n", "")).unwrap();
        assert!(!found(&training, trains()) && !found(&test, tests()));
        fs_err::write(training.join("log.txt"), &whole).unwrap();
        fs_err::write(training.join(MANIFEST_FILE), "{}").unwrap();
        assert!(!found(&test, tests()));
    }

    #[test]
    fn unfinished_work_is_resumed_on_the_same_origin_only() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("seed1");
        fs_err::write(work(&output, &origin(1)).file("state"), "epoch 3").unwrap();
        assert_eq!(fs_err::read_to_string(work(&output, &origin(1)).file("state")).unwrap(), "epoch 3");
        let mut other = origin(1);
        other.backbone_sha256 = "other".into();
        let folder = work(&output, &other);
        assert!(!folder.file("state").exists());
        assert!(folder.notes[0].contains("seed1.partial.aside-1"), "{:?}", folder.notes);
        assert_eq!(names(root.path()), ["seed1.partial", "seed1.partial.aside-1"]);
    }

    #[test]
    fn one_trainer_at_a_time_holds_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let output = root.path().join("seed1");
        let folder = work(&output, &origin(1));
        let Opened::Busy { holder, .. } = open(&output, &origin(1)).unwrap() else { panic!("not busy") };
        assert!(holder.starts_with(&format!("process {} on ", std::process::id())), "{holder}");
        drop(folder);
        work(&output, &origin(1));
    }

    #[test]
    fn a_root_that_cannot_be_written_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs_err::write(root.path().join("file"), "").unwrap();
        let error = open(&root.path().join("file/seed1"), &origin(1)).unwrap_err();
        assert!(error.to_string().contains("file/seed1"), "{error}");
    }
}
