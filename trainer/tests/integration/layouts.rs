//! The fifteen data sets of the literature as tiny real folders in their true layout, and what their readers make of them.

use std::path::Path;

use promptfield_core::experiment::dataset::{Catalogue, DatasetDefinition};
use promptfield_core::protocol::ClassSubset;
use promptfield_trainer::{data, image};
use serde_json::json;

use crate::fixture::demo;

/// Paths below the image folder, with labels.
type List = &'static [(&'static str, usize)];

/// One data set: its files, which are at the same time what is expected of its reader.
pub(crate) struct Layout {
    pub(crate) key: &'static str,
    classes: &'static [&'static str],
    pub(crate) train: List,
    pub(crate) val: List,
    pub(crate) test: List,
    /// Name and text of the lists that lie in the data set's folder, if they are other than a split file.
    lists: &'static [(&'static str, &'static str)],
}

/// A class per label, with an image each to train, validate and test on.
const fn split(key: &'static str, classes: &'static [&'static str], train: List, val: List, test: List) -> Layout {
    Layout { key, classes, train, val, test, lists: &[] }
}

/// One of the variants of ImageNet: its only list is read as train and as test.
const fn variant(key: &'static str, classes: &'static [&'static str], images: List) -> Layout {
    Layout { key, classes, train: images, val: &[], test: images, lists: &[("classnames.txt", CLASSNAMES)] }
}

const CLASSNAMES: &str = "n02 great white shark\nn01 tench\nn03 hen\n";

#[rustfmt::skip]
pub(crate) const LAYOUTS: &[Layout] = &[
    Layout {
        key: "imagenet", classes: &["tench", "great white shark"],
        train: &[("train/n01/n01_1.JPEG", 0), ("train/n02/n02_1.JPEG", 1), ("train/n02/n02_7.JPEG", 1)],
        val: &[("val/n01/val_3.JPEG", 0), ("val/n02/val_1.JPEG", 1)],
        test: &[("val/n01/val_3.JPEG", 0), ("val/n02/val_1.JPEG", 1)],
        lists: &[("classnames.txt", CLASSNAMES)],
    },
    split("caltech101", &["face", "leopard"],
        &[("Faces/image_0001.jpg", 0), ("Leopards/image_0001.jpg", 1)], &[("Faces/image_0002.jpg", 0)], &[("Faces/image_0003.jpg", 0), ("Leopards/image_0002.jpg", 1)]),
    split("oxford_pets", &["abyssinian", "american_bulldog"],
        &[("Abyssinian_1.jpg", 0), ("american_bulldog_10.jpg", 1)], &[("Abyssinian_2.jpg", 0)], &[("Abyssinian_3.jpg", 0), ("american_bulldog_11.jpg", 1)]),
    split("stanford_cars", &["2000 AM General Hummer SUV", "2012 Acura RL Sedan"],
        &[("cars_train/00001.jpg", 0), ("cars_train/00002.jpg", 1)], &[("cars_train/00003.jpg", 1)], &[("cars_test/00001.jpg", 0), ("cars_test/00002.jpg", 1)]),
    split("oxford_flowers", &["pink primrose", "hard-leaved pocket orchid"],
        &[("image_06734.jpg", 0), ("image_05087.jpg", 1)], &[("image_06735.jpg", 0)], &[("image_06736.jpg", 0), ("image_05088.jpg", 1)]),
    split("food101", &["apple_pie", "baby_back_ribs"],
        &[("apple_pie/1005649.jpg", 0), ("baby_back_ribs/1005293.jpg", 1)], &[("apple_pie/1011328.jpg", 0)], &[("apple_pie/1011329.jpg", 0), ("baby_back_ribs/1007102.jpg", 1)]),
    Layout {
        key: "fgvc_aircraft", classes: &["707-320", "Boeing 717"],
        train: &[("0000001.jpg", 1), ("0000002.jpg", 0)], val: &[("0000003.jpg", 1)], test: &[("0000004.jpg", 0), ("0000005.jpg", 1)],
        lists: &[
            ("variants.txt", "707-320\nBoeing 717\n"), ("images_variant_train.txt", "0000001 Boeing 717\n0000002 707-320\n"),
            ("images_variant_val.txt", "0000003 Boeing 717\n"), ("images_variant_test.txt", "0000004 707-320\n0000005 Boeing 717\n"),
        ],
    },
    split("sun397", &["abbey", "outdoor apartment_building"],
        &[("a/abbey/sun_a.jpg", 0), ("a/apartment_building/outdoor/sun_b.jpg", 1)], &[("a/abbey/sun_c.jpg", 0)], &[("a/abbey/sun_d.jpg", 0), ("a/apartment_building/outdoor/sun_e.jpg", 1)]),
    split("dtd", &["banded", "zigzagged"],
        &[("banded/banded_0002.jpg", 0), ("zigzagged/zigzagged_0001.jpg", 1)], &[("banded/banded_0004.jpg", 0)], &[("banded/banded_0005.jpg", 0), ("zigzagged/zigzagged_0003.jpg", 1)]),
    split("eurosat", &["Annual Crop Land", "Sea or Lake"],
        &[("AnnualCrop/AnnualCrop_1.jpg", 0), ("SeaLake/SeaLake_1.jpg", 1)], &[("AnnualCrop/AnnualCrop_2.jpg", 0)], &[("AnnualCrop/AnnualCrop_3.jpg", 0), ("SeaLake/SeaLake_2.jpg", 1)]),
    split("ucf101", &["Apply_Eye_Makeup", "Yo_Yo"],
        &[("Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg", 0), ("Yo_Yo/v_YoYo_g08_c01.jpg", 1)],
        &[("Yo_Yo/v_YoYo_g09_c01.jpg", 1)], &[("Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c01.jpg", 0), ("Yo_Yo/v_YoYo_g01_c01.jpg", 1)]),
    // The folders' numbers count the lines of classnames.txt.
    variant("imagenetv2", &["great white shark", "tench", "hen"], &[("0/a.jpeg", 0), ("1/b.jpeg", 1), ("2/c.jpeg", 2)]),
    variant("imagenet_sketch", &["tench", "great white shark", "hen"], &[("n01/sketch_0.JPEG", 0), ("n02/sketch_1.JPEG", 1), ("n03/sketch_2.JPEG", 2)]),
    variant("imagenet_a", &["tench", "hen"], &[("n01/0.001_fox.jpg", 0), ("n03/0.002_hen.jpg", 1)]),
    variant("imagenet_r", &["great white shark"], &[("n02/art_0.jpg", 0), ("n02/tattoo_1.jpg", 0)]),
];

impl Layout {
    pub(crate) fn definition(&self) -> DatasetDefinition {
        Catalogue::built_in().get(self.key).unwrap().clone()
    }

    /// The images, each once.
    pub(crate) fn images(&self) -> Vec<&'static str> {
        let mut images: Vec<&str> =
            [self.train, self.val, self.test].into_iter().flatten().map(|&(path, _)| path).collect();
        images.sort_unstable();
        images.dedup();
        images
    }

    /// Writes the data set below a data root, with real images.
    pub(crate) fn write(&self, root: &Path) {
        let definition = self.definition();
        let folder = root.join(&definition.folder);
        for path in self.images() {
            write_image(&folder.join(&definition.images).join(path));
        }
        for (name, text) in self.lists {
            fs_err::write(folder.join(name), text).unwrap();
        }
        if let Some(file) = definition.split {
            let triples = |list: List| -> Vec<_> {
                list.iter().map(|&(path, label)| json!([path, label, self.classes[label]])).collect()
            };
            let split = json!({"train": triples(self.train), "val": triples(self.val), "test": triples(self.test)});
            fs_err::write(folder.join(file), split.to_string()).unwrap();
        }
    }
}

/// Writes all fifteen below a data root.
pub(crate) fn write_all(root: &Path) {
    for layout in LAYOUTS {
        layout.write(root);
    }
}

/// Writes a real JPEG image.
pub(crate) fn write_image(path: &Path) {
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::copy(demo().join("caltech-101/101_ObjectCategories/Faces/image_0124.jpg"), path).unwrap();
}

#[test]
fn every_reader_takes_its_true_layout() {
    let root = tempfile::tempdir().unwrap();
    write_all(root.path());
    assert_eq!(LAYOUTS.len(), Catalogue::built_in().keys().count());
    for layout in LAYOUTS {
        let split = data::load(&layout.definition(), root.path(), 0, 1, ClassSubset::All).unwrap();
        let expected =
            json!({"classnames": layout.classes, "train": layout.train, "val": layout.val, "test": layout.test});
        let read: serde_json::Value = serde_json::from_str(&split.to_json()).unwrap();
        assert_eq!(read, expected, "{}", layout.key);
        for item in split.train.iter().chain(&split.val).chain(&split.test) {
            image::decode(&item.path).unwrap();
        }
    }
}

#[test]
fn four_data_sets_are_split_by_class_where_their_split_file_is_missing() {
    let root = tempfile::tempdir().unwrap();
    write_all(root.path());
    for layout in LAYOUTS {
        let (definition, load) = (layout.definition(), |definition: &DatasetDefinition| {
            data::load(definition, root.path(), 0, 1, ClassSubset::All)
        });
        let Some(split) = &definition.split else { continue };
        let folder = root.path().join(&definition.folder);
        fs_err::remove_file(folder.join(split)).unwrap();
        if !["caltech101", "dtd", "eurosat", "food101"].contains(&layout.key) {
            let error = load(&definition).unwrap_err().to_string();
            assert!(error.contains("lacks its split file") && error.contains(split), "{error}");
            continue;
        }
        for path in layout.images() {
            let class = folder.join(&definition.images).join(path.split('/').next().unwrap());
            (0..4).for_each(|image| write_image(&class.join(format!("{image}.jpg"))));
        }
        let split = load(&definition).unwrap();
        // 7 images in one class and 6 in the other: 4, 1 and 2 of them, and 3, 1 and 2.
        assert_eq!((split.train.len(), split.val.len(), split.test.len()), (7, 2, 4), "{}", layout.key);
        assert_eq!(split.classnames, layout.classes, "{}", layout.key);
    }
}
