//! Comparison with what Pillow and torchvision made of the same files: `tests/reference/pixels/make.py`.

use std::path::Path;

use promptfield_core::job::backbone::Architecture;
use promptfield_core::job::spec::hex;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::preprocess::{crop_into, test_pixels};
use super::resize::Rect;
use super::{PixelScale, Pixels, decode};

#[derive(Deserialize)]
struct Golden {
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Image {
    file: String,
    width: usize,
    height: usize,
    rgb: String,
    test: Vec<Tensor>,
    train: Vec<Tensor>,
}

/// A tensor, and for training the crop that it came from.
#[derive(Deserialize)]
struct Tensor {
    size: usize,
    #[serde(default)]
    x: usize,
    #[serde(default)]
    y: usize,
    #[serde(default)]
    width: usize,
    #[serde(default)]
    height: usize,
    #[serde(default)]
    mirrored: bool,
    sha256: String,
    values: Vec<f32>,
}

#[test]
fn pixels_are_those_of_pillow_and_torchvision() {
    let golden: Golden = serde_json::from_str(include_str!("../../tests/reference/pixels/golden.json")).unwrap();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    assert!(golden.images.len() > 40);
    let scale = PixelScale::of(&Architecture::OPENAI);
    for expected in golden.images {
        let image = decode(&repository.join(&expected.file)).unwrap();
        let name = &expected.file;
        assert_eq!((image.width, image.height), (expected.width, expected.height), "{name}");
        assert_eq!(sha256(&image.data), expected.rgb, "{name}");
        for tensor in expected.test {
            compare(&test_pixels(&image, tensor.size, &scale), &tensor, name);
        }
        for tensor in expected.train {
            let crop = Rect { x: tensor.x, y: tensor.y, width: tensor.width, height: tensor.height };
            let pixels = Pixels::filled(tensor.size, |target| {
                crop_into(&image, crop, tensor.size, &scale, tensor.mirrored, target);
            });
            compare(&pixels, &tensor, name);
        }
    }
}

fn compare(pixels: &Pixels, expected: &Tensor, name: &str) {
    let last = pixels.data.len() - 1;
    let values: Vec<f32> = (0..4).map(|place| pixels.data[place * last / 3]).collect();
    let bytes: Vec<u8> = pixels.data.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(
        sha256(&bytes),
        expected.sha256,
        "{name}, size {}: {values:?}, expected {:?}",
        expected.size,
        expected.values
    );
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
