//! Writes the frame that is shown to a file, for the artist's painting program.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use tiff::encoder::{TiffEncoder, colortype};

use crate::composite::{CHANNELS, Depth, decode};
use crate::render::Picture;

/// Where the picture of a clip's frame is painted: one file for each, in the data folder.
pub fn path(folder: &Path, clip: &str, frame: i64) -> PathBuf {
    let stem = Path::new(clip).file_stem().map_or_else(|| "clip".into(), |stem| stem.to_string_lossy().into_owned());
    let safe = |letter: char| if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    let stem: String = stem.chars().map(safe).collect();
    folder.join("painting").join(format!("{stem}.{frame:05}.tif"))
}

/// Writes the picture, RGB at its depth (half as float), unless there is one already: that may be painted on.
pub fn write(picture: &Picture, path: &Path) -> Result<(), String> {
    if path.exists() {
        return Ok(());
    }
    let trouble = |error: &dyn std::fmt::Display| format!("{} cannot be written: {error}.", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(|error| trouble(&error))?;
    let partial = path.with_extension("partial");
    let file = File::create(&partial).map_err(|error| trouble(&error))?;
    encode(picture, BufWriter::new(file)).map_err(|error| trouble(&error))?;
    fs::rename(&partial, path).map_err(|error| trouble(&error))
}

fn encode(picture: &Picture, file: BufWriter<File>) -> Result<(), tiff::TiffError> {
    let (width, height) = picture.size();
    let rgb = rgb(&picture.packed(), picture.depth);
    let mut encoder = TiffEncoder::new(file)?;
    match picture.depth {
        Depth::Byte => encoder.write_image::<colortype::RGB8>(width, height, &rgb),
        Depth::Short => {
            let samples: Vec<u16> = rgb.as_chunks::<2>().0.iter().map(|bytes| u16::from_ne_bytes(*bytes)).collect();
            encoder.write_image::<colortype::RGB16>(width, height, &samples)
        }
        Depth::Half | Depth::Float => {
            let mut samples = vec![0.0; rgb.len() / picture.depth.sample_bytes()];
            decode(picture.depth, &rgb, &mut samples);
            encoder.write_image::<colortype::RGB32Float>(width, height, &samples)
        }
    }
}

/// RGBA samples without their alpha.
pub fn rgb(rgba: &[u8], depth: Depth) -> Vec<u8> {
    let size = depth.sample_bytes();
    let mut rgb = Vec::with_capacity(rgba.len() / CHANNELS * 3);
    rgba.chunks_exact(CHANNELS * size).for_each(|pixel| rgb.extend_from_slice(&pixel[..3 * size]));
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_painting_is_named_after_its_clip_and_frame() {
        let named = path(Path::new("data"), "shots/a b:c.mov", 7);
        assert_eq!(named, Path::new("data/painting/a_b_c.00007.tif"));
    }

    #[test]
    fn alpha_is_left_out() {
        assert_eq!(rgb(&[1, 2, 3, 4, 5, 6, 7, 8], Depth::Byte), [1, 2, 3, 5, 6, 7]);
        assert_eq!(rgb(&[1, 1, 2, 2, 3, 3, 4, 4], Depth::Short), [1, 1, 2, 2, 3, 3]);
    }
}
