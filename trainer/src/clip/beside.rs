//! What the files beside a weights file say of it: those that Hugging Face's `CLIPModel` and `OpenCLIP` are published with.
//!
//! Names and defaults are those of `transformers`' `CLIPConfig`, `CLIPVisionConfig`, `CLIPTextConfig` and `CLIPImageProcessor`, and
//! of `open_clip`'s `CLIPVisionCfg`, `CLIPTextCfg` and `PreprocessCfg`. Both leave keys out that have the default's value.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use promptfield_core::job::backbone::Activation;
use serde::Serialize;
use serde_json::{Value, json};

use super::weights::WeightsError;

/// One of CLIP's two towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tower {
    Vision,
    Text,
}

/// The files that lie beside some weights.
#[derive(Debug)]
pub(super) struct Files {
    /// Hugging Face's `config.json`, if it's a CLIP's.
    hugging_face: Option<ConfigFile>,
    /// `open_clip_config.json`.
    open_clip: Option<ConfigFile>,
    /// Hugging Face's `preprocessor_config.json`.
    preprocessor: Option<ConfigFile>,
}

#[derive(Debug)]
struct ConfigFile {
    path: PathBuf,
    json: Value,
}

/// One thing that a file says.
struct Statement<T> {
    path: PathBuf,
    /// The field's name, or that it isn't there and what it stands for.
    field: String,
    value: T,
}

impl Tower {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Text => "text",
        }
    }

    /// Width and heads where a file leaves them out: those of ViT-B, in both libraries.
    const fn defaults(self) -> (i64, i64) {
        match self {
            Self::Vision => (768, 12),
            Self::Text => (512, 8),
        }
    }
}

impl Files {
    /// Reads what lies beside the weights at a path.
    pub(super) fn read(weights: &Path) -> Result<Self, WeightsError> {
        let hugging_face = ConfigFile::read(weights.with_file_name("config.json"))?;
        Ok(Self {
            // Another model's, if it says so.
            hugging_face: hugging_face.filter(|file| file.get("model_type").is_none_or(|model| model == "clip")),
            open_clip: ConfigFile::read(weights.with_file_name("open_clip_config.json"))?,
            preprocessor: ConfigFile::read(weights.with_file_name("preprocessor_config.json"))?,
        })
    }

    /// The activation of both towers.
    pub(super) fn activation(&self) -> Result<Option<Activation>, WeightsError> {
        let mut said = Vec::new();
        if let Some(file) = &self.hugging_face {
            for tower in [Tower::Vision, Tower::Text] {
                let Some(config) = file.config_of(tower) else { continue };
                let field = format!("{config}.hidden_act");
                let default = file.is_clip().then_some(Activation::QuickGelu);
                said.extend(file.statement(&field, default, ConfigFile::activation)?);
            }
            said.extend(file.statement("hidden_act", None, ConfigFile::activation)?);
        }
        if let Some(file) = self.open_clip.as_ref().filter(|file| file.has("model_cfg")) {
            let activation = |file: &ConfigFile, field: &str, value: &Value| match value {
                Value::Bool(true) => Ok(Activation::QuickGelu),
                Value::Bool(false) => Ok(Activation::Gelu),
                other => Err(file.wrong(field, other, "true or false")),
            };
            said.extend(file.statement("model_cfg.quick_gelu", Some(Activation::Gelu), activation)?);
        }
        agreed(said)
    }

    /// The attention heads of a tower, whose weights have a width.
    pub(super) fn heads(&self, tower: Tower, width: i64) -> Result<Option<i64>, WeightsError> {
        let (default_width, default_heads) = tower.defaults();
        let mut said = Vec::new();
        if let Some((file, config)) = self.hugging_face.as_ref().and_then(|file| Some((file, file.config_of(tower)?))) {
            let or = |default| file.is_clip().then_some(default);
            file.fits_width(&format!("{config}.hidden_size"), or(default_width), width)?;
            let heads = |file: &ConfigFile, field: &str, value: &Value| file.divisor(field, value, width);
            said.extend(file.statement(&format!("{config}.num_attention_heads"), or(default_heads), heads)?);
        }
        let config = format!("model_cfg.{}_cfg", tower.name());
        if let Some(file) = self.open_clip.as_ref().filter(|file| file.has(&config)) {
            file.fits_width(&format!("{config}.width"), Some(default_width), width)?;
            said.extend(match tower {
                Tower::Vision => {
                    let heads = |file: &ConfigFile, field: &str, value: &Value| {
                        file.divisor(field, value, width).map(|head_width| width / head_width)
                    };
                    let default = default_width / default_heads;
                    file.statement(&format!("{config}.head_width"), Some(width / default), heads)?
                }
                Tower::Text => {
                    let heads = |file: &ConfigFile, field: &str, value: &Value| file.divisor(field, value, width);
                    file.statement(&format!("{config}.heads"), Some(default_heads), heads)?
                }
            });
        }
        agreed(said)
    }

    /// The mean that is taken off pixels.
    pub(super) fn mean(&self) -> Result<Option<[f64; 3]>, WeightsError> {
        self.colours("mean", |_| true, "three numbers")
    }

