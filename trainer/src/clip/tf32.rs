//! Whether GPUs may round the operands of single-precision products to TF32's ten bits after the point.
//!
//! libtorch has one switch for products and one for convolutions, for the whole process. By itself it leaves the first off and
//! the second on. `tch` offers neither, so they are called by the names that libtorch's library exports.

use std::ffi::c_void;

#[expect(unsafe_code, reason = "declares methods of libtorch: a method's first argument is its object")]
unsafe extern "C" {
    /// `at::globalContext()`: the process's settings, which are never freed.
    #[link_name = "_ZN2at13globalContextEv"]
    safe fn settings() -> *mut c_void;
    /// `at::Context::setAllowTF32CuBLAS(bool)`
    #[link_name = "_ZN2at7Context18setAllowTF32CuBLASEb"]
    fn allow_in_products(settings: *mut c_void, allowed: bool);
    /// `at::Context::setAllowTF32CuDNN(bool)`
    #[link_name = "_ZN2at7Context17setAllowTF32CuDNNEb"]
    fn allow_in_convolutions(settings: *mut c_void, allowed: bool);
}

/// Allows it from here on, or forbids it.
#[expect(unsafe_code, reason = "calls libtorch")]
pub(super) fn allow(allowed: bool) {
    let settings = settings();
    // SAFETY: `settings` is libtorch's own object, alive as long as the process, and both methods only store a flag in it.
    unsafe {
        allow_in_products(settings, allowed);
        allow_in_convolutions(settings, allowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(unsafe_code, reason = "declares a method of libtorch")]
    unsafe extern "C" {
        /// `at::Context::allowTF32CuBLAS() const`
        #[link_name = "_ZNK2at7Context15allowTF32CuBLASEv"]
        fn is_allowed_in_products(settings: *const c_void) -> bool;
    }

    #[test]
    fn the_switch_is_libtorch_s_own() {
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "calls libtorch")]
        let is_allowed = || unsafe { is_allowed_in_products(settings()) };
        for allowed in [true, false, true, false] {
            allow(allowed);
            assert_eq!(is_allowed(), allowed);
        }
    }
}
