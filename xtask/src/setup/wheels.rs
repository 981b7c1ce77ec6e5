//! Which wheels are fetched, and what they must be.
//!
//! Every machine gets the same files whatever its own Python: the wheels are only unpacked, never imported.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::pip::{self, Dependencies, Offer};

/// The libtorch that the `tch` binding in Cargo.lock is made for.
pub(super) const TORCH_VERSION: &str = "2.13.0";

/// A wheel to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wheel {
    pub(super) file: String,
    /// Absent where the wheel is already here, or where only pip knows how to get it.
    pub(super) url: Option<String>,
    /// `name==version`.
    pub(super) requirement: String,
    /// In bytes, where it's known beforehand.
    pub(super) size: Option<u64>,
    /// In hexadecimal digits.
    pub(super) sha256: String,
}

struct Pin {
    requirement: &'static str,
    file: &'static str,
    size: u64,
    sha256: &'static str,
}

/// libtorch itself, and the two CUDA libraries that even its CPU part is linked to.
const PINS: [Pin; 3] = [
    Pin {
        requirement: "torch==2.13.0",
        file: "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        size: 526_574_961,
        sha256: "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
    },
    Pin {
        requirement: "nvidia-cuda-cupti==13.5.25",
        file: "nvidia_cuda_cupti-13.5.25-py3-none-manylinux_2_25_x86_64.whl",
        size: 12_592_974,
        sha256: "9dcca41c12a734192b14e7128ae116bc9ce1b9da686e2ebf48ae7a4415f76650",
    },
    Pin {
        requirement: "nvidia-cuda-runtime==13.5.37",
        file: "nvidia_cuda_runtime-13.5.37-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        size: 2_504_024,
        sha256: "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
    },
];

impl Pin {
    fn wheel(&self, url: Option<String>) -> Wheel {
        Wheel {
            file: self.file.to_owned(),
            url,
            requirement: self.requirement.to_owned(),
            size: Some(self.size),
            sha256: self.sha256.to_owned(),
        }
    }
}

/// The wheels of the CPU variant; asks pip for addresses only where one isn't in `downloads` yet.
pub(super) fn cpu(downloads: &Path) -> Result<Vec<Wheel>> {
    if PINS.iter().all(|pin| downloads.join(pin.file).exists()) {
        return Ok(PINS.iter().map(|pin| pin.wheel(None)).collect());
    }
    let requirements = PINS.map(|pin| pin.requirement);
    pin_offers(pip::offers(&requirements, Dependencies::Ignore, downloads)?)
}

/// Names the pinned wheels, in the order of the pins, with the addresses that the index offers.
fn pin_offers(offers: Vec<Offer>) -> Result<Vec<Wheel>> {
    PINS.iter()
        .map(|pin| {
            let Some(offer) = offers.iter().find(|offer| offer.file() == pin.file) else {
                bail!("the package index has no {}: is it a partial mirror?", pin.file);
            };
            Ok(pin.wheel(Some(offer.url.clone())))
        })
        .collect()
}

/// The torch wheel and all CUDA libraries that its metadata requires, resolved by pip.
pub(super) fn with_cuda(downloads: &Path) -> Result<Vec<Wheel>> {
    let torch = &PINS[0];
    cuda_libraries(pip::offers(&[torch.requirement], Dependencies::Follow, downloads)?)
}

/// Keeps torch and what NVIDIA's packages bring: the others are Python code.
fn cuda_libraries(offers: Vec<Offer>) -> Result<Vec<Wheel>> {
    offers
        .into_iter()
        .filter(|offer| offer.name == "torch" || offer.name.starts_with("nvidia-"))
        .map(|offer| {
            if let Some(pin) = PINS.iter().find(|pin| pin.file == offer.file()) {
                return Ok(pin.wheel(Some(offer.url)));
            }
            let sha256 = offer
                .sha256
                .clone()
                .with_context(|| format!("the package index gives no SHA-256 for {}", offer.file()))?;
            Ok(Wheel {
                file: offer.file().to_owned(),
                requirement: format!("{}=={}", offer.name, offer.version),
                size: None,
                sha256,
                url: Some(offer.url),
            })
        })
        .collect()
}

/// The files that a complete CPU variant was made from.
pub(super) fn cpu_files() -> Vec<String> {
    PINS.iter().map(|pin| pin.file.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str, file: &str) -> Offer {
        Offer {
            name: name.to_owned(),
            version: "1.2".to_owned(),
            url: format!("https://index.invalid/{file}"),
            sha256: Some("00ff".to_owned()),
        }
    }

    #[test]
    fn an_index_without_a_pinned_wheel_is_named() {
        let offers = vec![offer("torch", PINS[0].file), offer("nvidia-cuda-cupti", "other.whl")];
        let error = pin_offers(offers).unwrap_err().to_string();
        assert!(error.contains(PINS[1].file), "{error}");
    }

    #[test]
    fn cuda_takes_nvidias_packages_and_keeps_the_pin_of_torch() {
        let offers = vec![
            offer("torch", PINS[0].file),
            offer("sympy", "sympy.whl"),
            offer("nvidia-cublas", "cublas.whl"),
            offer("cuda-toolkit", "toolkit.whl"),
        ];
        let wheels = cuda_libraries(offers).unwrap();
        assert_eq!(wheels.len(), 2);
        assert_eq!(wheels[0].sha256, PINS[0].sha256);
        assert_eq!(wheels[0].size, Some(PINS[0].size));
        assert_eq!(wheels[1].requirement, "nvidia-cublas==1.2");
        assert_eq!((wheels[1].size, wheels[1].sha256.as_str()), (None, "00ff"));
    }

    #[test]
    fn a_cuda_library_without_a_hash_is_refused() {
        let mut bare = offer("nvidia-cublas", "cublas.whl");
        bare.sha256 = None;
        let error = cuda_libraries(vec![bare]).unwrap_err().to_string();
        assert!(error.contains("no SHA-256 for cublas.whl"), "{error}");
    }
}