    /// The deviation that they are divided by.
    pub(super) fn std(&self) -> Result<Option<[f64; 3]>, WeightsError> {
        self.colours("std", |number| number > 0.0, "three numbers greater than 0")
    }

    fn colours(
        &self,
        name: &str,
        is_possible: impl Fn(f64) -> bool,
        expected: &str,
    ) -> Result<Option<[f64; 3]>, WeightsError> {
        let numbers = |file: &ConfigFile, field: &str, value: &Value| {
            let numbers = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
            let numbers = numbers.and_then(|numbers| <[f64; 3]>::try_from(numbers).ok());
            numbers
                .filter(|numbers| numbers.iter().all(|&number| is_possible(number)))
                .ok_or_else(|| file.wrong(field, value, expected))
        };
        let mut said = Vec::new();
        if let Some(file) = &self.preprocessor {
            said.extend(file.statement(&format!("image_{name}"), None, numbers)?);
        }
        if let Some(file) = &self.open_clip {
            said.extend(file.statement(&format!("preprocess_cfg.{name}"), None, numbers)?);
        }
        agreed(said)
    }
}

impl ConfigFile {
    /// Reads a file, if it's there.
    fn read(path: PathBuf) -> Result<Option<Self>, WeightsError> {
        let text = match fs_err::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(WeightsError::Beside { path, problem: format!("it cannot be read: {error}") }),
        };
        match serde_json::from_slice(&text) {
            Ok(json) => Ok(Some(Self { path, json })),
            Err(error) => Err(WeightsError::Beside { path, problem: format!("not a JSON document: {error}") }),
        }
    }

    /// What a field holds, by its dotted name; `None` for null too.
    fn get(&self, field: &str) -> Option<&Value> {
        self.json.pointer(&format!("/{}", field.replace('.', "/"))).filter(|value| !value.is_null())
    }

    /// Whether a field holds a table.
    fn has(&self, field: &str) -> bool {
        self.get(field).is_some_and(Value::is_object)
    }

    /// Whether it says that it is a CLIP's, so that what it leaves out has the default's value.
    fn is_clip(&self) -> bool {
        self.get("model_type").is_some_and(|model| model == "clip")
    }

    /// The table that says what a tower is like. What earlier versions wrote under the second name wins, as it does in `transformers`.
    fn config_of(&self, tower: Tower) -> Option<String> {
        let config = format!("{}_config", tower.name());
        [format!("{config}_dict"), config].into_iter().find(|config| self.has(config))
    }

    /// What a field says, or the default where the file says something by leaving it out.
    fn statement<T>(
        &self,
        field: &str,
        default: Option<T>,
        read: impl Fn(&Self, &str, &Value) -> Result<T, WeightsError>,
    ) -> Result<Option<Statement<T>>, WeightsError> {
        let statement = |field, value| Statement { path: self.path.clone(), field, value };
        Ok(match self.get(field) {
            Some(value) => Some(statement(format!("`{field}`"), read(self, field, value)?)),
            None => default.map(|value| statement(format!("`{field}`, which is left out,"), value)),
        })
    }

    fn activation(&self, field: &str, value: &Value) -> Result<Activation, WeightsError> {
        let activation = value.as_str().and_then(|name| name.parse().ok());
        activation.ok_or_else(|| self.wrong(field, value, "`quick_gelu` or `gelu`"))
    }

    /// A whole number that divides a tower's width.
    fn divisor(&self, field: &str, value: &Value, width: i64) -> Result<i64, WeightsError> {
        let number = value.as_i64().filter(|&number| number > 0 && width % number == 0);
        number.ok_or_else(|| self.wrong(field, value, &format!("a divisor of {width}, the tower's width")))
    }

    /// Refuses a file that was written for other weights.
    fn fits_width(&self, field: &str, default: Option<i64>, width: i64) -> Result<(), WeightsError> {
        let (given, said) = match (self.get(field), default) {
            (Some(value), _) => (value.clone(), value.as_i64()),
            (None, Some(default)) => (default.into(), Some(default)),
            (None, None) => return Ok(()),
        };
        if said == Some(width) {
            return Ok(());
        }
        let expected = format!("{width} as the weights beside it have; put each model into a folder of its own");
        Err(self.wrong(field, &given, &expected))
    }

    fn wrong(&self, field: &str, value: &Value, expected: &str) -> WeightsError {
        let problem = format!("`{field}` is {value}, expected {expected}");
        WeightsError::Beside { path: self.path.clone(), problem }
    }
}

/// What all statements say.
fn agreed<T: PartialEq + Serialize>(said: Vec<Statement<T>>) -> Result<Option<T>, WeightsError> {
    let mut said = said.into_iter();
    let Some(first) = said.next() else { return Ok(None) };
    match said.find(|other| other.value != first.value) {
        None => Ok(Some(first.value)),
        Some(other) => Err(WeightsError::Beside {
            problem: format!(
                "{} is {}, but {} of `{}` is {}: expected the same",
                first.field,
                json!(first.value),
                other.field,
                other.path.display(),
                json!(other.value)
            ),
            path: first.path,
        }),
    }
}
