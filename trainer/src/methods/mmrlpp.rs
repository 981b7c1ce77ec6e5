//! MMRL++: representation tokens by shared-residual aligners; classes that weren't trained on are told apart by the class
//! feature alone (method.md, sections 2 to 4).

use super::representation::{self, Variant};
use super::{Inference, Registration};

pub(super) static METHOD: Registration = Registration {
    key: "mmrlpp",
    parameters: representation::parameters,
    build: |clip, parts| representation::build(clip, parts, Variant { norm_terms: false, unseen: Inference::Native }),
};
