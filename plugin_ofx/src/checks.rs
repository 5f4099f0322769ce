//! What is checked before anything is sent to the engine. Each error is one sentence for the user.

use std::path::Path;

use crate::keyframes::Keyframes;

/// What is known of the shot beforehand.
#[derive(Default)]
pub struct ShotFacts {
    /// First and last frame.
    pub range: Option<(i64, i64)>,
    /// Width and height.
    pub size: Option<(u32, u32)>,
}

/// Checks that each keyframe's files exist, that its frame is in the shot, and that its picture has the shot's shape.
pub fn keyframes(keyframes: &Keyframes, shot: &ShotFacts) -> Result<(), String> {
    for keyframe in keyframes.iter() {
        for (what, path) in [("keyframe", &keyframe.path), ("matte", &keyframe.matte)] {
            if !path.is_empty() && !Path::new(path).is_file() {
                return Err(format!("The {what} {path} does not exist; choose the painted picture of one frame."));
            }
        }
        if let Some((first, last)) = shot.range.filter(|(first, last)| !(first..=last).contains(&&keyframe.frame)) {
            return Err(format!(
                "The keyframe {} is of frame {}, which is not in the shot ({first} to {last}); correct its frame, or remove it.",
                keyframe.path, keyframe.frame
            ));
        }
        check_shape(&keyframe.path, shot.size)?;
    }
    Ok(())
}

/// Accepts every size that scaling the shot's by one factor, and rounding, can give: the engine's rule.
fn check_shape(path: &str, size: Option<(u32, u32)>) -> Result<(), String> {
    // What cannot be read here the engine may still read.
    let (Some(shot), Ok(found)) = (size, imagesize::size(path)) else { return Ok(()) };
    let ratio = |length: usize, shift: f64, of: u32| (length as f64 + shift) / f64::from(of);
    let low = ratio(found.width, -0.5, shot.0).max(ratio(found.height, -0.5, shot.1));
    let high = ratio(found.width, 0.5, shot.0).min(ratio(found.height, 0.5, shot.1));
    if low <= high {
        return Ok(());
    }
    Err(format!(
        "The keyframe {path} is {}x{} but the shot is {}x{}; save it at the shot's size.",
        found.width, found.height, shot.0, shot.1
    ))
}
