//! A result's frame and where it lies in the host's image.

use super::samples::{CHANNELS, Depth, decode_halves, or_zero};

/// The rectangle of a frame that has pixels, in pixels from its top left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// A result's frame: RGB in the shot's encoding and the matte as A, half floats, rows from the top, the bounds' pixels alone.
#[derive(Clone, Copy)]
pub struct Paint<'a> {
    pub width: usize,
    pub height: usize,
    pub bounds: Bounds,
    pixels: &'a [u8],
}

impl<'a> Paint<'a> {
    /// None where the pixels are not those of the bounds, or the bounds does not lie in the frame.
    pub fn new(width: usize, height: usize, bounds: Bounds, pixels: &'a [u8]) -> Option<Self> {
        let fits = bounds.x.checked_add(bounds.width)? <= width && bounds.y.checked_add(bounds.height)? <= height;
        let bytes = bounds.width.checked_mul(bounds.height)?.checked_mul(Depth::Half.pixel_bytes())?;
        (fits && pixels.len() == bytes).then_some(Self { width, height, bounds, pixels })
    }

    /// The bounds's part of row `y` of the frame.
    fn row(&self, y: usize) -> Option<&'a [u8]> {
        let stride = self.bounds.width * Depth::Half.pixel_bytes();
        let start = y.checked_sub(self.bounds.y).filter(|&row| row < self.bounds.height)? * stride;
        (stride > 0).then(|| &self.pixels[start..start + stride])
    }

    /// The RGBA values of one pixel; None outside the bounds.
    pub fn pixel(&self, x: usize, y: usize) -> Option<[f32; CHANNELS]> {
        let start = x.checked_sub(self.bounds.x).filter(|&x| x < self.bounds.width)? * Depth::Half.pixel_bytes();
        let mut pixel = [0.0; CHANNELS];
        decode_halves(&self.row(y)?[start..start + Depth::Half.pixel_bytes()], &mut pixel);
        Some(pixel)
    }
}

/// Where the frame lies in the host's image, in the host's pixels with y up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// The frame's left edge.
    pub left: f64,
    /// Its upper edge.
    pub top: f64,
    /// Frame pixels per host pixel, across and up.
    pub scale: (f64, f64),
}

impl Placement {
    /// Where a frame of `size` pixels lies in an image.
    ///
    /// region: the image's region of definition, x1, y1, x2, y2 in its pixels, which a clip with overscan exceeds the format
    /// with, and a cropped one does not fill. format: the project's format in the same pixels, where the host gives it.
    /// scale: the image's render scale.
    ///
    /// The frame is the clip's whole picture, and so the region if that is of its size, else the format if that is; else the
    /// clip was resized: to the region, if the shapes are alike, else into the format.
    pub fn find(size: (usize, usize), region: [i32; 4], format: Option<[f64; 4]>, scale: (f64, f64)) -> Option<Self> {
        let region = region.map(f64::from);
        let scaled = (size.0 as f64 * scale.0, size.1 as f64 * scale.1);
        let is_size = |[x1, y1, x2, y2]: [f64; 4]| (x2 - x1 - scaled.0).abs() < 1.0 && (y2 - y1 - scaled.1).abs() < 1.0;
        let format = format.filter(|[x1, y1, x2, y2]| x1 < x2 && y1 < y2);
        match format {
            _ if is_size(region) => Self::fit(size, region),
            Some(format) if is_size(format) => Self::fit(size, format),
            Some(format) if !is_alike(size, region) => Self::fit(size, format),
            _ => Self::fit(size, region),
        }
    }

    /// A frame of `size` in the rectangle x1, y1, x2, y2: stretched over it where its shape is nearly the same, else as large
    /// as fits, in the middle.
    fn fit(size: (usize, usize), [x1, y1, x2, y2]: [f64; 4]) -> Option<Self> {
        let (width, height) = (size.0 as f64, size.1 as f64);
        if x2 <= x1 || y2 <= y1 || size.0 == 0 || size.1 == 0 {
            return None;
        }
        let (across, up) = (width / (x2 - x1), height / (y2 - y1));
        if is_alike(size, [x1, y1, x2, y2]) {
            return Some(Self { left: x1, top: y2, scale: (across, up) });
        }
        let scale = across.max(up);
        let (left, top) = ((x1 + x2 - width / scale) / 2.0, (y1 + y2 + height / scale) / 2.0);
        Some(Self { left, top, scale: (scale, scale) })
    }

