//! PNG, each of its kinds turned to RGB as Pillow does: alpha and transparency are dropped, not blended; 16-bit colour keeps
//! its high byte, while 16-bit grey is clipped at 255; a palette index beyond the palette is black; gamma and colour
//! profiles are ignored.

use std::io::{self, Cursor};

use png::{BitDepth, ColorType, Decoder, DecodingError, Limits, Transformations};

use super::Rgb8;
use super::decode::check_size;

/// Decodes a PNG; the error is what is wrong with it.
pub(super) fn decode(bytes: &[u8]) -> Result<Rgb8, String> {
    let describe = |error: DecodingError| {
        if is_end_of_file(&error) { "it breaks off before its last row".to_owned() } else { error.to_string() }
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: usize::MAX });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(describe)?;
    let header_width = header.width;
    let (width, height) = (header_width as usize, header.height as usize);
    check_size(width, height)?;
    let mut reader = decoder.read_info().map_err(describe)?;
    let palette: Vec<[u8; 3]> = reader.info().palette.as_deref().unwrap_or_default().as_chunks().0.to_vec();
    let (color, depth) = reader.output_color_type();
    let too_large = "its rows don't fit into memory";
    let row_size = reader.output_line_size(header_width).ok_or(too_large)?;
    let mut raw = vec![0; reader.output_buffer_size().ok_or(too_large)?];
    if reader.info().interlaced {
        reader.next_frame(&mut raw).map_err(describe)?;
    } else {
        for row in raw.chunks_exact_mut(row_size) {
            reader.read_row(row).map_err(describe)?;
        }
        // Asking for one row more checks the checksums. A file that ends here lacks only its end chunk, and is whole for
        // Pillow (but not for `next_frame`, hence the rows).
        match reader.read_row(&mut []) {
            Err(error) if !is_end_of_file(&error) => return Err(describe(error)),
            _ => {}
        }
    }

    let mut data = Vec::with_capacity(width * height * 3);
    for row in raw.chunks_exact(row_size) {
        convert_row(row, width, color, depth, &palette, &mut data);
    }
    Ok(Rgb8 { width, height, data })
}

fn is_end_of_file(error: &DecodingError) -> bool {
    matches!(error, DecodingError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof)
}

fn convert_row(row: &[u8], width: usize, color: ColorType, depth: BitDepth, palette: &[[u8; 3]], rgb: &mut Vec<u8>) {
    let bits = depth as usize;
    match (color, depth) {
        (ColorType::Rgb, BitDepth::Eight) => rgb.extend_from_slice(row),
        (ColorType::Rgb, _) => rgb.extend(row.iter().step_by(2)),
        (ColorType::Rgba, BitDepth::Eight) => {
            rgb.extend(row.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]));
        }
        (ColorType::Rgba, _) => rgb.extend(row.chunks_exact(8).flat_map(|pixel| [pixel[0], pixel[2], pixel[4]])),
        (ColorType::GrayscaleAlpha, _) => rgb.extend(row.chunks_exact(bits / 4).flat_map(|pixel| [pixel[0]; 3])),
        (ColorType::Grayscale, BitDepth::Sixteen) => {
            rgb.extend(row.chunks_exact(2).flat_map(|pixel| [if pixel[0] == 0 { pixel[1] } else { 255 }; 3]));
        }
        (ColorType::Grayscale, _) => {
            let white = 255 / ((1_u32 << bits) - 1) as u8;
            rgb.extend(samples(row, bits, width).flat_map(|sample| [sample * white; 3]));
        }
        (ColorType::Indexed, _) => {
            rgb.extend(
                samples(row, bits, width)
                    .flat_map(|index| palette.get(usize::from(index)).copied().unwrap_or_default()),
            );
        }
    }
}

