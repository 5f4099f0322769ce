//! A host's image in memory.

use crate::abi::name;
use crate::composite::{CHANNELS, Depth, decode};
use crate::host::HostImage;

/// The pixels of a host's image, y up: row `y1` is the lowest.
#[derive(Clone, Copy)]
pub struct Image {
    data: *mut u8,
    /// x1, y1, x2, y2 in pixels; the last two are exclusive.
    pub bounds: [i32; 4],
    /// The region of definition in the same pixels; the bounds may be a part of it.
    pub region: [i32; 4],
    row_bytes: i64,
    pub depth: Depth,
    pub channels: usize,
    pub premultiplied: bool,
    /// The render scale, across and up: below 1 for a proxy.
    pub scale: (f64, f64),
    /// A pixel's width for a height of 1.
    pub pixel_aspect: f64,
}

// A render's threads write rows of their own.
unsafe impl Sync for Image {}

impl Image {
    /// None where the host's properties contradict each other or name an unsupported format.
    pub fn of(image: &HostImage) -> Option<Self> {
        let found = image.properties();
        let data = found.pointer(name::IMAGE_DATA).cast::<u8>();
        let bounds = found.rectangle(name::IMAGE_BOUNDS)?;
        let depth = depth_of(&found.string(name::PIXEL_DEPTH)?)?;
        let channels = if found.is(name::COMPONENTS, name::COMPONENT_RGBA) {
            CHANNELS
        } else if found.is(name::COMPONENTS, name::COMPONENT_RGB) {
            3
        } else if found.is(name::COMPONENTS, name::COMPONENT_ALPHA) {
            1
        } else {
            return None;
        };
        let width = i64::from(bounds[2]) - i64::from(bounds[0]);
        let height = i64::from(bounds[3]) - i64::from(bounds[1]);
        let least = width.checked_mul((channels * depth.sample_bytes()) as i64)?;
        let row_bytes = found.int(name::IMAGE_ROW_BYTES).map_or(least, i64::from);
        let row_bytes = if row_bytes == 0 { least } else { row_bytes };
        let valid = !data.is_null() && width > 0 && height > 0 && (height == 1 || row_bytes.abs() >= least);
        let region = found.rectangle(name::IMAGE_REGION_OF_DEFINITION).filter(|region| is_region(region, &bounds));
        let scale = found.pair(name::RENDER_SCALE).filter(|scale| scale.0 > 0.0 && scale.1 > 0.0).unwrap_or((1.0, 1.0));
        let pixel_aspect = found.double(name::IMAGE_PIXEL_ASPECT).filter(|&aspect| aspect > 0.0).unwrap_or(1.0);
        let premultiplied = found.is(name::PREMULTIPLICATION, name::PREMULTIPLIED);
        let region = region.unwrap_or(bounds);
        valid.then_some(Self { data, bounds, region, row_bytes, depth, channels, premultiplied, scale, pixel_aspect })
    }

    pub fn pixel_bytes(&self) -> usize {
        self.channels * self.depth.sample_bytes()
    }

    /// The address of pixel x, y, which must be inside the bounds.
    pub fn at(&self, x: i32, y: i32) -> *mut u8 {
        let row = (i64::from(y) - i64::from(self.bounds[1])) * self.row_bytes;
        let column = (i64::from(x) - i64::from(self.bounds[0])) * self.pixel_bytes() as i64;
        self.data.wrapping_offset((row + column) as isize)
    }

    /// The part of row `y` from `x1` to `x2` (exclusive) that is inside the bounds.
    pub fn span(&self, x1: i32, x2: i32, y: i32) -> Option<(i32, i32)> {
        let (left, right) = (x1.max(self.bounds[0]), x2.min(self.bounds[2]));
        (left < right && (self.bounds[1]..self.bounds[3]).contains(&y)).then_some((left, right))
    }

    /// The RGB of pixel x, y, not premultiplied, 1 is white; None outside the bounds, and for an image of alpha alone.
    pub fn pixel(&self, x: i32, y: i32) -> Option<[f32; 3]> {
        self.span(x, x.checked_add(1)?, y).filter(|_| self.has_colour())?;
        let mut values = [1.0; CHANNELS];
        // Safety: inside the bounds.
        let bytes = unsafe { std::slice::from_raw_parts(self.at(x, y), self.pixel_bytes()) };
        decode(self.depth, bytes, &mut values[..self.channels]);
        let white = self.depth.white();
        let alpha = values[3] / white;
        let divisor =
            if self.premultiplied && self.channels == CHANNELS && alpha > 0.0 { white * alpha } else { white };
        Some(std::array::from_fn(|channel| values[channel] / divisor))
    }

