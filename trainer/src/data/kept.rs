//! The splits of a trainer's last jobs, so that its next one doesn't read and draw the same lists again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use promptfield_core::experiment::dataset::DatasetDefinition;
use promptfield_core::protocol::ClassSubset;

use super::{DataError, Place, Split, few_shot, load, readers};
use crate::file_state::FileState;
use crate::recent::Recent;

/// What all kept splits may take, by [`Split::bytes`].
const BUDGET: usize = 64 << 20;

/// Splits that were loaded last. One is loaded again when a list that it was read from has changed since, or a folder that was
/// listed or that one of its images lies in: then images were added, removed or renamed.
#[derive(Debug)]
pub struct KeptSplits(Recent<Key, Arc<Split>>);

/// What a split is a function of.
#[derive(Debug)]
struct Key {
    definition: DatasetDefinition,
    data_root: PathBuf,
    shots: u32,
    seed: u64,
    subset: ClassSubset,
    found: States,
}

/// The states of files and folders.
type States = Vec<(PathBuf, Option<FileState>)>;

impl Default for KeptSplits {
    fn default() -> Self {
        Self(Recent::new(BUDGET))
    }
}

impl KeptSplits {
    /// What [`load`] gives for the same arguments.
    pub fn load(
        &mut self,
        definition: &DatasetDefinition,
        data_root: &Path,
        shots: u32,
        seed: u64,
        subset: ClassSubset,
    ) -> Result<Arc<Split>, DataError> {
        let is_asked_for = |key: &Key| {
            let is_same = key.definition == *definition && key.data_root == data_root;
            is_same && (key.shots, key.seed, key.subset) == (shots, seed, subset)
        };
        let is_as_found = |(path, found): &(PathBuf, Option<FileState>)| FileState::of(path) == *found;
        if let Some(split) = self.0.get(|key| is_asked_for(key) && key.found.iter().all(is_as_found)) {
            return Ok(split);
        }
        let place = Place::new(definition, data_root)?;
        let [pickle, own] = few_shot::files(&place, shots, seed);
        let sources = || states(readers::sources(definition, &place).into_iter().chain([pickle.clone()]));
        let mut found = sources();
        let split = Arc::new(load(definition, data_root, shots, seed, subset)?);
        // A list that was written meanwhile may have been read before or after.
        if found == sources() {
            let images = split.train.iter().chain(&split.val).chain(&split.test);
            let folders: BTreeSet<&Path> = images.filter_map(|image| image.path.parent()).collect();
            found.extend(states(folders.into_iter().map(Path::to_owned)));
            // Loading may have written down our own selection, so it's looked at only now.
            found.extend(states([own]));
            let data_root = data_root.to_owned();
            let key = Key { definition: definition.clone(), data_root, shots, seed, subset, found };
            self.0.put(key, Arc::clone(&split), split.bytes());
        }
        Ok(split)
    }
}

