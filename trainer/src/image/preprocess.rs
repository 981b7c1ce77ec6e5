//! What is cut out of an image and how it is scaled: torchvision's rules, method.md section 1.

use promptfield_core::job::backbone::Architecture;

use super::Rgb8;
use super::resize::{Rect, resize};
use crate::draws::Draws;

/// The share of the image's area that a training crop covers, at least and at most.
const SCALE: (f64, f64) = (0.5, 1.0);
/// The width of a training crop over its height, at least and at most.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// An image as the vision tower takes it: normalised, channel by channel, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// 3: red, green, blue.
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// `channels · height · width` values.
    pub data: Vec<f32>,
}

impl Pixels {
    pub(super) fn filled(size: usize, fill: impl FnOnce(&mut [f32])) -> Self {
        let mut data = vec![0.0; 3 * size * size];
        fill(&mut data);
        Self { channels: 3, height: size, width: size, data }
    }
}

/// What is taken off the pixels of each colour, and what they are divided by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelScale {
    mean: [f32; 3],
    std: [f32; 3],
}

impl PixelScale {
    /// That of a backbone.
    pub fn of(architecture: &Architecture) -> Self {
        let single = |numbers: [f64; 3]| numbers.map(|number| number as f32);
        Self { mean: single(architecture.mean), std: single(architecture.std) }
    }
}

/// The random numbers of one training batch. They depend on the seed, the data set, the epoch and the step, and on
/// nothing else, so that every method sees the same pixels.
#[derive(Clone, Debug)]
pub struct AugmentationDraws {
    seed: u64,
    dataset: String,
    epoch: u32,
    step: u32,
}

impl AugmentationDraws {
    /// The draws of the batch of `step` in `epoch`, both counted from 0; `dataset` is the data set's key.
    pub fn new(seed: u64, dataset: &str, epoch: u32, step: u32) -> Self {
        Self { seed, dataset: dataset.to_owned(), epoch, step }
    }

    /// The draws for the image at `position` of the batch.
    pub fn at(&self, position: usize) -> Draws {
        let counters = [u64::from(self.epoch), u64::from(self.step), position as u64];
        Draws::new("augmentation", self.seed, &self.dataset, &counters)
    }
}

/// Test-time preprocessing: the shorter edge to `size`, the centre cut out.
pub fn test_pixels(image: &Rgb8, size: usize, scale: &PixelScale) -> Pixels {
    Pixels::filled(size, |target| test_into(image, size, scale, target))
}

/// Training preprocessing: a random crop resized to `size`, mirrored half of the time. Draws, in this order: per try the
/// crop's area and its ratio, and when it fits its row and its column; at last whether to mirror.
pub fn train_pixels(image: &Rgb8, size: usize, scale: &PixelScale, draws: &mut Draws) -> Pixels {
    Pixels::filled(size, |target| train_into(image, size, scale, draws, target))
}

/// [`test_pixels`] into `3 · size²` values.
pub(super) fn test_into(image: &Rgb8, size: usize, scale: &PixelScale, target: &mut [f32]) {
    let (width, height) = (image.width, image.height);
    let (short, long) = (width.min(height), width.max(height));
    // torchvision computes `int(size * long / short)`: a product of integers, a true division, cut towards zero.
    let long = ((size * long) as f64 / short as f64) as usize;
    let resized = if width <= height { (size, long) } else { (long, size) };
    let window = Rect { x: centre(resized.0, size), y: centre(resized.1, size), width: size, height: size };
    normalise(&resize(image, Rect { x: 0, y: 0, width, height }, resized, window), scale, false, target);
}

/// Where torchvision's centre crop starts: `int(round((length − size) / 2))`, and Python rounds a half to the even.
fn centre(length: usize, size: usize) -> usize {
    ((length - size) as f64 / 2.0).round_ties_even() as usize
}

/// [`train_pixels`] into `3 · size²` values.
pub(super) fn train_into(image: &Rgb8, size: usize, scale: &PixelScale, draws: &mut Draws, target: &mut [f32]) {
    let crop = random_crop(image.width, image.height, draws);
    let mirror = draws.uniform() < 0.5;
    crop_into(image, crop, size, scale, mirror, target);
}

/// Resizes a crop to `size`, mirrored or not, into `3 · size²` values.
pub(super) fn crop_into(image: &Rgb8, crop: Rect, size: usize, scale: &PixelScale, mirror: bool, target: &mut [f32]) {
    let window = Rect { x: 0, y: 0, width: size, height: size };
    normalise(&resize(image, crop, (size, size), window), scale, mirror, target);
}

/// torchvision's `RandomResizedCrop.get_params`: ten tries for a rectangle that fits, then the largest one in the centre
/// whose ratio is in range.
fn random_crop(width: usize, height: usize, draws: &mut Draws) -> Rect {
    let area = (width * height) as f64;
    for _ in 0..10 {
        let area = area * draws.between(SCALE.0, SCALE.1);
        let ratio = draws.between(RATIO.0.ln(), RATIO.1.ln()).exp();
        let crop_width = (area * ratio).sqrt().round_ties_even() as usize;
        let crop_height = (area / ratio).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
            let y = draws.below((height - crop_height) as u64 + 1) as usize;
            let x = draws.below((width - crop_width) as u64 + 1) as usize;
            return Rect { x, y, width: crop_width, height: crop_height };
        }
    }
    let ratio = width as f64 / height as f64;
    let (crop_width, crop_height) = if ratio < RATIO.0 {
        (width, ((width as f64 / RATIO.0).round_ties_even() as usize).clamp(1, height))
    } else if ratio > RATIO.1 {
        (((height as f64 * RATIO.1).round_ties_even() as usize).clamp(1, width), height)
    } else {
        (width, height)
    };
    Rect { x: (width - crop_width) / 2, y: (height - crop_height) / 2, width: crop_width, height: crop_height }
}

