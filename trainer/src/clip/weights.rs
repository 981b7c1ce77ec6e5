//! Weights files: from bytes on the disk to tensors under CLIP's original names.
//!
//! Rule of this room: a format is a function from a file's bytes to named tensors, in the kinds they are stored in; what
//! follows doesn't know which format they came from.

mod hugging_face;
mod mapped;
mod pickle;
mod torch_archive;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use promptfield_core::job::backbone::ArchitectureSettings;
use safetensors::tensor::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::backbone::{Backbone, architecture};
use super::geometry::{Geometry, Shapes};
use super::hashes::KeptHashes;
pub(super) use mapped::MappedFile;

/// Why a weights file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// It can't be read.
    #[error("cannot read the weights `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// It holds something else than a CLIP.
    #[error("the weights `{}`: {problem}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
    /// It, or what lies beside it, was changed after it was looked at.
    #[error("the weights `{}`, or what lies beside them, were changed while a job began", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file beside it says something of it that can't be.
    #[error("`{}`, beside the weights: {problem}", .path.display())]
    Beside {
        /// The file beside it.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// What is wrong with a weights file's contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It isn't in a known format.
    #[error("neither a PyTorch archive, which is a ZIP file, nor a safetensors file ({0})")]
    Format(String),
    /// It is a `PyTorch` archive, or another ZIP file, that can't be read.
    #[error("not a PyTorch archive that can be read: {0}")]
    Archive(String),
    /// A tensor that a CLIP has is not there.
    #[error("no tensor `{tensor}`, expected one of shape {expected}, as CLIP's state dict has it")]
    Missing {
        /// Its name.
        tensor: String,
        /// Its shape.
        expected: String,
    },
    /// A tensor's shape doesn't fit.
    #[error("`{tensor}` is {found:?}, expected {expected}")]
    Shape {
        /// Its name.
        tensor: String,
        /// The shape that was found.
        found: Vec<i64>,
        /// What would be right.
        expected: String,
    },
    /// A tensor isn't made of floating-point numbers.
    #[error("`{tensor}` is {found}, expected F32, F16 or BF16")]
    Kind {
        /// Its name.
        tensor: String,
        /// The kind that was found.
        found: String,
    },
    /// What the tensors don't tell isn't known, or can't be.
    #[error("{0}")]
    Architecture(String),
}

/// The tensors of a weights file by their original CLIP names, on the CPU, in the kinds they are stored in. They lie in the
/// file's mapping, except those that are made of others.
#[derive(Debug)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    geometry: Geometry,
    format: Format,
    backbone: Backbone,
}

/// How a weights file names and lays out its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Safetensors with the names of `OpenAI`'s state dict.
    Original,
    /// Safetensors with the names of Hugging Face's `CLIPModel`.
    HuggingFace,
    /// A `PyTorch` archive with the names of `OpenAI`'s state dict, such as the published `TorchScript` files.
    ArchiveOriginal,
    /// A `PyTorch` archive with the names of Hugging Face's `CLIPModel`.
    ArchiveHuggingFace,
}

impl Format {
    /// The format in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Original => "safetensors, original CLIP names",
            Self::HuggingFace => "safetensors, Hugging Face names",
            Self::ArchiveOriginal => "PyTorch archive, original CLIP names",
            Self::ArchiveHuggingFace => "PyTorch archive, Hugging Face names",
        }
    }
}

impl Weights {
    /// Reads a weights file and checks that it holds a whole CLIP. The settings win over what lies beside it.
    pub fn open(path: &Path, settings: &ArchitectureSettings) -> Result<Self, WeightsError> {
        let file = MappedFile::open(path).map_err(|source| WeightsError::Read { path: path.to_owned(), source })?;
        let Described { sources, geometry, format, backbone } = Described::read(path, &file, settings)?;
        let tensors = sources.into_iter().map(|(name, source)| (name, source.tensor(&file))).collect();
        Ok(Self { tensors, geometry, format, backbone })
    }

    /// The sizes that the tensors' shapes tell.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The file's format.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Which backbone it is.
    pub const fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Numbers in all tensors.
    pub fn parameter_count(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }

    /// Takes a tensor out. The name must be one of those that [`Geometry`] checked.
    pub(super) fn take(&mut self, name: &str) -> Tensor {
        self.tensors.remove(name).unwrap_or_else(|| panic!("`{name}` was checked when the file was opened"))
    }
}

