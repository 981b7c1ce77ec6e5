//! Which backbone some weights are: what lies beside them, what is said of them, and that it is what is computed.

use std::path::{Path, PathBuf};

use promptfield_core::job::backbone::{Activation, Architecture, ArchitectureSettings};
use promptfield_core::job::outcome::{Manifest, Progress};
use promptfield_core::names::Precision;
use promptfield_core::wire::trainer_job::TrainerJob;
use promptfield_trainer::clip::{Backbone, Clip};
use promptfield_trainer::engine::{self, CancelFlag, Reporter, Session};
use promptfield_trainer::tokenizer::Tokenizer;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::fixture::{demo, job_json, tiny, trainer, weights};

/// A folder with the bundled weights, whose towers are 128 wide.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(fs_err::canonicalize(weights()).unwrap(), room.weights()).unwrap();
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn weights(&self) -> PathBuf {
        self.path("clip-mini.safetensors")
    }

    /// Puts a file beside the weights.
    fn beside(&self, name: &str, contents: &Value) -> &Self {
        fs_err::write(self.path(name), contents.to_string()).unwrap();
        self
    }

    fn identify(&self, settings: &ArchitectureSettings) -> Result<Backbone, String> {
        Backbone::identify(&self.weights(), settings).map_err(|error| error.to_string())
    }

    fn said(&self) -> Backbone {
        self.identify(&ArchitectureSettings::default()).unwrap()
    }

    fn refusal(&self) -> String {
        self.identify(&ArchitectureSettings::default()).unwrap_err()
    }
}

const ALL: [&str; 5] = ["activation", "vision_heads", "text_heads", "mean", "std"];
const HUGGING_FACE: &str = "config.json";
const OPEN_CLIP: &str = "open_clip_config.json";
const PREPROCESSOR: &str = "preprocessor_config.json";

fn hugging_face() -> Value {
    json!({
        "model_type": "clip",
        "vision_config": {"hidden_act": "gelu", "hidden_size": 128, "num_attention_heads": 4},
        "text_config": {"hidden_act": "gelu", "hidden_size": 128},
        "text_config_dict": null,
    })
}

fn open_clip() -> Value {
    json!({
        "model_cfg": {"vision_cfg": {"width": 128, "head_width": 32}, "text_cfg": {"width": 128}},
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 0.125]},
    })
}

#[test]
fn weights_with_nothing_beside_them_are_openais_and_known_by_their_hash() {
    let backbone = Room::new().said();
    assert_eq!(
        (backbone.architecture, backbone.assumed.as_slice()),
        (Architecture::OPENAI, &ALL.map(String::from)[..])
    );
    assert_eq!(backbone.sha256(), backbone.weights_sha256);
}

#[test]
fn what_lies_beside_the_weights_is_read() {
    let gelu = Architecture { activation: Activation::Gelu, ..Architecture::OPENAI };
    let heads = Architecture { vision_head_width: 32, text_head_width: 16, ..gelu };
    let pixels = Architecture { mean: [0.5; 3], std: [0.25, 0.5, 0.125], ..Architecture::OPENAI };
    let preprocessor = json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.125]});
    let mut in_dict = hugging_face();
    in_dict["vision_config_dict"] = in_dict["vision_config"].clone();
    in_dict["vision_config"] = json!({"hidden_act": "quick_gelu"});
    let quick = json!({"model_cfg": {"quick_gelu": true}});
    for (files, architecture, assumed) in [
        (vec![(HUGGING_FACE, json!({"hidden_act": "gelu"}))], gelu, &ALL[1..]),
        (vec![(HUGGING_FACE, hugging_face())], heads, &ALL[3..]),
        (vec![(HUGGING_FACE, in_dict)], heads, &ALL[3..]),
        (vec![(OPEN_CLIP, open_clip())], Architecture { mean: pixels.mean, std: pixels.std, ..heads }, &[]),
        (vec![(OPEN_CLIP, quick)], Architecture::OPENAI, &ALL[1..]),
        (vec![(PREPROCESSOR, preprocessor.clone())], pixels, &ALL[..3]),
        // What agrees may be said twice.
        (
            vec![(HUGGING_FACE, hugging_face()), (OPEN_CLIP, open_clip()), (PREPROCESSOR, preprocessor)],
            Architecture { mean: pixels.mean, std: pixels.std, ..heads },
            &[],
        ),
        // Other models' files.
        (
            vec![(HUGGING_FACE, json!({"model_type": "bert", "hidden_act": "gelu", "hidden_size": 768}))],
            Architecture::OPENAI,
            &ALL,
        ),
        (
            vec![(HUGGING_FACE, json!({"architecture": "vit_base_patch16"})), (OPEN_CLIP, json!([]))],
            Architecture::OPENAI,
            &ALL,
        ),
    ] {
        let room = Room::new();
        for (name, contents) in &files {
            room.beside(name, contents);
        }
        let backbone = room.said();
        assert_eq!(
            (backbone.architecture, backbone.assumed),
            (architecture, assumed.iter().map(ToString::to_string).collect()),
            "{files:?}"
        );
    }
}

