//! The layout of Hugging Face's `CLIPModel`: other names, separate query, key and value projections, and projections to
//! the shared space that are linear layers, so transposed.

use std::collections::BTreeMap;

use super::{Problem, Source, Stored};

const PATCHES: &str = "vision_model.embeddings.patch_embedding.weight";

/// Tensors outside the layers: theirs, the original name.
const NAMES: &[(&str, &str)] = &[
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    (PATCHES, "visual.conv1.weight"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    // Misspelt in the layout itself.
    ("vision_model.pre_layrnorm.weight", "visual.ln_pre.weight"),
    ("vision_model.pre_layrnorm.bias", "visual.ln_pre.bias"),
    ("vision_model.post_layernorm.weight", "visual.ln_post.weight"),
    ("vision_model.post_layernorm.bias", "visual.ln_post.bias"),
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm.weight", "ln_final.weight"),
    ("text_model.final_layer_norm.bias", "ln_final.bias"),
    ("logit_scale", "logit_scale"),
];
const TRANSPOSED: &[(&str, &str)] =
    &[("visual_projection.weight", "visual.proj"), ("text_projection.weight", "text_projection")];

/// Layers: theirs, the original prefix.
const LAYERS: &[(&str, &str)] = &[
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
];
/// Parts of a layer, each with a weight and a bias.
const PARTS: &[(&str, &str)] = &[
    ("layer_norm1.", "ln_1."),
    ("self_attn.out_proj.", "attn.out_proj."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
];

/// Whether the names are those of this layout.
pub(super) fn is_layout_of(tensors: &BTreeMap<String, Stored>) -> bool {
    tensors.contains_key(PATCHES)
}

/// The tensors under their original names. What the layout doesn't know is left out.
pub(super) fn to_original(mut theirs: BTreeMap<String, Stored<'_>>) -> Result<BTreeMap<String, Source<'_>>, Problem> {
    let mut original = BTreeMap::new();
    for (name, new) in NAMES {
        if let Some(stored) = theirs.remove(*name) {
            original.insert((*new).to_owned(), Source::Plain(stored));
        }
    }
    for (name, new) in TRANSPOSED {
        if let Some(stored) = theirs.remove(*name).filter(|stored| stored.shape.len() == 2) {
            original.insert((*new).to_owned(), Source::Transposed(stored));
        }
    }
    for (prefix, new_prefix) in LAYERS {
        let of_layers: Vec<String> = theirs.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        for name in of_layers {
            let Some((layer, part)) = name[prefix.len()..].split_once('.') else { continue };
            if let Some(kind) = part.strip_prefix("self_attn.q_proj.") {
                let fused = fuse(&mut theirs, &format!("{prefix}{layer}.self_attn."), kind)?;
                original.insert(format!("{new_prefix}{layer}.attn.in_proj_{kind}"), fused);
            }
            for (old, new) in PARTS {
                if let Some(kind) = part.strip_prefix(old)
                    && let Some(stored) = theirs.remove(&name)
                {
                    original.insert(format!("{new_prefix}{layer}.{new}{kind}"), Source::Plain(stored));
                }
            }
        }
    }
    Ok(original)
}

/// One in-projection out of the query, key and value projections' `kind` (weight or bias).
fn fuse<'a>(theirs: &mut BTreeMap<String, Stored<'a>>, attention: &str, kind: &str) -> Result<Source<'a>, Problem> {
    let mut part = |letter: &str, first: Option<&Stored>| {
        let name = format!("{attention}{letter}_proj.{kind}");
        let expected = first.map_or_else(|| "[width, width]".to_owned(), |first| format!("{:?}", first.shape));
        let Some(stored) = theirs.remove(&name) else { return Err(Problem::Missing { tensor: name, expected }) };
        let fits = match first {
            Some(first) => first.shape == stored.shape && first.kind == stored.kind,
            None => !stored.shape.is_empty(),
        };
        if fits { Ok(stored) } else { Err(Problem::Shape { tensor: name, found: stored.shape, expected }) }
    };
    let query = part("q", None)?;
    let key = part("k", Some(&query))?;
    let value = part("v", Some(&query))?;
    Ok(Source::Stacked([query, key, value]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use promptfield_core::job::backbone::ArchitectureSettings;
    use tch::Tensor;

    use super::super::Weights;
    use super::*;

    /// The miniature in this layout.
    fn theirs() -> (BTreeMap<String, Tensor>, BTreeMap<String, Tensor>) {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../demo/clip-mini.safetensors");
        let original: BTreeMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
        let mut theirs = BTreeMap::new();
        for (new, tensor) in &original {
            let tensor = tensor.shallow_clone();
            if let Some((name, _)) = NAMES.iter().find(|(_, original)| original == new) {
                theirs.insert((*name).to_owned(), tensor);
            } else if let Some((name, _)) = TRANSPOSED.iter().find(|(_, original)| original == new) {
                theirs.insert((*name).to_owned(), tensor.tr().contiguous());
            } else {
                let (prefix, rest) =
                    LAYERS.iter().find_map(|(old, new_prefix)| Some((old, new.strip_prefix(new_prefix)?))).unwrap();
                let (layer, part) = rest.split_once('.').unwrap();
                if let Some(kind) = part.strip_prefix("attn.in_proj_") {
                    for (letter, third) in ["q", "k", "v"].iter().zip(tensor.chunk(3, 0)) {
                        theirs.insert(format!("{prefix}{layer}.self_attn.{letter}_proj.{kind}"), third.contiguous());
                    }
                } else {
                    let (old, kind) = PARTS.iter().find_map(|(old, new)| Some((old, part.strip_prefix(new)?))).unwrap();
                    theirs.insert(format!("{prefix}{layer}.{old}{kind}"), tensor);
                }
            }
        }
        (theirs, original)
    }

    fn open(tensors: BTreeMap<String, Tensor>, folder: &Path) -> Result<Weights, String> {
        let path = folder.join("weights.safetensors");
        Tensor::write_safetensors(&tensors.into_iter().collect::<Vec<_>>(), &path).unwrap();
        Weights::open(&path, &ArchitectureSettings::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_same_tensors_come_out_under_the_original_names() {
        let folder = tempfile::tempdir().unwrap();
        let (theirs, original) = theirs();
        assert_eq!(open(theirs, folder.path()).unwrap().tensors, original);
    }

    #[test]
    fn a_missing_projection_is_named_as_the_file_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut theirs, _) = theirs();
        theirs.remove("text_model.encoder.layers.1.self_attn.k_proj.weight");
        let error = open(theirs, folder.path()).unwrap_err();
        assert!(error.contains("no tensor `text_model.encoder.layers.1.self_attn.k_proj.weight`"), "{error}");
    }
}
