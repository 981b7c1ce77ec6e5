//! Tells the linker where libtorch lies, so that the binary and the tests start without `LD_LIBRARY_PATH`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Set by torch-sys's build script to the folder that it linked, wherever that came from: `LIBTORCH`, Python's PyTorch or
    // the system. Cargo runs this script again when it changes.
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") else { return };
    let folder = std::path::absolute(&folder).map_or(folder, |path| path.display().to_string());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    // As RPATH, not RUNPATH: only the former also holds for the libraries that libtorch itself needs.
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
}