#[test]
fn what_published_files_leave_out_has_their_librarys_default() {
    // Hugging Face leaves out what ViT-B has; the weights at hand are of another width.
    let room = Room::new();
    let error = room.beside(HUGGING_FACE, &json!({"model_type": "clip", "vision_config": {}})).refusal();
    assert!(
        error.contains("`vision_config.hidden_size` is 768, expected 128 as the weights beside it have"),
        "{error}"
    );
    room.beside(HUGGING_FACE, &json!({"model_type": "clip", "text_config": {"hidden_size": 128}}));
    let backbone = room.said();
    assert_eq!((backbone.architecture.activation, backbone.architecture.text_head_width), (Activation::QuickGelu, 16));
    assert_eq!(backbone.assumed, ["vision_heads", "mean", "std"]);
}

#[test]
fn settings_win_over_what_lies_beside_the_weights() {
    let room = Room::new();
    let wrong = json!({"vision_config": {"hidden_act": "relu", "num_attention_heads": 7}, "text_config": {"num_attention_heads": 0}});
    room.beside(HUGGING_FACE, &wrong);
    room.beside(OPEN_CLIP, &json!({"preprocess_cfg": {"mean": [1], "std": [0, 0, 0]}}));
    let settings = ArchitectureSettings {
        activation: Some(Activation::Gelu),
        vision_heads: Some(4),
        text_heads: Some(1),
        mean: Some([0.1, 0.2, 0.3]),
        std: Some([0.4, 0.5, 0.6]),
    };
    let backbone = room.identify(&settings).unwrap();
    let expected = Architecture {
        activation: Activation::Gelu,
        vision_head_width: 32,
        text_head_width: 128,
        mean: [0.1, 0.2, 0.3],
        std: [0.4, 0.5, 0.6],
    };
    assert_eq!((backbone.architecture, backbone.assumed), (expected, vec![]));
    let error = room.identify(&ArchitectureSettings { vision_heads: Some(7), ..settings.clone() }).unwrap_err();
    assert!(error.contains("clip-mini.safetensors`: `vision_heads` is 7, expected a divisor of 128"), "{error}");
    let error = room.identify(&ArchitectureSettings { text_heads: Some(0), ..settings }).unwrap_err();
    assert!(error.contains("`text_heads`: `0` is not valid"), "{error}");
}

