//! Painted colour over a host's own pixels, which stay bit for bit the same wherever the matte is 0.

use half::f16;
use half::slice::HalfFloatSliceExt;

pub const CHANNELS: usize = 4;

/// How a host stores a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Byte,
    Short,
    Half,
    Float,
}

impl Depth {
    pub const ALL: [Self; 4] = [Self::Byte, Self::Short, Self::Half, Self::Float];

    pub fn sample_bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Short | Self::Half => 2,
            Self::Float => 4,
        }
    }

    pub fn pixel_bytes(self) -> usize {
        CHANNELS * self.sample_bytes()
    }

    /// The sample that stands for 1.
    fn white(self) -> f32 {
        match self {
            Self::Byte => 255.0,
            Self::Short => 65535.0,
            Self::Half | Self::Float => 1.0,
        }
    }
}

/// The rectangle that holds pixels, from a frame's top left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// A result's frame: RGB in the shot's encoding and the matte, half floats, rows from the top, inside the window alone.
#[derive(Clone, Copy)]
pub struct Paint<'a> {
    pub width: usize,
    pub height: usize,
    pub window: Window,
    pixels: &'a [u8],
}

impl<'a> Paint<'a> {
    /// None where the pixels are not those of the window, or the window does not lie in the frame.
    pub fn new(width: usize, height: usize, window: Window, pixels: &'a [u8]) -> Option<Self> {
        let fits = window.x.checked_add(window.width)? <= width && window.y.checked_add(window.height)? <= height;
        let bytes = window.width.checked_mul(window.height)?.checked_mul(Depth::Half.pixel_bytes())?;
        (fits && pixels.len() == bytes).then_some(Self { width, height, window, pixels })
    }

    /// The window's part of row `y` of the frame.
    fn row(&self, y: usize) -> Option<&'a [u8]> {
        let stride = self.window.width * Depth::Half.pixel_bytes();
        let start = y.checked_sub(self.window.y).filter(|&row| row < self.window.height)? * stride;
        (stride > 0).then(|| &self.pixels[start..start + stride])
    }

    fn pixel(&self, x: usize, y: usize) -> Option<[f32; CHANNELS]> {
        let start = x.checked_sub(self.window.x).filter(|&x| x < self.window.width)? * Depth::Half.pixel_bytes();
        let mut pixel = [0.0; CHANNELS];
        decode_halves(&self.row(y)?[start..start + Depth::Half.pixel_bytes()], &mut pixel);
        Some(pixel)
    }
}

/// How the frame lies in the host's picture: the pixel rectangle (y up) that the whole frame covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    pub left: f64,
    pub top: f64,
    /// Pixels of the frame for one of the host's.
    pub scale: (f64, f64),
}

impl Placement {
    /// A frame of `size` in the region of pixels x1, y1, x2, y2: stretched over it where its shape is nearly the same, else
    /// as large as fits, in the middle.
    pub fn fit(size: (usize, usize), region: [i32; 4]) -> Option<Self> {
        let [x1, y1, x2, y2] = region.map(f64::from);
        let (width, height) = (size.0 as f64, size.1 as f64);
        if x2 <= x1 || y2 <= y1 || size.0 == 0 || size.1 == 0 {
            return None;
        }
        let (across, up) = (width / (x2 - x1), height / (y2 - y1));
        if (across / up - 1.0).abs() < 0.02 {
            return Some(Self { left: x1, top: y2, scale: (across, up) });
        }
        let scale = across.max(up);
        let (left, top) = ((x1 + x2 - width / scale) / 2.0, (y1 + y2 + height / scale) / 2.0);
        Some(Self { left, top, scale: (scale, scale) })
    }

    fn is_exact(&self) -> bool {
        self.scale == (1.0, 1.0) && self.left.fract() == 0.0 && self.top.fract() == 0.0
    }
}

