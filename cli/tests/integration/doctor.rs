//! `doctor --data` over a data root with a complete, a damaged and an incomplete data set.

use std::path::Path;

use crate::site::{Site, repository, text};

/// A site whose data root holds `caltech101`, complete; `eurosat`, with an image that breaks off; and `oxford_flowers`,
/// without its split file.
fn site() -> Site {
    let site = Site::new();
    site.write("promptfield.toml", "[paths]\ndata = \"data\"\n[worker]\nthreads = 1\n");
    let photo = std::fs::read(repository().join("demo/caltech-101/101_ObjectCategories/Faces/image_0124.jpg")).unwrap();
    let write = |path: &str, content: &[u8]| {
        let path = site.path("data").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    for (folder, split) in [
        ("caltech-101/101_ObjectCategories", "caltech-101/split_zhou_Caltech101.json"),
        ("eurosat/2750", "eurosat/split_zhou_EuroSAT.json"),
    ] {
        for image in 0..4 {
            write(&format!("{folder}/Forest/{image}.jpg"), &photo);
        }
        let list = |image: usize| format!("[[\"Forest/{image}.jpg\", 0, \"forest\"]]");
        let lists = format!("{{\"train\": {}, \"val\": {}, \"test\": {}}}", list(0), list(1), list(2));
        write(split, lists.as_bytes());
    }
    write("eurosat/2750/Forest/2.jpg", &photo[..photo.len() / 2]);
    write("oxford_flowers/jpg/image_00001.jpg", &photo);
    site
}

/// The words of the first line that begins with `start`, and the line as it is.
fn row<'a>(stdout: &'a str, start: &str) -> Vec<&'a str> {
    let line = stdout.lines().find(|line| line.trim().starts_with(start));
    line.unwrap_or_else(|| panic!("no line starts with {start}: {stdout}")).split_whitespace().collect()
}

fn below(path: &Path, rest: &str) -> String {
    path.join(rest).display().to_string()
}

#[test]
fn a_data_root_is_checked_and_what_is_missing_is_named() {
    let site = site();
    let output = site.run(&["doctor", "--data"]);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}{}", text(&output.stderr));
    assert_eq!(row(&stdout, "caltech101"), ["caltech101", "complete", "1", "1", "1", "1", "0"]);
    assert_eq!(row(&stdout, "eurosat"), ["eurosat", "damaged", "1", "1", "1", "1", "1"]);
    assert_eq!(row(&stdout, "oxford_flowers"), ["oxford_flowers", "incomplete", "-", "-", "-", "-", "-"]);
    assert_eq!(row(&stdout, "sun397"), ["sun397", "absent", "-", "-", "-", "-", "-"]);
    let data = site.path("data");
    for line in [
        "  1 of 3 images can't be read:".to_owned(),
        format!("    the image `{}` is damaged: it breaks off", below(&data, "eurosat/2750/Forest/2.jpg")),
        "oxford_flowers: incomplete\n  the data set `oxford_flowers` lacks its split file".to_owned(),
        format!("  download into {}:\n    split file: https://drive.google.com/", below(&data, "oxford_flowers")),
        " → split_zhou_OxfordFlowers.json\n".to_owned(),
        format!("food101: absent\n  download into {}:\n", below(&data, "food-101")),
        "    images: https://data.vision.ee.ethz.ch/cvl/food-101.tar.gz → images (the folder".to_owned(),
    ] {
        assert!(stdout.contains(&line), "{line}\n{stdout}");
    }
    // What is there already needn't be downloaded.
    assert!(!stdout.contains("102flowers.tgz") && !stdout.contains("caltech-101.zip"), "{stdout}");

    let output = site.run(&["doctor", "--data", "--json", "eurosat"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["datasets"][0]["state"], "damaged");
    assert_eq!(report["datasets"][0]["unreadable"]["count"], 1);
    assert_eq!(report["images"], "decoded");
}

#[test]
fn the_exit_code_says_whether_something_is_wrong() {
    let site = site();
    let code = |args: &[&str]| site.run(&[&["doctor", "--data"], args].concat()).status.code();
    assert_eq!(code(&["caltech101"]), Some(0));
    assert_eq!(code(&["--quick", "caltech101", "eurosat"]), Some(0));
    assert_eq!(code(&["caltech101", "dtd"]), Some(1), "a data set that is named must be there");
    std::fs::create_dir(site.path("empty")).unwrap();
    assert_eq!(code(&["--root", "empty"]), Some(0), "nothing is there, nothing is wrong");
    for (args, expected) in [
        (&["doctor", "--data", "oxford_flower"][..], "did you mean `oxford_flowers`?"),
        (&["doctor", "--data", "--root", "nowhere"], "`--root`: `"),
        (&["doctor", "--quick"], "--data"),
    ] {
        let output = site.run(args);
        let stderr = text(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(expected), "{stderr}");
    }
    site.write("promptfield.toml", "[paths]\ndata = \"nowhere\"\n");
    let output = site.run(&["doctor", "--data"]);
    assert!(output.status.code() == Some(2) && text(&output.stderr).contains("`paths.data`: `"));
    site.write("promptfield.toml", "[paths]\ndata = \"data\"\n[worker]\ntrainer = \"nowhere\"\n");
    let output = site.run(&["doctor", "--data"]);
    assert!(output.status.code() == Some(1) && text(&output.stderr).contains("cargo build -p promptfield-trainer"));
}
