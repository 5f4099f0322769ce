//! The colour space of the host's pictures.

use std::time::Duration;

use crate::abi::name;
use crate::colour::{ColourSpace, Conversion};
use crate::composite::Placement;
use crate::engine_state::EngineState;
use crate::frame::Frame;
use crate::host::Effect;
use crate::image::Image;
use crate::params::{HostColour, Settings};
use crate::plate_check::{self, Verdict};

/// How long a final render waits for the comparison with the engine's plate.
const FINAL: Duration = Duration::from_secs(20);
const INTERACTIVE: Duration = Duration::from_millis(50);

/// What the host says of the source clip, by OpenFX 1.5's colour management; None where it does not.
fn stated(effect: &Effect) -> Option<ColourSpace> {
    let name = effect.clip(name::CLIP_SOURCE)?.properties().string(name::CLIP_COLOURSPACE)?;
    ColourSpace::from_name(&name).filter(|_| !name.is_empty())
}

/// The engine's name for the colour space in which the host's frames are sent; "" lets the engine choose by their depth.
pub fn of_sent(effect: &Effect, settings: &Settings) -> &'static str {
    let space = match settings.host_colour {
        HostColour::In(space) => Some(space),
        HostColour::Automatic => stated(effect).or(effect.suites().is_resolve().then_some(ColourSpace::Srgb)),
        HostColour::Source => None,
    };
    space.map_or("", ColourSpace::engine_name)
}

/// The conversion of a frame's paint to the host's colours, if one is needed; an error: one sentence about a host whose picture
/// is not the engine's.
pub fn conversion(
    effect: &Effect,
    settings: &Settings,
    engine: &EngineState,
    (frame, number): (&Frame, i64),
    (plate, place): (&Image, &Placement),
    is_final: bool,
) -> Result<Option<Conversion>, String> {
    let from = engine.colour_space(&frame.shot);
    let to = match settings.host_colour {
        HostColour::Source => return Ok(None),
        HostColour::In(space) => Some(space),
        // Its frames are the host's own.
        HostColour::Automatic
            if settings.is_sent && settings.target.shot.is_empty() && settings.target.job.is_empty() =>
        {
            return Ok(None);
        }
        HostColour::Automatic => stated(effect),
    };
    if let Some(to) = to {
        let from =
            from.ok_or("The shot's colour space cannot be converted; set Host colour space to \"As the source\".")?;
        return Ok(Conversion::new(from, to));
    }
    let sample = || plate_check::sample(plate, place, (frame.width, frame.height));
    let verdict = engine.check_plate(&frame.shot, number, sample, if is_final { FINAL } else { INTERACTIVE });
    match (verdict, from) {
        (Some(Verdict::In(to)), Some(from)) => Ok(Conversion::new(from, to)),
        (Some(Verdict::Different), _) => Err(different()),
        _ => Ok(None),
    }
}

/// One sentence about a host whose picture is not the engine's.
pub fn different() -> String {
    "The host's picture is not the source's: it is graded or in other colours; move the effect before that, choose Host colour \
     space, or send the frames."
        .into()
}
