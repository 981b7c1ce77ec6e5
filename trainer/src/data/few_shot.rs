//! Few-shot selection: exactly the images that the reference code draws, or drew.
//!
//! With Python's generator seeded by the run's seed: for each class, in the order in which the classes first occur in the
//! train list, a sample of `shots` images (all of them where there are fewer, without a draw); only then the same for val
//! with at most 4 images per class.
//!
//! The reference code keeps its draw in `split_fewshot/shot_{k}-seed_{s}.pkl`. Where such a file exists it is what
//! published numbers rest on, and wins. Ours is the same name with `.json`, `CoOp`'s format with one key more: `drawn_from`,
//! the hash of the lists it was drawn from. A file that was drawn from other lists is drawn anew; one without that key
//! was made by hand and is taken as it is.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use promptfield_core::experiment::dataset::DatasetDefinition;
use promptfield_core::job::spec::hex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::cpython_random::CPythonRandom;
use super::lists::{Entry, Lists, Role, parse_entry, parse_list, read_json};
use super::{DataError, Place};

/// Where the selections lie, below the data set's folder.
pub(super) const FOLDER: &str = "split_fewshot";

/// Val is drawn with at most this many images per class.
const MAX_VAL_SHOTS: usize = 4;

/// Replaces train and val by their few-shot selection.
pub(super) fn select(lists: &mut Lists, place: &Place, shots: u32, seed: u64) -> Result<(), DataError> {
    let [pickle, own] = files(place, shots, seed);
    if pickle.is_file() {
        (lists.train, lists.val) = read_pickle(&pickle, lists.role, place)?;
        lists.named_by = Some(pickle);
        return Ok(());
    }
    let drawn_from = hash(lists);
    if own.is_file() {
        let document = read_json(&own)?;
        if document.get("drawn_from").and_then(Value::as_str).is_none_or(|kept| kept == drawn_from) {
            lists.train = parse_list(&document, "train", &own)?;
            lists.val = parse_list(&document, "val", &own)?;
            lists.named_by = Some(own);
            return Ok(());
        }
    }
    let mut random = CPythonRandom::new(seed);
    let shots = shots as usize;
    lists.train = draw(&lists.train, shots, &mut random);
    lists.val = draw(&lists.val, shots.min(MAX_VAL_SHOTS), &mut random);
    // A record for people and for other tools; the draw itself can always be repeated.
    let _ = write(&own, &drawn_from, lists);
    Ok(())
}

/// Where what the reference code drew lies, and our own draw.
pub(super) fn files(place: &Place, shots: u32, seed: u64) -> [PathBuf; 2] {
    let file = |extension| place.folder.join(FOLDER).join(format!("shot_{shots}-seed_{seed}.{extension}"));
    [file("pkl"), file("json")]
}

/// The shots and seeds for which what the reference code drew lies in the data set's folder, sorted.
pub fn pickles(definition: &DatasetDefinition, data_root: &Path) -> Vec<(u32, u64)> {
    let folder = data_root.join(&definition.folder).join(FOLDER);
    // A folder that isn't there has none.
    let names =
        fs_err::read_dir(folder).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut found: Vec<(u32, u64)> = names
        .filter_map(|name| {
            let (shots, seed) = name.strip_prefix("shot_")?.strip_suffix(".pkl")?.split_once("-seed_")?;
            Some((shots.parse().ok()?, seed.parse().ok()?))
        })
        .collect();
    found.sort_unstable();
    found
}

/// Draws `shots` entries per class, class by class in the order of their first occurrence.
fn draw(entries: &[Entry], shots: usize, random: &mut CPythonRandom) -> Vec<Entry> {
    let mut classes: Vec<Vec<&Entry>> = Vec::new();
    let mut positions: HashMap<usize, usize> = HashMap::new();
    for entry in entries {
        let position = *positions.entry(entry.label).or_insert_with(|| {
            classes.push(Vec::new());
            classes.len() - 1
        });
        classes[position].push(entry);
    }
    let mut drawn = Vec::with_capacity(classes.len() * shots);
    for class in classes {
        if class.len() >= shots {
            drawn.extend(random.sample(class.len(), shots).into_iter().map(|index| class[index].clone()));
        } else {
            drawn.extend(class.into_iter().cloned());
        }
    }
    drawn
}

fn triples(entries: &[Entry]) -> Vec<Value> {
    entries.iter().map(|entry| json!([entry.path, entry.label, *entry.classname])).collect()
}

fn hash(lists: &Lists) -> String {
    let mut digest = Sha256::new();
    for entries in [&lists.train, &lists.val] {
        digest.update((entries.len() as u64).to_le_bytes());
        for entry in entries {
            for text in [entry.path.as_str(), &entry.classname] {
                digest.update((text.len() as u64).to_le_bytes());
                digest.update(text);
            }
            digest.update((entry.label as u64).to_le_bytes());
        }
    }
    hex(&digest.finalize())
}

/// Writes the draw beside its final name and renames it, so that trainers that draw the same at the same time only ever
/// see a whole file.
fn write(path: &Path, drawn_from: &str, lists: &Lists) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs_err::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let document = json!({"drawn_from": drawn_from, "train": triples(&lists.train), "val": triples(&lists.val)});
    serde_json::to_writer(&mut file, &document)?;
    file.flush()?;
    file.persist(path)?;
    Ok(())
}

/// Reads what the reference code drew: `{"train": [Datum, …], "val": [Datum, …]}`, whose objects are unpickled as plain
/// dictionaries (nothing of a pickle is executed). Their paths are absolute on the machine that wrote them.
fn read_pickle(file: &Path, role: Role, place: &Place) -> Result<(Vec<Entry>, Vec<Entry>), DataError> {
    let bytes = fs_err::read(file).map_err(|source| DataError::Read { path: file.to_owned(), source })?;
    let malformed = |problem: String| DataError::Malformed {
        path: file.to_owned(),
        place: "pickle".to_owned(),
        problem,
        expected: "`train` and `val` lists of data as the reference code writes them, or no such file",
    };
    let document: Value = serde_pickle::from_slice(&bytes, serde_pickle::DeOptions::new())
        .map_err(|error| malformed(error.to_string()))?;
    let list = |name: &str| -> Result<Vec<Entry>, DataError> {
        let data = document
            .get(name)
            .and_then(Value::as_array)
            .ok_or_else(|| malformed(format!("it has no list `{name}`")))?;
        let entries = data.iter().enumerate().map(|(index, datum)| {
            let path = datum.get("_impath").and_then(Value::as_str).unwrap_or_default();
            let below = below_images(path, place).ok_or_else(|| {
                malformed(format!(
                    "the path `{path}` of `{name}[{index}]` doesn't lie in `{}`",
                    place.images_below_root
                ))
            })?;
            parse_entry(&json!([below, datum.get("_label"), datum.get("_classname")]), file, || {
                format!("{name}[{index}]")
            })
        });
        entries.collect()
    };
    // ImageNet's files hold no val: its test images are used.
    let val = if role == Role::ValidatedOnTest { Vec::new() } else { list("val")? };
    Ok((list("train")?, val))
}

/// The part of a foreign path below the data set's image folder.
fn below_images<'a>(path: &'a str, place: &Place) -> Option<&'a str> {
    let folder = format!("/{}/", place.images_below_root);
    if let Some(rest) = path.strip_prefix(&folder[1..]) {
        return Some(rest);
    }
    path.rfind(&folder).map(|start| &path[start + folder.len()..])
}
