//! The splits of a trainer's last jobs, so that its next one doesn't read and draw the same lists again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use promptfield_core::dataset::DatasetDefinition;
use promptfield_core::names::ClassSubset;

use super::few_shot::FOLDER;
use super::{DataError, Split, load};
use crate::recent::Recent;

/// What all kept splits may take, by [`Split::bytes`].
const BUDGET: usize = 64 << 20;

/// Splits that were loaded last. One is loaded again when the data set's list files have changed since; images are taken to stay
/// where they were found.
#[derive(Debug)]
pub struct KeptSplits(Recent<Key, Arc<Split>>);

/// What a split is a function of.
#[derive(Debug, PartialEq)]
struct Key {
    definition: DatasetDefinition,
    data_root: PathBuf,
    shots: u32,
    seed: u64,
    subset: ClassSubset,
    stamp: Stamp,
}

impl Default for KeptSplits {
    fn default() -> Self {
        Self(Recent::new(BUDGET))
    }
}

/// What stands in the data set's folder and in the folder of its selections, and when the image folder's own entries changed.
type Stamp = Vec<(PathBuf, u64, Option<SystemTime>)>;

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
        let key = || {
            let (definition, stamp) = (definition.clone(), stamp(definition, data_root));
            Key { definition, data_root: data_root.to_owned(), shots, seed, subset, stamp }
        };
        let wanted = key();
        if let Some(split) = self.0.get(|kept| *kept == wanted) {
            return Ok(split);
        }
        let split = Arc::new(load(definition, data_root, shots, seed, subset)?);
        // The key as it is now: loading may have written down the selection.
        self.0.put(key(), Arc::clone(&split), split.bytes());
        Ok(split)
    }
}

fn stamp(definition: &DatasetDefinition, data_root: &Path) -> Stamp {
    let folder = data_root.join(&definition.folder);
    let of = |path: PathBuf| {
        let metadata = fs_err::metadata(&path).ok();
        let changed = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        (path, metadata.map_or(0, |metadata| metadata.len()), changed)
    };
    let mut stamp = vec![of(folder.join(&definition.images))];
    for listed in [folder.join(FOLDER), folder] {
        stamp.extend(fs_err::read_dir(listed).into_iter().flatten().filter_map(|entry| Some(of(entry.ok()?.path()))));
    }
    stamp.sort_unstable();
    stamp
}

#[cfg(test)]
mod tests {
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
}
