//! Decoded images in memory, so that later epochs and later jobs on the same data set don't decode them again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ImageError, Rgb8, decode};
use crate::file_state::FileState;

/// Decoded images by path, up to a number of bytes. What came first stays: a training run goes through all its images
/// again and again, where making room for the newest would drop each image just before it is needed. A file that was written
/// or replaced since is decoded again. Which images are kept never changes a result.
#[derive(Debug)]
pub struct ImageCache {
    budget: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    images: HashMap<PathBuf, (FileState, Arc<Rgb8>)>,
    bytes: u64,
}

impl Kept {
    /// The image of the file at `path`, if it was kept in this state.
    fn get(&self, path: &Path, state: Option<FileState>) -> Option<&Arc<Rgb8>> {
        let (kept, image) = self.images.get(path)?;
        (Some(*kept) == state).then_some(image)
    }

    fn remove(&mut self, path: &Path) {
        if let Some((_, image)) = self.images.remove(path) {
            self.bytes -= image.data.len() as u64;
        }
    }
}

impl ImageCache {
    /// A cache of at most `budget` bytes of pixels; 0 keeps nothing.
    pub fn new(budget: u64) -> Self {
        Self { budget, kept: Mutex::default() }
    }

    /// The decoded image, from memory or from its file.
    pub fn get(&self, path: &Path) -> Result<Arc<Rgb8>, ImageError> {
        // Looked at before the file is read: one that is written meanwhile is read again the next time.
        let state = FileState::of(path);
        if let Some(image) = self.lock().get(path, state) {
            return Ok(Arc::clone(image));
        }
        // Decoded outside the lock: two threads may decode the same file once each, none waits for another.
        let decoded = decode(path).map(Arc::new);
        let mut kept = self.lock();
        kept.remove(path);
        let image = decoded?;
        let size = image.data.len() as u64;
        if let Some(state) = state.filter(|_| kept.bytes + size <= self.budget) {
            kept.bytes += size;
            kept.images.insert(path.to_owned(), (state, Arc::clone(&image)));
        }
        Ok(image)
    }

    /// Drops every image that doesn't lie below `folder`: what another data set left.
    pub fn keep_only(&self, folder: &Path) {
        let mut kept = self.lock();
        kept.images.retain(|path, _| path.starts_with(folder));
        kept.bytes = kept.images.values().map(|(_, image)| image.data.len() as u64).sum();
    }

    /// How many bytes of pixels are kept.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing inside the lock can leave the map half changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_fits_and_drops_other_data_sets() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a/1.png", "a/2.png", "b/3.png"] {
            fs_err::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs_err::write(path(name), crate::image::png::tests::grey(10, 10, 7)).unwrap();
        }
        let cache = ImageCache::new(700);
        let first = cache.get(&path("a/1.png")).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.get(&path("a/1.png")).unwrap()));
        cache.get(&path("b/3.png")).unwrap();
        let third = cache.get(&path("a/2.png")).unwrap();
        assert_eq!((cache.bytes(), third.width), (600, 10));
        assert!(!Arc::ptr_eq(&third, &cache.get(&path("a/2.png")).unwrap()), "the budget was full");
        cache.keep_only(&path("a"));
        assert_eq!(cache.bytes(), 300);
        assert!(Arc::ptr_eq(&first, &cache.get(&path("a/1.png")).unwrap()));
        assert!(cache.get(&path("a/none.png")).is_err());
        assert_eq!(cache.bytes(), 300);
    }

    #[test]
    fn a_file_that_was_written_replaced_or_removed_is_not_taken_for_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a.png"), folder.path().join("b.png"));
        let hour = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
        // All of the same size and, as far as a program can set it, of the same time.
        let write = |path: &Path, shade| {
            fs_err::write(path, crate::image::png::tests::grey(10, 10, shade)).unwrap();
            std::fs::File::options().write(true).open(path).unwrap().set_modified(hour).unwrap();
        };
        let cache = ImageCache::new(700);
        let shade = || cache.get(&path).unwrap().data[0];
        write(&path, 7);
        write(&other, 8);
        assert_eq!((shade(), cache.bytes()), (7, 300));
        fs_err::rename(&other, &path).unwrap();
        assert_eq!((shade(), cache.bytes()), (8, 300));
        fs_err::write(&path, crate::image::png::tests::grey(10, 11, 9)).unwrap();
        assert_eq!((shade(), cache.bytes()), (9, 330));
        fs_err::remove_file(&path).unwrap();
        assert!(cache.get(&path).is_err());
        assert_eq!(cache.bytes(), 0);
    }
}
