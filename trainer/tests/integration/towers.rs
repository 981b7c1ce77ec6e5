//! Replays against what an independent implementation computed (tests/reference/towers), and against themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use promptfield_core::job::backbone::ArchitectureSettings;
use promptfield_core::method::{Declaration, Methods};
use promptfield_trainer::commands::replay;
use promptfield_trainer::tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

type NamedTensors = BTreeMap<String, Tensor>;

/// One of reference/towers/cases.json.
#[derive(Deserialize)]
struct Case {
    weights: WeightsOf,
    method: String,
    classnames: Vec<String>,
    template: String,
    tokens: Vec<Vec<u32>>,
    lr: f64,
    weight_decay: f64,
    overrides: Value,
    /// Images of a batch.
    #[serde(default = "four")]
    batch: i64,
    /// Images to evaluate.
    #[serde(default = "five")]
    eval: i64,
}

const fn four() -> i64 {
    4
}

const fn five() -> i64 {
    5
}

/// A large parameter is recorded as every so many of its numbers in row-major order, and its shape beside it.
const STRIDE: i64 = 61;

#[derive(Deserialize)]
#[serde(untagged)]
enum WeightsOf {
    /// The bundled ones.
    Bundled(String),
    Made(Sizes),
}

#[derive(Deserialize)]
struct Sizes {
    vision_width: i64,
    vision_layers: usize,
    patch: i64,
    image_size: i64,
    text_width: i64,
    text_layers: usize,
    embedding: i64,
}

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/towers")
}

fn bundled_weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/clip-mini.safetensors")
}

