//! The sizes of a CLIP, read from its tensors' shapes.

use std::collections::BTreeMap;

use super::weights::Problem;

/// The sizes of a CLIP with a Vision Transformer as its image tower. The shapes don't tell how many attention heads it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Geometry {
    /// The image tower.
    pub vision: VisionGeometry,
    /// The text tower.
    pub text: TextGeometry,
    /// Width of the space that images and texts share.
    pub embedding: i64,
}

/// The sizes of the image tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VisionGeometry {
    /// Width of an activation.
    pub width: i64,
    /// Transformer layers.
    pub layers: usize,
    /// Width between the two linear layers of a layer.
    pub mlp_width: i64,
    /// Edge of a patch, in pixels.
    pub patch: i64,
    /// Edge of the input, in pixels.
    pub image_size: i64,
}

/// The sizes of the text tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TextGeometry {
    /// Width of an activation.
    pub width: i64,
    /// Transformer layers.
    pub layers: usize,
    /// Width between the two linear layers of a layer.
    pub mlp_width: i64,
    /// The most tokens of a text.
    pub context: i64,
    /// Rows of the token embedding.
    pub vocabulary: i64,
}

/// Tensors' shapes by their original CLIP names.
pub(super) type Shapes = BTreeMap<String, Vec<i64>>;

const VISION_LAYERS: &str = "visual.transformer.resblocks.";
const TEXT_LAYERS: &str = "transformer.resblocks.";

impl Geometry {
    /// Reads the sizes, and checks that every tensor is there in the shape that follows from them.
    pub(super) fn read(shapes: &Shapes) -> Result<Self, Problem> {
        let [width, _, _, patch] = shape(shapes, "visual.conv1.weight", "[width, 3, patch, patch]")?;
        let [positions, _] = shape(shapes, "visual.positional_embedding", "[1 + patches, width]")?;
        let [_, embedding] = shape(shapes, "visual.proj", "[width, embedding]")?;
        let [context, text_width] = shape(shapes, "positional_embedding", "[context, width]")?;
        let [vocabulary, _] = shape(shapes, "token_embedding.weight", "[vocabulary, width]")?;
        let grid = ((positions - 1).max(0) as u64).isqrt() as i64;
        if grid == 0 || grid * grid != positions - 1 {
            return Err(Problem::Shape {
                tensor: "visual.positional_embedding".to_owned(),
                found: vec![positions, width],
                expected: "one row more than a square number, for a square grid of patches".to_owned(),
            });
        }
        let geometry = Self {
            vision: VisionGeometry {
                width,
                layers: layers(shapes, VISION_LAYERS)?,
                mlp_width: mlp_width(shapes, VISION_LAYERS)?,
                patch,
                image_size: grid * patch,
            },
            text: TextGeometry {
                width: text_width,
                layers: layers(shapes, TEXT_LAYERS)?,
                mlp_width: mlp_width(shapes, TEXT_LAYERS)?,
                context,
                vocabulary,
            },
            embedding,
        };
        for (name, expected) in geometry.tensors() {
            let found = shapes.get(&name).ok_or_else(|| missing(&name, &format!("{expected:?}")))?;
            if *found != expected {
                let expected = format!("{expected:?}");
                return Err(Problem::Shape { tensor: name, found: found.clone(), expected });
            }
        }
        Ok(geometry)
    }

    /// Every tensor that a CLIP of these sizes has, with its shape.
    fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        let (vision, text, embedding) = (&self.vision, &self.text, self.embedding);
        let grid = vision.image_size / vision.patch;
        let mut tensors = vec![
            ("visual.conv1.weight".to_owned(), vec![vision.width, 3, vision.patch, vision.patch]),
            ("visual.class_embedding".to_owned(), vec![vision.width]),
            ("visual.positional_embedding".to_owned(), vec![1 + grid * grid, vision.width]),
            ("visual.proj".to_owned(), vec![vision.width, embedding]),
            ("token_embedding.weight".to_owned(), vec![text.vocabulary, text.width]),
            ("positional_embedding".to_owned(), vec![text.context, text.width]),
            ("text_projection".to_owned(), vec![text.width, embedding]),
        ];
        let mut norm = |name: String, width: i64| {
            tensors.push((format!("{name}.weight"), vec![width]));
            tensors.push((format!("{name}.bias"), vec![width]));
        };
        norm("visual.ln_pre".to_owned(), vision.width);
        norm("visual.ln_post".to_owned(), vision.width);
        norm("ln_final".to_owned(), text.width);
        for (prefix, layers, width, mlp_width) in [
            (VISION_LAYERS, vision.layers, vision.width, vision.mlp_width),
            (TEXT_LAYERS, text.layers, text.width, text.mlp_width),
        ] {
            for layer in 0..layers {
                let block = format!("{prefix}{layer}");
                for (part, shape) in [
                    ("ln_1.weight", vec![width]),
                    ("ln_1.bias", vec![width]),
                    ("attn.in_proj_weight", vec![3 * width, width]),
                    ("attn.in_proj_bias", vec![3 * width]),
                    ("attn.out_proj.weight", vec![width, width]),
                    ("attn.out_proj.bias", vec![width]),
                    ("ln_2.weight", vec![width]),
                    ("ln_2.bias", vec![width]),
                    ("mlp.c_fc.weight", vec![mlp_width, width]),
                    ("mlp.c_fc.bias", vec![mlp_width]),
                    ("mlp.c_proj.weight", vec![width, mlp_width]),
                    ("mlp.c_proj.bias", vec![width]),
                ] {
                    tensors.push((format!("{block}.{part}"), shape));
                }
            }
        }
        tensors
    }
}