/// `(x/255 − mean) / std` in single precision, as torchvision's `ToTensor` and `Normalize` compute it.
fn normalise(image: &Rgb8, scale: &PixelScale, mirror: bool, target: &mut [f32]) {
    let (width, area) = (image.width, image.width * image.height);
    for channel in 0..3 {
        let (mean, std) = (scale.mean[channel], scale.std[channel]);
        let table: [f32; 256] = std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std);
        let plane = &mut target[channel * area..][..area];
        for (row, source) in plane.chunks_exact_mut(width).zip(image.data.chunks_exact(width * 3)) {
            let values = source.iter().skip(channel).step_by(3).map(|&value| table[usize::from(value)]);
            if mirror {
                row.iter_mut().rev().zip(values).for_each(|(target, value)| *target = value);
            } else {
                row.iter_mut().zip(values).for_each(|(target, value)| *target = value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale() -> PixelScale {
        PixelScale::of(&Architecture::OPENAI)
    }

    #[test]
    fn the_centre_is_rounded_to_the_even_pixel() {
        assert_eq!([225, 226, 227, 228, 229].map(|length| centre(length, 224)), [0, 1, 2, 2, 2]);
    }

    #[test]
    fn crops_fit_and_have_the_area_and_ratio_asked_for() {
        let mut draws = Draws::new("test", 0, "", &[]);
        for (width, height) in [(300, 200), (64, 64), (7, 5)] {
            for _ in 0..500 {
                let crop = random_crop(width, height, &mut draws);
                assert!(crop.x + crop.width <= width && crop.y + crop.height <= height && crop.width * crop.height > 0);
                let share = (crop.width * crop.height) as f64 / (width * height) as f64;
                let ratio = crop.width as f64 / crop.height as f64;
                let slack = 0.6 / height as f64;
                assert!(share > 0.5 - slack, "{crop:?}");
                assert!((0.75 - 2.0 * slack..=4.0 / 3.0 + 2.0 * slack).contains(&ratio), "{crop:?}");
            }
        }
    }

    #[test]
    fn an_image_that_no_crop_fits_is_cut_in_its_centre() {
        let mut draws = Draws::new("test", 0, "", &[]);
        assert_eq!(random_crop(1000, 30, &mut draws), Rect { x: 480, y: 0, width: 40, height: 30 });
        assert_eq!(random_crop(30, 1000, &mut draws), Rect { x: 0, y: 480, width: 30, height: 40 });
        assert_eq!(random_crop(1, 50, &mut draws).width, 1);
    }

    #[test]
    fn the_same_place_draws_the_same_pixels_and_half_are_mirrored() {
        let image = Rgb8 { width: 40, height: 30, data: (0..3600).map(|i| (i * 11 % 256) as u8).collect() };
        let draws = AugmentationDraws::new(3, "dtd", 1, 2);
        let first = train_pixels(&image, 16, &scale(), &mut draws.at(0));
        assert_eq!(first, train_pixels(&image, 16, &scale(), &mut AugmentationDraws::new(3, "dtd", 1, 2).at(0)));
        assert_ne!(first, train_pixels(&image, 16, &scale(), &mut draws.at(1)));

        let ramp = Rgb8 { width: 32, height: 32, data: (0..32 * 32 * 3).map(|i| (i / 3 % 32 * 8) as u8).collect() };
        let mirrored = (0..400).filter(|&position| {
            let pixels = train_pixels(&ramp, 8, &scale(), &mut draws.at(position));
            pixels.data[0] > pixels.data[7]
        });
        assert!((160..240).contains(&mirrored.count()));
    }

    #[test]
    fn normalising_mirrors_rows_and_separates_channels() {
        let image = Rgb8 { width: 2, height: 1, data: vec![255, 0, 0, 0, 255, 128] };
        // Those of CLIP, in as many digits as single precision tells apart; and others.
        let openais = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);
        let others = Architecture { mean: [0.5; 3], std: [0.5, 0.25, 0.125], ..Architecture::OPENAI };
        for (scale, (mean, std)) in
            [(scale(), openais), (PixelScale::of(&others), ([0.5_f32; 3], [0.5_f32, 0.25, 0.125]))]
        {
            let mut target = [0.0; 6];
            normalise(&image, &scale, true, &mut target);
            let value = |value: u8, channel: usize| (f32::from(value) / 255.0 - mean[channel]) / std[channel];
            let expected = [value(0, 0), value(255, 0), value(255, 1), value(0, 1), value(128, 2), value(0, 2)];
            assert_eq!(target.map(f32::to_bits), expected.map(f32::to_bits));
        }
    }
}