/// What a row of the host's is blended with.
#[derive(Clone, Copy)]
pub struct Blend {
    pub depth: Depth,
    /// Scales the matte.
    pub mix: f32,
    /// The host's RGB are multiplied by its alpha.
    pub premultiplied: bool,
    /// Shows the matte instead.
    pub matte_view: bool,
}

/// Buffers of a row, kept from one row to the next.
#[derive(Default)]
pub struct Scratch {
    paint: Vec<f32>,
    base: Vec<f32>,
}

/// Pixels that are blended at a time: few enough for all that is made of them to stay in the nearest cache.
const PART: usize = 256;

impl Blend {
    /// Blends the paint into one row of host pixels, which hold the plate.
    ///
    /// row: whole RGBA pixels at the host's depth, from pixel `x` of the host's row `y` (rows go up).
    /// hold: scales the matte pixel by pixel, where the host has a matte input for it.
    pub fn row(
        &self,
        row: &mut [u8],
        (x, y): (i32, i32),
        paint: &Paint,
        place: &Placement,
        hold: Option<&[f32]>,
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
            if let Some(start) = found {
                let end = start + scratch.paint.len() / CHANNELS;
                let part = &mut part[start * self.depth.pixel_bytes()..end * self.depth.pixel_bytes()];
                self.part(part, hold.map(|hold| &hold[first + start..first + end]), scratch);
            }
        }
    }

    /// The whole way of the most frequent case, float pictures pixel for pixel, from the plate to the output with no buffer
    /// between. False where it is another case or processor; the output is then as it was.
    ///
    /// plate: as many bytes as the row, in other memory.
    pub fn row_from(&self, plate: &[u8], row: &mut [u8], at: (i32, i32), paint: &Paint, place: &Placement) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.depth == Depth::Float
            && !self.matte_view
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
            unsafe { over_float_wide(self, &plate[left..right], &mut row[left..right], halves) };
            return true;
        }
        let _ = (plate, row, at, paint, place);
        false
    }

    /// With the processor's wide instructions where it has them.
    fn part(&self, row: &mut [u8], hold: Option<&[f32]>, scratch: &mut Scratch) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // Safety: the processor has what the function is compiled for.
            return unsafe { self.part_wide(row, hold, scratch) };
        }
        self.part_with(row, hold, scratch, mix);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn part_wide(&self, row: &mut [u8], hold: Option<&[f32]>, scratch: &mut Scratch) {
        self.part_with(row, hold, scratch, |how, base, paint| mix_wide(how, base, paint));
    }

    #[inline(always)]
    fn part_with(
        &self,
        row: &mut [u8],
        hold: Option<&[f32]>,
        scratch: &mut Scratch,
        mix: impl FnOnce(&Self, &mut [f32], &mut [f32]),
    ) {
        let Scratch { paint, base } = scratch;
        if let Some(hold) = hold {
            for (pixel, hold) in paint.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(hold) {
                pixel[3] = pixel[3].min(1.0) * hold;
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

/// Mixes the paint into the plate, as `compose.composite` of the engine does it: plate · (1 - matte) + paint · matte in
/// single precision, where the matte is above 0. Leaves the matte as it counts in the paint: 0 to 1, scaled.
#[inline(always)]
fn mix(how: &Blend, base: &mut [f32], paint: &mut [f32]) {
    let white = how.depth.white();
    for (base, paint) in base.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(paint.as_chunks_mut::<CHANNELS>().0) {
        let matte = if paint[3] > 0.0 { paint[3].min(1.0) * how.mix } else { 0.0 };
        paint[3] = matte;
        // What paint is multiplied by: the host's alpha, where it means anything. Plates often come with 0 all over.
        let alpha = if how.premultiplied && base[3] > 0.0 { base[3] / white } else { 1.0 };
        let mixed: [f32; CHANNELS] = std::array::from_fn(|channel| {
            let target = paint[channel] * white * alpha;
            let under = if base[channel].is_finite() { base[channel] } else { target };
            let mixed = number(under * (1.0 - matte) + target * matte).clamp(f32::MIN, f32::MAX);
            if matte > 0.0 { mixed } else { base[channel] }
        });
        *base = [mixed[0], mixed[1], mixed[2], base[3]];
    }
}

/// The same, two pixels at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn mix_wide(how: &Blend, base: &mut [f32], paint: &mut [f32]) {
    use std::arch::x86_64::{_mm256_loadu_ps, _mm256_storeu_ps};
    let mixer = wide::Mixer::new(how);
    let (bases, base_left) = base.as_chunks_mut::<{ 2 * CHANNELS }>();
    let (paints, paint_left) = paint.as_chunks_mut::<{ 2 * CHANNELS }>();
    for (base, paint) in bases.iter_mut().zip(paints) {
        // Safety: eight numbers each.
        unsafe {
            let (mixed, colour) = mixer.mix(_mm256_loadu_ps(base.as_ptr()), _mm256_loadu_ps(paint.as_ptr()));
            _mm256_storeu_ps(base.as_mut_ptr(), mixed);
            _mm256_storeu_ps(paint.as_mut_ptr(), colour);
        }
    }
    mix(how, base_left, paint_left);
}

/// Mixes float pixels, two at a time, past the caches where the output lies as that takes: nobody reads it soon.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
fn over_float_wide(how: &Blend, plate: &[u8], row: &mut [u8], halves: &[u8]) {
    use std::arch::x86_64::{
        _mm_loadu_si128, _mm_sfence, _mm256_cvtph_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_stream_ps,
    };
    const PIXEL: usize = 16;
    let one = |plate: &[u8], row: &mut [u8], halves: &[u8]| {
        let (mut base, mut paint) = ([0.0; CHANNELS], [0.0; CHANNELS]);
        decode(Depth::Float, plate, &mut base);
        decode_halves(halves, &mut paint);
        mix(how, &mut base, &mut paint);
        encode(Depth::Float, &base, row);
    };
    let first = if row.as_ptr().addr() % 32 == PIXEL && !row.is_empty() { PIXEL } else { 0 };
    let streams = (row.as_ptr().addr() + first).is_multiple_of(32);
    let mixer = wide::Mixer::new(how);
    if first > 0 {
        one(&plate[..PIXEL], &mut row[..PIXEL], &halves[..PIXEL / 2]);
    }
    let (pixels, row_left) = row[first..].as_chunks_mut::<{ 2 * PIXEL }>();
    let (plates, plate_left) = plate[first..].as_chunks::<{ 2 * PIXEL }>();
    let (paints, paint_left) = halves[first / 2..].as_chunks::<PIXEL>();
    for ((pixels, plate), paint) in pixels.iter_mut().zip(plates).zip(paints) {
        // Safety: two pixels each; streamed where they are aligned.
        unsafe {
            let paint = _mm256_cvtph_ps(_mm_loadu_si128(paint.as_ptr().cast()));
            let (mixed, _) = mixer.mix(_mm256_loadu_ps(plate.as_ptr().cast()), paint);
            if streams {
                _mm256_stream_ps(pixels.as_mut_ptr().cast(), mixed);
            } else {
                _mm256_storeu_ps(pixels.as_mut_ptr().cast(), mixed);
            }
        }
    }
    if !row_left.is_empty() {
        one(plate_left, row_left, paint_left);
    }
    if streams {
        _mm_sfence();
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::Blend;

    /// `mix` for two pixels.
    pub struct Mixer {
        white: __m256,
        scale: __m256,
        premultiplied: bool,
    }

    const ALPHA: i32 = 0b1000_1000;

    impl Mixer {
        #[target_feature(enable = "avx2")]
        pub fn new(how: &Blend) -> Self {
            let (white, scale) = (_mm256_set1_ps(how.depth.white()), _mm256_set1_ps(how.mix));
            Self { white, scale, premultiplied: how.premultiplied }
        }

        /// The mixed pixels; and the paint with its matte as it counts.
        #[inline]
        #[target_feature(enable = "avx2")]
        pub fn mix(&self, base: __m256, paint: __m256) -> (__m256, __m256) {
            let (zero, one) = (_mm256_setzero_ps(), _mm256_set1_ps(1.0));
            let (least, most) = (_mm256_set1_ps(f32::MIN), _mm256_set1_ps(f32::MAX));
            let unsigned = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
            // The greater of a NaN and 0 is the second of the two here.
            let matte = _mm256_max_ps(_mm256_permute_ps::<0xff>(paint), zero);
            let matte = _mm256_mul_ps(_mm256_min_ps(matte, one), self.scale);
            let mut target = _mm256_mul_ps(paint, self.white);
            if self.premultiplied {
                let alpha = _mm256_permute_ps::<0xff>(base);
                let meant = _mm256_cmp_ps::<_CMP_GT_OQ>(alpha, zero);
                target = _mm256_mul_ps(target, _mm256_blendv_ps(one, _mm256_div_ps(alpha, self.white), meant));
            }
            let finite = _mm256_cmp_ps::<_CMP_LE_OQ>(_mm256_and_ps(base, unsigned), most);
            let under = _mm256_blendv_ps(target, base, finite);
            let mixed = _mm256_add_ps(_mm256_mul_ps(under, _mm256_sub_ps(one, matte)), _mm256_mul_ps(target, matte));
            let mixed = _mm256_and_ps(mixed, _mm256_cmp_ps::<_CMP_ORD_Q>(mixed, mixed));
            let mixed = _mm256_min_ps(_mm256_max_ps(mixed, least), most);
            let mixed = _mm256_blendv_ps(base, mixed, _mm256_cmp_ps::<_CMP_GT_OQ>(matte, zero));
            (_mm256_blend_ps::<ALPHA>(mixed, base), _mm256_blend_ps::<ALPHA>(paint, matte))
        }
    }
}

#[inline(always)]
fn number(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value }
}

/// The paint of pixels `x` to `x + count` of the host's row `y`, and where in them it begins.
fn exact_row<'a>(paint: &Paint<'a>, place: &Placement, x: i32, y: i32, count: usize) -> Option<(usize, &'a [u8])> {
    let row = paint.row(usize::try_from(place.top as i64 - 1 - i64::from(y)).ok()?)?;
    let left = place.left as i64 + paint.window.x as i64 - i64::from(x);
    let start = left.max(0);
    let end = (left + paint.window.width as i64).min(count as i64);
    let size = Depth::Half.pixel_bytes();
    (start < end).then(|| (start as usize, &row[(start - left) as usize * size..(end - left) as usize * size]))
}

const MOST_TAPS: f64 = 8.0;

/// The same where a pixel of the host's is not one of the frame's: the mean of what it covers, or bilinear where it covers
/// less than one.
fn scaled_row(paint: &Paint, place: &Placement, x: i32, y: i32, count: usize, into: &mut Vec<f32>) -> Option<usize> {
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

/// Adds a pixel's colour times its matte, and its matte, both weighed.
fn add(paint: &Paint, x: f64, y: f64, weight: f32, sum: &mut [f32; CHANNELS]) {
    if x < 0.0 || y < 0.0 || weight <= 0.0 {
        return;
    }
    let Some(pixel) = paint.pixel(x as usize, y as usize) else { return };
    let matte = if pixel[3] > 0.0 { pixel[3].min(1.0) * weight } else { return };
    for channel in 0..3 {
        sum[channel] += number(pixel[channel]) * matte;
    }
    sum[3] += matte;
}

fn decode_halves(bytes: &[u8], into: &mut [f32]) {
    // Safety: any two bytes are a half float.
    let (before, halves, after) = unsafe { bytes.align_to::<f16>() };
    if cfg!(target_endian = "little") && before.is_empty() && after.is_empty() {
        halves.convert_to_f32_slice(into);
    } else {
        for (value, bytes) in into.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *value = f16::from_le_bytes(*bytes).to_f32();
        }
    }
}

/// The nearest halves; what is no number becomes 0, what is too large the largest.
#[inline(always)]
fn encode_halves(values: &[f32], bytes: &mut [u8]) {
    let (least, most) = (f16::MIN.to_f32_const(), f16::MAX.to_f32_const());
    let mut part = [0.0; 64];
    for (values, bytes) in values.chunks(part.len()).zip(bytes.chunks_mut(2 * part.len())) {
        let part = &mut part[..values.len()];
        part.iter_mut().zip(values).for_each(|(safe, &value)| *safe = number(value).clamp(least, most));
        // Safety: any two bytes are a half float.
        let (before, halves, after) = unsafe { bytes.align_to_mut::<f16>() };
        if before.is_empty() && after.is_empty() {
            halves.convert_from_f32_slice(part);
        } else {
            for (bytes, &value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(&*part) {
                *bytes = f16::from_f32(value).to_ne_bytes();
            }
        }
    }
}

/// A host's samples as numbers: 0 to 255, 0 to 65535, or what they are.
#[inline(always)]
pub fn decode(depth: Depth, bytes: &[u8], into: &mut [f32]) {
    match depth {
        Depth::Byte => into.iter_mut().zip(bytes).for_each(|(value, &byte)| *value = f32::from(byte)),
        Depth::Short => {
            for (value, bytes) in into.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = f32::from(u16::from_ne_bytes(*bytes));
            }
        }
        Depth::Half => decode_halves(bytes, into),
        Depth::Float => {
            for (value, bytes) in into.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_ne_bytes(*bytes);
            }
        }
    }
}