/// A weights file, of which no tensor was read yet.
pub(super) struct Described<'a> {
    /// By the tensors' original names.
    sources: BTreeMap<String, Source<'a>>,
    geometry: Geometry,
    format: Format,
    pub(super) backbone: Backbone,
}

impl<'a> Described<'a> {
    /// Reads what the file at `path` says of its tensors, and what lies beside it, and checks that it holds a whole CLIP.
    pub(super) fn read(
        path: &Path,
        file: &'a MappedFile,
        settings: &ArchitectureSettings,
    ) -> Result<Self, WeightsError> {
        let unfit = |problem| WeightsError::Unfit { path: path.to_owned(), problem };
        let (sources, format) = sources(file.bytes()).map_err(unfit)?;
        let shapes: Shapes = sources.iter().map(|(name, source)| (name.clone(), source.shape())).collect();
        let geometry = Geometry::read(&shapes).map_err(unfit)?;
        let (architecture, assumed) = architecture(path, [geometry.vision.width, geometry.text.width], settings)?;
        let weights_sha256 = KeptHashes::of_user().sha256(file);
        let weights_sha256 = weights_sha256.map_err(|source| WeightsError::Read { path: path.to_owned(), source })?;
        Ok(Self { sources, geometry, format, backbone: Backbone { weights_sha256, architecture, assumed } })
    }
}

/// The tensors of a weights file's bytes.
fn sources(bytes: &[u8]) -> Result<(BTreeMap<String, Source<'_>>, Format), Problem> {
    let is_archive = torch_archive::is_format_of(bytes);
    let stored = if is_archive { torch_archive::read(bytes)? } else { safetensors(bytes)? };
    let is_hugging_face = hugging_face::is_layout_of(&stored);
    let sources = if is_hugging_face {
        hugging_face::to_original(stored)?
    } else {
        stored.into_iter().map(|(name, stored)| (name, Source::Plain(stored))).collect()
    };
    let format = match (is_archive, is_hugging_face) {
        (false, false) => Format::Original,
        (false, true) => Format::HuggingFace,
        (true, false) => Format::ArchiveOriginal,
        (true, true) => Format::ArchiveHuggingFace,
    };
    Ok((sources, format))
}

/// A tensor as it is made of those that lie in a file.
#[derive(Debug)]
enum Source<'a> {
    Plain(Stored<'a>),
    /// Of a matrix.
    Transposed(Stored<'a>),
    /// One below the other, all of one shape and kind.
    Stacked([Stored<'a>; 3]),
}

impl Source<'_> {
    fn shape(&self) -> Vec<i64> {
        match self {
            Self::Plain(stored) => stored.shape.clone(),
            Self::Transposed(stored) => stored.shape.iter().rev().copied().collect(),
            Self::Stacked(parts) => {
                let mut shape = parts[0].shape.clone();
                shape.iter_mut().take(1).for_each(|rows| *rows = rows.saturating_mul(3));
                shape
            }
        }
    }

    fn tensor(&self, file: &MappedFile) -> Tensor {
        match self {
            Self::Plain(stored) => file.tensor(stored),
            Self::Transposed(stored) => file.tensor(stored).tr().contiguous(),
            Self::Stacked(parts) => Tensor::cat(&parts.each_ref().map(|part| file.tensor(part)), 0),
        }
    }
}

/// A floating-point tensor as it lies in a file.
#[derive(Debug)]
struct Stored<'a> {
    kind: Kind,
    /// From its first number to its last.
    data: &'a [u8],
    shape: Vec<i64>,
    /// How many numbers further the next one of each dimension lies; `None` if there are no gaps, the last dimension
    /// being the fastest.
    strides: Option<Vec<i64>>,
}

/// The floating-point tensors of a safetensors file. Integers are left out: CLIP has none that matter, but files may carry
/// buffers.
fn safetensors(bytes: &[u8]) -> Result<BTreeMap<String, Stored<'_>>, Problem> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| Problem::Format(error.to_string()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::I64 | Dtype::I32 => continue,
            other => return Err(Problem::Kind { tensor: name, found: format!("{other:?}") }),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        tensors.insert(name, Stored { kind, data: view.data(), shape, strides: None });
    }
    Ok(tensors)
}
