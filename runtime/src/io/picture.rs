//! PNG and JPEG pictures as 8-bit planes: 1×C×H×W.

use super::IoError;
use crate::tensor::{Data, Tensor};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, imageops::FilterType};
use std::io::Cursor;
use std::path::Path;

/// Reads a picture as a tensor of shape `[1, channels, height, width]`. `size` is the (height, width) wanted; another size
/// is an error unless `resize`, which then scales (bilinear, aspect not kept).
///
/// # Errors
/// When the file cannot be read, is malformed, or has another size.
pub fn read(file: &Path, channels: usize, size: Option<(usize, usize)>, resize: bool) -> Result<Tensor, IoError> {
    let (pixels, height, width) =
        decode(&super::read(file)?, channels, size, resize).map_err(|e| IoError::malformed(file, e))?;
    Tensor::new([1, channels, height, width], Data::U8(pixels)).map_err(|e| IoError::malformed(file, e))
}

fn broken(e: &dyn std::fmt::Display) -> String {
    format!("not a readable picture ({e}); pass PNG or JPEG")
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| broken(&e))?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height, limits.max_alloc) = (Some(1 << 16), Some(1 << 16), Some(1 << 30));
    reader.limits(limits);
    Ok(reader)
}

/// Reads a picture's header: channels (1 for grey, else 3), height and width.
///
/// # Errors
/// When it is malformed.
pub fn header(bytes: &[u8]) -> Result<[usize; 3], String> {
    let decoder = reader(bytes)?.into_decoder().map_err(|e| broken(&e))?;
    let (width, height) = decoder.dimensions();
    Ok([if decoder.color_type().has_color() { 3 } else { 1 }, height as usize, width as usize])
}

/// Decodes a picture to planes: the pixels in C×H×W order, the height and the width.
///
/// # Errors
/// As [`read`], without the file's name.
pub fn decode(
    bytes: &[u8],
    channels: usize,
    size: Option<(usize, usize)>,
    resize: bool,
) -> Result<(Vec<u8>, usize, usize), String> {
    let mut picture = reader(bytes)?.decode().map_err(|e| broken(&e))?;
    let given = (picture.height() as usize, picture.width() as usize);
    if let Some((h, w)) = size.filter(|&s| s != given) {
        if !resize {
            return Err(format!(
                "the picture is {}×{} (height × width), the model takes {h}×{w}; resize it or ask for resizing",
                given.0, given.1
            ));
        }
        let (Ok(w), Ok(h)) = (u32::try_from(w), u32::try_from(h)) else {
            return Err("the size wanted is too large".into());
        };
        picture = picture.resize_exact(w, h, FilterType::Triangle);
    }
    let (height, width) = (picture.height() as usize, picture.width() as usize);
    let pixels = match channels {
        1 => picture.into_luma8().into_raw(),
        3 => planes(picture),
        _ => return Err(format!("a picture has 1 or 3 channels, the model takes {channels}; pass .npy or .npz")),
    };
    Ok((pixels, height, width))
}

fn planes(picture: DynamicImage) -> Vec<u8> {
    let raw = picture.into_rgb8().into_raw();
    (0..3).flat_map(|c| raw.iter().skip(c).step_by(3).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_checks_size_and_survives_damage() {
        let picture = image::RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 9]));
        let mut bytes = Vec::new();
        picture.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).unwrap();
        let (pixels, h, w) = decode(&bytes, 3, Some((2, 3)), false).unwrap();
        assert_eq!((h, w), (2, 3));
        assert_eq!(pixels, [0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 1, 1, 9, 9, 9, 9, 9, 9]);
        assert_eq!(decode(&bytes, 1, None, false).unwrap().0.len(), 6);
        assert!(decode(&bytes, 3, Some((4, 4)), false).unwrap_err().contains("2×3"));
        assert_eq!(decode(&bytes, 3, Some((4, 4)), true).unwrap().0.len(), 48);
        assert!(decode(&bytes, 4, None, false).is_err());
        for n in 0..bytes.len() {
            let _ = decode(&bytes[..n], 3, None, false);
        }
        assert!(decode(b"hello", 3, None, false).is_err());
    }
}
