//! How many multiplications a step takes: the products of matrices, forwards and backwards.
//!
//! A layer of width W over S positions, whose queries meet P keys in all, takes 12·S·W² + 2·P·W; back through it, without
//! gradients of weights, 12·S·W² + 4·P·W. Layer norms, activations and the losses are left out.

use super::case::{Cell, TOKENS};

/// Positions of a text that isn't cut.
const CONTEXT: i64 = 77;

/// The sizes of a CLIP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    /// Width, layers, heads.
    pub(super) vision: [i64; 3],
    /// Pixels of an image's edge.
    pub(super) image: i64,
    pub(super) patch: i64,
    /// Width, layers, heads.
    pub(super) text: [i64; 3],
    pub(super) embedding: i64,
}

/// Rows of the text tower that all classes share, and of each group of classes their number and own rows.
pub(super) type TextRows = (i64, Vec<(i64, i64)>);

impl Geometry {
    /// The class token and the patches.
    pub(super) const fn positions(&self) -> i64 {
        1 + (self.image / self.patch).pow(2)
    }

    /// The patches of an image, projected.
    const fn patches(&self) -> i64 {
        (self.positions() - 1) * self.vision[0] * 3 * self.patch.pow(2)
    }
}

/// The layers before the first one with representation tokens, and those from there on.
const fn parts(layers: i64) -> (i64, i64) {
    let representation = (7 * layers + 11) / 12;
    (layers - representation, representation)
}

const fn forward(width: i64, rows: i64, pairs: i64) -> i64 {
    12 * rows * width * width + 2 * pairs * width
}

const fn backward(width: i64, rows: i64, pairs: i64) -> i64 {
    12 * rows * width * width + 4 * pairs * width
}

/// A training step in the plain order of operations: both towers in full, nothing kept but the frozen texts.
pub(super) fn plain_step(geometry: &Geometry, cell: Cell) -> f64 {
    let [width, layers, _] = geometry.vision;
    let (_, representation) = parts(layers);
    let (short, long) = (geometry.positions(), geometry.positions() + TOKENS);
    let frozen = geometry.patches() + layers * forward(width, short, short * short);
    let prompted = plain_image(geometry) + representation * backward(width, long, long * long);
    let images = i64::from(cell.batch) * (frozen + prompted);

    let [width, layers, _] = geometry.text;
    let (short, long) = (CONTEXT, CONTEXT + TOKENS);
    let (before, representation) = parts(layers);
    let text = before * forward(width, short, short * short)
        + representation * (forward(width, long, long * long) + backward(width, long, long * long));
    (images + i64::from(cell.classes) * text) as f64
}

/// An image through the prompted tower in full.
pub(super) fn plain_image(geometry: &Geometry) -> i64 {
    let [width, layers, _] = geometry.vision;
    let (before, representation) = parts(layers);
    let (short, long) = (geometry.positions(), geometry.positions() + TOKENS);
    geometry.patches()
        + before * forward(width, short, short * short)
        + representation * forward(width, long, long * long)
}

/// A training step as the trainer does it, with what the frozen towers make of the images in the cache, or not.
pub(super) fn step(geometry: &Geometry, cell: Cell, texts: &TextRows, warm: bool) -> f64 {
    let [width, layers, heads] = geometry.vision;
    let (_, representation) = parts(layers);
    let (short, long) = (geometry.positions(), geometry.positions() + TOKENS);
    let (square, middle) = (width * width, representation - 2);
    let few = |read: i64, positions: i64| 12 * read * square + 2 * read * heads * positions * width;
    let frozen = (representation - 1) * forward(width, short, short * short) + few(1, short);
    // The first of these layers projects what is constant once, for both towers, and takes no gradient through it.
    let projected = 3 * short * square;
    let prompted = representation_layers(geometry) - 3 * long * square;
    let back = backward(width, long, long * long) - 3 * long * square
        + middle * backward(width, long, long * long)
        + 12 * (1 + TOKENS) * square
        + 4 * (1 + TOKENS) * heads * long * width;
    let known = if warm { projected } else { prefix(geometry) + frozen };
    let images = i64::from(cell.batch) * (known + prompted + back);

    let [width, layers, _] = geometry.text;
    let (_, representation) = parts(layers);
    let square = width * width;
    let (shared, groups) = texts;
    let own: i64 = groups.iter().map(|(texts, length)| texts * length).sum();
    let pairs = shared * shared + groups.iter().map(|(texts, length)| texts * length * (shared + length)).sum::<i64>();
    let ends: i64 = groups.iter().map(|(texts, length)| texts * (shared + length)).sum();
    let (rows, classes) = (shared + own, i64::from(cell.classes));
    let middle = representation - 2;
    let last = 2 * rows * square + 10 * classes * square;
    let text = forward(width, rows, pairs) + backward(width, rows, pairs) - 6 * rows * square
        + middle * (forward(width, rows, pairs) + backward(width, rows, pairs))
        + 2 * last
        + 6 * ends * width;
    (images + text) as f64
}

/// An image of an evaluation as the trainer does it, with what comes before the layers with tokens in the cache, or not.
pub(super) fn image(geometry: &Geometry, warm: bool) -> i64 {
    representation_layers(geometry) + if warm { 0 } else { prefix(geometry) }
}

/// An image through the layers before the first one with tokens.
fn prefix(geometry: &Geometry) -> i64 {
    let [width, layers, _] = geometry.vision;
    let positions = geometry.positions();
    geometry.patches() + parts(layers).0 * forward(width, positions, positions * positions)
}

/// An image through the layers with tokens, of whose last only some rows are read.
fn representation_layers(geometry: &Geometry) -> i64 {
    let [width, layers, heads] = geometry.vision;
    let long = geometry.positions() + TOKENS;
    (parts(layers).1 - 1) * forward(width, long, long * long)
        + 12 * (1 + TOKENS) * width * width
        + 2 * (1 + TOKENS) * heads * long * width
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::case::{Backbone, TARGETS};

    #[test]
    fn the_plain_order_takes_at_least_as_many_times_more_as_the_targets_say() {
        let geometry = Backbone::VitB16.geometry();
        for (cell, targets) in TARGETS {
            for (warm, target) in [false, true].into_iter().zip(targets) {
                let ratio = |texts| plain_step(&geometry, cell) / step(&geometry, cell, &texts, warm);
                // Texts of the template with four tokens of their own, and an end: 15 positions with the representation tokens.
                let ours = ratio((10, vec![(i64::from(cell.classes), 5)]));
                assert!(ours > target, "{cell:?}: {ours}");
                // The same with nothing shared among the texts.
                let without = ratio((0, vec![(i64::from(cell.classes), 15)]));
                assert!((0.95 * target..1.12 * target).contains(&without), "{cell:?}, {warm}: {without}");
            }
        }
    }

    #[test]
    fn an_image_takes_nearly_a_layer_less_and_half_with_the_cache() {
        let geometry = Backbone::VitB16.geometry();
        let ratio = |warm| plain_image(&geometry) as f64 / image(&geometry, warm) as f64;
        assert!((1.07..1.10).contains(&ratio(false)), "{}", ratio(false));
        assert!((1.9..2.1).contains(&ratio(true)), "{}", ratio(true));
    }
}
