//! The blend for x86-64 with AVX2 and F16C, two RGBA pixels at a time; bit for bit what `blend::mix` computes.

use std::arch::x86_64::*;

use super::blend::{self, Blend};
use super::samples::{CHANNELS, Depth, decode, decode_halves, encode};

/// `blend::mix`, two pixels at a time.
#[target_feature(enable = "avx2")]
pub fn mix(how: &Blend, base: &mut [f32], paint: &mut [f32]) {
    let mixer = Mixer::new(how);
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
    blend::mix(how, base_left, paint_left);
}

/// Blends float pixels, two at a time. Where the output is 32-byte aligned it is written with non-temporal stores, which keep
/// the caches for what is read again.
#[target_feature(enable = "avx2,f16c")]
pub fn over_float(how: &Blend, plate: &[u8], row: &mut [u8], halves: &[u8]) {
    const PIXEL: usize = 16;
    let one = |plate: &[u8], row: &mut [u8], halves: &[u8]| {
        let (mut base, mut paint) = ([0.0; CHANNELS], [0.0; CHANNELS]);
        decode(Depth::Float, plate, &mut base);
        decode_halves(halves, &mut paint);
        blend::mix(how, &mut base, &mut paint);
        encode(Depth::Float, &base, row);
    };
    let first = if row.as_ptr().addr() % 32 == PIXEL && !row.is_empty() { PIXEL } else { 0 };
    let streams = (row.as_ptr().addr() + first).is_multiple_of(32);
    let mixer = Mixer::new(how);
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

/// The constants of one blend.
struct Mixer {
    white: __m256,
    scale: __m256,
    premultiplied: bool,
}

const ALPHA: i32 = 0b1000_1000;

impl Mixer {
    #[target_feature(enable = "avx2")]
    fn new(how: &Blend) -> Self {
        let (white, scale) = (_mm256_set1_ps(how.depth.white()), _mm256_set1_ps(how.mix));
        Self { white, scale, premultiplied: how.premultiplied }
    }

    /// The mixed pixels; and the paint with its matte as it counts.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn mix(&self, base: __m256, paint: __m256) -> (__m256, __m256) {
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