#[test]
fn what_cannot_be_is_named_with_its_file_and_field() {
    let tower = |field: &str, value: Value| json!({"vision_config": {field: value}});
    for (name, contents, expected) in [
        (
            HUGGING_FACE,
            json!({"hidden_act": "gelu_new"}),
            "`hidden_act` is \"gelu_new\", expected `quick_gelu` or `gelu`",
        ),
        (HUGGING_FACE, tower("hidden_act", json!(1)), "`vision_config.hidden_act` is 1, expected"),
        (
            HUGGING_FACE,
            tower("num_attention_heads", json!(7)),
            "`vision_config.num_attention_heads` is 7, expected a divisor of 128",
        ),
        (HUGGING_FACE, tower("hidden_size", json!(1024)), "`vision_config.hidden_size` is 1024, expected 128"),
        (
            HUGGING_FACE,
            json!({"vision_config": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "quick_gelu"}}),
            "`vision_config.hidden_act` is \"gelu\", but `text_config.hidden_act` of",
        ),
        (
            HUGGING_FACE,
            json!({"model_type": "clip", "vision_config": {"hidden_act": "gelu"}, "text_config": {}}),
            "`text_config.hidden_act`, which is left out, of",
        ),
        (
            OPEN_CLIP,
            json!({"model_cfg": {"quick_gelu": "yes"}}),
            "`model_cfg.quick_gelu` is \"yes\", expected true or false",
        ),
        (
            OPEN_CLIP,
            json!({"model_cfg": {"vision_cfg": {"width": 128, "head_width": 80}}}),
            "`model_cfg.vision_cfg.head_width` is 80, expected a divisor of 128",
        ),
        (OPEN_CLIP, json!({"model_cfg": {"text_cfg": {}}}), "`model_cfg.text_cfg.width` is 512, expected 128"),
        (
            OPEN_CLIP,
            json!({"preprocess_cfg": {"mean": [0.5]}}),
            "`preprocess_cfg.mean` is [0.5], expected three numbers",
        ),
        (
            PREPROCESSOR,
            json!({"image_std": [1, 0, 1]}),
            "`image_std` is [1,0,1], expected three numbers greater than 0",
        ),
    ] {
        let error = Room::new().beside(name, &contents).refusal();
        assert!(error.contains(&format!("/{name}`, beside the weights: ")) && error.contains(expected), "{error}");
    }
    for name in [HUGGING_FACE, OPEN_CLIP, PREPROCESSOR] {
        let room = Room::new();
        fs_err::write(room.path(name), "{\"hidden_act\"").unwrap();
        let error = room.refusal();
        assert!(error.contains(&format!("/{name}`, beside the weights: not a JSON document")), "{error}");
    }
}

#[test]
fn files_that_contradict_each_other_are_both_named() {
    let quick = json!({"model_cfg": {"quick_gelu": true}});
    let heads = json!({"model_cfg": {"quick_gelu": false, "text_cfg": {"width": 128, "heads": 2}}});
    let mean = json!({"image_mean": [0.5, 0.5, 0.4]});
    for (name, contents, expected) in [
        (OPEN_CLIP, &quick, "`vision_config.hidden_act` is \"gelu\", but `model_cfg.quick_gelu` of"),
        (
            OPEN_CLIP,
            &heads,
            "`text_config.num_attention_heads`, which is left out, is 8, but `model_cfg.text_cfg.heads` of",
        ),
    ] {
        let error = Room::new().beside(HUGGING_FACE, &hugging_face()).beside(name, contents).refusal();
        let both = error.contains("/config.json`, beside") && error.contains("/open_clip_config.json` is ");
        assert!(both && error.contains(expected), "{error}");
    }
    let error = Room::new().beside(OPEN_CLIP, &open_clip()).beside(PREPROCESSOR, &mean).refusal();
    assert!(error.contains("`image_mean` is [0.5,0.5,0.4], but `preprocess_cfg.mean` of"), "{error}");
}

/// A CLIP that was made up.
#[derive(Clone, Copy)]
struct Sizes {
    vision: i64,
    text: i64,
    layers: usize,
    patch: i64,
    vision_mlp: i64,
    embedding: i64,
}

