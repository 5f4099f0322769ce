//! The overlay in the host's viewer: the wipe's line, which can be dragged. Drawn with OpenFX 1.5's draw suite; hosts without
//! that have none.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;

use crate::abi::{EffectHandle, FAILED, InteractHandle, OK, PropertySetHandle, REPLY_DEFAULT, Status, name};
use crate::buttons;
use crate::guard::guarded;
use crate::host::{self, DrawContext, Effect, Properties, Suites};
use crate::instance::Instance;
use crate::params::{self, Settings, View};

/// How near to the line the pen must be, in pixels of the screen.
const NEAR: f64 = 6.0;

/// The interacts whose line is being dragged, by their handles.
static DRAGGED: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Every action of the overlay. See the standard's "Interact Actions".
///
/// # Safety
///
/// The host's handles must be what the standard says of the action.
pub unsafe extern "C" fn main_entry(
    action: *const c_char,
    handle: *const c_void,
    in_args: PropertySetHandle,
    _out_args: PropertySetHandle,
) -> Status {
    guarded(|| {
        let Some(suites) = host::suites().filter(|_| !action.is_null()) else { return FAILED };
        // Safety: an action is a C string.
        let action = unsafe { CStr::from_ptr(action) };
        if action == name::ACTION_DESCRIBE || action == name::ACTION_CREATE_INSTANCE {
            return OK;
        }
        let interact = InteractHandle(handle.cast_mut());
        if action == name::ACTION_DESTROY_INSTANCE {
            set_dragged(interact, false);
            return OK;
        }
        act(suites, action, interact, &suites.properties(in_args))
    })
}

fn act(suites: &Suites, action: &CStr, interact: InteractHandle, in_args: &Properties) -> Status {
    let effect = Effect::new(suites, EffectHandle(in_args.pointer(name::PROP_EFFECT_INSTANCE)));
    let settings = Settings::read(&effect, in_args.double(name::PROP_TIME).unwrap_or(0.0));
    let pen = in_args.pair(name::PEN_POSITION);
    if action == name::ACTION_PEN_MOTION {
        buttons::update_from_overlay(&effect, &settings);
    }
    let Some(line) = Line::of(&effect, &settings) else { return REPLY_DEFAULT };
    let reach = in_args.double(name::PIXEL_SCALE).unwrap_or(1.0) * NEAR;
    match (action, pen) {
        _ if action == name::ACTION_DRAW => line.draw(suites, in_args),
        (_, Some((x, _))) if action == name::ACTION_PEN_DOWN && (x - line.x).abs() <= reach => {
            set_dragged(interact, true);
            OK
        }
        (_, Some((x, _))) if action == name::ACTION_PEN_MOTION && is_dragged(interact) => {
            if let Some(param) = effect.param(params::WIPE) {
                param.set_double(((x - line.region[0]) / (line.region[2] - line.region[0])).clamp(0.0, 1.0));
            }
            suites.redraw(interact);
            OK
        }
        _ if action == name::ACTION_PEN_UP && is_dragged(interact) => {
            set_dragged(interact, false);
            OK
        }
        _ => REPLY_DEFAULT,
    }
}

/// The wipe's line, in canonical coordinates.
struct Line {
    x: f64,
    /// The frame: x1, y1, x2, y2.
    region: [f64; 4],
}

impl Line {
    /// None where no wipe is shown.
    fn of(effect: &Effect, settings: &Settings) -> Option<Self> {
        let instance = unsafe { Instance::of(effect) }?;
        let region = (*instance.frame_region()).filter(|_| settings.view == View::Wipe)?;
        Some(Self { x: region[0] + (region[2] - region[0]) * settings.wipe, region })
    }

    fn draw(&self, suites: &Suites, in_args: &Properties) -> Status {
        let context = DrawContext::new(suites, in_args.pointer(name::DRAW_CONTEXT));
        let [_, bottom, _, top] = self.region;
        if context.line((self.x, bottom), (self.x, top)) { OK } else { REPLY_DEFAULT }
    }
}

fn is_dragged(interact: InteractHandle) -> bool {
    DRAGGED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).contains(&interact.0.addr())
}

fn set_dragged(interact: InteractHandle, dragged: bool) {
    let mut all = DRAGGED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    all.retain(|&handle| handle != interact.0.addr());
    if dragged {
        all.push(interact.0.addr());
    }
}