/// The reverse: to the nearest that the depth can hold, ties to even; what is no number becomes 0, in a float stays.
#[inline(always)]
fn encode(depth: Depth, values: &[f32], bytes: &mut [u8]) {
    match depth {
        Depth::Byte => {
            bytes.iter_mut().zip(values).for_each(|(byte, &value)| *byte = whole(value, depth.white()) as u8);
        }
        Depth::Short => {
            for (bytes, &value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *bytes = (whole(value, depth.white()) as u16).to_ne_bytes();
            }
        }
        Depth::Half => encode_halves(values, bytes),
        Depth::Float => {
            for (bytes, &value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *bytes = value.to_ne_bytes();
            }
        }
    }
}

/// The nearest whole number of 0 to `most`, ties to even: above 2^23, single precision has no other.
#[inline(always)]
fn whole(value: f32, most: f32) -> i32 {
    const UP: f32 = 8_388_608.0;
    // Safety: the sum lies in 2^23 to 2^23 + 65535.
    unsafe { (number(value).clamp(0.0, most) + UP - UP).to_int_unchecked() }
}

/// Fills a row with one colour of 0 to 1.
fn fill(depth: Depth, row: &mut [u8], colour: [f32; CHANNELS], scratch: &mut Vec<f32>) {
    scratch.clear();
    let colour = colour.map(|value| value * depth.white());
    scratch.extend(colour);
    for pixel in row.chunks_exact_mut(depth.pixel_bytes()) {
        encode(depth, scratch, pixel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (6, 4);
    const WINDOW: Window = Window { x: 1, y: 1, width: 3, height: 2 };

    /// A different colour in every pixel; the matte 0, 0.5, 1, 0, …
    fn paint_pixels(window: Window) -> Vec<u8> {
        let mattes = [0.0, 0.5, 1.0];
        (0..window.width * window.height)
            .flat_map(|i| [0.1 + i as f32 / 50.0, 0.3, 1.7, mattes[i % 3]])
            .flat_map(|value| f16::from_f32(value).to_le_bytes())
            .collect()
    }

    /// A row of plate samples, none of them alike.
    fn plate_row(depth: Depth, count: usize, seed: usize) -> Vec<u8> {
        let values: Vec<f32> =
            (0..count * CHANNELS).map(|i| ((i * 37 + seed * 11) % 97) as f32 / 97.0 * depth.white()).collect();
        let mut bytes = vec![0; count * depth.pixel_bytes()];
        encode(depth, &values, &mut bytes);
        bytes
    }

    fn blend(depth: Depth) -> Blend {
        Blend { depth, mix: 1.0, premultiplied: false, matte_view: false }
    }

    fn exact() -> Placement {
        Placement::fit(SIZE, [0, 0, SIZE.0 as i32, SIZE.1 as i32]).unwrap()
    }

    #[test]
    fn host_bytes_stay_where_the_matte_is_zero_and_are_mixed_elsewhere_at_every_depth() {
        let pixels = paint_pixels(WINDOW);
        let paint = Paint::new(SIZE.0, SIZE.1, WINDOW, &pixels).unwrap();
        for depth in Depth::ALL {
            for y in 0..SIZE.1 {
                let plate = plate_row(depth, SIZE.0, y);
                let mut row = plate.clone();
                blend(depth).row(&mut row, (0, y as i32), &paint, &exact(), None, &mut Scratch::default());
                let mut expected = plate.clone();
                let from_top = SIZE.1 - 1 - y;
                for x in 0..SIZE.0 {
                    let at = x * depth.pixel_bytes();
                    let Some(colour) = paint.pixel(x, from_top).filter(|colour| colour[3] > 0.0) else { continue };
                    let mut base = [0.0; CHANNELS];
                    decode(depth, &plate[at..at + depth.pixel_bytes()], &mut base);
                    let mixed: [f32; 3] =
                        std::array::from_fn(|c| base[c] * (1.0 - colour[3]) + colour[c] * depth.white() * colour[3]);
                    encode(depth, &mixed, &mut expected[at..at + 3 * depth.sample_bytes()]);
                }
                assert_eq!(row, expected, "{depth:?} row {y}");
                assert_eq!(row != plate, (1..3).contains(&from_top), "{depth:?} row {y}");
            }
        }
    }

    #[test]
    fn odd_bits_survive_under_a_matte_of_zero() {
        let window = Window { x: 0, y: 0, width: 2, height: 1 };
        let infinite = f16::INFINITY.to_le_bytes();
        let pixels: Vec<u8> = [infinite, infinite, infinite, [0, 0]].concat().repeat(2);
        let paint = Paint::new(2, 1, window, &pixels).unwrap();
        let odd = [0x7fc0_1234_u32, 0x8000_0000, 0xff80_0000, 0x0000_0001, 0x7fa0_0001, 1, 2, 3];
        let plate: Vec<u8> = odd.iter().flat_map(|bits| bits.to_ne_bytes()).collect();
        let mut row = plate.clone();
        let place = Placement::fit((2, 1), [0, 0, 2, 1]).unwrap();
        blend(Depth::Float).row(&mut row, (0, 0), &paint, &place, None, &mut Scratch::default());
        assert_eq!(row, plate);
    }

    #[test]
    fn what_is_no_number_never_reaches_the_host() {
        let values = [f32::NAN, f32::INFINITY, -f32::INFINITY, f32::NAN];
        for (matte, finite) in [(1.0, true), (f32::NAN, false), (-1.0, false)] {
            let pixels: Vec<u8> =
                [values[0], values[1], values[2], matte].iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
            let paint = Paint::new(1, 1, Window { x: 0, y: 0, width: 1, height: 1 }, &pixels).unwrap();
            let place = Placement::fit((1, 1), [0, 0, 1, 1]).unwrap();
            for depth in Depth::ALL {
                let plate = plate_row(depth, 1, 3);
                let mut row = plate.clone();
                blend(depth).row(&mut row, (0, 0), &paint, &place, None, &mut Scratch::default());
                let mut out = [0.0; CHANNELS];
                decode(depth, &row, &mut out);
                assert!(out.iter().all(|value| value.is_finite()), "{depth:?} {out:?}");
                assert_eq!(row != plate, finite, "{depth:?}");
            }
        }
    }

    #[test]
    fn a_part_of_a_row_gets_the_paint_of_its_own_pixels() {
        let pixels = paint_pixels(WINDOW);
        let paint = Paint::new(SIZE.0, SIZE.1, WINDOW, &pixels).unwrap();
        let region = [-3, 10, -3 + SIZE.0 as i32, 10 + SIZE.1 as i32];
        let place = Placement::fit(SIZE, region).unwrap();
        let mut whole = plate_row(Depth::Byte, SIZE.0, 0);
        let mut parts = whole.clone();
        let blend = blend(Depth::Byte);
        blend.row(&mut whole, (-3, 12), &paint, &place, None, &mut Scratch::default());
        let (left, right) = parts.split_at_mut(8);
        blend.row(left, (-3, 12), &paint, &place, None, &mut Scratch::default());
        blend.row(right, (-1, 12), &paint, &place, None, &mut Scratch::default());
        assert_eq!(parts, whole);
        assert_ne!(whole, plate_row(Depth::Byte, SIZE.0, 0));
    }

    #[test]
    fn a_premultiplied_host_gets_premultiplied_paint() {
        let window = Window { x: 0, y: 0, width: 1, height: 1 };
        let pixels: Vec<u8> = [0.5f32, 1.0, 0.25, 1.0].iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect();
        let paint = Paint::new(1, 1, window, &pixels).unwrap();
        let place = Placement::fit((1, 1), [0, 0, 1, 1]).unwrap();
        let mut row: Vec<u8> = [0.1f32, 0.1, 0.1, 0.5].iter().flat_map(|v| v.to_ne_bytes()).collect();
        let blend = Blend { premultiplied: true, ..blend(Depth::Float) };
        blend.row(&mut row, (0, 0), &paint, &place, None, &mut Scratch::default());
        let mut out = [0.0; CHANNELS];
        decode(Depth::Float, &row, &mut out);
        assert_eq!(out, [0.25, 0.5, 0.125, 0.5]);
    }

    #[test]
    fn a_smaller_picture_gets_the_mean_of_what_its_pixels_cover() {
        let window = Window { x: 0, y: 0, width: 4, height: 4 };
        let pixels: Vec<u8> = (0..16)
            .flat_map(|i| [1.0, 0.0, 0.0, if i % 4 < 2 { 1.0 } else { 0.0 }])
            .flat_map(|value| f16::from_f32(value).to_le_bytes())
            .collect();
        let paint = Paint::new(4, 4, window, &pixels).unwrap();
        let place = Placement::fit((4, 4), [0, 0, 2, 2]).unwrap();
        let mut row = vec![0; 8];
        blend(Depth::Byte).row(&mut row, (0, 0), &paint, &place, None, &mut Scratch::default());
        assert_eq!(row, [255, 0, 0, 0, 0, 0, 0, 0]);
        let place = Placement::fit((4, 4), [0, 0, 1, 1]).unwrap();
        let mut row = vec![0; 4];
        blend(Depth::Byte).row(&mut row, (0, 0), &paint, &place, None, &mut Scratch::default());
        assert_eq!(row, [128, 0, 0, 0]);
    }

    #[test]
    fn a_picture_of_another_shape_has_the_frame_in_its_middle() {
        let place = Placement::fit((100, 50), [0, 0, 200, 200]).unwrap();
        assert_eq!(place, Placement { left: 0.0, top: 150.0, scale: (0.5, 0.5) });
        assert_eq!(Placement::fit((0, 50), [0, 0, 200, 200]), None);
        assert_eq!(Placement::fit((100, 50), [0, 0, 0, 200]), None);
    }

    #[test]
    fn the_matte_view_and_mix_and_a_held_matte() {
        let pixels = paint_pixels(WINDOW);
        let paint = Paint::new(SIZE.0, SIZE.1, WINDOW, &pixels).unwrap();
        let mut row = plate_row(Depth::Byte, SIZE.0, 0);
        let matte = Blend { matte_view: true, ..blend(Depth::Byte) };
        matte.row(&mut row, (0, 1), &paint, &exact(), None, &mut Scratch::default());
        let shown: Vec<u8> = row.chunks(4).map(|pixel| pixel[0]).collect();
        assert_eq!(shown, [0, 0, 128, 255, 0, 0]);
        assert!(row.chunks(4).all(|pixel| pixel[3] == 255));

        let plate = plate_row(Depth::Byte, SIZE.0, 0);
        let mut row = plate.clone();
        let held = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0];
        blend(Depth::Byte).row(&mut row, (0, 1), &paint, &exact(), Some(&held), &mut Scratch::default());
        assert_ne!(row[8..12], plate[8..12]);
        assert_eq!(row[12..], plate[12..]);

        let mut row = plate.clone();
        let none = Blend { mix: 0.0, ..blend(Depth::Byte) };
        none.row(&mut row, (0, 1), &paint, &exact(), None, &mut Scratch::default());
        assert_eq!(row, plate);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_wide_instructions_do_what_the_plain_ones_do() {
        if !is_x86_feature_detected!("avx2") {
            return;
        }
        let odd =
            [0.0, -0.0, 1.0, 0.25, -3.0, 70000.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-40, 0.999];
        let pick = |seed: usize| (0..odd.len() * 4 * 13).map(move |i| odd[(i * (seed + 6) + i / 7 + seed) % odd.len()]);
        for depth in Depth::ALL {
            for (premultiplied, mix_by) in [(false, 1.0), (true, 0.3)] {
                let how = Blend { premultiplied, mix: mix_by, ..blend(depth) };
                let (mut base, mut paint): (Vec<f32>, Vec<f32>) = (pick(1).collect(), pick(4).collect());
                let (mut wide_base, mut wide_paint) = (base.clone(), paint.clone());
                mix(&how, &mut base, &mut paint);
                unsafe { mix_wide(&how, &mut wide_base, &mut wide_paint) };
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&base), bits(&wide_base), "{depth:?}");
                assert_eq!(bits(&paint), bits(&wide_paint), "{depth:?}");
            }
        }
    }

    #[test]
    fn the_way_from_the_plate_gives_what_the_way_in_place_does() {
        let blend = blend(Depth::Float);
        let window = Window { x: 2, y: 0, width: 11, height: 1 };
        let pixels = paint_pixels(window);
        let paint = Paint::new(17, 1, window, &pixels).unwrap();
        let place = Placement::fit((17, 1), [0, 0, 17, 1]).unwrap();
        for shift in [0, 1, 4, 16, 17] {
            for x in -3..9 {
                let plate = plate_row(Depth::Float, 14, 3);
                let mut memory = vec![0; shift + plate.len()];
                let mut expected = plate.clone();
                blend.row(&mut expected, (x, 0), &paint, &place, None, &mut Scratch::default());
                if blend.row_from(&plate, &mut memory[shift..], (x, 0), &paint, &place) {
                    assert_eq!(memory[shift..], expected, "{shift} {x}");
                }
            }
        }
    }

    #[test]
    fn pixels_that_are_not_the_windows_are_refused() {
        let window = Window { x: 1, y: 1, width: 3, height: 2 };
        assert!(Paint::new(6, 4, window, &[0; 48]).is_some());
        assert!(Paint::new(6, 4, window, &[0; 47]).is_none());
        assert!(Paint::new(3, 4, window, &[0; 48]).is_none());
        let huge = Window { x: usize::MAX, y: 0, width: usize::MAX, height: 2 };
        assert!(Paint::new(6, 4, huge, &[]).is_none());
    }
}