/// The rule by which reference/towers/make.py makes its numbers: `SplitMix64` (Steele, Lea and Flood 2014) from the name's
/// FNV-1a hash, as 32-bit floats from offset − scale to offset + scale.
fn numbers(name: &str, shape: &[i64], scale: f64, offset: f64) -> Tensor {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    let number = |index: i64| {
        let mut z = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(index as u64).wrapping_add(seed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        (offset + scale * (2.0 * uniform - 1.0)) as f32
    };
    let values: Vec<f32> = (1..=shape.iter().product()).map(number).collect();
    Tensor::from_slice(&values).view(shape)
}

impl Sizes {
    fn file_name(&self) -> String {
        format!("{}-{}-{}.safetensors", self.vision_width, self.vision_layers, self.text_layers)
    }

    /// A CLIP of these sizes, by the rule.
    fn write_weights(&self, path: &Path) {
        let mut shapes: Vec<(String, Vec<i64>)> = Vec::new();
        let grid = self.image_size / self.patch;
        let (vision, text) = (self.vision_width, self.text_width);
        let mut add = |name: String, shape: &[i64]| shapes.push((name, shape.to_vec()));
        add("visual.conv1.weight".into(), &[vision, 3, self.patch, self.patch]);
        add("visual.class_embedding".into(), &[vision]);
        add("visual.positional_embedding".into(), &[1 + grid * grid, vision]);
        add("visual.proj".into(), &[vision, self.embedding]);
        add("token_embedding.weight".into(), &[49408, text]);
        add("positional_embedding".into(), &[77, text]);
        add("text_projection".into(), &[text, self.embedding]);
        let norms = [("visual.ln_pre", vision), ("visual.ln_post", vision), ("ln_final", text)];
        for (name, width) in norms {
            add(format!("{name}.weight"), &[width]);
            add(format!("{name}.bias"), &[width]);
        }
        for (tower, layers, width) in [("visual.", self.vision_layers, vision), ("", self.text_layers, text)] {
            for layer in 0..layers {
                let block = format!("{tower}transformer.resblocks.{layer}");
                for norm in ["ln_1", "ln_2"] {
                    add(format!("{block}.{norm}.weight"), &[width]);
                    add(format!("{block}.{norm}.bias"), &[width]);
                }
                add(format!("{block}.attn.in_proj_weight"), &[3 * width, width]);
                add(format!("{block}.attn.in_proj_bias"), &[3 * width]);
                for (linear, out, inputs) in
                    [("attn.out_proj", width, width), ("mlp.c_fc", 4 * width, width), ("mlp.c_proj", width, 4 * width)]
                {
                    add(format!("{block}.{linear}.weight"), &[out, inputs]);
                    add(format!("{block}.{linear}.bias"), &[out]);
                }
            }
        }
        let tensor = |(name, shape): (String, Vec<i64>)| {
            let is_norm = format!(".{name}").contains(".ln_") && name.ends_with("weight");
            let tensor = numbers(&name, &shape, 0.1, f64::from(u8::from(is_norm)));
            (name, tensor)
        };
        let tensors: Vec<(String, Tensor)> = shapes.into_iter().map(tensor).collect();
        Tensor::write_safetensors(&tensors, path).unwrap();
    }
}

impl Case {
    fn read_all() -> BTreeMap<String, Self> {
        serde_json::from_str(&fs_err::read_to_string(reference().join("cases.json")).unwrap()).unwrap()
    }

    fn job(&self) -> Value {
        json!({
            "method": self.method, "classnames": self.classnames, "template": self.template, "lr": self.lr,
            "weight_decay": self.weight_decay, "overrides": self.overrides,
        })
    }

    /// The weights file, made in `folder` if it isn't there yet, and the size of its images.
    fn weights(&self, folder: &Path) -> (PathBuf, i64) {
        match &self.weights {
            WeightsOf::Bundled(name) => {
                assert_eq!(name, "miniature");
                (bundled_weights(), 64)
            }
            WeightsOf::Made(sizes) => {
                let path = folder.join(sizes.file_name());
                if !path.exists() {
                    sizes.write_weights(&path);
                }
                (path, sizes.image_size)
            }
        }
    }

    /// The input, by the rule; the recorded results tell the parameters' names and shapes.
    fn input(&self, recorded: &NamedTensors, size: i64) -> Vec<(String, Tensor)> {
        let images = |name: &str, count| (name.to_owned(), numbers(name, &[count, 3, size, size], 2.0, 0.0));
        let mut input = vec![images("eval/images", self.eval)];
        for (name, tensor) in recorded {
            if let Some(parameter) = name.strip_prefix("param/") {
                let shape = match recorded.get(&format!("shape/{parameter}")) {
                    Some(shape) => {
                        Vec::<f64>::try_from(shape).unwrap().into_iter().map(|length| length as i64).collect()
                    }
                    None => tensor.size(),
                };
                let name = format!("init/{parameter}");
                let scale = if parameter == "rep_tokens" { 0.5 } else { 0.2 };
                input.push((name.clone(), numbers(&name, &shape, scale, 0.0)));
            } else if let Some(index) = name.strip_prefix("loss/") {
                let first: i64 = index.parse().unwrap();
                let classes = self.classnames.len() as i64;
                let labels: Vec<i64> = (first..first + self.batch).map(|label| label % classes).collect();
                input.push(images(&format!("batch/{index}/images"), self.batch));
                input.push((format!("batch/{index}/labels"), Tensor::from_slice(&labels)));
            }
        }
        input
    }
}

fn read(path: &Path) -> NamedTensors {
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

/// Writes job and input to `folder` and replays them.
fn run(folder: &Path, job: &Value, weights: &Path, input: &[(String, Tensor)]) -> anyhow::Result<NamedTensors> {
    let [job_path, input_path, output] =
        ["job.json", "in.safetensors", "out.safetensors"].map(|name| folder.join(name));
    fs_err::write(&job_path, job.to_string()).unwrap();
    Tensor::write_safetensors(input, &input_path).unwrap();
    replay::run(&job_path, (weights, &ArchitectureSettings::default()), &input_path, &output)?;
    Ok(read(&output))
}

/// max |a − b| / max |b|.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let largest = |tensor: Tensor| f64::try_from(tensor.abs().max()).unwrap();
    let (difference, scale) = (largest(a - b), largest(b.shallow_clone()));
    if difference == 0.0 { 0.0 } else { difference / scale }
}

/// Holds the replay of each of the geometry's cases against what was recorded.
fn agrees(geometry: &str) {
    const TOLERANCE: f64 = 1e-4;
    let folder = tempfile::tempdir().unwrap();
    let mut methods = Vec::new();
    for (name, case) in Case::read_all().into_iter().filter(|(name, _)| name.starts_with(geometry)) {
        for (class, tokens) in case.classnames.iter().zip(&case.tokens) {
            let prompt = case.template.replace("{}", &class.replace('_', " "));
            let row = Tokenizer::shared().encode(&prompt).unwrap();
            assert_eq!(row[..tokens.len()], tokens[..], "{prompt}");
        }
        let mut recorded = read(&reference().join(format!("golden/{name}.safetensors")));
        let (weights, size) = case.weights(folder.path());
        let input = case.input(&recorded, size);
        let ours = run(folder.path(), &case.job(), &weights, &input).unwrap();

        let shapes: Vec<String> = recorded.keys().filter(|name| name.starts_with("shape/")).cloned().collect();
        let large: Vec<String> = shapes.iter().map(|name| name.replacen("shape/", "param/", 1)).collect();
        recorded.retain(|name, _| !shapes.contains(name));
        let names = |tensors: &NamedTensors| tensors.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&recorded));
        let compare = |(name, tensor): (&String, &Tensor)| {
            let whole = &ours[name];
            let part =
                if large.contains(name) { whole.reshape(-1).slice(0, 0, None, STRIDE) } else { whole.shallow_clone() };
            (difference(&part, tensor), name.clone())
        };
        let differences: Vec<(f64, String)> = recorded.iter().map(compare).collect();
        let worst = differences.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        let line =
            format!("{name}: {} tensors, largest relative difference {:.1e} ({})", recorded.len(), worst.0, worst.1);
        println!("{line}");
        assert!(worst.0 < TOLERANCE, "{line}\n{differences:#?}");
        methods.push(case.method.clone());
    }
    for method in Methods::built_in().list().iter().map(Declaration::key) {
        assert!(methods.iter().any(|of| of == method.key()), "no case of {method} for {geometry}");
    }
}

