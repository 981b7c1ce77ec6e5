//! What numbers rest on: data, checkpoints and adopted output that changed between two runs.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::site::{Running, Site, text, walk};

const EXPERIMENT: &str = r#"
    name = "mine"
    protocol = "base_to_new"
    methods = ["coop"]
    datasets = ["mine"]
    seeds = [1]
    shots = [2]
    backbone = "clip-mini"
    [overrides]
    epochs = 1
    n_ctx = 4
"#;
const CLASSES: [&str; 4] = ["cat", "dog", "red fox", "polar_bear"];

/// A machine with a data set `mine` of four classes, with four training, two validation and three test images each.
fn site() -> Site {
    let site = Site::new();
    let images = site.path("data/mine/images");
    std::fs::create_dir_all(&images).unwrap();
    let mut found = Vec::new();
    walk(&crate::site::repository().join("demo/icons"), &mut |path| {
        found.extend(path.extension().is_some_and(|kind| kind == "png").then(|| path.to_owned()));
    });
    found.sort();
    for (place, name) in all_images().enumerate() {
        std::fs::copy(&found[place], images.join(name)).unwrap();
    }
    std::fs::create_dir_all(site.path("datasets")).unwrap();
    let definition = "name = \"mine\"\nfolder = \"mine\"\nimages = \"images\"\nsplit = \"split.json\"\ntemplate = \"a photo of a {}.\"\n";
    site.write("datasets/mine.toml", definition);
    let settings = std::fs::read_to_string(site.path("promptfield.toml")).unwrap();
    let paths = settings.lines().map(|line| match line.split_once(" = ") {
        Some(("data", _)) => "data = \"data\"",
        Some(("datasets", _)) => "datasets = \"datasets\"",
        _ => line,
    });
    site.write("promptfield.toml", &paths.collect::<Vec<_>>().join("\n"));
    site.write("mine.toml", EXPERIMENT);
    site.split(|_| true);
    site
}

fn all_images() -> impl Iterator<Item = String> {
    let of = |class: usize| {
        [("train", 4), ("val", 2), ("test", 3)]
            .into_iter()
            .flat_map(move |(list, count)| (0..count).map(move |place| format!("{class}_{list}_{place}.png")))
    };
    (0..CLASSES.len()).flat_map(of)
}

impl Site {
    /// Writes the split file with those images that are wanted, by their names.
    fn split(&self, wanted: impl Fn(&str) -> bool) {
        let list = |name: &str| -> Vec<Value> {
            let of = all_images().filter(|image| image.contains(&format!("_{name}_")) && wanted(image));
            of.map(|image| {
                let class: usize = image[..1].parse().unwrap();
                json!([image, class, CLASSES[class]])
            })
            .collect()
        };
        let split = json!({"train": list("train"), "val": list("val"), "test": list("test")});
        self.write("data/mine/split.json", &split.to_string());
    }

    /// `run`: the results as JSON, and what was said.
    fn outcome(&self) -> (Value, String) {
        let said = text(&self.run(&["run", "mine.toml"]).stderr);
        // There is nothing left to do, but to print.
        let output = self.run(&["run", "mine.toml", "--json"]);
        let results = serde_json::from_slice(&output.stdout);
        (results.unwrap_or_else(|_| panic!("{said}{}", text(&output.stderr))), said)
    }

    fn folder(&self, half: &str) -> PathBuf {
        let found = self.complete_folders().into_iter().find(|folder| folder.contains(half));
        self.path("output").join(found.unwrap())
    }

    fn log(&self, half: &str) -> String {
        std::fs::read_to_string(self.folder(half).join("log.txt")).unwrap()
    }
}

/// The base and the new accuracy of the only row.
fn numbers(results: &Value) -> [&Value; 2] {
    let row = &results["table"]["rows"][0];
    [&row["base"]["summary"], &row["new"]["summary"]]
}

fn images(results: &Value) -> (Value, usize) {
    let stale = results["stale"].as_array().unwrap().len();
    (results["experiment"]["counts"]["failed"].clone(), stale)
}

