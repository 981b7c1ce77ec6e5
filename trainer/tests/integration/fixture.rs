//! Jobs on the bundled data, and on a few of its images as a data set of one's own.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// The program, with one CPU thread.
pub(crate) fn trainer() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_promptfield-trainer"));
    command.env("PROMPTFIELD_THREADS", "1");
    command
}

/// The bytes of the checkpoint in a training folder.
pub(crate) fn checkpoint(output: &Path) -> Vec<u8> {
    fs_err::read(output.join("MultiModalRepresentationLearner/model.safetensors")).unwrap()
}

/// The tensors' bytes of a checkpoint, without the names and the specification before them.
pub(crate) fn tensors(checkpoint: &[u8]) -> &[u8] {
    let (length, rest) = checkpoint.split_first_chunk().unwrap();
    &rest[usize::try_from(u64::from_le_bytes(*length)).unwrap()..]
}

/// The bundled data root; the weights lie in it too.
pub(crate) fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo")
}

/// The bundled weights.
pub(crate) fn weights() -> PathBuf {
    demo().join("clip-mini.safetensors")
}

/// A data root below `root` whose data set `tiny` has 6 classes of the bundled icons, with 4 images to train and 3 to test
/// each: 3 base classes with 9 test images, 3 new ones with 9.
pub(crate) fn tiny(root: &Path) -> PathBuf {
    let data = root.join("data");
    let split: Value = serde_json::from_slice(&fs_err::read(demo().join("icons/split_icons.json")).unwrap()).unwrap();
    let mut kept = json!({"train": [], "val": [], "test": []});
    for (part, most) in [("train", 4), ("test", 3)] {
        let mut taken = [0; 6];
        for item in split[part].as_array().unwrap() {
            let label = item[1].as_u64().unwrap() as usize;
            if label < taken.len() && taken[label] < most {
                taken[label] += 1;
                let path = item[0].as_str().unwrap();
                let to = data.join("tiny/images").join(path);
                fs_err::create_dir_all(to.parent().unwrap()).unwrap();
                fs_err::copy(demo().join("icons/images").join(path), to).unwrap();
                kept[part].as_array_mut().unwrap().push(item.clone());
            }
        }
    }
    fs_err::write(data.join("tiny/split.json"), kept.to_string()).unwrap();
    fs_err::create_dir_all(data.join("datasets")).unwrap();
    let definition = "name = \"tiny\"\nfolder = \"tiny\"\nimages = \"images\"\nsplit = \"split.json\"\ntemplate = \"an icon of a {}.\"\n";
    fs_err::write(data.join("datasets/tiny.toml"), definition).unwrap();
    data
}

/// A training of 3 epochs of 3 steps on `tiny`, as JSON, with `changes` on top.
pub(crate) fn job_json(data_root: &Path, output: &Path, changes: Value) -> Value {
    let mut job = json!({
        "method": "alignednorm", "protocol": "base_to_new", "stage": "train", "dataset": "tiny", "shots": 4, "seed": 1,
        "config": "clip_mini", "weights": weights(), "data_root": data_root, "output": output, "checkpoint": null,
        "device": "cpu", "precision": "fp32",
        "overrides": {"epochs": 3, "train_batch": 4, "test_batch": 4, "rep_dim": 32, "proj_lora_dim": 4},
    });
    if let (Some(job), Value::Object(changes)) = (job.as_object_mut(), changes) {
        job.extend(changes);
    }
    job
}
