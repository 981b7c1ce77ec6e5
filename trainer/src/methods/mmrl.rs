//! MMRL (CVPR 2025): a linear layer of its own for each representation layer, tokens that are replaced at each of them, and a
//! projection of its own for the representation feature (method.md, section 2).

use tch::Tensor;

use super::parameters::{Initial, Parameter};
use super::representation::{self, Aligner, TokenValues, Variant};
use super::{Inference, Parameters, Registration};

pub(super) static METHOD: Registration = Registration {
    key: "mmrl",
    parameters: |clip, values| representation::parameters(clip, values, &Separate),
    build: |clip, parts| {
        let variant = Variant { aligner: &Separate, norm_terms: false, unseen: Inference::Native };
        representation::build(clip, parts, variant)
    },
};

/// A linear layer for each representation layer; all of a tower start as copies of one.
struct Separate;

impl Aligner for Separate {
    fn tower(&self, tower: &str, width: i64, layers: usize, hyper: &TokenValues) -> Vec<Parameter> {
        let space = i64::from(hyper.rep_dim);
        let name = |layer: usize, part: &str| format!("{tower}.aligner.{layer}.{part}");
        let initial = |layer: usize, part: &str| match layer {
            0 => Initial::kaiming_uniform(space),
            _ => Initial::CopyOf(name(0, part)),
        };
        let layer = |layer: usize| {
            [
                Parameter::new(name(layer, "weight"), &[width, space], initial(layer, "weight")),
                Parameter::new(name(layer, "bias"), &[width], initial(layer, "bias")),
            ]
        };
        (0..layers).flat_map(layer).collect()
    }

    fn projection(&self, proj: &Tensor, _: &TokenValues) -> Vec<Parameter> {
        vec![Parameter::new(PROJECTION, &proj.size(), Initial::Given(proj.shallow_clone()))]
    }

    fn tokens(&self, parameters: &Parameters, tower: &str, layers: usize, space: &Tensor) -> Vec<Tensor> {
        let token = |layer: usize| {
            let parameter = |part: &str| parameters.get(&format!("{tower}.aligner.{layer}.{part}"));
            space.linear(parameter("weight"), Some(parameter("bias")))
        };
        (0..layers).map(token).collect()
    }

    fn project(&self, parameters: &Parameters, mean: &Tensor, _: &Tensor) -> Tensor {
        mean.matmul(parameters.get(PROJECTION))
    }

    /// The tokens are replaced.
    fn beta(&self, _: &TokenValues) -> f64 {
        1.0
    }
}

/// The parameter that projects the representation feature [W, E].
const PROJECTION: &str = "vision.proj.rep";