#[test]
fn a_repaired_split_is_computed_again_with_and_without_the_database() {
    let site = site();
    // `dog` has no training image: its test images are left out, and so is the class.
    site.split(|image| !image.starts_with("1_train"));
    let (before, _) = site.outcome();
    let note = "mine: class `dog` has no training image, and its 3 test images are left out";
    assert_eq!(before["notes"], json!([note]));
    assert!(site.log("test_new").contains("class `dog` has no training image: its 3 test images are left out"));
    assert!(site.log("test_new").contains("* total: 3\n"));

    site.split(|_| true);
    let (after, said) = site.outcome();
    assert!(said.contains("stale: job 1 (the test list of `mine` was"), "{said}");
    assert!(said.contains("2 jobs are computed again"), "{said}");
    assert_eq!((images(&after), &after["notes"]), ((json!(0), 0), &json!([])));
    assert!(site.log("test_new").contains("* total: 6\n"));
    assert!(site.log("train_base").contains("it is computed again; it was put aside as"), "{}", site.log("train_base"));

    // Back to the first lists, and nothing is known of the second.
    site.split(|image| !image.starts_with("1_train"));
    std::fs::remove_dir_all(site.path("var")).unwrap();
    let (again, _) = site.outcome();
    assert_eq!(numbers(&again), numbers(&before));
    assert!(site.log("train_base").contains("the split was"), "{}", site.log("train_base"));
}

#[test]
fn a_split_without_test_images_is_refused_before_training_and_done_after_the_repair() {
    let site = site();
    for (wanted, half) in [("0_test 1_test", "new"), ("", "base")] {
        site.split(|image| {
            !image.contains("_test_") || wanted.split(' ').any(|start| image.starts_with(start) && !start.is_empty())
        });
        let (results, said) = site.outcome();
        assert_eq!(images(&results).0, json!(2), "{said}");
        assert!(
            said.contains(&format!("has no test image of its {half} classes")) && said.contains("split.json"),
            "{said}"
        );
        assert_eq!(site.folder_of("state.safetensors"), None, "nothing was trained");
    }
    site.split(|_| true);
    let (results, said) = site.outcome();
    assert_eq!(results["experiment"]["counts"]["completed"], 2, "{said}");
}