#[test]
fn every_method_agrees_on_the_miniature() {
    agrees("miniature");
}

#[test]
fn every_method_agrees_on_towers_of_unlike_sizes() {
    agrees("asymmetric");
}

#[test]
fn every_method_agrees_on_towers_of_vit_b16s_sizes() {
    agrees("vit_b16");
}

#[test]
fn the_same_replay_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for (name, case) in Case::read_all().into_iter().filter(|(name, _)| !name.starts_with("vit_b16")) {
        let recorded = read(&reference().join(format!("golden/{name}.safetensors")));
        let (weights, size) = case.weights(folder.path());
        let input = case.input(&recorded, size);
        let again = || run(folder.path(), &case.job(), &weights, &input).unwrap();
        let (first, second) = (again(), again());
        assert!(first.iter().all(|(name, tensor)| *tensor == second[name]), "{name}");
    }
}

#[test]
fn what_is_wrong_with_a_replay_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let job = json!({
        "method": "alignednorm", "classnames": ["cat"], "template": "a photo of a {}.", "lr": 1e-3, "weight_decay": 0.0,
        "overrides": {"rep_dim": 4, "proj_lora_dim": 2},
    });
    let images = || ("batch/0/images".to_owned(), Tensor::zeros([2, 3, 64, 64], tch::kind::FLOAT_CPU));
    let refusal = |changes: Value, input: &[(String, Tensor)]| {
        let mut job = job.clone();
        job.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        format!("{:#}", run(folder.path(), &job, &bundled_weights(), input).unwrap_err())
    };
    let expect = |message: String, part: &str| assert!(message.contains(part), "{message}");

    let named = |name: &str, tensor| (name.to_owned(), tensor);
    let labels = |values: &[i64]| named("batch/0/labels", Tensor::from_slice(values));
    expect(refusal(json!({"learning_rate": 1}), &[images()]), "`learning_rate`");
    expect(refusal(json!({"overrides": {"rep_dims": 1}}), &[images()]), "did you mean `rep_dim`?");
    expect(refusal(json!({"method": "alinednorm"}), &[images()]), "did you mean `alignednorm`?");
    expect(refusal(json!({"template": "no place"}), &[images()]), "template");
    expect(refusal(json!({"classnames": []}), &[images()]), "`classnames`");
    expect(refusal(json!({"overrides": {"rep_layers": [3, 4]}}), &[]), "the depth of the text tower");
    expect(refusal(json!({}), &[images()]), "`batch/0/labels` is missing");
    expect(refusal(json!({}), &[images(), labels(&[0, 1])]), "`batch/0/labels` holds 1, expected 0 to 0");
    expect(refusal(json!({}), &[images(), labels(&[0])]), "`batch/0/labels` is [1], expected [2]");
    expect(refusal(json!({}), &[images(), labels(&[0, 0])]), "the parameter `rep_tokens` [5, 4] is missing");
    let small = named("eval/images", Tensor::zeros([1, 3, 32, 32], tch::kind::FLOAT_CPU));
    expect(refusal(json!({}), &[small]), "`eval/images` is [1, 3, 32, 32], expected [B, 3, 64, 64]");
    let half = named("eval/images", Tensor::zeros([1, 3, 64, 64], (Kind::Half, tch::Device::Cpu)));
    expect(refusal(json!({}), &[half]), "is of kind Half, expected Float");
    expect(refusal(json!({}), &[named("initial/x", images().1)]), "`initial/x` is not a known key");
    let unknown = named("init/rep_token", Tensor::zeros(1, tch::kind::FLOAT_CPU));
    expect(refusal(json!({}), &[unknown]), "did you mean `rep_tokens`?");
    let long = json!({"method": "zero_shot", "classnames": ["cat", "x y z".repeat(40)]});
    expect(refusal(long, &[]), "the prompt of class `x y zx");
}
