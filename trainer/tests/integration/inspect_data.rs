//! `inspect data`: a data root with everything in it, and with one thing wrong at a time.

use std::path::Path;
use std::process::Output;

use promptfield_core::wire::data_report::{DataReport, DataState, DatasetReport, ImageCheck, ImageCounts};

use serde_json::{Value, json};

use crate::fixture::trainer;
use crate::layouts::{LAYOUTS, write_all, write_image};

fn inspect(root: &Path, args: &[&str]) -> Output {
    let mut command = trainer();
    command.args(["inspect", "data", "--data-root"]).arg(root).args(args).env("PROMPTFIELD_THREADS", "2");
    command.output().unwrap()
}

fn report(root: &Path, args: &[&str]) -> DataReport {
    let output = inspect(root, args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn dataset(root: &Path, args: &[&str]) -> DatasetReport {
    report(root, args).datasets.remove(0)
}

/// Cuts a file off in its middle.
fn truncate(path: &Path) {
    let bytes = fs_err::read(path).unwrap();
    fs_err::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn the_fifteen_are_complete_and_counted() {
    let root = tempfile::tempdir().unwrap();
    write_all(root.path());
    let report = report(root.path(), &[]);
    assert_eq!((report.images, report.datasets.len()), (ImageCheck::Decoded, 15));
    assert!(!report.is_wrong(true));
    for layout in LAYOUTS {
        let found = report.datasets.iter().find(|dataset| dataset.name == layout.key).unwrap();
        assert_eq!((found.state, &found.problem), (DataState::Complete, &None), "{}", layout.key);
        assert!(found.sources.iter().all(|source| source.there), "{}", layout.key);
        let counts = found.counts.unwrap();
        assert_eq!((counts.test, counts.images), (layout.test.len(), layout.images().len()), "{}", layout.key);
        assert!(found.remarks[0].contains("the published one"), "{:?}", found.remarks);
    }
    let counts = |name: &str| report.datasets.iter().find(|dataset| dataset.name == name).unwrap().counts.unwrap();
    assert_eq!(counts("imagenet"), ImageCounts { classes: 2, train: 3, val: 0, test: 2, images: 5 });
    assert_eq!(counts("imagenet_a"), ImageCounts { classes: 2, train: 0, val: 0, test: 2, images: 2 });
    assert_eq!(counts("dtd"), ImageCounts { classes: 2, train: 2, val: 1, test: 2, images: 5 });
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write_all(root);
    let remove = |path: &str| fs_err::remove_file(root.join(path)).unwrap();
    truncate(&root.join("dtd/images/banded/banded_0004.jpg"));
    remove("oxford_flowers/split_zhou_OxfordFlowers.json");
    remove("oxford_pets/images/Abyssinian_2.jpg");
    remove("imagenet-rendition/classnames.txt");
    fs_err::remove_dir_all(root.join("food-101")).unwrap();
    fs_err::create_dir(root.join("ucf101/split_fewshot")).unwrap();
    fs_err::write(root.join("ucf101/split_fewshot/shot_4-seed_1.pkl"), "no pickle").unwrap();
    remove("eurosat/split_zhou_EuroSAT.json");
    for class in ["AnnualCrop", "SeaLake"] {
        (0..4).for_each(|image| write_image(&root.join(format!("eurosat/2750/{class}/{image}.jpg"))));
    }

    let report = report(root, &[]);
    let dataset = |name: &str| report.datasets.iter().find(|dataset| dataset.name == name).unwrap();
    assert!(report.is_wrong(false));
    for (name, state, problem, download) in [
        ("dtd", DataState::Damaged, "", &["images"][..]),
        ("oxford_flowers", DataState::Incomplete, "lacks its split file", &["split_zhou_OxfordFlowers.json"]),
        ("oxford_pets", DataState::Incomplete, "(1 of 5 are)", &["images", "split_zhou_OxfordPets.json"]),
        ("imagenet_r", DataState::Incomplete, "lacks its class names", &["classnames.txt"]),
        ("food101", DataState::Absent, "lacks its folder", &["images", "split_zhou_Food101.json"]),
        ("ucf101", DataState::Incomplete, "shot_4-seed_1.pkl", &["UCF-101-midframes", "split_zhou_UCF101.json"]),
        ("eurosat", DataState::Complete, "", &["split_zhou_EuroSAT.json"]),
    ] {
        let found = dataset(name);
        let said = found.problem.as_deref().unwrap_or_default();
        assert!(found.state == state && said.contains(problem), "{name}: {} {said}", found.state);
        let gives: Vec<&str> = found.to_download().into_iter().map(|source| source.gives.as_str()).collect();
        assert_eq!(gives, download, "{name}");
    }
    let dtd = dataset("dtd");
    let reason = &dtd.unreadable.first[0].reason;
    assert_eq!((dtd.unreadable.count, dtd.counts.unwrap().images), (1, 5));
    assert!(reason.contains("banded_0004.jpg") && reason.contains("breaks off"), "{reason}");
    assert_eq!(dataset("ucf101").few_shot_pickles, 1);
    assert!(dataset("eurosat").remarks[0].contains("split the class folders themselves"));
    // Nothing was written: no selection, no split file.
    assert_eq!(fs_err::read_dir(root.join("ucf101/split_fewshot")).unwrap().count(), 1);
    assert!(!root.join("dtd/split_fewshot").exists());
}

#[test]
fn quick_sees_only_beginnings_and_no_more_than_twenty_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for image in 0..30 {
        write_image(&root.join(format!("own/{}/{image:02}.jpg", image % 2)));
    }
    fs_err::create_dir(root.join("datasets")).unwrap();
    fs_err::write(root.join("datasets/own.toml"), "name = \"own\"\nfolder = \"own\"\ntemplate = \"{}\"\n").unwrap();
    truncate(&root.join("own/0/00.jpg"));
    assert_eq!(dataset(root, &["own", "--quick"]).state, DataState::Complete);
    assert_eq!(dataset(root, &["own"]).unreadable.count, 1);

    for image in 0..30 {
        fs_err::write(root.join(format!("own/{}/{image:02}.jpg", image % 2)), "<!DOCTYPE html>").unwrap();
    }
    let found = dataset(root, &["own", "--quick"]);
    assert_eq!((found.state, found.unreadable.count, found.unreadable.first.len()), (DataState::Damaged, 30, 20));
    assert!(found.unreadable.first[0].reason.contains("it starts with `<!DOCTYP`"), "{found:?}");
    assert_eq!(dataset(root, &["own"]).unreadable, found.unreadable, "the same, in the same order");

    fs_err::write(root.join("datasets/cars.toml"), "name = \"cars\"\nfolder = \"/etc\"\ntemplate = \"{}\"\n").unwrap();
    let all = report(root, &[]);
    assert_eq!(all.datasets.len(), 16);
    assert!(all.wrong_definitions[0].contains("cars.toml"), "{:?}", all.wrong_definitions);
    let own = report(root, &["own", "own"]);
    assert!(own.wrong_definitions.is_empty() && own.datasets.len() == 1);
}

/// A data set `own` of 4 classes with a split file, without the entries that `is_absent` says of a list and a label.
fn own(is_absent: impl Fn(&str, usize) -> bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let list = |name: &str, images: usize| -> Vec<Value> {
        let labels = (0..4).filter(|&label| !is_absent(name, label));
        let entries = labels.flat_map(|label| (0..images).map(move |image| (label, image)));
        entries
            .map(|(label, image)| json!([format!("{label}/{name}{image}.jpg"), label, format!("class {label}")]))
            .collect()
    };
    let split = json!({"train": list("train", 2), "val": list("val", 1), "test": list("test", 3)});
    for entry in split.as_object().unwrap().values().flat_map(|list| list.as_array().unwrap()) {
        write_image(&root.join("own").join(entry[0].as_str().unwrap()));
    }
    fs_err::create_dir(root.join("datasets")).unwrap();
    let definition = "name = \"own\"\nfolder = \"own\"\nsplit = \"split.json\"\ntemplate = \"{}\"\n";
    fs_err::write(root.join("datasets/own.toml"), definition).unwrap();
    fs_err::write(root.join("own/split.json"), split.to_string()).unwrap();
    folder
}

/// What `inspect split` prints on both ways.
fn split(root: &Path, classes: &str) -> (Value, String) {
    let mut command = trainer();
    command.args(["inspect", "split", "--dataset", "own", "--shots", "0", "--seed", "1", "--classes", classes]);
    let output = command.arg("--data-root").arg(root).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let keys: Vec<&str> = printed.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["classnames", "test", "train", "val"]);
    (printed, said)
}

#[test]
fn a_data_set_without_anything_to_test_is_not_complete() {
    for (classes, first, last) in [("all", 0, 4), ("base", 0, 2), ("new", 2, 4)] {
        let root = own(|list, label| list == "test" && (first..last).contains(&label));
        let found = dataset(root.path(), &["own"]);
        let half = if classes == "all" { String::new() } else { format!(" of its {classes} classes") };
        let file = root.path().join("own/split.json");
        let problem =
            format!("the data set `own` has no test image{half}: expected at least one in `{}`", file.display());
        assert_eq!((found.state, &found.problem), (DataState::Incomplete, &Some(problem.clone())), "{classes}");
        let counts = found.counts.unwrap();
        assert_eq!((counts.classes, counts.test), (4, 3 * (4 - (last - first))), "{classes}");

        let (printed, said) = split(root.path(), classes);
        assert_eq!(printed["test"], json!([]));
        assert!(said.contains(&format!("warning: jobs refuse this: {problem}")), "{said}");
    }
    let root = own(|_, _| false);
    assert_eq!(dataset(root.path(), &["own"]).state, DataState::Complete);
    assert_eq!(split(root.path(), "all").1, "");
}

#[test]
fn a_class_without_training_images_is_named_with_what_base_to_new_leaves_out() {
    for absent in [1, 3] {
        let root = own(|list, label| list == "train" && label == absent);
        let found = dataset(root.path(), &["own"]);
        let remark =
            format!("class `class {absent}` has no training image: base-to-new jobs leave its 3 test images out");
        assert!(found.remarks.contains(&remark), "{:?}", found.remarks);
        let problem = found.problem.unwrap();
        assert!(
            problem.starts_with("few-shot and cross-dataset jobs refuse it: ") && problem.contains("split.json"),
            "{problem}"
        );
        assert_eq!(found.state, DataState::Incomplete);
        assert_eq!(found.counts.unwrap(), ImageCounts { classes: 3, train: 6, val: 3, test: 9, images: 18 });
        for classes in ["base", "new"] {
            let (_, said) = split(root.path(), classes);
            let warning =
                format!("warning: class `class {absent}` has no training image: its 3 test images are left out");
            assert_eq!(said.trim_end(), warning);
        }
    }
    // Images that no job reads aren't looked at, the others are.
    let root = own(|list, label| list == "train" && label == 1);
    truncate(&root.path().join("own/1/test0.jpg"));
    truncate(&root.path().join("own/0/test0.jpg"));
    assert_eq!(dataset(root.path(), &["own"]).unreadable.count, 1);
}

#[test]
fn bad_input_is_refused_with_code_2() {
    let root = tempfile::tempdir().unwrap();
    for (output, expected) in [
        (inspect(root.path(), &["dtt"]), "did you mean `dtd`?"),
        (inspect(&root.path().join("nowhere"), &[]), "the folder that holds the data sets' folders"),
    ] {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(expected), "{stderr}");
    }
}
