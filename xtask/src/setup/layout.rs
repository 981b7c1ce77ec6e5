//! The folder that a build uses: `include/`, `lib/` and `build-version`, as the `tch` binding expects it.
//!
//! It's made beside its final place and renamed, with a stamp that says what it was made from and how large each
//! library is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::machine::python;
use super::wheels::{self, TORCH_VERSION, Wheel};

const UNPACK: &str = include_str!("unpack.py");
const STAMP: &str = "setup.json";
const VERSION_FILE: &str = "build-version";

/// How much of libtorch there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Variant {
    /// Only what computing on the CPU needs.
    Cpu,
    /// Everything, with NVIDIA's libraries.
    Cuda,
}

impl Variant {
    /// Free bytes that a set-up needs: the wheels, what's unpacked from them, and a margin.
    pub(super) fn space(self) -> u64 {
        match self {
            Self::Cpu => 1_600_000_000,
            Self::Cuda => 7_500_000_000,
        }
    }

    /// What is taken from the wheels: a member's whole name as a pattern, and where it goes.
    fn rules(self) -> &'static [[&'static str; 2]] {
        match self {
            Self::Cpu => &[
                [r"torch/(include/.+)", r"\1"],
                [r"torch/(lib/(libtorch_cpu\.so|libc10\.so|libgomp\.so\.1))", r"\1"],
                [r"nvidia/[^/]+/(lib/(libcupti\.so\.13|libcudart\.so\.13))", r"\1"],
            ],
            Self::Cuda => &[
                [r"torch/(include/.+)", r"\1"],
                [r"torch/(lib/[^/]+\.so[^/]*)", r"\1"],
                [r"nvidia/[^/]+/(lib/[^/]+\.so[^/]*)", r"\1"],
            ],
        }
    }
}

/// What a finished folder says about itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    torch: String,
    variant: Variant,
    wheels: Vec<String>,
    /// Bytes of each file of `lib/`.
    libraries: BTreeMap<String, u64>,
}

impl Stamp {
    /// Whether a folder with this stamp serves; CUDA's includes the CPU's.
    fn serves(&self, wanted: Variant) -> bool {
        match self.variant {
            Variant::Cpu => wanted == Variant::Cpu && self.wheels == wheels::cpu_files(),
            Variant::Cuda => self.torch == TORCH_VERSION,
        }
    }
}

/// A place for libtorch, filled or not.
pub(super) struct Layout {
    folder: PathBuf,
}

impl Layout {
    pub(super) fn new(deps: &Path) -> Self {
        Self { folder: deps.join("libtorch") }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder is complete and serves what's wanted.
    pub(super) fn holds(&self, wanted: Variant) -> bool {
        self.stamp().is_some_and(|stamp| {
            stamp.serves(wanted) && library_sizes(&self.folder).is_ok_and(|sizes| sizes == stamp.libraries)
        })
    }

    fn stamp(&self) -> Option<Stamp> {
        serde_json::from_slice(&fs::read(self.folder.join(STAMP)).ok()?).ok()
    }

    /// Unpacks the wheels, which lie in `downloads`; `true` if libraries were there before that programs may have been
    /// linked to and that aren't of the same kind.
    pub(super) fn install(
        &self,
        variant: Variant,
        wheels: &[Wheel],
        downloads: &Path,
        compiler: &OsStr,
        lock: &File,
    ) -> Result<bool> {
        let partial = self.folder.with_extension("partial");
        let old = self.folder.with_extension("old");
        for leftover in [&partial, &old] {
            if leftover.exists() {
                fs::remove_dir_all(leftover)?;
            }
        }
        fs::create_dir_all(partial.join("lib"))?;
        for wheel in wheels {
            eprintln!("unpacking {}", wheel.requirement);
            unpack(&downloads.join(&wheel.file), &partial, variant.rules(), lock)?;
        }
        if variant == Variant::Cpu {
            make_empty_library(compiler, &partial.join("lib/libtorch.so"))?;
        }
        fs::write(partial.join(VERSION_FILE), format!("{TORCH_VERSION}\n"))?;
        let stamp = Stamp {
            torch: TORCH_VERSION.to_owned(),
            variant,
            wheels: wheels.iter().map(|wheel| wheel.file.clone()).collect(),
            libraries: library_sizes(&partial)?,
        };
        fs::write(partial.join(STAMP), serde_json::to_vec_pretty(&stamp)?)?;

        let replaces = self.folder.exists();
        let relink = replaces && has_cuda(&self.folder) != has_cuda(&partial);
        if replaces {
            fs::rename(&self.folder, &old)?;
        }
        fs::rename(&partial, &self.folder)?;
        if replaces {
            fs::remove_dir_all(&old)?;
        }
        Ok(relink)
    }
}

fn has_cuda(folder: &Path) -> bool {
    folder.join("lib/libtorch_cuda.so").exists()
}

fn library_sizes(folder: &Path) -> Result<BTreeMap<String, u64>> {
    fs::read_dir(folder.join("lib"))?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()))
        })
        .collect()
}

