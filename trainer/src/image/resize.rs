//! Pillow's bicubic resampling of 8-bit images, exact to the bit.
//!
//! Each axis is a pass of its own, as a rule horizontal first, and the result of a pass is rounded to 8 bits. A pass weighs
//! the input pixels around the centre `(o + ½)·in/out` of output pixel `o` by the cubic kernel (a = −½), stretched by
//! `max(in/out, 1)` so that shrinking averages (this is what "antialiased" means in torchvision). The weights are
//! normalised to a sum of 1 in double precision and then rounded to 22 fractional bits.

use super::Rgb8;

/// Fractional bits of a weight: 32, less 8 for the pixel and 2 for the kernel's overshoot.
const BITS: u32 = 22;
/// Where sums start, so that cutting off the fraction rounds.
const HALF: i32 = 1 << (BITS - 1);

/// A rectangle of pixels, in whole pixels from the top left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Distance from the left edge.
    pub x: usize,
    /// Distance from the top edge.
    pub y: usize,
    /// Width, above 0.
    pub width: usize,
    /// Height, above 0.
    pub height: usize,
}

/// Resizes the `crop` of `image` to `width` × `height` and returns the `window` of that: the same as cropping, resizing,
/// cropping, without the work that the last crop throws away. Pixels outside `crop` play no part.
pub fn resize(image: &Rgb8, crop: Rect, (width, height): (usize, usize), window: Rect) -> Rgb8 {
    let columns = Taps::new(crop.width, width, window.x, window.width);
    let rows = Taps::new(crop.height, height, window.y, window.height);
    let source = View { data: &image.data, stride: image.width * 3 }.from(crop.x, crop.y);
    let (left, right) = columns.reach();
    let (top, bottom) = rows.reach();
    let data = if vertical_first(crop, width, height) {
        let between = vertical(source.from(left, 0), right - left, rows.iter());
        horizontal(
            View { data: &between, stride: (right - left) * 3 },
            window.height,
            window.width,
            columns.iter_from(left),
        )
    } else {
        let between = horizontal(source.from(0, top), bottom - top, window.width, columns.iter());
        vertical(View { data: &between, stride: window.width * 3 }, window.width, rows.iter_from(top))
    };
    Rgb8 { width: window.width, height: window.height, data }
}

/// Pillow's rule since 13.0.0; before, the horizontal pass was always first. The order changes a pixel by one or two
/// levels of 255 here and there. At test time the rule only bites for images more than twice as high as wide.
fn vertical_first(crop: Rect, width: usize, height: usize) -> bool {
    let (fewer_rows, fewer_columns) = (crop.height as i64 - height as i64, crop.width as i64 - width as i64);
    fewer_rows > 0 && fewer_rows > 2 * fewer_columns
}

/// Pixels in memory, `stride` bytes from row to row.
#[derive(Clone, Copy)]
struct View<'a> {
    data: &'a [u8],
    stride: usize,
}

impl View<'_> {
    fn from(self, x: usize, y: usize) -> Self {
        Self { data: &self.data[y * self.stride + x * 3..], stride: self.stride }
    }
}

/// Resamples the first `height` rows of `source`, each to `width` pixels.
fn horizontal<'t>(
    source: View<'_>,
    height: usize,
    width: usize,
    taps: impl Iterator<Item = (usize, &'t [i32])> + Clone,
) -> Vec<u8> {
    let mut data = vec![0; height * width * 3];
    for (target, row) in data.chunks_exact_mut(width * 3).zip(source.data.chunks(source.stride)) {
        for (pixel, (first, weights)) in target.as_chunks_mut::<3>().0.iter_mut().zip(taps.clone()) {
            let mut sums = [HALF; 3];
            for (values, &weight) in row[first * 3..].as_chunks::<3>().0.iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += i32::from(value) * weight;
                }
            }
            *pixel = sums.map(to_u8);
        }
    }
    data
}

/// Resamples the first `width` columns of `source`.
fn vertical<'t>(source: View<'_>, width: usize, taps: impl Iterator<Item = (usize, &'t [i32])>) -> Vec<u8> {
    let mut data = Vec::new();
    let mut sums = vec![0_i32; width * 3];
    for (first, weights) in taps {
        sums.fill(HALF);
        for (row, &weight) in source.data[first * source.stride..].chunks(source.stride).zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        data.extend(sums.iter().map(|&sum| to_u8(sum)));
    }
    data
}

