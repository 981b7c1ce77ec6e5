//! Where the fifteen data sets of the literature come from, and how large they are when they are whole.
//!
//! Rule of this file: only what a job reads is listed, so no annotations that the split file already holds. Where the address
//! that the data set was published under is gone, a copy's stands here, and the note says so.

use serde::{Deserialize, Serialize};

/// One thing to download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// What it is: `images`, `split file`, `class names`.
    pub what: String,
    /// From where.
    pub url: String,
    /// What has to be there afterwards, below the data set's folder.
    pub gives: String,
    /// What to know before fetching it: a registration, or what to rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Source {
    /// Whether it holds images.
    pub fn is_images(&self) -> bool {
        self.what == IMAGES
    }
}

/// How large a data set is when it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedSize {
    /// Its classes.
    pub classes: usize,
    /// Its test images.
    pub test: usize,
}

/// A row of [`KNOWN`].
struct Known {
    key: &'static str,
    classes: usize,
    test: usize,
    /// What, which path below the folder it gives, from where, and a note.
    sources: &'static [(&'static str, &'static str, &'static str, &'static str)],
}

const IMAGES: &str = "images";
const SPLIT: &str = "split file";
const NAMES: &str = "class names";
const NAMES_FILE: &str = "classnames.txt";
const NAMES_URL: &str = "https://drive.google.com/file/d/1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF/view";
const SAME_NAMES: &str = "the same file as ImageNet's";

#[rustfmt::skip]
const KNOWN: &[Known] = &[
    Known { key: "imagenet", classes: 1000, test: 50_000, sources: &[
        (IMAGES, "images/train", "https://image-net.org/download-images.php", "needs registration; ILSVRC 2012, a folder for each class"),
        (IMAGES, "images/val", "https://image-net.org/download-images.php", "needs registration; ILSVRC 2012, sorted into a folder for each class"),
        (NAMES, NAMES_FILE, NAMES_URL, ""),
    ] },
    Known { key: "caltech101", classes: 100, test: 2465, sources: &[
        (IMAGES, "101_ObjectCategories", "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip", "unpack the archive 101_ObjectCategories.tar.gz inside it too"),
        (SPLIT, "split_zhou_Caltech101.json", "https://drive.google.com/file/d/1hyarUivQE36mY6jSomru6Fjd-JzwcCzN/view", ""),
    ] },
    Known { key: "oxford_pets", classes: 37, test: 3669, sources: &[
        (IMAGES, "images", "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz", ""),
        (SPLIT, "split_zhou_OxfordPets.json", "https://drive.google.com/file/d/1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs/view", ""),
    ] },
    Known { key: "stanford_cars", classes: 196, test: 8041, sources: &[
        (IMAGES, "cars_train", "https://www.kaggle.com/datasets/rickyyyyyyy/torchvision-stanford-cars", "a copy, needs registration; the original address is gone"),
        (IMAGES, "cars_test", "https://www.kaggle.com/datasets/rickyyyyyyy/torchvision-stanford-cars", "in the same archive"),
        (SPLIT, "split_zhou_StanfordCars.json", "https://drive.google.com/file/d/1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT/view", ""),
    ] },
    Known { key: "oxford_flowers", classes: 102, test: 2463, sources: &[
        (IMAGES, "jpg", "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/102flowers.tgz", ""),
        (SPLIT, "split_zhou_OxfordFlowers.json", "https://drive.google.com/file/d/1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT/view", ""),
    ] },
    Known { key: "food101", classes: 101, test: 30_300, sources: &[
        (IMAGES, "images", "https://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", "the folder `food-101` is in the archive: unpack it in the data root"),
        (SPLIT, "split_zhou_Food101.json", "https://drive.google.com/file/d/1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl/view", ""),
    ] },
    Known { key: "fgvc_aircraft", classes: 100, test: 3333, sources: &[
        (IMAGES, "images", "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz", "the folder `data` inside it is the one to keep"),
        ("list of classes", "variants.txt", "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz", "in the same archive, as are the three images_variant_*.txt"),
    ] },
    Known { key: "sun397", classes: 397, test: 19_850, sources: &[
        (IMAGES, "SUN397", "https://opendatalab.com/OpenDataLab/SUN397", "a copy, needs registration; the original address is gone"),
        (SPLIT, "split_zhou_SUN397.json", "https://drive.google.com/file/d/1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq/view", ""),
    ] },
    Known { key: "dtd", classes: 47, test: 1692, sources: &[
        (IMAGES, "images", "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz", "the folder `dtd` is in the archive: unpack it in the data root"),
        (SPLIT, "split_zhou_DescribableTextures.json", "https://drive.google.com/file/d/1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x/view", ""),
    ] },
    Known { key: "eurosat", classes: 10, test: 8100, sources: &[
        (IMAGES, "2750", "https://huggingface.co/datasets/torchgeo/eurosat/resolve/main/EuroSAT.zip", "a copy; the original server's certificate has expired"),
        (SPLIT, "split_zhou_EuroSAT.json", "https://drive.google.com/file/d/1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o/view", ""),
    ] },
    Known { key: "ucf101", classes: 101, test: 3783, sources: &[
        (IMAGES, "UCF-101-midframes", "https://drive.google.com/file/d/10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O/view", "the middle frame of each video"),
        (SPLIT, "split_zhou_UCF101.json", "https://drive.google.com/file/d/1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y/view", ""),
    ] },
    Known { key: "imagenetv2", classes: 1000, test: 10_000, sources: &[
        (IMAGES, "imagenetv2-matched-frequency-format-val", "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz", ""),
        (NAMES, NAMES_FILE, NAMES_URL, SAME_NAMES),
    ] },
    Known { key: "imagenet_sketch", classes: 1000, test: 50_889, sources: &[
        (IMAGES, "images", "https://huggingface.co/datasets/songweig/imagenet_sketch/resolve/main/data/ImageNet-Sketch.zip", "the folder inside it is called `sketch`: rename it"),
        (NAMES, NAMES_FILE, NAMES_URL, SAME_NAMES),
    ] },
    Known { key: "imagenet_a", classes: 200, test: 7500, sources: &[
        (IMAGES, "imagenet-a", "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar", ""),
        (NAMES, NAMES_FILE, NAMES_URL, SAME_NAMES),
    ] },
    Known { key: "imagenet_r", classes: 200, test: 30_000, sources: &[
        (IMAGES, "imagenet-r", "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar", ""),
        (NAMES, NAMES_FILE, NAMES_URL, SAME_NAMES),
    ] },
];

