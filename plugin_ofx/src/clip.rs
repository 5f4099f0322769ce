//! The source clip as the host describes it.

use crate::abi::name;
use crate::host::{Effect, Properties};
use crate::image::Image;

/// The number of the source's frame at the host's time. A frame's second field is half a frame later.
pub fn frame_number(in_args: &Properties, time: f64, offset: i64) -> i64 {
    let source = in_args.double(name::SOURCE_FRAME).or_else(|| in_args.int(name::SOURCE_FRAME).map(f64::from));
    let is_field = [name::FIELD_LOWER, name::FIELD_UPPER].iter().any(|field| in_args.is(name::FIELD_TO_RENDER, field));
    let found = source.unwrap_or(time);
    (if is_field { found.floor() } else { found.round() } as i64).saturating_add(offset)
}

/// Whether the effect was copied to another clip than `bound_to`, on which it was propagated.
pub fn is_elsewhere(effect: &Effect, bound_to: &str, is_sent: bool) -> bool {
    let here = identity(effect, is_sent);
    !bound_to.is_empty() && !here.is_empty() && bound_to != here
}

/// Distinguishes the clip from others: its file where the host gives it; else, if its frames are sent, its range; else "".
pub fn identity(effect: &Effect, is_sent: bool) -> String {
    match effect.properties().string(name::SOURCE_FILE).filter(|path| !path.is_empty()) {
        Some(path) => path,
        None if is_sent => frame_range(effect).map_or_else(String::new, |(first, last)| format!("{first}-{last}")),
        None => String::new(),
    }
}

/// The first and last time at which the Source clip has images.
pub fn frame_range(effect: &Effect) -> Option<(i64, i64)> {
    const MAX: f64 = 1e6;
    let found = effect.clip(name::CLIP_SOURCE)?.properties();
    let (first, last) = (found.double_at(name::FRAME_RANGE, 0)?, found.double_at(name::FRAME_RANGE, 1)?);
    let sane = first <= last && last - first < MAX && first.abs() < MAX && last.abs() < MAX;
    sane.then_some((first.round() as i64, last.round() as i64))
}

/// The number of the source's frame at a time that no action's arguments belong to.
pub fn nearest_frame(time: f64, offset: i64) -> i64 {
    (time.round() as i64).saturating_add(offset)
}

/// The project's format as x1, y1, x2, y2 in an image's pixels, where the host gives it.
pub fn project_format(effect: &Effect, image: &Image) -> Option<[f64; 4]> {
    let found = effect.properties();
    let size = found.pair(name::PROJECT_SIZE).filter(|size| size.0 > 0.0 && size.1 > 0.0)?;
    Some(image.pixels_of(found.pair(name::PROJECT_OFFSET).unwrap_or((0.0, 0.0)), size))
}