impl Sizes {
    /// Writes it with numbers of a sensible size.
    fn write(&self, path: &Path) -> Vec<(String, Tensor)> {
        let Self { vision, text, layers, patch, vision_mlp, embedding } = *self;
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        let mut add = |name: &str, shape: &[i64]| {
            let length: i64 = shape.iter().product();
            let seed = tensors.len() as f64;
            let numbers = (Tensor::arange(length, (Kind::Double, Device::Cpu)) * 12.9898 + seed).sin() * 43758.5453;
            let is_norm = name.contains("ln_") && name.ends_with("weight");
            let numbers = numbers.frac() * 0.2 + f64::from(u8::from(is_norm));
            tensors.push((name.to_owned(), numbers.to_kind(Kind::Float).view(shape)));
        };
        add("visual.conv1.weight", &[vision, 3, patch, patch]);
        add("visual.class_embedding", &[vision]);
        add("visual.positional_embedding", &[5, vision]);
        add("visual.proj", &[vision, embedding]);
        add("token_embedding.weight", &[49408, text]);
        add("positional_embedding", &[77, text]);
        add("text_projection", &[text, embedding]);
        for (norm, width) in [("visual.ln_pre", vision), ("visual.ln_post", vision), ("ln_final", text)] {
            add(&format!("{norm}.weight"), &[width]);
            add(&format!("{norm}.bias"), &[width]);
        }
        for (tower, width, mlp) in [("visual.", vision, vision_mlp), ("", text, 4 * text)] {
            for layer in 0..layers {
                let block = format!("{tower}transformer.resblocks.{layer}");
                for (part, out, inputs) in [
                    ("ln_1.", width, 0),
                    ("attn.in_proj_", 3 * width, width),
                    ("attn.out_proj.", width, width),
                    ("ln_2.", width, 0),
                    ("mlp.c_fc.", mlp, width),
                    ("mlp.c_proj.", width, mlp),
                ] {
                    let shape = [out, inputs];
                    add(&format!("{block}.{part}weight"), if inputs == 0 { &shape[..1] } else { &shape });
                    add(&format!("{block}.{part}bias"), &[out]);
                }
            }
        }
        Tensor::write_safetensors(&tensors, path).unwrap();
        tensors
    }
}

/// A CLIP without any shortcut, as Radford et al. describe it.
struct Plain {
    tensors: std::collections::BTreeMap<String, Tensor>,
    activation: Activation,
    vision_heads: i64,
    text_heads: i64,
}

