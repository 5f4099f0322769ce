//! How painted colour is mixed into a host's pixels.

use super::samples::{CHANNELS, Depth, or_zero};
use crate::colour::Conversion;

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
    /// Of the paint, to the host's colour space.
    pub conversion: Option<Conversion>,
}

/// Mixes painted colour into plate pixels, as the engine's `compose.composite` does: plate · (1 - matte) + paint · matte in
/// single precision, where the matte is above 0. Writes the matte that was used (0 to 1, scaled by `mix`) back to `paint`.
///
/// base, paint: RGBA, as many pixels each; base in the depth's own range, paint of 0 to 1.
#[inline(always)]
pub fn mix(how: &Blend, base: &mut [f32], paint: &mut [f32]) {
    let white = how.depth.white();
    for (base, paint) in base.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(paint.as_chunks_mut::<CHANNELS>().0) {
        let matte = if paint[3] > 0.0 { paint[3].min(1.0) * how.mix } else { 0.0 };
        paint[3] = matte;
        // What paint is multiplied by: the host's alpha, where it means anything. Plates often come with 0 all over.
        let alpha = if how.premultiplied && base[3] > 0.0 { base[3] / white } else { 1.0 };
        let mixed: [f32; CHANNELS] = std::array::from_fn(|channel| {
            let target = paint[channel] * white * alpha;
            let under = if base[channel].is_finite() { base[channel] } else { target };
            let mixed = or_zero(under * (1.0 - matte) + target * matte).clamp(f32::MIN, f32::MAX);
            if matte > 0.0 { mixed } else { base[channel] }
        });
        *base = [mixed[0], mixed[1], mixed[2], base[3]];
    }
}
