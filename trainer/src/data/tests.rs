//! Each way of laying out a data set on a tiny real folder, and the few-shot selection against the recorded one.

use std::path::Path;

use promptfield_core::experiment::dataset::{Catalogue, DatasetDefinition};
use promptfield_core::job::outcome::LeftOut;
use promptfield_core::job::spec::hex;
use promptfield_core::protocol::ClassSubset;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{DataError, Split, load, no_test_images};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn known(key: &str) -> DatasetDefinition {
    Catalogue::built_in().get(key).unwrap().clone()
}

fn own() -> DatasetDefinition {
    DatasetDefinition::parse(
        "name = \"own\"\nfolder = \"own\"\nimages = \"images\"\nsplit = \"split.json\"\ntemplate = \"{}\"",
    )
    .unwrap()
}

/// Writes files below a root; their content doesn't matter to the readers unless it's a list.
fn write(root: &Path, file: &str, content: &str) {
    let path = root.join(file);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(path, content).unwrap();
}

/// `own` with `classes` classes of `images` training images each, one of val and one of test.
fn own_root(classes: usize, images: usize) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut lists = [Vec::new(), Vec::new(), Vec::new()];
    for class in 0..classes {
        for image in 0..images + 2 {
            let file = format!("c{class}/{image}.png");
            write(root.path(), &format!("own/images/{file}"), "");
            lists[(image + 2).saturating_sub(images).clamp(1, 3) - 1].push(json!([
                file,
                class,
                format!("class_{class}")
            ]));
        }
    }
    let [train, val, test] = lists;
    write(root.path(), "own/split.json", &json!({"train": train, "val": val, "test": test}).to_string());
    root
}

fn relative(split: &Split) -> [Vec<(&str, usize)>; 3] {
    [&split.train, &split.val, &split.test]
        .map(|items| items.iter().map(|item| (item.relative.as_str(), item.label)).collect())
}

fn refusal(definition: &DatasetDefinition, root: &Path) -> String {
    load(definition, root, 1, 1, ClassSubset::All).unwrap_err().to_string()
}

#[derive(Deserialize)]
struct Golden {
    few_shot: Vec<Selection>,
    pickle: Selection,
}

#[derive(Deserialize)]
struct Selection {
    shots: u32,
    seed: u64,
    train: usize,
    val: usize,
    sha256: String,
}

impl Selection {
    fn check(&self, split: &Split) {
        assert_eq!(
            (split.train.len(), split.val.len()),
            (self.train, self.val),
            "{} shots, seed {}",
            self.shots,
            self.seed
        );
        let lines = split.train.iter().chain(&split.val).map(|item| format!("{} {}\n", item.relative, item.label));
        let digest = hex(&Sha256::digest(lines.collect::<String>()));
        assert_eq!(digest, self.sha256, "{} shots, seed {}", self.shots, self.seed);
    }
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/reference/sampling/golden.json")).unwrap()
}

/// A data root of the demo's Caltech-101 in which files can be written.
fn caltech_root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (Path::new(REPOSITORY).join("demo/caltech-101"), root.path().join("caltech-101"));
    fs_err::create_dir(&to).unwrap();
    fs_err::copy(from.join("split_zhou_Caltech101.json"), to.join("split_zhou_Caltech101.json")).unwrap();
    std::os::unix::fs::symlink(from.join("101_ObjectCategories"), to.join("101_ObjectCategories")).unwrap();
    root
}

#[test]
fn the_few_shot_selection_is_cpythons() {
    let root = caltech_root();
    for expected in golden().few_shot {
        let (shots, seed) = (expected.shots, expected.seed);
        let split = load(&known("caltech101"), root.path(), shots, seed, ClassSubset::All).unwrap();
        expected.check(&split);
        // The second time it comes from the file that the first one wrote.
        let file = root.path().join(format!("caltech-101/split_fewshot/shot_{shots}-seed_{seed}.json"));
        assert!(file.is_file());
        assert_eq!(load(&known("caltech101"), root.path(), shots, seed, ClassSubset::All).unwrap(), split);
    }
}