/// The samples of a row of 1, 2, 4 or 8 bits each, the leftmost in a byte's highest bits.
fn samples(row: &[u8], bits: usize, width: usize) -> impl Iterator<Item = u8> {
    let per_byte = 8 / bits;
    let mask = ((1_u32 << bits) - 1) as u8;
    (0..width).map(move |x| (row[x / per_byte] >> (8 - bits * (x % per_byte + 1))) & mask)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An 8-bit grey PNG of one shade.
    pub(crate) fn grey(width: u32, height: u32, shade: u8) -> Vec<u8> {
        encode(width, height, ColorType::Grayscale, BitDepth::Eight, None, &vec![shade; (width * height) as usize])
    }

    fn encode(
        width: u32,
        height: u32,
        color: ColorType,
        depth: BitDepth,
        palette: Option<&[u8]>,
        data: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if let Some(palette) = palette {
            encoder.set_palette(palette.to_vec());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    /// What Pillow 13.0.0's `.convert("RGB")` gives for the same bytes.
    #[test]
    fn every_kind_of_png_becomes_what_pillow_makes_of_it() {
        use BitDepth::{Eight, Four, One, Sixteen, Two};
        use ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
        /// Width, colour type, depth, palette, data, and the RGB that is expected.
        type Case<'a> = (u32, ColorType, BitDepth, Option<&'a [u8]>, &'a [u8], &'a [u8]);
        let palette = Some(&[10, 20, 30, 40, 50, 60][..]);
        #[rustfmt::skip]
        let cases: [Case<'_>; 10] = [
            (3, Grayscale, Sixteen, None, &[0, 200, 1, 0, 255, 255], &[200, 200, 200, 255, 255, 255, 255, 255, 255]),
            (2, Rgb, Sixteen, None, &[0x12, 0xFF, 0, 0x80, 0xFF, 0x7F, 0, 1, 0, 2, 0xFF, 0xFE], &[18, 0, 255, 0, 0, 255]),
            (2, GrayscaleAlpha, Sixteen, None, &[0x12, 0xFF, 0x80, 0, 0xFF, 0x7F, 0, 0], &[18, 18, 18, 255, 255, 255]),
            (2, GrayscaleAlpha, Eight, None, &[7, 0, 9, 255], &[7, 7, 7, 9, 9, 9]),
            (1, Rgba, Sixteen, None, &[0x12, 0xFF, 0x80, 0xFF, 0xFF, 0x7F, 0, 0], &[18, 128, 255]),
            (1, Rgba, Eight, None, &[1, 2, 3, 0], &[1, 2, 3]),
            (3, Grayscale, One, None, &[0b1010_0000], &[255, 255, 255, 0, 0, 0, 255, 255, 255]),
            (4, Grayscale, Two, None, &[0x1B], &[0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255]),
            (2, Grayscale, Four, None, &[0x1E], &[17, 17, 17, 238, 238, 238]),
            (4, Indexed, Two, palette, &[0x1B], &[10, 20, 30, 40, 50, 60, 0, 0, 0, 0, 0, 0]),
        ];
        for (width, color, depth, palette, data, expected) in cases {
            let image = super::decode(&encode(width, 1, color, depth, palette, data)).unwrap();
            assert_eq!(image.data, expected, "{color:?} {depth:?}");
        }
    }

    #[test]
    fn a_truncated_or_altered_file_is_refused() {
        let bytes = encode(
            40,
            40,
            ColorType::Grayscale,
            BitDepth::Eight,
            None,
            &(0..1600).map(|i| (i % 251) as u8).collect::<Vec<_>>(),
        );
        let error = super::decode(&bytes[..bytes.len() / 2]).unwrap_err();
        assert!(error.contains("breaks off"), "{error}");
        for place in [60, bytes.len() - 20] {
            let mut altered = bytes.clone();
            altered[place] ^= 0x10;
            assert!(super::decode(&altered).is_err(), "altered at {place}");
        }
        assert!(super::decode(&bytes[..bytes.len() - 12]).is_ok(), "only the end chunk is missing");
    }
}
