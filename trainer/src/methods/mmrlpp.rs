//! MMRL++ (IJCV 2026): representation tokens by shared-residual aligners; classes that weren't trained on are told apart by the
//! class feature alone (method.md, sections 2 to 4).

use tch::Tensor;

use super::parameters::{Initial, Parameter};
use super::representation::{self, Aligner, TokenValues, Variant};
use super::{Inference, Parameters, Registration};

pub(super) static METHOD: Registration = Registration {
    key: "mmrlpp",
    parameters: |clip, values| representation::parameters(clip, values, &SharedResidual),
    build: |clip, parts| {
        let variant = Variant { aligner: &SharedResidual, norm_terms: false, unseen: Inference::Native };
        representation::build(clip, parts, variant)
    },
};

/// One linear layer for all representation layers of a tower, with a residual of low rank and a bias for each; the
/// projection is the frozen one with a residual of low rank. A layer's own tokens are mixed with what the layer before left.
pub(super) struct SharedResidual;

impl Aligner for SharedResidual {
    fn tower(&self, tower: &str, width: i64, layers: usize, hyper: &TokenValues) -> Vec<Parameter> {
        let (space, rank) = (i64::from(hyper.rep_dim), i64::from(hyper.res_lora_dim));
        let name = |part: &str| format!("{tower}.aligner.{part}");
        let mut parameters = vec![Parameter::new(name("weight"), &[width, space], Initial::kaiming_uniform(space))];
        for layer in 0..layers {
            let bias = match layer {
                // Both the weight and the bias of a default linear layer are drawn from ±1/√fan-in.
                0 => Initial::kaiming_uniform(space),
                _ => Initial::CopyOf(name("0.bias")),
            };
            parameters.extend([
                Parameter::new(name(&format!("{layer}.lora_a")), &[width, rank], Initial::kaiming_uniform(rank)),
                Parameter::new(name(&format!("{layer}.lora_b")), &[rank, space], Initial::Zeros),
                Parameter::new(name(&format!("{layer}.bias")), &[width], bias),
            ]);
        }
        parameters
    }

    fn projection(&self, proj: &Tensor, hyper: &TokenValues) -> Vec<Parameter> {
        let ([width, embedding], rank) = ([proj.size()[0], proj.size()[1]], i64::from(hyper.proj_lora_dim));
        vec![
            Parameter::new("vision.proj.lora_a", &[width, rank], Initial::kaiming_uniform(rank)),
            Parameter::new("vision.proj.lora_b", &[rank, embedding], Initial::Zeros),
        ]
    }

    /// `R_i = R·(W_m + A_i·B_i)ᵀ + b_i`.
    fn tokens(&self, parameters: &Parameters, tower: &str, layers: usize, space: &Tensor) -> Vec<Tensor> {
        let parameter = |name: &str| parameters.get(&format!("{tower}.aligner.{name}"));
        let shared = space.matmul(&parameter("weight").tr());
        let token = |layer: usize| {
            let own = |name: &str| parameter(&format!("{layer}.{name}"));
            let residual = space.matmul(&own("lora_b").tr()).matmul(&own("lora_a").tr());
            &shared + residual + own("bias")
        };
        (0..layers).map(token).collect()
    }

    /// `mean·(proj + A_p·B_p)`.
    fn project(&self, parameters: &Parameters, mean: &Tensor, proj: &Tensor) -> Tensor {
        let lora = |half| parameters.get(&format!("vision.proj.{half}"));
        mean.matmul(proj) + mean.matmul(lora("lora_a")).matmul(lora("lora_b"))
    }

    fn beta(&self, hyper: &TokenValues) -> f64 {
        hyper.beta
    }
}
