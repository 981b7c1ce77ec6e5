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

use promptfield_core::spec::hex;
use safetensors::tensor::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::geometry::{Geometry, Shapes};
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
}

/// The tensors of a weights file by their original CLIP names, on the CPU, in the kinds they are stored in. They lie in the
/// file's mapping, except those that are made of others.
#[derive(Debug)]
pub struct Weights {
    tensors: BTreeMap<String, Tensor>,
    geometry: Geometry,
    format: Format,
    sha256: String,
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
    /// Reads a weights file and checks that it holds a whole CLIP.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let unreadable = |source| WeightsError::Read { path: path.to_owned(), source };
        let file = MappedFile::open(path).map_err(unreadable)?;
        let sha256 = hex(&file.sha256().map_err(unreadable)?);
        Self::read(&file, sha256).map_err(|problem| WeightsError::Unfit { path: path.to_owned(), problem })
    }

    fn read(file: &MappedFile, sha256: String) -> Result<Self, Problem> {
        let bytes = file.bytes();
        let is_archive = torch_archive::is_format_of(bytes);
        let stored = if is_archive { torch_archive::read(bytes)? } else { safetensors(bytes)? };
        let mut tensors: BTreeMap<String, Tensor> =
            stored.into_iter().map(|(name, stored)| (name, file.tensor(&stored))).collect();
        let is_hugging_face = hugging_face::is_layout_of(&tensors);
        if is_hugging_face {
            tensors = hugging_face::to_original(tensors)?;
        }
        let format = match (is_archive, is_hugging_face) {
            (false, false) => Format::Original,
            (false, true) => Format::HuggingFace,
            (true, false) => Format::ArchiveOriginal,
            (true, true) => Format::ArchiveHuggingFace,
        };
        let shapes: Shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        let geometry = Geometry::read(&shapes)?;
        Ok(Self { tensors, geometry, format, sha256 })
    }

    /// The sizes that the tensors' shapes tell.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The file's format.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// SHA-256 of the file, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
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
