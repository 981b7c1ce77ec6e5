//! One reader per way of laying out a data set.

mod aircraft;
mod class_folders;
mod imagenet;
mod split_file;

use promptfield_core::dataset::DatasetDefinition;

use super::lists::Lists;
use super::{DataError, Place};

/// The lists of a data set, whole.
pub(super) fn read(definition: &DatasetDefinition, place: &Place) -> Result<Lists, DataError> {
    match definition.key.as_str() {
        "imagenet" => imagenet::read(place),
        "imagenetv2" => imagenet::read_v2(place),
        "imagenet_sketch" | "imagenet_a" | "imagenet_r" => imagenet::read_variant(place),
        "fgvc_aircraft" => aircraft::read(place),
        key => match &definition.split {
            None => class_folders::read(key, place),
            Some(split) => {
                let file = place.folder.join(split);
                if !file.is_file() && class_folders::CAN_BE_SPLIT.contains(&key) {
                    class_folders::read(key, place)
                } else {
                    split_file::read(&file, place)
                }
            }
        },
    }
}