impl Plain {
    fn get(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    fn norm(&self, name: &str, x: &Tensor) -> Tensor {
        let centred = x - x.mean_dim([-1_i64].as_slice(), true, Kind::Float);
        let deviation = (centred.square().mean_dim([-1_i64].as_slice(), true, Kind::Float) + 1e-5).sqrt();
        centred / deviation * self.get(&format!("{name}.weight")) + self.get(&format!("{name}.bias"))
    }

    fn linear(&self, name: &str, x: &Tensor) -> Tensor {
        x.matmul(&self.get(&format!("{name}weight")).tr()) + self.get(&format!("{name}bias"))
    }

    /// One head after the other.
    fn block(&self, name: &str, x: &Tensor, heads: i64, is_causal: bool) -> Tensor {
        let (positions, width) = (x.size()[0], x.size()[1]);
        let projected = self.linear(&format!("{name}.attn.in_proj_"), &self.norm(&format!("{name}.ln_1"), x));
        let head_width = width / heads;
        let mixed: Vec<Tensor> = (0..heads)
            .map(|head| {
                let [query, key, value] =
                    [0, 1, 2].map(|part| projected.narrow(1, part * width + head * head_width, head_width));
                let mut scores = query.matmul(&key.tr()) / (head_width as f64).sqrt();
                if is_causal {
                    let later = Tensor::ones([positions, positions], (Kind::Bool, Device::Cpu)).triu(1);
                    scores = scores.masked_fill(&later, f64::NEG_INFINITY);
                }
                scores.softmax(-1, Kind::Float).matmul(&value)
            })
            .collect();
        let x = x + self.linear(&format!("{name}.attn.out_proj."), &Tensor::cat(&mixed, 1));
        let hidden = self.linear(&format!("{name}.mlp.c_fc."), &self.norm(&format!("{name}.ln_2"), &x));
        let active = match self.activation {
            Activation::QuickGelu => &hidden * (&hidden * 1.702).sigmoid(),
            Activation::Gelu => &hidden * 0.5 * ((&hidden * 0.5_f64.sqrt()).erf() + 1.0),
        };
        &x + self.linear(&format!("{name}.mlp.c_proj."), &active)
    }

    fn image(&self, image: &Tensor, layers: usize) -> Tensor {
        let conv = self.get("visual.conv1.weight");
        let patches = image.unsqueeze(0).conv2d(conv, None::<Tensor>, conv.size()[2], 0, 1, 1).squeeze_dim(0);
        let patches = patches.flatten(1, 2).tr();
        let x = Tensor::cat(&[self.get("visual.class_embedding").unsqueeze(0), patches], 0);
        let x = self.norm("visual.ln_pre", &(x + self.get("visual.positional_embedding")));
        let x = (0..layers).fold(x, |x, layer| {
            self.block(&format!("visual.transformer.resblocks.{layer}"), &x, self.vision_heads, false)
        });
        self.norm("visual.ln_post", &x.get(0)).unsqueeze(0).matmul(self.get("visual.proj")).squeeze_dim(0)
    }

    fn text(&self, tokens: &[u32], layers: usize) -> Tensor {
        let tokens: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let end = tokens.iter().position(|&token| token == 49407).unwrap() as i64;
        let x = self.get("token_embedding.weight").index_select(0, &Tensor::from_slice(&tokens));
        let x = (0..layers).fold(x + self.get("positional_embedding"), |x, layer| {
            self.block(&format!("transformer.resblocks.{layer}"), &x, self.text_heads, true)
        });
        self.norm("ln_final", &x.get(end)).unsqueeze(0).matmul(self.get("text_projection")).squeeze_dim(0)
    }
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    f64::try_from((a - b).abs().max()).unwrap() / f64::try_from(b.abs().max()).unwrap()
}

#[test]
fn heads_and_activation_are_what_is_computed_with() {
    let _guard = tch::no_grad_guard();
    let room = Room::new();
    // Heads of width 80 and 44, and an MLP of another width, as ViT-H-14 and ViT-bigG-14 have them.
    let sizes = Sizes { vision: 160, text: 88, layers: 3, patch: 8, vision_mlp: 787, embedding: 24 };
    let path = room.path("weights.safetensors");
    let tensors: std::collections::BTreeMap<_, _> = sizes.write(&path).into_iter().collect();
    let images = (Tensor::arange(2 * 3 * 16 * 16, (Kind::Float, Device::Cpu)) * 0.37).sin().view([2, 3, 16, 16]) * 2.0;
    let tokens = ["a photo of a llama.", "a stop sign"].map(|text| Tokenizer::shared().encode(text).unwrap());
    let error = Backbone::identify(&path, &ArchitectureSettings::default()).unwrap_err().to_string();
    assert!(error.contains("vision tower of width 160 has (it isn't a multiple of 64"), "{error}");

    let mut plain = Plain { tensors, activation: Activation::QuickGelu, vision_heads: 2, text_heads: 2 };
    let mut seen: Vec<(Tensor, Tensor)> = Vec::new();
    for (activation, vision_heads, text_heads) in
        [(Activation::Gelu, 2, 2), (Activation::QuickGelu, 2, 2), (Activation::Gelu, 5, 1), (Activation::Gelu, 40, 44)]
    {
        let config = json!({
            "model_type": "clip",
            "vision_config": {"hidden_act": activation, "hidden_size": 160, "num_attention_heads": vision_heads},
            "text_config": {"hidden_act": activation, "hidden_size": 88, "num_attention_heads": text_heads},
        });
        room.beside(HUGGING_FACE, &config);
        let open = |precision| Clip::open(&path, &ArchitectureSettings::default(), Device::Cpu, precision).unwrap();
        let clip = open(Precision::Fp32);
        let (image, text) = (clip.image_features(&images), clip.text_features(&tokens).unwrap());
        plain = Plain { activation, vision_heads, text_heads, ..plain };
        for index in 0..2 {
            let expected = plain.image(&images.get(index), sizes.layers);
            assert!(difference(&image.get(index), &expected) < 1e-4, "{activation} {vision_heads}");
            let expected = plain.text(&tokens[index as usize], sizes.layers);
            assert!(difference(&text.get(index), &expected) < 1e-4, "{activation} {text_heads}");
        }
        assert!(seen.iter().all(|other| difference(&image, &other.0) > 1e-3 && difference(&text, &other.1) > 1e-3));
        for (precision, most) in [(Precision::AmpBf16, 0.05), (Precision::AmpFp16, 0.01)] {
            let mixed = open(precision);
            let (mixed_image, mixed_text) = (mixed.image_features(&images), mixed.text_features(&tokens).unwrap());
            let off = |other: &(Tensor, Tensor)| {
                let relative = |a: &Tensor, b: &Tensor| f64::try_from((a - b).norm() / b.norm()).unwrap();
                (relative(&mixed_image, &other.0), relative(&mixed_text, &other.1))
            };
            let own = off(&(image.shallow_clone(), text.shallow_clone()));
            assert!(own.0 < most && own.1 < most, "{activation} {precision}: {own:?}");
            for other in seen.iter().map(off) {
                assert!(own.0 < other.0 && own.1 < other.1, "{activation} {precision}: {own:?} {other:?}");
            }
        }
        seen.push((image, text));
    }
}

#[test]
fn towers_that_have_other_heads_in_openclip_are_refused_until_something_says_how_many() {
    let room = Room::new();
    for (width, model, head_width) in [(1280, "ViT-H-14", 80), (1408, "ViT-g-14", 88), (1664, "ViT-bigG-14", 104)] {
        let path = room.path(&format!("{width}.safetensors"));
        Sizes { vision: width, text: 64, layers: 1, patch: 1, vision_mlp: 8, embedding: 8 }.write(&path);
        let identify = |vision_heads| {
            let settings = ArchitectureSettings { vision_heads, ..ArchitectureSettings::default() };
            Backbone::identify(&path, &settings).map_err(|error| error.to_string())
        };
        let error = identify(None).unwrap_err();
        let expected = format!("OpenCLIP's {model} has 16 of width {head_width}): expected `vision_heads = 16`");
        assert!(error.contains(&expected) && error.contains("`[backbones.NAME]`"), "{error}");
        assert_eq!(identify(Some(16)).unwrap().architecture.vision_head_width, head_width);
    }
}

/// What `inspect weights` says of the weights, and the features of `inspect features`.
fn inspected(room: &Room, flags: &[&str]) -> (Value, Tensor, Tensor) {
    let run = |command: &mut std::process::Command| {
        let output = command.args(flags).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let report = run(trainer().args(["inspect", "weights"]).arg(room.weights()));
    let output = room.path("features.safetensors");
    let image = first_file(&demo().join("icons/images"));
    let mut command = trainer();
    command.args(["inspect", "features", "--texts", "a photo of a llama.", "--weights"]).arg(room.weights());
    run(command.arg("--images").arg(image).arg("--output").arg(&output));
    let mut features: std::collections::BTreeMap<_, _> =
        Tensor::read_safetensors(output).unwrap().into_iter().collect();
    let mut take = |name: &str| features.remove(name).unwrap();
    (serde_json::from_slice(&report).unwrap(), take("image_features"), take("text_features"))
}

fn first_file(folder: &Path) -> PathBuf {
    let mut entries: Vec<PathBuf> = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    if entries[0].is_dir() { first_file(&entries[0]) } else { entries.remove(0) }
}

#[test]
fn inspect_says_which_backbone_it_is_and_computes_with_it() {
    let room = Room::new();
    let (plain, plain_image, plain_text) = inspected(&room, &[]);
    assert_eq!((&plain["backbone_sha256"], &plain["assumed"]), (&plain["sha256"], &json!(ALL)));
    assert_eq!(
        (&plain["geometry"]["vision"]["heads"], &plain["geometry"]["vision"]["mlp_width"]),
        (&json!(2), &json!(512))
    );
    assert_eq!(plain["architecture"], json!(Architecture::OPENAI));

    room.beside(HUGGING_FACE, &json!({"hidden_act": "gelu"}));
    let (gelu, image, text) = inspected(&room, &["--text-heads", "4"]);
    assert_eq!((&gelu["sha256"], &gelu["architecture"]["activation"]), (&plain["sha256"], &json!("gelu")));
    assert_eq!((&gelu["geometry"]["text"]["heads"], &gelu["architecture"]["text_head_width"]), (&json!(4), &json!(32)));
    assert_eq!(gelu["assumed"], json!(["vision_heads", "mean", "std"]));
    let architecture: Architecture = serde_json::from_value(gelu["architecture"].clone()).unwrap();
    assert_eq!(gelu["backbone_sha256"], json!(architecture.identity(gelu["sha256"].as_str().unwrap())));
    assert_ne!(gelu["backbone_sha256"], gelu["sha256"]);
    assert!(difference(&image, &plain_image) > 1e-4 && difference(&text, &plain_text) > 1e-4);

    // Other pixels.
    room.beside(HUGGING_FACE, &json!({}))
        .beside(PREPROCESSOR, &json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}));
    let (other, image, text) = inspected(&room, &[]);
    assert_eq!(other["assumed"], json!(ALL[..3]));
    assert!(difference(&image, &plain_image) > 1e-4);
    assert_eq!(text, plain_text);
}