fn states(paths: impl IntoIterator<Item = PathBuf>) -> States {
    let state = |path: PathBuf| {
        let found = FileState::of(&path);
        (path, found)
    };
    paths.into_iter().map(state).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use promptfield_core::experiment::dataset::Catalogue;

    use super::*;

    #[test]
    fn a_split_is_read_again_only_when_its_lists_have_changed() {
        let root = tempfile::tempdir().unwrap();
        let definition = DatasetDefinition::parse(
            "name = \"pets\"\nfolder = \"pets\"\nimages = \"images\"\nsplit = \"split.json\"\ntemplate = \"a {}.\"",
        )
        .unwrap();
        let (folder, list) = (root.path().join("pets/images"), root.path().join("pets/split.json"));
        fs_err::create_dir_all(&folder).unwrap();
        for name in ["a.png", "b.png", "c.png", "d.png"] {
            fs_err::write(folder.join(name), "").unwrap();
        }
        let entries = r#"[["a.png", 0, "cat"], ["b.png", 1, "dog"]]"#;
        fs_err::write(&list, format!(r#"{{"train": {entries}, "val": [], "test": {entries}}}"#)).unwrap();
        let mut splits = KeptSplits::default();
        let mut load = |seed, subset| splits.load(&definition, root.path(), 1, seed, subset);
        let first = load(1, ClassSubset::All).unwrap();
        assert!(Arc::ptr_eq(&first, &load(1, ClassSubset::All).unwrap()));
        assert_eq!(*first, super::load(&definition, root.path(), 1, 1, ClassSubset::All).unwrap());
        assert_eq!(load(1, ClassSubset::New).unwrap().classnames, ["dog"]);
        assert_eq!(load(2, ClassSubset::All).unwrap().test, first.test);
        assert!(Arc::ptr_eq(&load(1, ClassSubset::New).unwrap(), &load(1, ClassSubset::New).unwrap()));

        let changed = r#"[["c.png", 0, "cat"], ["d.png", 1, "tall dog"]]"#;
        fs_err::write(&list, format!(r#"{{"train": {changed}, "val": [], "test": {changed}}}"#)).unwrap();
        assert_eq!(load(1, ClassSubset::All).unwrap().classnames, ["cat", "tall dog"]);
        fs_err::remove_file(&list).unwrap();
        load(1, ClassSubset::All).unwrap_err();
    }

    /// Sets the folder's time back, so that what is done in it next is seen however fast it follows.
    fn age(folder: &Path) {
        std::fs::File::open(folder).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }

    #[test]
    fn an_image_that_was_added_or_removed_is_seen() {
        let known = |key: &str| Catalogue::built_in().get(key).unwrap().clone();
        let own = DatasetDefinition::parse("name = \"own\"\nfolder = \"own\"\ntemplate = \"{}\"").unwrap();
        for (definition, classnames, folder) in [
            (own, None, "own/a"),
            (known("caltech101"), None, "caltech-101/101_ObjectCategories/a"),
            (known("imagenet"), Some("imagenet/classnames.txt"), "imagenet/images/train/a"),
            (known("imagenet_r"), Some("imagenet-rendition/classnames.txt"), "imagenet-rendition/imagenet-r/a"),
            (
                known("imagenetv2"),
                Some("imagenetv2/classnames.txt"),
                "imagenetv2/imagenetv2-matched-frequency-format-val/0",
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            let write = |path: &str| {
                let path = root.path().join(path);
                fs_err::create_dir_all(path.parent().unwrap()).unwrap();
                fs_err::write(path, "a cat\nb dog\n").unwrap();
            };
            let other = if folder.ends_with('0') {
                folder.replace("/0", "/1")
            } else {
                format!("{}b", &folder[..folder.len() - 1])
            };
            for image in 0..5 {
                for folder in [folder, &other] {
                    write(&format!("{folder}/{image}.jpg"));
                    write(&format!("{}/{image}.jpg", folder.replace("/train/", "/val/")));
                }
            }
            classnames.into_iter().for_each(write);
            let mut splits = KeptSplits::default();
            let mut load = |shots, subset| splits.load(&definition, root.path(), shots, 1, subset).unwrap();
            // In a folder whose images aren't in this split, too.
            for (shots, subset) in [(0, ClassSubset::All), (0, ClassSubset::New)] {
                load(shots, subset);
                age(&root.path().join(folder));
                let first = load(shots, subset);
                let again = load(shots, subset);
                assert!(Arc::ptr_eq(&first, &again), "{}", definition.key);
                write(&format!("{folder}/more{subset}.jpg"));
                let more = load(shots, subset);
                assert!(!Arc::ptr_eq(&first, &more), "{}: one more", definition.key);
                assert_eq!(*more, super::load(&definition, root.path(), shots, 1, subset).unwrap());
                age(&root.path().join(folder));
                load(shots, subset);
                fs_err::remove_file(root.path().join(format!("{folder}/more{subset}.jpg"))).unwrap();
                assert_eq!(load(shots, subset).test, again.test, "{}: one less", definition.key);
            }
        }
    }

    #[test]
    fn a_listed_image_that_was_removed_is_missed_and_other_selections_change_nothing() {
        let root = tempfile::tempdir().unwrap();
        let definition = DatasetDefinition::parse(
            "name = \"scenes\"\nfolder = \"scenes\"\nsplit = \"lists/split.json\"\ntemplate = \"{}\"",
        )
        .unwrap();
        let below = |path: &str| root.path().join("scenes").join(path);
        let paths = ["a/abbey/1.jpg", "a/flat/outdoor/1.jpg"];
        for path in paths.map(below) {
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "").unwrap();
        }
        fs_err::create_dir(below("lists")).unwrap();
        let write = |name: &str| {
            let entries = serde_json::json!([[paths[0], 0, "abbey"], [paths[1], 1, name]]);
            let lists = serde_json::json!({"train": entries, "val": [], "test": entries});
            fs_err::write(below("lists/split.json"), lists.to_string()).unwrap();
        };
        write("flat");
        let mut splits = KeptSplits::default();
        let mut load = |seed| splits.load(&definition, root.path(), 1, seed, ClassSubset::All);
        let first = load(1).unwrap();
        load(2).unwrap();
        assert!(Arc::ptr_eq(&first, &load(1).unwrap()), "another selection lies beside its own");
        write("outdoor flat");
        assert_eq!(load(1).unwrap().classnames[1], "outdoor flat");

        age(&below("a/flat/outdoor"));
        load(1).unwrap();
        fs_err::remove_file(below(paths[1])).unwrap();
        assert!(matches!(load(1), Err(DataError::MissingImage { .. })));
    }
}