fn missing(tensor: &str, expected: &str) -> Problem {
    Problem::Missing { tensor: tensor.to_owned(), expected: expected.to_owned() }
}

fn shape<const N: usize>(shapes: &Shapes, name: &str, expected: &str) -> Result<[i64; N], Problem> {
    let found = shapes.get(name).ok_or_else(|| missing(name, expected))?;
    let sizes = <[i64; N]>::try_from(found.as_slice()).ok().filter(|sizes| sizes.iter().all(|&size| size > 0));
    sizes.ok_or_else(|| Problem::Shape { tensor: name.to_owned(), found: found.clone(), expected: expected.to_owned() })
}

/// One more than the highest layer that any tensor belongs to.
fn layers(shapes: &Shapes, prefix: &str) -> Result<usize, Problem> {
    let number = |name: &String| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
    let highest = shapes.keys().filter_map(number).max();
    // A number that isn't plausible would make the list of expected tensors endless.
    match highest {
        Some(highest) if highest < 1000 => Ok(highest + 1),
        _ => Err(missing(&format!("{prefix}0.ln_1.weight"), "[width]")),
    }
}

/// Four times the tower's width in most CLIPs; not in `OpenCLIP`'s ViT-g-14 and ViT-bigG-14.
fn mlp_width(shapes: &Shapes, prefix: &str) -> Result<i64, Problem> {
    let [mlp_width, _] = shape(shapes, &format!("{prefix}0.mlp.c_fc.weight"), "[MLP's width, width]")?;
    Ok(mlp_width)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn vit(vision: VisionGeometry, text_width: i64) -> Geometry {
        let text =
            TextGeometry { width: text_width, layers: 12, mlp_width: 4 * text_width, context: 77, vocabulary: 49408 };
        Geometry { vision, text, embedding: text_width }
    }

    const VIT_B16: Geometry =
        vit(VisionGeometry { width: 768, layers: 12, mlp_width: 3072, patch: 16, image_size: 224 }, 512);
    const VIT_B32: Geometry =
        vit(VisionGeometry { width: 768, layers: 12, mlp_width: 3072, patch: 32, image_size: 224 }, 512);
    const VIT_L14: Geometry =
        vit(VisionGeometry { width: 1024, layers: 24, mlp_width: 4096, patch: 14, image_size: 224 }, 768);
    const VIT_L14_336: Geometry =
        vit(VisionGeometry { width: 1024, layers: 24, mlp_width: 4096, patch: 14, image_size: 336 }, 768);

    /// `OpenCLIP`'s ViT-bigG-14, with fewer layers.
    const VIT_BIG_G14: Geometry =
        vit(VisionGeometry { width: 1664, layers: 2, mlp_width: 8192, patch: 14, image_size: 224 }, 1280);

    /// ViT-L/14's sizes, the least even of the published ones.
    fn vit_l14() -> (Geometry, Shapes) {
        (VIT_L14, VIT_L14.tensors().into_iter().collect())
    }

    #[test]
    fn sizes_are_read_back_from_the_shapes_they_make() {
        for geometry in [VIT_B16, VIT_B32, VIT_L14, VIT_L14_336, VIT_BIG_G14] {
            let mut shapes: Shapes = geometry.tensors().into_iter().collect();
            shapes.insert("logit_scale".to_owned(), vec![]);
            assert_eq!(Geometry::read(&shapes), Ok(geometry));
        }
    }

    #[test]
    fn each_missing_or_wrong_tensor_is_named() {
        let (_, whole) = vit_l14();
        for name in whole.keys() {
            let mut shapes = whole.clone();
            shapes.remove(name);
            assert!(matches!(Geometry::read(&shapes), Err(Problem::Missing { tensor, .. }) if tensor == *name));
            let mut shapes = whole.clone();
            shapes.get_mut(name).unwrap().push(7);
            assert!(matches!(Geometry::read(&shapes), Err(Problem::Shape { tensor, .. }) if tensor == *name), "{name}");
        }
    }

    #[test]
    fn a_grid_that_is_not_square_is_refused() {
        let (_, mut shapes) = vit_l14();
        shapes.insert("visual.positional_embedding".to_owned(), vec![256, 1024]);
        let error = Geometry::read(&shapes).unwrap_err().to_string();
        assert_eq!(
            error,
            "`visual.positional_embedding` is [256, 1024], expected one row more than a square number, for a square grid of patches"
        );
    }
}
