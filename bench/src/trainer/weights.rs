//! A CLIP with random weights, under the names of `OpenAI`'s state dict.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Result;
use serde_json::{Map, json};

use super::work::Geometry;

const VOCABULARY: i64 = 49_408;
const CONTEXT: i64 = 77;
/// Weights are evenly spread from minus to plus this: about as wide as CLIP's.
const SCALE: f64 = 0.035;

/// Writes the file, unless it is there with the size that it should have. Its numbers are the same every time.
pub(super) fn make(geometry: &Geometry, path: &Path) -> Result<()> {
    let shapes = shapes(geometry);
    let numbers = |shape: &[i64]| shape.iter().product::<i64>() as u64;
    let (mut header, mut offset) = (Map::new(), 0);
    for (name, shape) in &shapes {
        let end = offset + 4 * numbers(shape);
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]}));
        offset = end;
    }
    let mut header = serde_json::to_string(&header)?;
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let size = 8 + header.len() as u64 + offset;
    if fs_err::metadata(path).is_ok_and(|file| file.len() == size) {
        return Ok(());
    }
    let partial = path.with_extension("partial");
    let mut file = BufWriter::new(fs_err::File::create(&partial)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut random = 0_u64;
    for (name, shape) in &shapes {
        // Norms scale by about 1; everything else is around 0.
        let middle = if name.contains("ln_") && name.ends_with("weight") { 1.0 } else { 0.0 };
        for _ in 0..numbers(shape) {
            let number = middle + SCALE * (2.0 * next(&mut random) - 1.0);
            #[expect(clippy::cast_possible_truncation, reason = "weights are in single precision")]
            file.write_all(&(number as f32).to_le_bytes())?;
        }
    }
    file.flush()?;
    fs_err::rename(&partial, path)?;
    Ok(())
}

/// `SplitMix64` (Steele, Lea and Flood 2014), as a number from [0, 1).
fn next(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn shapes(geometry: &Geometry) -> Vec<(String, Vec<i64>)> {
    let Geometry { vision: [vision, vision_layers, _], text: [text, text_layers, _], embedding, patch, .. } = *geometry;
    let mut shapes = Vec::new();
    let mut add = |name: &str, shape: &[i64]| shapes.push((name.to_owned(), shape.to_vec()));
    add("visual.conv1.weight", &[vision, 3, patch, patch]);
    add("visual.class_embedding", &[vision]);
    add("visual.positional_embedding", &[geometry.positions(), vision]);
    add("visual.proj", &[vision, embedding]);
    add("token_embedding.weight", &[VOCABULARY, text]);
    add("positional_embedding", &[CONTEXT, text]);
    add("text_projection", &[text, embedding]);
    for (norm, width) in [("visual.ln_pre", vision), ("visual.ln_post", vision), ("ln_final", text)] {
        add(&format!("{norm}.weight"), &[width]);
        add(&format!("{norm}.bias"), &[width]);
    }
    for (tower, layers, width) in [("visual.", vision_layers, vision), ("", text_layers, text)] {
        for layer in 0..layers {
            let block = format!("{tower}transformer.resblocks.{layer}");
            for norm in ["ln_1", "ln_2"] {
                add(&format!("{block}.{norm}.weight"), &[width]);
                add(&format!("{block}.{norm}.bias"), &[width]);
            }
            add(&format!("{block}.attn.in_proj_weight"), &[3 * width, width]);
            add(&format!("{block}.attn.in_proj_bias"), &[3 * width]);
            for (linear, out, inputs) in
                [("attn.out_proj", width, width), ("mlp.c_fc", 4 * width, width), ("mlp.c_proj", width, 4 * width)]
            {
                add(&format!("{block}.{linear}.weight"), &[out, inputs]);
                add(&format!("{block}.{linear}.bias"), &[out]);
            }
        }
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trainer::case::Backbone;

    #[test]
    fn vit_b16_has_as_many_numbers_as_clips() {
        let count: i64 =
            shapes(&Backbone::VitB16.geometry()).iter().map(|(_, shape)| shape.iter().product::<i64>()).sum();
        // OpenAI's file has these and the temperature.
        assert_eq!(count + 1, 149_620_737);
    }

    #[test]
    fn the_file_is_made_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let geometry = Geometry { vision: [64, 2, 1], image: 32, patch: 16, text: [64, 1, 1], embedding: 8 };
        make(&geometry, &path).unwrap();
        let bytes = fs_err::read(&path).unwrap();
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let numbers: i64 = shapes(&geometry).iter().map(|(_, shape)| shape.iter().product::<i64>()).sum();
        assert_eq!(bytes.len(), 8 + header + 4 * numbers as usize);
        let made = fs_err::metadata(&path).unwrap().modified().unwrap();
        make(&geometry, &path).unwrap();
        assert_eq!(fs_err::metadata(&path).unwrap().modified().unwrap(), made);
        assert!(!path.with_extension("partial").exists());
    }
}