fn to_u8(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// For a run of output pixels of one axis: which input pixels each weighs, and how.
struct Taps {
    /// The first input pixel, and the end of the weights in `weights`.
    spans: Vec<(usize, usize)>,
    weights: Vec<i32>,
}

impl Taps {
    /// The taps of output pixels `first..first + count`, when `input` pixels become `output`.
    fn new(input: usize, output: usize, first: usize, count: usize) -> Self {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = 2.0 * stretch;
        let mut taps = Self { spans: Vec::with_capacity(count), weights: Vec::new() };
        let mut exact = Vec::new();
        for pixel in first..first + count {
            let center = (pixel as f64 + 0.5) * scale;
            // Casting cuts towards zero; the lower bound is at most half a pixel below it.
            let low = (center - support + 0.5).max(0.0) as usize;
            let high = ((center + support + 0.5) as usize).min(input);
            exact.clear();
            let inverse = 1.0 / stretch;
            exact.extend((low..high).map(|tap| kernel(((tap as f64) - center + 0.5) * inverse)));
            let sum: f64 = exact.iter().sum();
            taps.weights.extend(exact.iter().map(|weight| (weight / sum * f64::from(1 << BITS)).round() as i32));
            taps.spans.push((low, taps.weights.len()));
        }
        taps
    }

    /// Per output pixel: the first input pixel and the weights from there on.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> + Clone {
        self.iter_from(0)
    }

    /// The same where the input starts at `origin`.
    fn iter_from(&self, origin: usize) -> impl Iterator<Item = (usize, &[i32])> + Clone {
        let mut start = 0;
        self.spans.iter().map(move |&(low, end)| {
            let weights = &self.weights[start..end];
            start = end;
            (low - origin, weights)
        })
    }

    /// The range of input pixels that any output pixel weighs.
    fn reach(&self) -> (usize, usize) {
        let low = self.iter().map(|(low, _)| low).min().unwrap_or(0);
        let high = self.iter().map(|(low, weights)| low + weights.len()).max().unwrap_or(0);
        (low, high)
    }
}

/// The cubic convolution kernel with a = −½ (Keys 1981).
fn kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize) -> Rgb8 {
        let mut draws = crate::draws::Draws::new("noise", 0, "", &[]);
        Rgb8 { width, height, data: (0..width * height * 3).map(|_| draws.below(256) as u8).collect() }
    }

    fn whole(image: &Rgb8) -> Rect {
        Rect { x: 0, y: 0, width: image.width, height: image.height }
    }

    fn cut(image: &Rgb8, rect: Rect) -> Rgb8 {
        let rows = (rect.y..rect.y + rect.height)
            .flat_map(|y| &image.data[(y * image.width + rect.x) * 3..][..rect.width * 3]);
        Rgb8 { width: rect.width, height: rect.height, data: rows.copied().collect() }
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        let image = noise(23, 17);
        assert_eq!(resize(&image, whole(&image), (23, 17), whole(&image)), image);
    }

    #[test]
    fn crops_before_and_after_are_what_cropping_gives() {
        let image = noise(61, 47);
        let crop = Rect { x: 5, y: 9, width: 40, height: 31 };
        let window = Rect { x: 3, y: 2, width: 16, height: 20 };
        let cropped = cut(&image, crop);
        let resized = resize(&cropped, whole(&cropped), (25, 29), Rect { x: 0, y: 0, width: 25, height: 29 });
        assert_eq!(resize(&image, crop, (25, 29), window), cut(&resized, window));
    }

    #[test]
    fn one_colour_stays_that_colour() {
        for value in [0, 1, 127, 254, 255] {
            let image = Rgb8 { width: 31, height: 9, data: vec![value; 31 * 9 * 3] };
            let (width, height) = (7, 50);
            let resized = resize(&image, whole(&image), (width, height), Rect { x: 0, y: 0, width, height });
            assert!(resized.data.iter().all(|&out| out == value));
        }
    }
}