#[test]
fn output_that_was_changed_or_deleted_is_noticed_and_a_new_database_computes_it_again() {
    let site = site();
    let (first, _) = site.outcome();
    let file = site.folder("train_base").join("MultiModalRepresentationLearner/model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (second, said) = site.outcome();
    assert!(said.contains("isn't the one that its manifest.json names"), "{said}");
    assert_eq!(numbers(&second), numbers(&first));
    std::fs::remove_dir_all(site.path("var")).unwrap();
    let (third, said) = site.outcome();
    assert_eq!(numbers(&third), numbers(&first), "{said}");
    // The checkpoint has the same bytes again, so that its test is what it would be.
    assert_eq!(third["experiment"]["counts"]["skipped"], 1);
    assert!(site.log("train_base").contains("it was changed, or damaged; it was put aside as"));

    // The training's checkpoint is lost and a test is computed again: the training is done first, by itself.
    std::fs::remove_dir_all(site.folder("train_base")).unwrap();
    let (_, said) = site.outcome();
    assert!(said.contains("is not there any more") && said.contains("looked at 1 of 2 output folders"), "{said}");
    let up = Running::by(site.command(&["up", "mine.toml"]));
    let rerun = site.run(&["rerun", "--job", "2", "--coordinator", &up.url]);
    assert_eq!(text(&rerun.stdout), "1 jobs changed\n", "{}", text(&rerun.stderr));
    let wait = site.run(&["submit", "mine.toml", "--wait", "--coordinator", &up.url]);
    assert!(wait.status.success(), "{}", text(&wait.stderr));
    assert!(site.complete_folders().iter().any(|folder| folder.contains("train_base") && !folder.contains("aside")));
    let doctor = site.run(&["doctor", "--results", "1", "--images", "--coordinator", &up.url]);
    let said = text(&doctor.stdout);
    assert!(doctor.status.success(), "{said}{}", text(&doctor.stderr));
    assert!(said.contains("looked at 2 of 2 output folders") && said.contains("2 jobs are recorded now"), "{said}");
    // One image is another now: that isn't in any list.
    std::fs::copy(site.path("data/mine/images/0_train_0.png"), site.path("data/mine/images/3_test_0.png")).unwrap();
    let doctor = site.run(&["doctor", "--results", "1", "--images", "--coordinator", &up.url]);
    assert_eq!(doctor.status.code(), Some(1));
    assert!(text(&doctor.stdout).contains("aren't those that were recorded"), "{}", text(&doctor.stdout));
    // And a list that changed makes results stale.
    site.split(|image| image != "3_test_0.png");
    let doctor = site.run(&["doctor", "--results", "1", "--coordinator", &up.url]);
    assert!(
        text(&doctor.stdout).contains("job 2: test coop on mine, 2 shots, seed 1: stale: "),
        "{}",
        text(&doctor.stdout)
    );
    let rerun = site.run(&["rerun", "1", "--stale", "--coordinator", &up.url]);
    assert_eq!(text(&rerun.stdout), "1 jobs changed\n", "{}", text(&rerun.stderr));
    up.stop();
}

#[test]
fn a_broken_off_run_of_another_tool_is_not_adopted() {
    let site = site();
    let folder = site.path("output/base2new/train_base/mine/shots_2/CoOp");
    let (results, _) = site.outcome();
    let name = site.folder("train_base").strip_prefix(&folder).unwrap().to_owned();
    for remove in ["output", "var"] {
        std::fs::remove_dir_all(site.path(remove)).unwrap();
    }
    std::fs::create_dir_all(folder.join(&name)).unwrap();
    let log = "epoch [1/50] batch [1/1]\nEvaluate on the *val* set\n=> result\n* total: 4\n* correct: 4\n* accuracy: 100.0%\n* error: 0.0%\n\
               * macro_f1: 100.0%\nepoch [2/50] batch [1/1]\n";
    std::fs::write(folder.join(&name).join("log.txt"), log).unwrap();
    let (again, _) = site.outcome();
    assert_eq!(numbers(&again), numbers(&results));
    assert!(
        site.log("train_base").contains("another tool's log.txt says nothing of `Finish training`"),
        "{}",
        site.log("train_base")
    );
}

#[test]
fn a_config_beside_the_weights_makes_another_backbone_of_them() {
    let site = site();
    let weights = crate::site::repository().join("demo/clip-mini.safetensors");
    std::fs::copy(weights, site.path("weights.safetensors")).unwrap();
    let settings = std::fs::read_to_string(site.path("promptfield.toml")).unwrap();
    let settings = settings.lines().map(|line| match line.split_once(" = ") {
        Some(("clip-mini", _)) => "clip-mini = \"weights.safetensors\"",
        _ => line,
    });
    site.write("promptfield.toml", &settings.collect::<Vec<_>>().join("\n"));
    site.outcome();
    assert!(site.log("train_base").contains("assumed"), "{}", site.log("train_base"));
    site.write("config.json", r#"{"hidden_act": "gelu"}"#);
    // The name stands for the other backbone: the worker isn't able for its jobs, and it's said which has what.
    let up = Running::by(site.command(&["up", "mine.toml", "--methods", "zero_shot"]));
    let doctor = loop {
        let doctor = text(&site.run(&["doctor", "--coordinator", &up.url]).stdout);
        if doctor.contains("WRONG    backbones") {
            break doctor;
        }
    };
    assert!(doctor.contains("it gets no jobs with it"), "{doctor}");
    let explain = text(&site.run(&["explain", "3", "--coordinator", &up.url]).stdout);
    assert!(explain.contains("its results rest on the backbone `clip-mini` as"), "{explain}");
    let workers: Value =
        serde_json::from_slice(&site.run(&["status", "--json", "--coordinator", &up.url]).stdout).unwrap();
    // The workers of the first run are gone.
    let own = workers["workers"].as_array().unwrap().last().unwrap()["backbone_sha256"]["clip-mini"].as_str().unwrap();
    let pin = site.run(&["pin", "clip-mini", own, "--coordinator", &up.url]);
    assert_eq!(text(&pin.stdout), format!("clip-mini: {own}\n"), "{}", text(&pin.stderr));
    let explain = text(&site.run(&["explain", "1", "--coordinator", &up.url]).stdout);
    assert!(explain.contains("it is stale: the backbone `clip-mini` was"), "{explain}");
    up.stop();
}
