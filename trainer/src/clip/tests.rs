//! The shortcuts change nothing: on the bundled miniature.

use std::path::{Path, PathBuf};

use promptfield_core::job::backbone::{Activation, ArchitectureSettings};
use promptfield_core::names::Precision;
use tch::{Device, Kind, Tensor};

use super::{Clip, Format, Sequences, Weights, WeightsError};
use crate::tokenizer::{CONTEXT_LENGTH, Tokenizer, Tokens};

pub(super) fn miniature() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/clip-mini.safetensors"))
}

fn clip() -> Clip {
    Clip::open(&miniature(), &ArchitectureSettings::default(), Device::Cpu, Precision::Fp32).unwrap()
}

/// Plain numbers of the size of normalised pixels.
fn images(count: i64) -> Tensor {
    let length = count * 3 * 64 * 64;
    (Tensor::arange(length, (Kind::Float, Device::Cpu)) * 0.37).sin().view([count, 3, 64, 64]) * 2.0
}

fn tokens(texts: &[&str]) -> Vec<Tokens> {
    texts.iter().map(|text| Tokenizer::shared().encode(text).unwrap()).collect()
}

fn assert_close(a: &Tensor, b: &Tensor) {
    assert_eq!(a.size(), b.size());
    let (difference, scale) = ((a - b).abs().max(), b.abs().max());
    let relative = f64::try_from(difference / scale).unwrap();
    assert!(relative < 1e-5, "{relative}");
}

#[test]
fn the_two_halves_of_a_tower_are_the_tower() {
    let (clip, images, texts) = (clip(), images(2), tokens(&["a photo of a llama.", "a stop sign"]));
    for layers in 0..=3 {
        let prefix = clip.vision.prefix(&images, layers);
        assert_eq!(clip.vision.features(&prefix, layers), clip.image_features(&images));
    }
    for layers in 0..=2 {
        let prefix = clip.text.prefix(&texts, layers).unwrap();
        assert_eq!(clip.text.features(&prefix, layers), clip.text_features(&texts).unwrap());
    }
}

#[test]
fn rows_that_nobody_reads_can_be_left_out() {
    let others =
        ArchitectureSettings { activation: Some(Activation::Gelu), vision_heads: Some(8), ..Default::default() };
    for settings in [ArchitectureSettings::default(), others] {
        let clip = Clip::open(&miniature(), &settings, Device::Cpu, Precision::Fp32).unwrap();
        let last = clip.vision.blocks.last().unwrap();
        let x = clip.vision.prefix(&images(2), 3).activations;
        // Few rows are read in an order of operations of their own.
        for read in [1, 4, 17] {
            let sequences = Sequences::Images { read };
            let (all, first) = (last.forward(&x, sequences), last.forward_read(&x, sequences));
            assert_close(&first.residual, &all.residual.narrow(1, 0, read));
            assert_close(&first.attention, &all.attention.narrow(1, 0, read));
        }

        let last = clip.text.blocks.last().unwrap();
        let prefix = clip.text.prefix(&tokens(&["a photo of a stop sign.", "a llama"]), 2).unwrap();
        let (x, sequences) = (&prefix.activations, Sequences::Texts(&prefix.texts));
        let (all, read) = (last.forward(x, sequences), last.forward_read(x, sequences));
        assert_close(&read.residual, &prefix.texts.ends(&all.residual));
    }
}

#[test]
fn what_a_layer_projects_can_be_known_beforehand() {
    let clip = clip();
    let x = clip.vision.prefix(&images(2), 1);
    let (block, sequences) = (&clip.vision.blocks[1], Sequences::Images { read: 1 });
    let output = block.forward_projected(&x.activations, x.projected.as_ref().unwrap(), sequences);
    assert_eq!(output.residual, block.forward(&x.activations, sequences).residual);
    assert!(clip.vision.prefix(&images(1), 3).projected.is_none(), "of the last layer only some rows are read");
}

#[test]
fn texts_are_the_same_whatever_stands_beside_them() {
    let clip = clip();
    let long = "a ".repeat(CONTEXT_LENGTH - 2);
    let texts =
        tokens(&["a photo of a llama.", "a stop sign", &long, "a photo of a red umbrella.", "a photo of a llama."]);
    let all = clip.text_features(&texts).unwrap();
    let rows = |texts: &[Tokens]| clip.text.prefix(texts, 0).unwrap().activations.size()[1];
    // Start, "a photo of a" and "llama.", end; or all of them but the end as what one text shares with itself.
    assert_eq!((rows(&texts[..1]), rows(&[texts[0], texts[4]])), (8, 9));
    for text in 0..5 {
        assert_close(&clip.text_features(&texts[text..=text]).unwrap(), &all.narrow(0, text as i64, 1));
    }
    assert_close(&clip.text_features(&[texts[3], texts[0]]).unwrap().get(0), &all.get(3));
    assert_close(&all.get(4), &all.get(0));
    assert_eq!(clip.text_features(&[]).unwrap_err().to_string(), "there are no texts, expected at least one");
}

