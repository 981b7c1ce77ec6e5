//! From a file to RGB, as Pillow's `Image.open(path).convert("RGB")`: the format is told by the content, not by the name's
//! ending (`ImageNet` has a PNG that is called `.JPEG`), and EXIF orientation is not applied.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{Rgb8, jpeg, png};
use crate::working;

/// More pixels than this are refused, as Pillow does: a broken header, or a bomb.
const MAX_PIXELS: usize = 178_956_970;

/// Why an image can't be used; every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file is missing or can't be read.
    #[error("could not read the image `{}`", path.display())]
    Read {
        /// The image file.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// The content is of another format.
    #[error("`{}` is not an image that can be used: it starts with {start}, expected a JPEG or PNG image", path.display())]
    Format {
        /// The image file.
        path: PathBuf,
        /// Its first bytes.
        start: String,
    },
    /// The content breaks off or can't be decoded.
    #[error("the image `{}` is damaged: {problem}; expected a whole JPEG or PNG image", path.display())]
    Damaged {
        /// The image file.
        path: PathBuf,
        /// What the decoder stumbled over.
        problem: String,
    },
}

/// Decodes a JPEG or PNG file to RGB.
pub fn decode(path: &Path) -> Result<Rgb8, ImageError> {
    let bytes = fs_err::read(path).map_err(|source| ImageError::Read { path: path.to_owned(), source })?;
    decode_bytes(&bytes, path)
}

/// Decodes the content of a JPEG or PNG file to RGB; `path` is only for the error.
pub fn decode_bytes(bytes: &[u8], path: &Path) -> Result<Rgb8, ImageError> {
    let decoded = match Format::of(bytes, path)? {
        Format::Jpeg => jpeg::decode(bytes),
        Format::Png => png::decode(bytes),
    };
    working::goes_on();
    decoded.map_err(|problem| ImageError::Damaged { path: path.to_owned(), problem })
}

/// Looks only at how a file begins: whether it would be decoded at all.
pub fn check_start(path: &Path) -> Result<(), ImageError> {
    let mut start = Vec::with_capacity(LONGEST_SIGNATURE);
    fs_err::File::open(path)
        .and_then(|file| file.take(LONGEST_SIGNATURE as u64).read_to_end(&mut start))
        .map_err(|source| ImageError::Read { path: path.to_owned(), source })?;
    Format::of(&start, path).map(|_| ())
}

const LONGEST_SIGNATURE: usize = 8;

/// The formats that can be decoded.
enum Format {
    Jpeg,
    Png,
}

impl Format {
    /// The format that content begins like.
    fn of(bytes: &[u8], path: &Path) -> Result<Self, ImageError> {
        if bytes.starts_with(b"\xFF\xD8\xFF") {
            Ok(Self::Jpeg)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1A\n") {
            Ok(Self::Png)
        } else {
            let start = match bytes {
                [] => "nothing (the file is empty)".to_owned(),
                _ => format!("`{}`", bytes[..bytes.len().min(LONGEST_SIGNATURE)].escape_ascii()),
            };
            Err(ImageError::Format { path: path.to_owned(), start })
        }
    }
}

/// Checks a header's size before anything is allocated for it.
pub(super) fn check_size(width: usize, height: usize) -> Result<(), String> {
    match width.checked_mul(height) {
        Some(0) => Err(format!("its header says {width}×{height} pixels")),
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => Err(format!("its header says {width}×{height} pixels, more than the {MAX_PIXELS} that are accepted")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_named_by_their_first_bytes() {
        for (bytes, start) in [(&b"GIF89a\x01\x00\x01"[..], "GIF89a"), (b"<!DOCTYPE html>", "<!DOCTYP"), (b"", "empty")]
        {
            let error = decode_bytes(bytes, Path::new("cat.jpg")).unwrap_err().to_string();
            assert!(
                error.contains("`cat.jpg`") && error.contains(start) && error.contains("a JPEG or PNG image"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = decode(Path::new("/nowhere/cat.jpg")).unwrap_err();
        assert!(matches!(error, ImageError::Read { .. }) && error.to_string().contains("/nowhere/cat.jpg"));
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(check_size(20_000, 20_000).is_err() && check_size(0, 5).is_err() && check_size(13_000, 13_000).is_ok());
    }
}
