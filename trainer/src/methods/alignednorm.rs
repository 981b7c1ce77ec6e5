//! `AlignedNorm` (Ma et al., ICML 2026): MMRL++ whose representation tokens are held to the class token's norm, after the layers
//! and after the projection; one inference rule for all classes (method.md, sections 3 and 4).

use super::mmrlpp::SharedResidual;
use super::representation::{self, Variant};
use super::{Inference, Registration};

pub(super) static METHOD: Registration = Registration {
    key: "alignednorm",
    parameters: |clip, values| representation::parameters(clip, values, &SharedResidual),
    build: |clip, parts| {
        let variant = Variant { aligner: &SharedResidual, norm_terms: true, unseen: Inference::Fused };
        representation::build(clip, parts, variant)
    },
};
