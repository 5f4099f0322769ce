//! Blends a result's frame over a host's pixels, which stay bit for bit the same wherever the matte is 0.

mod blend;
mod paint;
mod samples;
#[cfg(target_arch = "x86_64")]
mod simd;
#[cfg(test)]
mod tests;

pub use blend::Blend;
use blend::mix;
pub use paint::{Bounds, Paint, Placement};
use paint::{exact_row, scaled_row};
pub use samples::{CHANNELS, Depth, decode, encode};
use samples::{decode_halves, fill};

/// Buffers for one row, reused for the next.
#[derive(Default)]
pub struct Scratch {
    paint: Vec<f32>,
    base: Vec<f32>,
}

/// Pixels blended at a time: few enough that their buffers stay in the first-level cache.
const PART: usize = 256;

impl Blend {
    /// Blends the paint into one row of host pixels, which holdout the plate.
    ///
    /// row: whole RGBA pixels at the host's depth, from pixel `x` of the host's row `y` (rows go up).
    /// holdout: scales the matte pixel by pixel, where the host has a matte input for it.
    pub fn row(
        &self,
        row: &mut [u8],
        (x, y): (i32, i32),
        paint: &Paint,
        place: &Placement,
        holdout: Option<&[f32]>,
        scratch: &mut Scratch,
    ) {
        for (index, part) in row.chunks_mut(PART * self.depth.pixel_bytes()).enumerate() {
            let count = part.len() / self.depth.pixel_bytes();
            let first = index * PART;
            let from = x.saturating_add(first as i32);
            if self.matte_view {
                fill(self.depth, part, [0.0, 0.0, 0.0, 1.0], &mut scratch.base);
            }
            let found = if place.is_exact() {
                let Some((start, halves)) = exact_row(paint, place, from, y, count) else { continue };
                scratch.paint.resize(halves.len() / 2, 0.0);
                decode_halves(halves, &mut scratch.paint);
                Some(start)
            } else {
                scaled_row(paint, place, from, y, count, &mut scratch.paint)
            };
            if let Some(conversion) = &self.conversion {
                scratch.paint.as_chunks_mut::<CHANNELS>().0.iter_mut().for_each(|pixel| conversion.apply(pixel));
            }
            if let Some(start) = found {
                let end = start + scratch.paint.len() / CHANNELS;
                let part = &mut part[start * self.depth.pixel_bytes()..end * self.depth.pixel_bytes()];
                self.part(part, holdout.map(|holdout| &holdout[first + start..first + end]), scratch);
            }
        }
    }

    /// The fast path for float images that the frame covers pixel for pixel: from the plate to the output in one pass. Returns
    /// false, and leaves the output untouched, for every other case or processor.
    ///
    /// plate: as many bytes as the row, in memory that does not overlap it.
    pub fn row_from(&self, plate: &[u8], row: &mut [u8], at: (i32, i32), paint: &Paint, place: &Placement) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.depth == Depth::Float
            && !self.matte_view
            && self.conversion.is_none()
            && place.is_exact()
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("f16c")
        {
            let count = row.len() / self.depth.pixel_bytes();
            let (start, halves) = exact_row(paint, place, at.0, at.1, count).unwrap_or_default();
            let (left, right) = (start * self.depth.pixel_bytes(), start * self.depth.pixel_bytes() + 2 * halves.len());
            row[..left].copy_from_slice(&plate[..left]);
            row[right..].copy_from_slice(&plate[right..]);
            // Safety: the processor has what the function is compiled for.
            unsafe { simd::over_float(self, &plate[left..right], &mut row[left..right], halves) };
            return true;
        }
        let _ = (plate, row, at, paint, place);
        false
    }

    /// With the processor's wide instructions where it has them.
    fn part(&self, row: &mut [u8], holdout: Option<&[f32]>, scratch: &mut Scratch) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // Safety: the processor has what the function is compiled for.
            return unsafe { self.part_wide(row, holdout, scratch) };
        }
        self.part_with(row, holdout, scratch, mix);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn part_wide(&self, row: &mut [u8], holdout: Option<&[f32]>, scratch: &mut Scratch) {
        self.part_with(row, holdout, scratch, |how, base, paint| simd::mix(how, base, paint));
    }

    #[inline(always)]
    fn part_with(
        &self,
        row: &mut [u8],
        holdout: Option<&[f32]>,
        scratch: &mut Scratch,
        mix: impl FnOnce(&Self, &mut [f32], &mut [f32]),
    ) {
        let Scratch { paint, base } = scratch;
        if let Some(holdout) = holdout {
            for (pixel, holdout) in paint.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(holdout) {
                pixel[3] = pixel[3].min(1.0) * holdout;
            }
        }
        base.resize(paint.len(), 0.0);
        decode(self.depth, row, base);
        mix(self, base, paint);
        if self.matte_view {
            let white = self.depth.white();
            for (shown, paint) in base.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(paint.as_chunks::<CHANNELS>().0) {
                *shown = [paint[3] * white, paint[3] * white, paint[3] * white, white];
            }
        }
        match self.depth {
            // Every whole number of theirs comes back from single precision as it was, and so does every bit of that.
            Depth::Byte | Depth::Short | Depth::Float => encode(self.depth, base, row),
            Depth::Half => {
                let mut mixed = [[0; 8]; PART];
                let mixed = &mut mixed[..paint.len() / CHANNELS];
                encode(self.depth, base, mixed.as_flattened_mut());
                let pixels = row.as_chunks_mut::<8>().0.iter_mut().zip(mixed).zip(paint.as_chunks::<CHANNELS>().0);
                for ((pixel, mixed), paint) in pixels {
                    *pixel = if paint[3] > 0.0 { *mixed } else { *pixel };
                }
            }
        }
    }
}
