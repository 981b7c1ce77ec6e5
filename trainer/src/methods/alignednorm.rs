//! `AlignedNorm`: MMRL++ whose representation tokens are held to the class token's norm, after the layers and after the
//! projection; one inference rule for all classes (method.md, sections 3 and 4).

use super::representation::{self, Variant};
use super::{Inference, Registration};

pub(super) static METHOD: Registration = Registration {
    key: "alignednorm",
    parameters: representation::parameters,
    build: |clip, parts| representation::build(clip, parts, Variant { norm_terms: true, unseen: Inference::Fused }),
};