    /// The rectangle that a frame of `size` covers: x1, y1, x2, y2.
    pub fn rectangle(&self, size: (usize, usize)) -> [f64; 4] {
        let (width, height) = (size.0 as f64 / self.scale.0, size.1 as f64 / self.scale.1);
        [self.left, self.top - height, self.left + width, self.top]
    }

    /// Whether every pixel of the host is one of the frame.
    pub fn is_exact(&self) -> bool {
        self.scale == (1.0, 1.0) && self.left.fract() == 0.0 && self.top.fract() == 0.0
    }
}

/// Whether a rectangle has nearly the frame's shape.
fn is_alike(size: (usize, usize), [x1, y1, x2, y2]: [f64; 4]) -> bool {
    let (across, up) = (size.0 as f64 / (x2 - x1), size.1 as f64 / (y2 - y1));
    (across / up - 1.0).abs() < 0.02
}

/// The frame's half floats for `count` pixels from `x` of the host's row `y`, and the index of the first pixel that has any.
/// None where none has.
pub fn exact_row<'a>(paint: &Paint<'a>, place: &Placement, x: i32, y: i32, count: usize) -> Option<(usize, &'a [u8])> {
    let row = paint.row(usize::try_from(place.top as i64 - 1 - i64::from(y)).ok()?)?;
    let left = place.left as i64 + paint.bounds.x as i64 - i64::from(x);
    let start = left.max(0);
    let end = (left + paint.bounds.width as i64).min(count as i64);
    let size = Depth::Half.pixel_bytes();
    (start < end).then(|| (start as usize, &row[(start - left) as usize * size..(end - left) as usize * size]))
}

const MOST_TAPS: f64 = 8.0;

/// The same, resampled, as single precision for all `count` pixels (matte 0 where there is no paint): a box filter where the
/// frame is larger than the host's image, else bilinear. Colour is weighed by the matte.
pub fn scaled_row(
    paint: &Paint,
    place: &Placement,
    x: i32,
    y: i32,
    count: usize,
    into: &mut Vec<f32>,
) -> Option<usize> {
    into.clear();
    into.resize(count * CHANNELS, 0.0);
    let taps = |scale: f64| scale.ceil().clamp(1.0, MOST_TAPS) as usize;
    let (across, down) = (taps(place.scale.0), taps(place.scale.1));
    let mut any = false;
    for (column, pixel) in into.chunks_exact_mut(CHANNELS).enumerate() {
        let mut sum = [0.0; CHANNELS];
        for i in 0..down {
            let v = (place.top - f64::from(y) - (i as f64 + 0.5) / down as f64) * place.scale.1;
            for j in 0..across {
                let from_left = f64::from(x) + column as f64 + (j as f64 + 0.5) / across as f64 - place.left;
                let u = from_left * place.scale.0;
                if across == 1 && down == 1 {
                    add_bilinear(paint, u - 0.5, v - 0.5, &mut sum);
                } else {
                    add(paint, u.floor(), v.floor(), 1.0 / (across * down) as f32, &mut sum);
                }
            }
        }
        if sum[3] > 0.0 {
            any = true;
            pixel.copy_from_slice(&[sum[0] / sum[3], sum[1] / sum[3], sum[2] / sum[3], sum[3]]);
        }
    }
    any.then_some(0)
}

fn add_bilinear(paint: &Paint, u: f64, v: f64, sum: &mut [f32; CHANNELS]) {
    let (left, top) = (u.floor(), v.floor());
    let (right, bottom) = ((u - left) as f32, (v - top) as f32);
    add(paint, left, top, (1.0 - right) * (1.0 - bottom), sum);
    add(paint, left + 1.0, top, right * (1.0 - bottom), sum);
    add(paint, left, top + 1.0, (1.0 - right) * bottom, sum);
    add(paint, left + 1.0, top + 1.0, right * bottom, sum);
}

/// Adds one pixel's matte-weighed colour, and its matte, to the sum.
fn add(paint: &Paint, x: f64, y: f64, weight: f32, sum: &mut [f32; CHANNELS]) {
    if x < 0.0 || y < 0.0 || weight <= 0.0 {
        return;
    }
    let Some(pixel) = paint.pixel(x as usize, y as usize) else { return };
    let matte = if pixel[3] > 0.0 { pixel[3].min(1.0) * weight } else { return };
    for channel in 0..3 {
        sum[channel] += or_zero(pixel[channel]) * matte;
    }
    sum[3] += matte;
}
