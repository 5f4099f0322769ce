//! Compares the host's picture of a frame with the engine's plate of it: they must be the same pixels, or the same in another
//! colour space that can be converted to.

use crate::colour::{ColourSpace, Conversion};
use crate::composite::{Paint, Placement};
use crate::image::Image;

const COLUMNS: usize = 48;
const ROWS: usize = 32;
/// Fewer samples than this are too few to judge by.
const MIN_SAMPLES: usize = 64;
/// The mean difference, of white, up to which two pictures are the same. Decoders of one video differ by up to 0.01.
const TOLERANCE: f32 = 0.015;

/// Some of the host's pixels: the frame's pixel x, y (from the top left), and its RGB, 1 is white.
pub type Samples = Vec<(usize, usize, [f32; 3])>;

/// How the host's picture differs from the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    /// It is the same in this colour space.
    In(ColourSpace),
    /// It is another picture, or in a colour space that is not known.
    Different,
}

/// Samples the host's image on a grid; None where too little of it is there, or it is resized.
pub fn sample(image: &Image, place: &Placement, size: (usize, usize)) -> Option<Samples> {
    if !place.is_exact() {
        return None;
    }
    let mut samples = Vec::new();
    for index in 0..COLUMNS * ROWS {
        let x = (index % COLUMNS * 2 + 1) * size.0 / (COLUMNS * 2);
        let y = (index / COLUMNS * 2 + 1) * size.1 / (ROWS * 2);
        let (across, up) = (place.left as i32 + x as i32, place.top as i32 - 1 - y as i32);
        if let Some(pixel) = image.pixel(across, up) {
            samples.push((x, y, pixel));
        }
    }
    (samples.len() >= MIN_SAMPLES).then_some(samples)
}

/// Compares samples with the engine's plate, which is in `space`, if that is known.
pub fn compare(samples: &Samples, plate: &Paint, space: Option<ColourSpace>) -> Verdict {
    let pairs: Vec<_> = samples.iter().filter_map(|(x, y, host)| Some((plate.pixel(*x, *y)?, host))).collect();
    let difference = |conversion: Option<Conversion>| {
        let each = pairs.iter().map(|(plate, host)| {
            let mut plate = *plate;
            if let Some(conversion) = conversion {
                conversion.apply(&mut plate);
            }
            (0..3).map(|channel| (plate[channel] - host[channel]).abs().min(1.0)).sum::<f32>() / 3.0
        });
        each.sum::<f32>() / pairs.len().max(1) as f32
    };
    if pairs.is_empty() || difference(None) <= TOLERANCE {
        return Verdict::Same;
    }
    let Some(space) = space else { return Verdict::Different };
    let candidates = ColourSpace::ALL.into_iter().filter_map(|to| Some((to, Conversion::new(space, to)?)));
    let best = candidates
        .map(|(to, conversion)| (to, difference(Some(conversion))))
        .min_by(|one, other| one.1.total_cmp(&other.1));
    match best {
        Some((to, difference)) if difference <= TOLERANCE => Verdict::In(to),
        _ => Verdict::Different,
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::composite::Bounds;

    #[test]
    fn same_linear_and_foreign_pictures_are_told_apart() {
        let values: Vec<f32> = (0..64 * 3).map(|i| ((i * 37) % 97) as f32 / 97.0).collect();
        let bytes: Vec<u8> = values
            .chunks(3)
            .flat_map(|rgb| [rgb[0], rgb[1], rgb[2], 1.0])
            .flat_map(|value| f16::from_f32(value).to_le_bytes())
            .collect();
        let plate = Paint::new(8, 8, Bounds { x: 0, y: 0, width: 8, height: 8 }, &bytes).unwrap();
        let host = |change: &dyn Fn([f32; 3]) -> [f32; 3]| -> Samples {
            values.chunks(3).enumerate().map(|(i, rgb)| (i % 8, i / 8, change([rgb[0], rgb[1], rgb[2]]))).collect()
        };
        let linear = Conversion::new(ColourSpace::Srgb, ColourSpace::LinearRec709).unwrap();
        let to_linear = |mut rgb: [f32; 3]| {
            linear.apply(&mut rgb);
            rgb
        };
        let space = Some(ColourSpace::Srgb);
        assert_eq!(compare(&host(&|rgb| rgb), &plate, space), Verdict::Same);
        assert_eq!(compare(&host(&to_linear), &plate, space), Verdict::In(ColourSpace::LinearRec709));
        assert_eq!(compare(&host(&|rgb| rgb.map(|value| 1.0 - value)), &plate, space), Verdict::Different);
        assert_eq!(compare(&host(&to_linear), &plate, None), Verdict::Different);
    }
}