#[test]
fn what_the_reference_code_drew_wins() {
    let root = caltech_root();
    let expected = golden().pickle;
    let pickle = include_bytes!("../../tests/reference/sampling/fewshot.pkl");
    let folder = root.path().join("caltech-101/split_fewshot");
    fs_err::create_dir(&folder).unwrap();
    // Under another seed's name, so that only the file can be where it comes from.
    fs_err::write(folder.join("shot_2-seed_5.pkl"), pickle).unwrap();
    let split = load(&known("caltech101"), root.path(), 2, 5, ClassSubset::All).unwrap();
    expected.check(&split);
    assert!(split.train[0].path.starts_with(root.path()), "paths are this machine's");

    fs_err::write(folder.join("shot_2-seed_5.pkl"), &pickle[..500]).unwrap();
    let error = refusal_of(&root, 2, 5);
    assert!(error.contains("shot_2-seed_5.pkl") && error.contains("or no such file"), "{error}");
}

fn refusal_of(root: &TempDir, shots: u32, seed: u64) -> String {
    load(&known("caltech101"), root.path(), shots, seed, ClassSubset::All).unwrap_err().to_string()
}

#[test]
fn an_outdated_draw_is_drawn_anew_and_a_hand_made_one_is_taken() {
    let root = own_root(3, 6);
    let first = load(&own(), root.path(), 2, 1, ClassSubset::All).unwrap();
    let file = root.path().join("own/split_fewshot/shot_2-seed_1.json");
    let mut document: serde_json::Value = serde_json::from_str(&fs_err::read_to_string(&file).unwrap()).unwrap();
    document["train"] = json!([["c0/0.png", 0, "class_0"], ["c1/0.png", 1, "class_1"], ["c2/0.png", 2, "class_2"]]);

    document["drawn_from"] = json!("another split");
    fs_err::write(&file, document.to_string()).unwrap();
    assert_eq!(load(&own(), root.path(), 2, 1, ClassSubset::All).unwrap(), first);

    document.as_object_mut().unwrap().remove("drawn_from");
    fs_err::write(&file, document.to_string()).unwrap();
    assert_eq!(load(&own(), root.path(), 2, 1, ClassSubset::All).unwrap().train.len(), 3);
}