fn unpack(wheel: &Path, folder: &Path, rules: &[[&str; 2]], lock: &File) -> Result<()> {
    let output = python()
        .args(["-c", UNPACK])
        .args([wheel, folder])
        .args(rules.as_flattened())
        // Nothing is read from it: a set-up that comes after a killed one so waits until this process has ended too.
        .stdin(lock.try_clone()?)
        .output()
        .context("starting python3")?;
    ensure!(
        output.status.success(),
        "unpacking {} failed: {}",
        wheel.display(),
        String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or("no reason given")
    );
    ensure!(
        String::from_utf8_lossy(&output.stdout).trim() != "0",
        "{} holds none of the files that are needed from it",
        wheel.display()
    );
    Ok(())
}

/// The real `libtorch.so` has no code of its own: it ties all parts together, CUDA's too, which aren't here.
fn make_empty_library(compiler: &OsStr, file: &Path) -> Result<()> {
    let output = Command::new(compiler)
        .args(["-shared", "-fPIC", "-x", "c++", "/dev/null", "-Wl,-soname,libtorch.so", "-o"])
        .arg(file)
        .output()
        .with_context(|| format!("starting {}", compiler.display()))?;
    ensure!(
        output.status.success(),
        "the C++ compiler `{}` can't make a shared library: {}",
        compiler.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as set-up leaves it, with one library of four bytes.
    fn finished(variant: Variant, wheels: Vec<String>) -> (tempfile::TempDir, Layout) {
        let deps = tempfile::tempdir().unwrap();
        let layout = Layout::new(deps.path());
        fs::create_dir_all(layout.folder.join("lib")).unwrap();
        fs::write(layout.folder.join("lib/libc10.so"), "code").unwrap();
        let stamp = Stamp {
            torch: TORCH_VERSION.to_owned(),
            variant,
            wheels,
            libraries: library_sizes(&layout.folder).unwrap(),
        };
        fs::write(layout.folder.join(STAMP), serde_json::to_vec(&stamp).unwrap()).unwrap();
        (deps, layout)
    }

    #[test]
    fn a_finished_folder_is_known_again() {
        let (_deps, layout) = finished(Variant::Cpu, wheels::cpu_files());
        assert!(layout.holds(Variant::Cpu));
        assert!(!layout.holds(Variant::Cuda));
    }

    #[test]
    fn cuda_serves_the_cpu_too() {
        let (_deps, layout) = finished(Variant::Cuda, vec!["any.whl".to_owned()]);
        assert!(layout.holds(Variant::Cuda));
        assert!(layout.holds(Variant::Cpu));
    }

    #[test]
    fn a_truncated_library_is_noticed() {
        let (_deps, layout) = finished(Variant::Cpu, wheels::cpu_files());
        fs::write(layout.folder.join("lib/libc10.so"), "cod").unwrap();
        assert!(!layout.holds(Variant::Cpu));
    }

    #[test]
    fn other_wheels_than_the_pinned_ones_are_replaced() {
        let (_deps, layout) = finished(Variant::Cpu, vec!["torch-0.1.whl".to_owned()]);
        assert!(!layout.holds(Variant::Cpu));
    }

    #[test]
    fn a_folder_without_a_stamp_is_not_complete() {
        let (_deps, layout) = finished(Variant::Cpu, wheels::cpu_files());
        fs::remove_file(layout.folder.join(STAMP)).unwrap();
        assert!(!layout.holds(Variant::Cpu));
    }
}
