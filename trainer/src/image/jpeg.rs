//! JPEG through libjpeg-turbo's decoder (the `mozjpeg` crate), which is byte for byte what Pillow decodes. Only a file whose
//! compressed data is corrupt, and which both accept with a guess, may be guessed otherwise.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mozjpeg::{ColorSpace, Decompress};

use super::Rgb8;
use super::decode::check_size;

/// Decodes a JPEG; the error is what is wrong with it.
pub(super) fn decode(bytes: &[u8]) -> Result<Rgb8, String> {
    let dry = Cell::new(false);
    let source = Source { left: bytes, dry: &dry };
    // libjpeg reports a fatal error by unwinding.
    match catch_unwind(AssertUnwindSafe(|| decompress(source))) {
        _ if dry.get() => Err("it breaks off before its end".to_owned()),
        Ok(result) => result,
        Err(panic) => Err(panic.downcast::<String>().map_or_else(|_| "libjpeg failed".to_owned(), |message| *message)),
    }
}

fn decompress(source: Source<'_>) -> Result<Rgb8, String> {
    let describe = |error: io::Error| error.to_string();
    let decoder = Decompress::new_reader(source).map_err(describe)?;
    let (width, height) = decoder.size();
    check_size(width, height)?;
    let components = decoder.components().len();
    let mut image = match components {
        1 => decoder.grayscale(),
        3 => decoder.rgb(),
        4 => decoder.to_colorspace(ColorSpace::JCS_CMYK),
        _ => return Err(format!("it has {components} colour components, where 1, 3 and 4 are known")),
    }
    .map_err(describe)?;
    let samples: Vec<u8> = image.read_scanlines().map_err(describe)?;
    // Reads on to the end marker, without which a file is truncated for Pillow too.
    image.finish().map_err(describe)?;
    let data = match components {
        1 => samples.into_iter().flat_map(|value| [value; 3]).collect(),
        4 => samples.as_chunks().0.iter().copied().flat_map(rgb_of_inverted_cmyk).collect(),
        _ => samples,
    };
    Ok(Rgb8 { width, height, data })
}

/// Pillow takes every four-component JPEG to be stored inverted, as Adobe's programs do, and mixes the inks so:
/// `colour = (255 − K) − ink·(255 − K)/255`, the quotient rounded.
fn rgb_of_inverted_cmyk(stored: [u8; 4]) -> [u8; 3] {
    let light = u32::from(stored[3]);
    [0, 1, 2].map(|channel| {
        let product = (255 - u32::from(stored[channel])) * light + 128;
        (light - ((product >> 8) + product) / 256) as u8
    })
}

/// The file's bytes. Past their end libjpeg would be handed an invented end of image and would paint the rest grey; this
/// says that it ran dry instead, which makes libjpeg give up.
struct Source<'a> {
    left: &'a [u8],
    dry: &'a Cell<bool>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.left.read(buffer)
    }
}

impl BufRead for Source<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left.is_empty() {
            self.dry.set(true);
            // `UnexpectedEof` is the one kind that the crate would paper over.
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(self.left)
    }

    fn consume(&mut self, count: usize) {
        self.left = &self.left[count..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(width: usize, height: usize, progressive: bool) -> Vec<u8> {
        let mut encoder = mozjpeg::Compress::new(ColorSpace::JCS_RGB);
        encoder.set_size(width, height);
        if !progressive {
            encoder.set_fastest_defaults();
        }
        let mut encoder = encoder.start_compress(Vec::new()).unwrap();
        let pixels: Vec<u8> = (0..width * height * 3).map(|index| (index * 7 % 251) as u8).collect();
        encoder.write_scanlines(&pixels).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_truncated_file_is_refused_wherever_it_breaks_off() {
        for progressive in [false, true] {
            let bytes = encode(64, 48, progressive);
            let whole = decode(&bytes).unwrap();
            assert_eq!((whole.width, whole.height, whole.data.len()), (64, 48, 64 * 48 * 3));
            for length in (3..bytes.len()).step_by(61).chain([bytes.len() - 2, bytes.len() - 1]) {
                let error = decode(&bytes[..length]).unwrap_err();
                assert!(error.contains("breaks off"), "{length} of {}: {error}", bytes.len());
            }
            assert!(decode(&[&bytes[..], b"more"].concat()).is_ok());
        }
    }

    #[test]
    fn garbage_after_the_signature_is_an_error_of_libjpeg() {
        let mut bytes = encode(16, 16, false);
        let frame = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
        bytes[frame + 4] = 77;
        assert!(decode(&bytes).unwrap_err().contains("libjpeg"));
    }

    #[test]
    fn inks_become_colours() {
        assert_eq!(rgb_of_inverted_cmyk([255, 255, 255, 255]), [255, 255, 255]);
        assert_eq!(rgb_of_inverted_cmyk([0, 255, 255, 255]), [0, 255, 255]);
        assert_eq!(rgb_of_inverted_cmyk([12, 200, 99, 0]), [0, 0, 0]);
    }
}