#[test]
fn base_and_new_halve_the_classes() {
    let root = own_root(5, 3);
    let load = |subset| load(&own(), root.path(), 1, 1, subset).unwrap();
    let (all, base, new) = (load(ClassSubset::All), load(ClassSubset::Base), load(ClassSubset::New));
    assert_eq!(base.classnames, ["class_0", "class_1", "class_2"]);
    assert_eq!(new.classnames, ["class_3", "class_4"]);
    assert_eq!(relative(&new)[2], [("c3/4.png", 0), ("c4/4.png", 1)]);
    assert_eq!((all.train.len(), base.train.len(), new.train.len()), (5, 3, 2));
    assert_eq!(all.train[4].path, root.path().join("own/images").join(&all.train[4].relative));

    let hashes = [all.hash(), base.hash(), new.hash()];
    assert!(hashes.iter().all(|hash| hash.len() == 64) && hashes[0] != hashes[1] && hashes[1] != hashes[2]);
    assert!(new.to_json().starts_with(r#"{"classnames":["class_3","class_4"],"train":[["c3/"#), "{}", new.to_json());
}

#[test]
fn no_shots_takes_every_image_and_writes_nothing() {
    let root = own_root(2, 7);
    let split = load(&own(), root.path(), 0, 1, ClassSubset::All).unwrap();
    assert_eq!((split.train.len(), split.val.len(), split.test.len()), (14, 2, 2));
    assert!(!root.path().join("own/split_fewshot").exists());
}

#[test]
fn a_class_folder_data_set_is_split_by_halves() {
    let root = tempfile::tempdir().unwrap();
    for (class, count) in [("airplanes", 10), ("BACKGROUND_Google", 3), ("Faces", 5), ("Faces_easy", 9), ("ant", 4)] {
        for image in 0..count {
            write(root.path(), &format!("caltech-101/101_ObjectCategories/{class}/{image:02}.jpg"), "");
        }
    }
    write(root.path(), "caltech-101/101_ObjectCategories/ant/.hidden", "");
    write(root.path(), "caltech-101/101_ObjectCategories/README", "");
    let split = load(&known("caltech101"), root.path(), 0, 1, ClassSubset::All).unwrap();
    assert_eq!(split.classnames, ["face", "airplane", "ant"]);
    // Python rounds 2.5 to 2: of 5 images 2, 1 and 2; of 10 images 5, 2 and 3; of 4 images 2, 1 and 1.
    let counts = |items: &[super::Item]| [0, 1, 2].map(|label| items.iter().filter(|item| item.label == label).count());
    assert_eq!([counts(&split.train), counts(&split.val), counts(&split.test)], [[2, 5, 2], [1, 2, 1], [2, 3, 1]]);
    // The order that `random.seed(1); random.shuffle(…)` leaves, class after class.
    let order: Vec<&str> = [&split.train, &split.val, &split.test]
        .into_iter()
        .flat_map(|items| items.iter().filter(|item| item.label == 0).map(|item| item.relative.as_str()))
        .collect();
    assert_eq!(order, ["Faces/02.jpg", "Faces/03.jpg", "Faces/04.jpg", "Faces/00.jpg", "Faces/01.jpg"]);
    assert_eq!(load(&known("caltech101"), root.path(), 0, 2, ClassSubset::All).unwrap(), split, "all seeds share it");

    write(root.path(), "caltech-101/101_ObjectCategories/bee/0.jpg", "");
    let error = refusal(&known("caltech101"), root.path());
    assert!(
        error.contains("1 images in") && error.contains("bee") && error.contains("at least 4 per class"),
        "{error}"
    );
}

#[test]
fn few_shot_selections_are_no_class_where_the_images_have_no_folder_of_their_own() {
    let root = tempfile::tempdir().unwrap();
    let definition = DatasetDefinition::parse("name = \"own\"\nfolder = \"own\"\ntemplate = \"{}\"").unwrap();
    for image in 0..8 {
        write(root.path(), &format!("own/{}/{image}.jpg", ["ant", "bee"][image % 2]), "");
    }
    let first = load(&definition, root.path(), 1, 1, ClassSubset::All).unwrap();
    assert!(root.path().join("own/split_fewshot/shot_1-seed_1.json").is_file());
    assert_eq!(load(&definition, root.path(), 1, 1, ClassSubset::All).unwrap(), first);
    assert_eq!(first.classnames, ["ant", "bee"]);
}

/// `own` with 4 classes, of which one has test images and no training image.
fn root_without_training_images_of(absent: usize) -> TempDir {
    let root = own_root(4, 2);
    let file = root.path().join("own/split.json");
    let mut lists: serde_json::Value = serde_json::from_str(&fs_err::read_to_string(&file).unwrap()).unwrap();
    lists["train"].as_array_mut().unwrap().retain(|entry| entry[1] != absent);
    fs_err::write(file, lists.to_string()).unwrap();
    root
}

#[test]
fn a_class_without_a_training_image_is_neither_base_nor_new_and_both_say_so() {
    for absent in 0..4 {
        let root = root_without_training_images_of(absent);
        for shots in [0, 1] {
            let load = |subset| load(&own(), root.path(), shots, 1, subset);
            let (base, new) = (load(ClassSubset::Base).unwrap(), load(ClassSubset::New).unwrap());
            let left_out = [LeftOut { class: format!("class_{absent}"), images: 1 }];
            assert_eq!((&base.left_out[..], &new.left_out[..]), (&left_out[..], &left_out[..]));
            assert_eq!((base.classnames.len(), new.classnames.len()), (2, 1));
            assert_eq!((base.test.len(), new.test.len()), (2, 1));
            // What is left out is no part of the lists.
            let said = Split { left_out: Vec::new(), ..base.clone() };
            assert_eq!((said.hash(), said.to_json()), (base.hash(), base.to_json()));
            let refusal = load(ClassSubset::All).unwrap_err().to_string();
            assert!(refusal.contains("labels from 0 without gaps"), "{refusal}");
        }
    }
    let whole = own_root(4, 2);
    assert_eq!(load(&own(), whole.path(), 1, 1, ClassSubset::Base).unwrap().left_out, []);
}

#[test]
fn who_has_no_test_images_is_told_where_they_should_be_named() {
    let root = tempfile::tempdir().unwrap();
    for (key, folder, list) in [
        ("imagenet", "imagenet/images", "imagenet/images/val"),
        ("imagenet_a", "imagenet-adversarial/imagenet-a", "imagenet-adversarial/imagenet-a"),
        ("fgvc_aircraft", "fgvc_aircraft/images", "fgvc_aircraft/images_variant_test.txt"),
        ("sun397", "sun397/SUN397", "sun397/split_zhou_SUN397.json"),
        ("dtd", "dtd/images", "dtd/images"),
    ] {
        fs_err::create_dir_all(root.path().join(folder)).unwrap();
        let refusal = no_test_images(&known(key), root.path(), ClassSubset::New).to_string();
        assert!(refusal.contains(&format!("`{key}` has no test image of its new classes")), "{refusal}");
        assert!(refusal.ends_with(&format!("at least one in `{}`", root.path().join(list).display())), "{refusal}");
    }
    let refusal = no_test_images(&own(), root.path(), ClassSubset::All);
    assert!(matches!(refusal, DataError::Missing { .. }), "{refusal}");
}

#[test]
fn eurosat_renames_its_classes() {
    let root = tempfile::tempdir().unwrap();
    for class in ["AnnualCrop", "Forest", "SeaLake"] {
        for image in 0..4 {
            write(root.path(), &format!("eurosat/2750/{class}/{image}.jpg"), "");
        }
    }
    let split = load(&known("eurosat"), root.path(), 1, 1, ClassSubset::All).unwrap();
    assert_eq!(split.classnames, ["Annual Crop Land", "Forest", "Sea or Lake"]);
}

#[test]
fn imagenet_takes_its_names_from_a_file_and_tests_on_val() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "imagenet/classnames.txt", "n02 great white shark\nn01 tench\nn03 hen\n");
    for (class, count) in [("n01", 3), ("n02", 2)] {
        for image in 0..count {
            write(root.path(), &format!("imagenet/images/train/{class}/{class}_{image}.JPEG"), "");
        }
        write(root.path(), &format!("imagenet/images/val/{class}/v.JPEG"), "");
    }
    let split = load(&known("imagenet"), root.path(), 2, 1, ClassSubset::All).unwrap();
    assert_eq!(split.classnames, ["tench", "great white shark"]);
    assert_eq!(split.train.len(), 4);
    assert_eq!(relative(&split)[2], [("val/n01/v.JPEG", 0), ("val/n02/v.JPEG", 1)]);
    assert_eq!(split.val, split.test);
    assert_eq!(load(&known("imagenet"), root.path(), 2, 1, ClassSubset::All).unwrap(), split, "from the written file");

    write(root.path(), "imagenet/images/train/n09/x.JPEG", "");
    let error = refusal(&known("imagenet"), root.path());
    assert!(error.contains("classnames.txt") && error.contains("`n09`"), "{error}");
    fs_err::remove_file(root.path().join("imagenet/classnames.txt")).unwrap();
    let error = refusal(&known("imagenet"), root.path());
    assert!(error.contains("lacks its class names") && error.contains("classnames.txt"), "{error}");
}

