//! A host's samples as single-precision numbers, and back.

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
    pub fn white(self) -> f32 {
        match self {
            Self::Byte => 255.0,
            Self::Short => 65535.0,
            Self::Half | Self::Float => 1.0,
        }
    }
}

/// The value, or 0 for NaN.
#[inline(always)]
pub fn or_zero(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value }
}

/// Half floats, little-endian, as single precision.
pub fn decode_halves(bytes: &[u8], into: &mut [f32]) {
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

/// To the nearest half floats; NaN becomes 0, and what is out of range the largest finite half.
#[inline(always)]
fn encode_halves(values: &[f32], bytes: &mut [u8]) {
    let (least, most) = (f16::MIN.to_f32_const(), f16::MAX.to_f32_const());
    let mut part = [0.0; 64];
    for (values, bytes) in values.chunks(part.len()).zip(bytes.chunks_mut(2 * part.len())) {
        let part = &mut part[..values.len()];
        part.iter_mut().zip(values).for_each(|(safe, &value)| *safe = or_zero(value).clamp(least, most));
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

/// A host's samples as single precision, not normalised: 0 to 255 (byte), 0 to 65535 (short), else the value itself.
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

/// The inverse of `decode`: rounds to the nearest, ties to even, and clamps; NaN becomes 0, except in float samples.
#[inline(always)]
pub fn encode(depth: Depth, values: &[f32], bytes: &mut [u8]) {
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
    unsafe { (or_zero(value).clamp(0.0, most) + UP - UP).to_int_unchecked() }
}

/// Fills a row with one RGBA colour, each channel of 0 to 1.
pub fn fill(depth: Depth, row: &mut [u8], colour: [f32; CHANNELS], scratch: &mut Vec<f32>) {
    scratch.clear();
    let colour = colour.map(|value| value * depth.white());
    scratch.extend(colour);
    for pixel in row.chunks_exact_mut(depth.pixel_bytes()) {
        encode(depth, scratch, pixel);
    }
}