#[test]
fn a_file_that_is_no_clip_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let error = Weights::open(&path, &ArchitectureSettings::default()).unwrap_err();
    assert!(matches!(error, WeightsError::Read { .. }) && error.to_string().contains("weights.safetensors"), "{error}");

    fs_err::write(&path, b"PK\x03\x04 something else").unwrap();
    let error = Weights::open(&path, &ArchitectureSettings::default()).unwrap_err().to_string();
    assert!(error.contains("weights.safetensors`: not a PyTorch archive that can be read: it is cut short"), "{error}");
    fs_err::write(&path, b"\x80\x02something else").unwrap();
    let error = Weights::open(&path, &ArchitectureSettings::default()).unwrap_err().to_string();
    assert!(error.contains("weights.safetensors`: neither a PyTorch archive, which is a ZIP file, nor"), "{error}");

    let mut tensors = Tensor::read_safetensors(miniature()).unwrap();
    tensors.retain(|(name, _)| name != "visual.transformer.resblocks.2.mlp.c_fc.bias");
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let error = Weights::open(&path, &ArchitectureSettings::default()).unwrap_err().to_string();
    assert!(
        error.contains("no tensor `visual.transformer.resblocks.2.mlp.c_fc.bias`, expected one of shape [512]"),
        "{error}"
    );

    let mut tensors = Tensor::read_safetensors(miniature()).unwrap();
    tensors
        .iter_mut()
        .filter(|(name, _)| name == "ln_final.bias")
        .for_each(|(_, bias)| *bias = bias.to_kind(Kind::Double));
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let error = Weights::open(&path, &ArchitectureSettings::default()).unwrap_err().to_string();
    assert!(error.contains("`ln_final.bias` is F64, expected F32, F16 or BF16"), "{error}");
}

/// Writes tensors as a `TorchScript` archive, with libtorch. It takes no dots in the names of one module's tensors, so they are
/// put in afterwards.
fn write_archive(tensors: &[(String, Tensor)], path: &Path) {
    let without_dots: Vec<(String, &Tensor)> =
        tensors.iter().map(|(name, tensor)| (name.replace('.', "|"), tensor)).collect();
    Tensor::save_multi(&without_dots, path).unwrap();
    let mut bytes = fs_err::read(path).unwrap();
    let pickle = bytes.windows(9).position(|window| window == b"__torch__").unwrap();
    for (name, _) in &without_dots {
        let at = pickle + bytes[pickle..].windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
        bytes[at..][..name.len()].iter_mut().filter(|byte| **byte == b'|').for_each(|byte| *byte = b'.');
    }
    fs_err::write(path, bytes).unwrap();
}

#[test]
fn an_archive_in_half_precision_is_computed_in_single_precision() {
    let folder = tempfile::tempdir().unwrap();
    let [archive, half, single] =
        ["ViT.pt", "half.safetensors", "single.safetensors"].map(|name| folder.path().join(name));
    let in_kind = |kind| {
        let mut tensors = Tensor::read_safetensors(miniature()).unwrap();
        for (_, tensor) in &mut tensors {
            *tensor = tensor.to_kind(Kind::Half).to_kind(kind);
        }
        tensors
    };
    write_archive(&in_kind(Kind::Half), &archive);
    Tensor::write_safetensors(&in_kind(Kind::Half), &half).unwrap();
    Tensor::write_safetensors(&in_kind(Kind::Float), &single).unwrap();

    let weights = [&archive, &half, &single].map(|path| Weights::open(path, &ArchitectureSettings::default()).unwrap());
    assert_eq!(weights.each_ref().map(Weights::format), [Format::ArchiveOriginal, Format::Original, Format::Original]);
    assert_eq!(weights.each_ref().map(Weights::parameter_count), [7_856_129; 3]);
    let clips = [archive, half, single]
        .map(|path| Clip::open(&path, &ArchitectureSettings::default(), Device::Cpu, Precision::Fp32).unwrap());
    let texts = tokens(&["a photo of a llama.", "a stop sign"]);
    let [archive, half, single] =
        clips.map(|clip| (clip.image_features(&images(2)), clip.text_features(&texts).unwrap()));
    assert_eq!(archive, half);
    // These weights are used where they lie in the file; how sums are rounded depends on that place.
    assert_close(&single.0, &half.0);
    assert_close(&single.1, &half.1);
}

#[test]
fn mixed_precision_is_near_single_precision_and_gives_single_precision() {
    let single = clip();
    let texts = tokens(&["a photo of a llama.", "a stop sign"]);
    // Roughly the spacing of the kind's numbers.
    for (precision, kind, spacing) in
        [(Precision::AmpBf16, Kind::BFloat16, 0.01), (Precision::AmpFp16, Kind::Half, 0.001)]
    {
        let clip = Clip::open(&miniature(), &ArchitectureSettings::default(), Device::Cpu, precision).unwrap();
        for block in clip.vision.blocks.iter().chain(&clip.text.blocks) {
            assert_eq!(block.kinds(), [kind; 4]);
        }
        let pairs = [
            (clip.image_features(&images(2)), single.image_features(&images(2))),
            (clip.text_features(&texts).unwrap(), single.text_features(&texts).unwrap()),
        ];
        for (mixed, single) in pairs {
            assert_eq!(mixed.kind(), Kind::Float);
            let relative = f64::try_from((&mixed - &single).norm() / single.norm()).unwrap();
            assert!(relative < 3.0 * spacing && relative > 0.01 * spacing, "{precision}: {relative}");
        }

        // Gradients flow through the roundings.
        let x = single.vision.prefix(&images(2), 1).activations.set_requires_grad(true);
        let gradient = |clip: &Clip| {
            let output = clip.vision.blocks[1].forward(&x, Sequences::Images { read: 1 });
            assert_eq!((output.attention.kind(), output.residual.kind()), (Kind::Float, Kind::Float));
            let loss = output.residual.square().mean(Kind::Float);
            Tensor::run_backward(&[loss], &[&x], false, false).remove(0)
        };
        let (mixed, single) = (gradient(&clip), gradient(&single));
        let relative = f64::try_from((&mixed - &single).norm() / single.norm()).unwrap();
        assert!(mixed.kind() == Kind::Float && relative < 3.0 * spacing, "{precision}: {relative}");
    }
}