fn known(key: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.key == key)
}

/// What to download for a data set; nothing for a user's own.
pub fn sources_of(key: &str) -> Vec<Source> {
    let sources = known(key).map_or(&[][..], |known| known.sources);
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    sources
        .iter()
        .map(|&(what, gives, url, note)| Source {
            what: what.to_owned(),
            url: url.to_owned(),
            gives: gives.to_owned(),
            note: text(note),
        })
        .collect()
}

/// How large a data set is when it is whole; `None` for a user's own.
pub fn published_size(key: &str) -> Option<PublishedSize> {
    known(key).map(|known| PublishedSize { classes: known.classes, test: known.test })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::dataset::Catalogue;

    /// What the readers need is what the sources give: the image folder, or folders inside it, and the split file.
    #[test]
    fn every_data_set_has_a_source_for_all_that_is_read() {
        for definition in Catalogue::built_in().definitions() {
            let key = &definition.key;
            let sources = sources_of(key);
            let gives = |path: &str| sources.iter().any(|source| source.gives == path);
            let images: Vec<&Source> = sources.iter().filter(|source| source.is_images()).collect();
            assert!(
                !images.is_empty() && images.iter().all(|source| source.gives.starts_with(&definition.images)),
                "{key}"
            );
            assert!(definition.split.as_deref().is_none_or(gives), "{key}");
            assert!(!key.starts_with("imagenet") || gives(NAMES_FILE), "{key}");
            assert!(sources.iter().all(|source| source.url.starts_with("https://")), "{key}");
            assert!(published_size(key).is_some(), "{key}");
        }
        assert!(sources_of("icons").is_empty() && published_size("icons").is_none());
    }
}