struct Silent;

impl Reporter for Silent {
    fn log(&mut self, _: &str) {}

    fn progress(&mut self, _: Progress) {}

    fn metrics(&mut self, _: u64, _: &std::collections::BTreeMap<String, f64>) {}
}

#[test]
fn a_resident_trainer_notices_that_something_else_is_said_of_its_weights() {
    tch::set_num_threads(1);
    let room = Room::new();
    let data = tiny(&room.path("tiny"));
    let mut session = Session::new(1 << 20);
    let mut run = |output: &str| -> Manifest {
        let changes = json!({"method": "zero_shot", "shots": 0, "weights": room.weights(), "overrides": {}});
        let job = TrainerJob::parse(&job_json(&data, &room.path(output), changes).to_string()).unwrap();
        engine::run(&job, &mut session, &mut Silent, &CancelFlag::default()).unwrap().manifest.unwrap()
    };
    let quick = run("quick");
    room.beside(HUGGING_FACE, &json!({"hidden_act": "gelu"}));
    let gelu = run("gelu");
    room.beside(PREPROCESSOR, &json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}));
    let pixels = run("pixels");
    fs_err::remove_file(room.path(HUGGING_FACE)).unwrap();
    fs_err::remove_file(room.path(PREPROCESSOR)).unwrap();
    let again = run("again");
    let said = [&quick, &gelu, &pixels].map(|manifest| (manifest.architecture.activation, manifest.assumed.len()));
    assert_eq!(said, [(Activation::QuickGelu, 5), (Activation::Gelu, 4), (Activation::Gelu, 2)]);
    let errors = [&quick, &gelu, &pixels].map(|manifest| manifest.result.unwrap().calibration_error.unwrap().to_bits());
    assert!(errors[0] != errors[1] && errors[1] != errors[2], "{errors:?}");
    assert_eq!(again.result, quick.result);
}
