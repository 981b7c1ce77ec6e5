//! What a resident trainer keeps between jobs, so that the next one starts at once.
//!
//! Nothing kept here changes a result: a job on a fresh session computes the same numbers.

use std::path::{Path, PathBuf};

use promptfield_core::experiment::dataset::DatasetDefinition;
use promptfield_core::job::backbone::ArchitectureSettings;
use promptfield_core::names::Precision;
use tch::Device;

use crate::clip::{Backbone, Clip, FrozenCache, WeightsError};
use crate::data::KeptSplits;
use crate::file_state::FileState;
use crate::image::ImageCache;

/// The frozen towers of one backbone, and the splits and the decoded images of the last data sets.
#[derive(Debug)]
pub struct Session {
    loaded: Option<Loaded>,
    pub(super) splits: KeptSplits,
    images: ImageCache,
    image_budget: u64,
    frozen: Option<FrozenCache>,
}

/// A loaded backbone, which state of which file it came from, and where and in what precision it computes.
#[derive(Debug)]
struct Loaded {
    path: PathBuf,
    computed: (Device, Precision),
    file: Option<FileState>,
    clip: Clip,
}

impl Session {
    /// Nothing kept yet; decoded images may take `image_budget` bytes.
    pub fn new(image_budget: u64) -> Self {
        Self {
            loaded: None,
            splits: KeptSplits::default(),
            images: ImageCache::new(image_budget),
            image_budget,
            frozen: None,
        }
    }

    /// The same session, with what the frozen towers make of images kept in a cache.
    #[must_use]
    pub fn with_cache(self, cache: Option<FrozenCache>) -> Self {
        Self { frozen: cache, ..self }
    }

    /// Drops the backbone: after a failure inside libtorch its memory is better freed.
    pub(super) fn drop_backbone(&mut self) {
        self.loaded = None;
    }

    /// The backbone of the weights file at `path`, computed on a device in a precision, and the images. The file is read
    /// again if it has changed, or if something else is said of it: `backbone` is what it was identified as.
    pub(super) fn prepare(
        &mut self,
        (path, settings, backbone): (&Path, &ArchitectureSettings, &Backbone),
        computed: (Device, Precision),
        data_root: &Path,
        definition: &DatasetDefinition,
    ) -> Result<(&Clip, &ImageCache), WeightsError> {
        let file = FileState::of(path);
        let is_this = |kept: &Loaded| {
            let is_same_file = kept.path == path && kept.file == file && kept.clip.backbone() == backbone;
            is_same_file && kept.computed == computed
        };
        if self.images.bytes() > self.image_budget / 2 {
            self.images.keep_only(&data_root.join(&definition.folder));
        }
        let loaded = self.loaded.take().filter(is_this).map_or_else(
            || {
                let clip = Clip::open(path, settings, computed.0, computed.1)?.with_cache(self.frozen.clone());
                Ok(Loaded { path: path.to_owned(), computed, file, clip })
            },
            Ok,
        )?;
        Ok((&self.loaded.insert(loaded).clip, &self.images))
    }
}
