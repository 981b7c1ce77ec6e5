//! Decoded images in memory, so that later epochs and later jobs on the same data set don't decode them again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{ImageError, Rgb8, decode};

/// Decoded images by path, up to a number of bytes. What came first stays: a training run goes through all its images
/// again and again, where making room for the newest would drop each image just before it is needed. Files are taken
/// not to change while they're kept. Which images are kept never changes a result.
#[derive(Debug)]
pub struct ImageCache {
    budget: u64,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    images: HashMap<PathBuf, Arc<Rgb8>>,
    bytes: u64,
}

impl ImageCache {
    /// A cache of at most `budget` bytes of pixels; 0 keeps nothing.
    pub fn new(budget: u64) -> Self {
        Self { budget, kept: Mutex::default() }
    }

    /// The decoded image, from memory or from its file.
    pub fn get(&self, path: &Path) -> Result<Arc<Rgb8>, ImageError> {
        if let Some(image) = self.lock().images.get(path) {
            return Ok(Arc::clone(image));
        }
        // Decoded outside the lock: two threads may decode the same file once each, none waits for another.
        let image = Arc::new(decode(path)?);
        let size = image.data.len() as u64;
        let mut kept = self.lock();
        if kept.bytes + size <= self.budget && kept.images.insert(path.to_owned(), Arc::clone(&image)).is_none() {
            kept.bytes += size;
        }
        Ok(image)
    }

    /// Drops every image that doesn't lie below `folder`: what another data set left.
    pub fn keep_only(&self, folder: &Path) {
        let mut kept = self.lock();
        kept.images.retain(|path, _| path.starts_with(folder));
        kept.bytes = kept.images.values().map(|image| image.data.len() as u64).sum();
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
}
