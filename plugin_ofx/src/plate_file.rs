//! Writes a frame of the clip to a TIFF, for the artist's painting program.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use tiff::encoder::{TiffEncoder, colortype};

use crate::composite::{Depth, decode};
use crate::image::{Image, rgb};

/// The file on which an effect's frame is painted, in the data folder.
///
/// effect: the effect's id, so that no two effects paint on one file. clip: what the file's name tells of the clip.
pub fn path(folder: &Path, effect: &str, clip: &str, frame: i64) -> PathBuf {
    let stem = Path::new(clip).file_stem().map_or_else(|| "clip".into(), |stem| stem.to_string_lossy().into_owned());
    let safe = |letter: char| if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '_' };
    let stem: String = stem.chars().map(safe).collect();
    folder.join("painting").join(effect).join(format!("{stem}.{frame:05}.tif"))
}

/// Copies a picture that was painted under one effect's id to another's folder; None where it is not such a picture.
pub fn copy_painting(folder: &Path, picture: &Path, from: &str, to: &str) -> Result<Option<PathBuf>, String> {
    let paintings = folder.join("painting");
    let Some(name) = picture.file_name().filter(|_| picture.parent() == Some(&paintings.join(from))) else {
        return Ok(None);
    };
    let copy = paintings.join(to).join(name);
    make_folder(&copy)?;
    fs::copy(picture, &copy).map_err(|error| format!("{} cannot be copied: {error}.", picture.display()))?;
    Ok(Some(copy))
}

/// Makes the folder of a file.
pub fn make_folder(path: &Path) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(|error| format!("{} cannot be made: {error}.", folder.display()))
}

/// Writes the image, RGB at its depth (half as float). Keeps a file that exists: the artist may have painted on it.
pub fn write(image: &Image, path: &Path) -> Result<(), String> {
    if path.exists() {
        return Ok(());
    }
    let failed = |error: &dyn std::fmt::Display| format!("{} cannot be written: {error}.", path.display());
    make_folder(path)?;
    let partial = path.with_extension("partial");
    let file = File::create(&partial).map_err(|error| failed(&error))?;
    encode(image, BufWriter::new(file)).map_err(|error| failed(&error))?;
    fs::rename(&partial, path).map_err(|error| failed(&error))
}

fn encode(image: &Image, file: BufWriter<File>) -> Result<(), tiff::TiffError> {
    let (width, height) = image.size();
    let rgb = rgb(&image.packed(), image.depth, image.channels);
    let mut encoder = TiffEncoder::new(file)?;
    match image.depth {
        Depth::Byte => encoder.write_image::<colortype::RGB8>(width, height, &rgb),
        Depth::Short => {
            let samples: Vec<u16> = rgb.as_chunks::<2>().0.iter().map(|bytes| u16::from_ne_bytes(*bytes)).collect();
            encoder.write_image::<colortype::RGB16>(width, height, &samples)
        }
        Depth::Half | Depth::Float => {
            let mut samples = vec![0.0; rgb.len() / image.depth.sample_bytes()];
            decode(image.depth, &rgb, &mut samples);
            encoder.write_image::<colortype::RGB32Float>(width, height, &samples)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_named_by_clip_and_frame() {
        let named = path(Path::new("data"), "ef", "shots/a b:c.mov", 7);
        assert_eq!(named, Path::new("data/painting/ef/a_b_c.00007.tif"));
    }
}