#[test]
fn the_variants_of_imagenet_map_their_labels() {
    let root = tempfile::tempdir().unwrap();
    let names = "n01 tench\nn02 great white shark\nn03 hen\n";
    for (variant, folders) in [
        ("imagenetv2/imagenetv2-matched-frequency-format-val", ["0", "1", "2"].as_slice()),
        ("imagenet-sketch/images", &["n01", "n02", "n03"]),
        ("imagenet-adversarial/imagenet-a", &["n03", "n01"]),
        ("imagenet-rendition/imagenet-r", &["n02"]),
    ] {
        write(root.path(), &format!("{}/classnames.txt", variant.split('/').next().unwrap()), names);
        write(root.path(), &format!("{variant}/README.txt"), "");
        for folder in folders {
            write(root.path(), &format!("{variant}/{folder}/a.jpeg"), "");
        }
    }
    let load = |key: &str| load(&known(key), root.path(), 16, 1, ClassSubset::All).unwrap();
    assert_eq!(load("imagenetv2").classnames, ["tench", "great white shark", "hen"]);
    assert_eq!(relative(&load("imagenetv2"))[2], [("0/a.jpeg", 0), ("1/a.jpeg", 1), ("2/a.jpeg", 2)]);
    assert_eq!(load("imagenet_sketch").test.len(), 3);
    assert_eq!(load("imagenet_a").classnames, ["tench", "hen"]);
    assert_eq!(relative(&load("imagenet_a"))[2], [("n01/a.jpeg", 0), ("n03/a.jpeg", 1)]);
    assert_eq!(load("imagenet_r").classnames, ["great white shark"]);
}

