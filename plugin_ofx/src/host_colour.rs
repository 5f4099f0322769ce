//! The colour space of the host's pictures.

use std::time::Duration;

use crate::abi::name;
use crate::colour::{ColourSpace, Conversion};
use crate::composite::Placement;
use crate::engine_state::EngineState;
use crate::frame::Frame;
use crate::host::Effect;
use crate::image::Image;
use crate::instance::Instance;
use crate::params::{HostColour, Settings};
use crate::plate_check::{self, Samples, Verdict};

/// How long a final render waits for the comparison with the engine's plate: an engine that just started has to load much.
const FINAL: Duration = Duration::from_secs(120);
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

/// What is painted: the engine's frame and its number, on the host's picture at a time, and where on it.
pub struct Painting<'a> {
    pub frame: &'a Frame,
    pub number: i64,
    pub plate: &'a Image,
    pub time: f64,
    pub place: &'a Placement,
}

/// The conversion of a frame's paint to the host's colours, if one is needed; an error: one sentence about a host whose picture
/// is not the engine's.
pub fn conversion(
    effect: &Effect,
    settings: &Settings,
    engine: &EngineState,
    painting: &Painting,
    is_final: bool,
) -> Result<Option<Conversion>, String> {
    let from = engine.colour_space(&painting.frame.shot);
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
    let instance = unsafe { Instance::of(effect) }.map_or(0, |instance| instance.number);
    let key = (instance, painting.frame.shot.clone());
    let most = if is_final { FINAL } else { INTERACTIVE };
    let checked = engine.check_plate(&key, painting.number, || sample(effect, painting), most, &|| effect.aborted());
    match (checked, from) {
        (Ok(Some(Verdict::In(to))), Some(from)) => Ok(Conversion::new(from, to)),
        (Ok(Some(Verdict::Different)), _) => Err(different()),
        (Err(reason), _) if is_final => Err(reason),
        (Err(_), _) => {
            if engine.is_checking(&key) {
                engine.set_missed(&settings.target, painting.number); // it is rendered anew when that is known
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Some of the host's pixels; of the whole picture where the render is of too small a part of it.
fn sample(effect: &Effect, painting: &Painting) -> Option<Samples> {
    let size = (painting.frame.width, painting.frame.height);
    plate_check::sample(painting.plate, painting.place, size).or_else(|| {
        let whole = effect.clip(name::CLIP_SOURCE)?.whole_image(painting.time)?;
        plate_check::sample(&Image::of(&whole)?, painting.place, size)
    })
}

/// One sentence about a host whose picture is not the engine's.
pub fn different() -> String {
    "The host's picture is not the source's: it is graded or in other colours; move the effect before that, choose Host colour \
     space, or send the frames."
        .into()
}
