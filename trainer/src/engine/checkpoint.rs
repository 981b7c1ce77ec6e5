//! Checkpoints and the state that an interrupted job is resumed from: named tensors and what they belong to, as safetensors.
//!
//! Rule of this file: the bytes follow from the tensors and the metadata alone. No time, host or path gets in, so that two
//! runs of a job can be compared by hash.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use promptfield_core::job::backbone::Architecture;
use promptfield_core::job::earlier;
use promptfield_core::job::outcome::FileEntry;
use promptfield_core::job::spec::{JobSpec, SpecHash};
use promptfield_core::job::unfinished::METADATA_KEY;
use promptfield_core::method::Methods;
use promptfield_core::method::value::Values;
use promptfield_core::protocol::Protocol;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::methods::NamedTensors;
use promptfield_output::file::{replace, sha256_of};

/// Why a file of tensors can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It isn't there.
    #[error("the checkpoint `{}` is missing: expected what the training job wrote", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It can't be read.
    #[error("cannot read the checkpoint `{}`", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// It holds something else.
    #[error("`{}` is not a checkpoint of this program: {problem}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It was trained for something else than it is to be tested for.
    #[error("the checkpoint `{}` doesn't fit the job: {difference}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// The first difference.
        difference: String,
    },
}

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Provenance {
    /// The training job.
    pub(super) spec: JobSpec,
    /// Its hash.
    pub(super) spec_hash: SpecHash,
    /// SHA-256 of the backbone's weights file.
    pub(super) weights_sha256: String,
    /// What the weights' shapes don't tell; what earlier versions don't say was `OpenAI`'s.
    #[serde(default)]
    pub(super) architecture: Architecture,
    /// SHA-256 of the class names and lists that it was trained on; earlier versions don't say it.
    #[serde(default)]
    pub(super) split_sha256: Option<String>,
}

/// Writes 32-bit tensors with their metadata; the file holds what it held before or all of it.
pub(super) fn write(path: &Path, metadata: &impl Serialize, tensors: &NamedTensors) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let mut values = vec![0_f32; tensor.numel()];
        let count = values.len();
        tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().copy_data(&mut values, count);
        let shape: Vec<usize> = tensor.size().into_iter().map(|length| length as usize).collect();
        let data: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        bytes.push((name, shape, data));
    }
    let views = bytes
        .iter()
        .map(|(name, shape, data)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), data)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(io::Error::other)?;
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), serde_json::to_string(metadata)?)]);
    let file = safetensors::serialize(views, Some(metadata)).map_err(io::Error::other)?;
    replace(path, &file)
}

/// Reads a file that [`write`] made; the tensors lie on the CPU.
pub(super) fn read<M: DeserializeOwned>(path: &Path) -> Result<(M, NamedTensors), CheckpointError> {
    read_checked(path, None)
}

/// The same, of a file whose length and hash are known.
pub(super) fn read_checked<M: DeserializeOwned>(
    path: &Path,
    entry: Option<&FileEntry>,
) -> Result<(M, NamedTensors), CheckpointError> {
    let malformed = |problem: String| CheckpointError::Malformed { path: path.to_owned(), problem };
    let bytes = fs_err::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => CheckpointError::Missing { path: path.to_owned() },
        _ => CheckpointError::Read { path: path.to_owned(), source },
    })?;
    if entry.is_some_and(|entry| entry.sha256 != sha256_of(&bytes)) {
        return Err(malformed("its bytes aren't those that the manifest beside it names".to_owned()));
    }
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| malformed(error.to_string()))?;
    let metadata = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get(METADATA_KEY))
        .ok_or_else(|| malformed(format!("its metadata has no key `{METADATA_KEY}`")))?;
    let (metadata, _) = earlier::read(metadata, Methods::built_in(), None)
        .map_err(|error| malformed(format!("its metadata: {error}")))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| malformed(error.to_string()))?;
    let mut tensors = NamedTensors::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(malformed(format!("`{name}` is {:?}, expected F32", view.dtype())));
        }
        let values: Vec<f32> = view
            .data()
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        let shape: Vec<i64> = view.shape().iter().map(|&length| length as i64).collect();
        tensors.insert(name.to_owned(), Tensor::from_slice(&values).view(shape.as_slice()));
    }
    Ok((metadata, tensors))
}

impl Provenance {
    /// The identity of the backbone that it was trained on.
    pub(super) fn backbone_sha256(&self) -> String {
        self.architecture.identity(&self.weights_sha256)
    }

    /// The first thing in which a checkpoint of this provenance is not what `job` tests, as a sentence; `None` if it fits.
    pub(super) fn difference(&self, job: &JobSpec, backbone_sha256: &str) -> Option<String> {
        let (trained, tested) = (comparable(&self.spec, job.protocol), comparable(job, job.protocol));
        let differs = |key: &&String| trained.get(*key) != tested.get(*key);
        // Another method or data set brings other hyper-parameters with it; those are the smaller news.
        let key = trained.keys().chain(tested.keys()).filter(differs).min_by_key(|key| key.contains('.'));
        if let Some(key) = key {
            let show = |fields: &Fields| fields.get(key).map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let (had, wants) = (show(&trained), show(&tested));
            return Some(format!("it was trained with `{key}` = {had}, the job tests `{key}` = {wants}"));
        }
        let trained_on = self.backbone_sha256();
        if trained_on != backbone_sha256 {
            return Some(format!("it was trained on the backbone {trained_on}, the job's is {backbone_sha256}"));
        }
        let trained_by = job.trained_by?;
        (trained_by != self.spec_hash)
            .then(|| format!("it was trained by the job {}, the job to test is {trained_by}", self.spec_hash))
    }
}

type Fields = BTreeMap<String, serde_json::Value>;

/// The fields in which a test and its training must agree, by dotted name. A test on another data set may have its own prompts
/// and its own values of those that its method declares as the target's.
fn comparable(spec: &JobSpec, protocol: Protocol) -> Fields {
    let mut spec = spec.clone();
    spec.trained_by = None;
    spec.config.clear();
    spec.options = Values::default();
    spec.hyper.0.remove("test_batch");
    if protocol == Protocol::CrossDataset {
        spec.dataset.clear();
        spec.template.clear();
        let known = Methods::built_in().get(spec.method);
        spec.hyper
            .0
            .retain(|name, _| known.and_then(|known| known.values.get(name)).is_none_or(|declared| !declared.target));
    }
    let mut fields = Fields::new();
    flatten("", serde_json::json!(spec), &mut fields);
    fields.remove("stage");
    fields
}

fn flatten(prefix: &str, value: serde_json::Value, fields: &mut Fields) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&name, value, fields);
            }
        }
        value => {
            fields.insert(prefix.to_owned(), value);
        }
    }
}