#[test]
fn fgvc_aircraft_has_its_own_lists() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "fgvc_aircraft/variants.txt", "707-320\nDR-400\nBoeing 717\n");
    for (list, lines) in [
        ("train", "0001 DR-400\n0002 707-320\n0003 Boeing 717\n"),
        ("val", "0004 Boeing 717\n"),
        ("test", "0005 DR-400\n"),
    ] {
        write(root.path(), &format!("fgvc_aircraft/images_variant_{list}.txt"), lines);
    }
    for image in 1..=5 {
        write(root.path(), &format!("fgvc_aircraft/images/000{image}.jpg"), "");
    }
    let split = load(&known("fgvc_aircraft"), root.path(), 0, 1, ClassSubset::All).unwrap();
    assert_eq!(split.classnames, ["707-320", "DR-400", "Boeing 717"]);
    assert_eq!(relative(&split)[0], [("0001.jpg", 1), ("0002.jpg", 0), ("0003.jpg", 2)]);
    assert_eq!(relative(&split)[1], [("0004.jpg", 2)]);

    write(root.path(), "fgvc_aircraft/images_variant_val.txt", "0004 Boing 717\n");
    let error = refusal(&known("fgvc_aircraft"), root.path());
    assert!(error.contains("images_variant_val.txt") && error.contains("line 1") && error.contains("Boing"), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    let root = own_root(2, 3);
    let definition = own();
    fs_err::remove_file(root.path().join("own/images/c1/4.png")).unwrap();
    let error = refusal(&definition, root.path());
    assert!(error.contains("split.json") && error.contains("images/c1/4.png"), "{error}");
    // With one shot of 2 classes: 2 images each of train, val and test.
    assert!(error.contains("(1 of 6 are)"), "{error}");

    fs_err::remove_file(root.path().join("own/split.json")).unwrap();
    let error = refusal(&definition, root.path());
    assert!(error.contains("`own` lacks its split file") && error.contains("own/split.json"), "{error}");

    fs_err::remove_dir_all(root.path().join("own/images")).unwrap();
    let error = refusal(&definition, root.path());
    assert!(error.contains("lacks its image folder") && error.contains("own/images"), "{error}");
    let error = refusal(&known("dtd"), root.path());
    assert!(error.contains("`dtd` lacks its folder"), "{error}");
    // Flowers' images lie in one folder: without a split file there is nothing to go by.
    write(root.path(), "oxford_flowers/jpg/1.jpg", "");
    assert!(refusal(&known("oxford_flowers"), root.path()).contains("lacks its split file"));
}

#[test]
fn a_malformed_split_file_is_refused_by_its_entry() {
    let root = own_root(2, 3);
    let good = json!(["c0/0.png", 0, "a"]);
    for (train, test, expected) in [
        (json!([["c0/0.png", "zero", "a"]]), json!([good]), ["train[0]", "the label is `\"zero\"`"]),
        (json!([good, ["c0/1.png", -1, "a"]]), json!([good]), ["train[1]", "the label is `-1`"]),
        (json!([good]), json!([["../c0/0.png", 0, "a"]]), ["test[0]", "leaves the image folder"]),
        (json!([good]), json!([["c0/0.png", 0]]), ["test[0]", "[path, label, classname]"]),
        (json!([good]), json!([["c0/1.png", 0, "b"]]), ["test: `c0/1.png`", "is named `b`, elsewhere `a`"]),
        (json!([good]), json!([["c0/1.png", 1, "b"]]), ["test: `c0/1.png`", "labels from 0 without gaps"]),
        (json!([]), json!([good]), ["0 classes in its train list", "at least one training image"]),
        (json!({}), json!([]), ["train: there is no such list", "\"test\""]),
    ] {
        write(root.path(), "own/split.json", &json!({"train": train, "val": [], "test": test}).to_string());
        let error = load(&own(), root.path(), 0, 1, ClassSubset::All).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}: expected {expected:?}");
    }
    write(root.path(), "own/split.json", &json!({"train": [good], "val": [], "test": [good]}).to_string());
    let error = load(&own(), root.path(), 0, 1, ClassSubset::New).unwrap_err();
    assert!(matches!(error, DataError::TooFew { .. }) && error.to_string().contains("at least 2 classes"), "{error}");
    write(root.path(), "own/split.json", "{\n\"train\": [,]}");
    assert!(refusal(&own(), root.path()).contains("line 2"));
}