    /// All rows from the top, without padding, as the engine takes frames.
    pub fn packed(&self) -> Vec<u8> {
        let [x1, y1, x2, y2] = self.bounds;
        let row = (x2 - x1) as usize * self.pixel_bytes();
        let mut packed = Vec::with_capacity(row * (y2 - y1) as usize);
        for y in (y1..y2).rev() {
            // Safety: the host says that its row holds these pixels.
            packed.extend_from_slice(unsafe { std::slice::from_raw_parts(self.at(x1, y), row) });
        }
        packed
    }

    pub fn size(&self) -> (u32, u32) {
        (self.bounds[2].abs_diff(self.bounds[0]), self.bounds[3].abs_diff(self.bounds[1]))
    }

    /// Whether it is smaller than the clip's own pixels.
    pub fn is_proxy(&self) -> bool {
        self.scale.0 < 1.0 || self.scale.1 < 1.0
    }

    /// A rectangle of canonical coordinates, x, y and width, height, as x1, y1, x2, y2 in its pixels.
    pub fn pixels_of(&self, (x, y): (f64, f64), (width, height): (f64, f64)) -> [f64; 4] {
        let across = self.scale.0 / self.pixel_aspect;
        [x * across, y * self.scale.1, (x + width) * across, (y + height) * self.scale.1]
    }

    /// A rectangle of its pixels in canonical coordinates, x1, y1, x2, y2 each.
    pub fn canonical_of(&self, [x1, y1, x2, y2]: [f64; 4]) -> [f64; 4] {
        let across = self.pixel_aspect / self.scale.0;
        [x1 * across, y1 / self.scale.1, x2 * across, y2 / self.scale.1]
    }

    /// RGB or RGBA.
    pub fn has_colour(&self) -> bool {
        self.channels >= 3
    }

    /// A row's alpha, 0 to 1, from `x1` to `x2`; 0 outside the bounds.
    pub fn alpha_row(&self, x1: i32, x2: i32, y: i32, into: &mut Vec<f32>, scratch: &mut Vec<f32>) {
        into.clear();
        into.resize(x1.abs_diff(x2) as usize, 0.0);
        let Some((left, right)) = self.span(x1, x2, y) else { return };
        let count = left.abs_diff(right) as usize;
        scratch.resize(count * self.channels, 0.0);
        // Safety: inside the bounds.
        let bytes = unsafe { std::slice::from_raw_parts(self.at(left, y), count * self.pixel_bytes()) };
        decode(self.depth, bytes, scratch);
        let white = self.depth.white();
        let alpha = scratch.iter().skip(self.channels - 1).step_by(self.channels);
        for (matte, value) in into[left.abs_diff(x1) as usize..].iter_mut().zip(alpha) {
            *matte = if *value > 0.0 { (value / white).min(1.0) } else { 0.0 };
        }
    }
}

/// Whether the region contains the bounds: hosts leave it empty or infinite where they have none.
fn is_region(region: &[i32; 4], bounds: &[i32; 4]) -> bool {
    const MOST: i32 = 1 << 20;
    region.iter().all(|side| (-MOST..=MOST).contains(side))
        && region[0] <= bounds[0]
        && region[1] <= bounds[1]
        && region[2] >= bounds[2]
        && region[3] >= bounds[3]
}

fn depth_of(text: &str) -> Option<Depth> {
    let names = [name::DEPTH_BYTE, name::DEPTH_SHORT, name::DEPTH_HALF, name::DEPTH_FLOAT];
    let found = names.iter().position(|known| known.to_bytes() == text.as_bytes())?;
    Some(Depth::ALL[found])
}

/// The RGB samples of packed pixels of 3 or 4 channels.
pub fn rgb(samples: &[u8], depth: Depth, channels: usize) -> Vec<u8> {
    let size = depth.sample_bytes();
    let mut rgb = Vec::with_capacity(samples.len() / channels * 3);
    samples.chunks_exact(channels * size).for_each(|pixel| rgb.extend_from_slice(&pixel[..3 * size]));
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rgb_leaves_alpha_out() {
        assert_eq!(rgb(&[1, 2, 3, 4, 5, 6, 7, 8], Depth::Byte, 4), [1, 2, 3, 5, 6, 7]);
        assert_eq!(rgb(&[1, 1, 2, 2, 3, 3, 4, 4], Depth::Short, 4), [1, 1, 2, 2, 3, 3]);
    }
}
