//! Images: from a file to what CLIP sees.
//!
//! Rule of this room: pixels are those of the published code, Pillow and torchvision. JPEG is decoded by libjpeg-turbo's
//! decoder and PNG converted as Pillow's `.convert("RGB")` does, resampling is Pillow's 8-bit fixed-point bicubic
//! ([`resize`]), crops and flips follow torchvision's rules ([`preprocess`]). What differs on purpose is where the random
//! numbers come from ([`crate::draws`]). No libtorch here: a batch is a plain `Vec<f32>`.

pub mod cache;
pub mod decode;
#[cfg(test)]
mod golden;
mod jpeg;
mod png;
pub mod preprocess;
pub mod resize;

use std::path::Path;

use rayon::prelude::*;

pub use cache::ImageCache;
pub use decode::{ImageError, check_start, decode};
pub use preprocess::{AugmentationDraws, PixelScale, Pixels, test_pixels, train_pixels};

/// A decoded image: 8-bit RGB, interleaved, row by row.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb8 {
    /// Width in pixels, above 0.
    pub width: usize,
    /// Height in pixels, above 0.
    pub height: usize,
    /// `height · width · 3` bytes.
    pub data: Vec<u8>,
}

impl std::fmt::Debug for Rgb8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb8({}×{})", self.width, self.height)
    }
}

/// Loads a training batch: `[B, 3, size, size]`, augmented and normalised. The image at position i of the batch gets the
/// draws of position i, whichever thread loads it. The error is that of the first bad file in the order of `paths`.
pub fn load_batch_train(
    cache: &ImageCache,
    paths: &[&Path],
    size: usize,
    scale: &PixelScale,
    draws: &AugmentationDraws,
) -> Result<Vec<f32>, ImageError> {
    load_batch(cache, paths, size, |position, image, target| {
        preprocess::train_into(image, size, scale, &mut draws.at(position), target);
    })
}

/// Loads a test batch: `[B, 3, size, size]`, resized, cropped in the centre and normalised. Errors as
/// [`load_batch_train`].
pub fn load_batch_test(
    cache: &ImageCache,
    paths: &[&Path],
    size: usize,
    scale: &PixelScale,
) -> Result<Vec<f32>, ImageError> {
    load_batch(cache, paths, size, |_, image, target| preprocess::test_into(image, size, scale, target))
}

fn load_batch(
    cache: &ImageCache,
    paths: &[&Path],
    size: usize,
    preprocess: impl Fn(usize, &Rgb8, &mut [f32]) + Sync,
) -> Result<Vec<f32>, ImageError> {
    let mut batch = vec![0.0; paths.len() * 3 * size * size];
    let results: Vec<Result<(), ImageError>> = batch
        .par_chunks_exact_mut(3 * size * size)
        .zip(paths)
        .enumerate()
        .map(|(position, (target, path))| {
            preprocess(position, &*cache.get(path)?, target);
            Ok(())
        })
        .collect();
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use promptfield_core::job::backbone::Architecture;

    use super::*;

    #[test]
    fn a_batch_is_its_images_in_order_and_the_first_bad_file_is_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..5_u8)
            .map(|shade| {
                let path = folder.path().join(format!("{shade}.png"));
                fs_err::write(&path, png::tests::grey(16, 12, shade * 40)).unwrap();
                path
            })
            .collect();
        let paths: Vec<&Path> = paths.iter().map(AsRef::as_ref).collect();
        let (cache, scale) = (ImageCache::new(1 << 20), PixelScale::of(&Architecture::OPENAI));
        let draws = AugmentationDraws::new(1, "dtd", 2, 3);
        let batch = load_batch_train(&cache, &paths, 8, &scale, &draws).unwrap();
        for (position, path) in paths.iter().enumerate() {
            let alone = train_pixels(&decode(path).unwrap(), 8, &scale, &mut draws.at(position));
            assert_eq!(batch[position * 192..][..192], alone.data);
        }
        assert_eq!(load_batch_test(&cache, &paths, 8, &scale).unwrap().len(), 5 * 192);

        let (missing, broken) = (folder.path().join("missing.png"), folder.path().join("broken.png"));
        fs_err::write(&broken, b"GIF89a").unwrap();
        let error = load_batch_test(&cache, &[paths[0], &broken, &missing], 8, &scale).unwrap_err();
        assert!(error.to_string().contains("broken.png"), "{error}");
    }
}
