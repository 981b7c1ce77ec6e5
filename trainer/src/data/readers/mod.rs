//! One reader per way of laying out a data set.

mod aircraft;
mod class_folders;
mod imagenet;
mod split_file;

use std::path::PathBuf;

use promptfield_core::experiment::dataset::DatasetDefinition;

use super::lists::Lists;
use super::{DataError, Place};

/// The lists of a data set, whole.
pub(super) fn read(definition: &DatasetDefinition, place: &Place) -> Result<Lists, DataError> {
    match definition.key.as_str() {
        "imagenet" => imagenet::read(place),
        "imagenetv2" => imagenet::read_v2(place),
        "imagenet_sketch" | "imagenet_a" | "imagenet_r" => imagenet::read_variant(place),
        "fgvc_aircraft" => aircraft::read(place),
        key => match split_file(definition, place) {
            None => class_folders::read(key, place),
            Some(file) => split_file::read(&file, place),
        },
    }
}

/// The split file that the lists are read from; `None` where the class folders are split.
fn split_file(definition: &DatasetDefinition, place: &Place) -> Option<PathBuf> {
    let file = place.folder.join(definition.split.as_ref()?);
    let is_optional = class_folders::CAN_BE_SPLIT.contains(&definition.key.as_str());
    (file.is_file() || !is_optional).then_some(file)
}

/// The file or the folder that says which images are for testing.
pub(super) fn test_list(definition: &DatasetDefinition, place: &Place) -> PathBuf {
    match definition.key.as_str() {
        "imagenet" => place.images.join("val"),
        "imagenetv2" | "imagenet_sketch" | "imagenet_a" | "imagenet_r" => place.images.clone(),
        "fgvc_aircraft" => place.folder.join("images_variant_test.txt"),
        _ => split_file(definition, place).unwrap_or_else(|| place.images.clone()),
    }
}

/// The files that [`read`] reads and the folders that it lists, whether they are there or not.
pub(super) fn sources(definition: &DatasetDefinition, place: &Place) -> Vec<PathBuf> {
    let in_folder = |names: &[&str]| names.iter().map(|name| place.folder.join(name)).collect::<Vec<_>>();
    let mut sources = match definition.key.as_str() {
        "imagenet" | "imagenetv2" | "imagenet_sketch" | "imagenet_a" | "imagenet_r" => in_folder(&["classnames.txt"]),
        "fgvc_aircraft" => {
            return in_folder(&[
                "variants.txt",
                "images_variant_train.txt",
                "images_variant_val.txt",
                "images_variant_test.txt",
            ]);
        }
        _ => definition.split.iter().map(|split| place.folder.join(split)).collect(),
    };
    let listed = match definition.key.as_str() {
        "imagenet" => vec![place.images.join("train"), place.images.join("val")],
        _ if split_file(definition, place).is_some() => Vec::new(),
        _ => vec![place.images.clone()],
    };
    for folder in listed {
        let classes = class_folders::class_folders(&folder).unwrap_or_default();
        sources.extend(classes.iter().map(|class| folder.join(class)));
        sources.push(folder);
    }
    sources
}
