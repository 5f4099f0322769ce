//! What a host calls. Nothing that happens in here reaches the host but a status.

use std::ffi::{CStr, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::endpoint;
use crate::engine::{self, Engine};
use crate::ffi::{EffectHandle, FAILED, OK, PropertySetHandle, REPLY_DEFAULT, Status, name};
use crate::host::{self, Effect, Properties, Suites};
use crate::painting;
use crate::params::{self, Settings};
use crate::render::{self, Picture};
use crate::sending::{self, Collecting};
use crate::session::Request;

/// How often a render may ask Resolve to render anew.
const ANEW: Duration = Duration::from_secs(1);

/// What belongs to one instance; it hangs on the host's instance.
pub struct Instance {
    pub number: u64,
    shown: Mutex<String>,
    collecting: Mutex<Option<Collecting>>,
    renewed: Mutex<Option<Instant>>,
}

impl Instance {
    fn new() -> Self {
        Self {
            number: engine::new_instance_number(),
            shown: Mutex::default(),
            collecting: Mutex::default(),
            renewed: Mutex::default(),
        }
    }

    pub fn collecting(&self) -> MutexGuard<'_, Option<Collecting>> {
        self.collecting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The one that hangs on an effect. Hosts that ignore a failed creation have none.
    ///
    /// Safety: valid until the effect's destroy action, in which no other action of it runs.
    pub unsafe fn of<'a>(effect: &Effect) -> Option<&'a Self> {
        unsafe { effect.properties().pointer(name::PROP_INSTANCE_DATA).cast::<Self>().as_ref() }
    }
}

/// Every action. See the standard's "Actions".
///
/// # Safety
///
/// The host's handles must be what the standard says of the action.
pub unsafe extern "C" fn main_entry(
    action: *const c_char,
    handle: *const c_void,
    in_args: PropertySetHandle,
    out_args: PropertySetHandle,
) -> Status {
    guarded(|| {
        if action.is_null() {
            return FAILED;
        }
        // Safety: an action is a C string.
        let action = unsafe { CStr::from_ptr(action) };
        if action == name::ACTION_LOAD {
            crate::log::catch_panics();
            return if host::load() { OK } else { crate::ffi::ERR_MISSING_HOST_FEATURE };
        }
        let Some(suites) = host::suites() else { return FAILED };
        let effect = suites.effect(EffectHandle(handle.cast_mut()));
        act(action, suites, &effect, &suites.properties(in_args), &suites.properties(out_args))
    })
}

/// Makes a panic a failed action.
fn guarded(action: impl FnOnce() -> Status) -> Status {
    catch_unwind(AssertUnwindSafe(action)).unwrap_or(FAILED)
}

fn act(action: &CStr, suites: &Suites, effect: &Effect, in_args: &Properties, out_args: &Properties) -> Status {
    match action {
        _ if action == name::ACTION_UNLOAD => OK,
        _ if action == name::ACTION_DESCRIBE => describe(suites, effect),
        _ if action == name::ACTION_DESCRIBE_IN_CONTEXT => describe_in_context(suites, effect, in_args),
        _ if action == name::ACTION_CREATE_INSTANCE => create(effect),
        _ if action == name::ACTION_DESTROY_INSTANCE => destroy(effect),
        _ if action == name::ACTION_RENDER => {
            let status = render::render(effect, in_args);
            renew(suites, effect);
            status
        }
        _ if action == name::ACTION_IS_IDENTITY => identity(effect, in_args, out_args),
        _ if action == name::ACTION_CLIP_PREFERENCES => {
            out_args.set_int(name::FRAME_VARYING, 1);
            OK
        }
        _ if action == name::ACTION_INSTANCE_CHANGED => changed(effect, in_args),
        _ if action == name::ACTION_BEGIN_SEQUENCE_RENDER || action == name::ACTION_END_SEQUENCE_RENDER => OK,
        _ if action == name::ACTION_PURGE_CACHES => {
            if let Some(engine) = engine::started() {
                engine.purge();
            }
            OK
        }
        _ => REPLY_DEFAULT,
    }
}

fn describe(suites: &Suites, effect: &Effect) -> Status {
    let found = effect.properties();
    for label in [name::PROP_LABEL, name::PROP_SHORT_LABEL, name::PROP_LONG_LABEL] {
        found.set_string(label, c"Paintover");
    }
    found.set_string(name::GROUPING, c"Paintover");
    found.set_string(
        name::PROP_DESCRIPTION,
        c"Paint over one frame; Paintover carries that edit through the whole shot.",
    );
    for (index, context) in (0..).zip([name::CONTEXT_FILTER, name::CONTEXT_GENERAL]) {
        found.set_string_at(name::SUPPORTED_CONTEXTS, index, context);
    }
    let depths = [name::DEPTH_BYTE, name::DEPTH_SHORT, name::DEPTH_HALF, name::DEPTH_FLOAT];
    for (index, depth) in (0..).zip(depths) {
        found.set_string_at(name::SUPPORTED_DEPTHS, index, depth);
    }
    found.set_string(name::THREAD_SAFETY, name::FULLY_SAFE);
    found.set_int(name::HOST_FRAME_THREADING, 0);
    found.set_int(name::SUPPORTS_TILES, 1);
    found.set_int(name::SUPPORTS_MULTI_RESOLUTION, 1);
    if reads_other_times(suites) {
        found.set_int(name::TEMPORAL_ACCESS, 1);
    }
    OK
}

fn reads_other_times(suites: &Suites) -> bool {
    suites.host().int(name::TEMPORAL_ACCESS) == Some(1)
}

fn describe_in_context(suites: &Suites, effect: &Effect, in_args: &Properties) -> Status {
    let clip = |clip: &CStr, components: &[&CStr]| {
        let found = effect.define_clip(clip)?;
        for (index, component) in (0..).zip(components) {
            found.set_string_at(name::SUPPORTED_COMPONENTS, index, component);
        }
        found.set_int(name::SUPPORTS_TILES, 1);
        Ok::<_, Status>(found)
    };
    let described = || {
        let source = clip(name::CLIP_SOURCE, &[name::COMPONENT_RGBA])?;
        if reads_other_times(suites) {
            source.set_int(name::TEMPORAL_ACCESS, 1);
        }
        clip(name::CLIP_OUTPUT, &[name::COMPONENT_RGBA])?;
        if in_args.is(name::CONTEXT, name::CONTEXT_GENERAL) {
            let matte = clip(name::CLIP_MATTE, &[name::COMPONENT_ALPHA, name::COMPONENT_RGBA])?;
            matte.set_int(name::CLIP_OPTIONAL, 1);
            matte.set_int(name::CLIP_IS_MASK, 1);
        }
        params::describe(*effect)
    };
    match described() {
        Ok(()) => OK,
        Err(status) => {
            crate::log::line(&format!("describe: the host refused a clip or parameter with status {status}"));
            status
        }
    }
}

fn create(effect: &Effect) -> Status {
    effect.properties().set_pointer(name::PROP_INSTANCE_DATA, Box::into_raw(Box::new(Instance::new())).cast());
    OK
}

fn destroy(effect: &Effect) -> Status {
    let properties = effect.properties();
    let held = properties.pointer(name::PROP_INSTANCE_DATA).cast::<Instance>();
    if !held.is_null() {
        properties.set_pointer(name::PROP_INSTANCE_DATA, std::ptr::null_mut());
        // Safety: `create` made it, and the host will not use it again.
        let instance = unsafe { Box::from_raw(held) };
        sending::disown(instance.number);
        if let Some(engine) = engine::started() {
            engine.forget(instance.number);
        }
    }
    OK
}

/// The same answer for every time: hosts keep it.
fn identity(effect: &Effect, in_args: &Properties, out_args: &Properties) -> Status {
    let time = in_args.double(name::PROP_TIME).unwrap_or(0.0);
    let collecting = unsafe { Instance::of(effect) }.is_some_and(|instance| instance.collecting().is_some());
    if collecting || !Settings::read(effect, time).is_identity() {
        return REPLY_DEFAULT;
    }
    out_args.set_string(name::PROP_NAME, name::CLIP_SOURCE);
    out_args.set_double(name::PROP_TIME, time);
    OK
}

fn changed(effect: &Effect, in_args: &Properties) -> Status {
    let by_user = in_args.string(name::PROP_CHANGE_REASON).is_none_or(|reason| reason == "OfxChangeUserEdited");
    if !by_user || in_args.is(name::PROP_TYPE, c"OfxTypeClip") {
        return REPLY_DEFAULT;
    }
    let Some(instance) = (unsafe { Instance::of(effect) }) else { return REPLY_DEFAULT };
    let time = in_args.double(name::PROP_TIME).or_else(|| effect.time()).unwrap_or(0.0);
    let param = text_of(in_args);
    let settings = Settings::read(effect, time);
    let said = match param.as_c_str() {
        name if name == params::PAINT => Some(paint(effect, &settings, in_args, time)),
        name if name == params::PROPAGATE => Some(sending::propagate(effect, instance, &settings, time)),
        name if name == params::CANCEL => Some(cancel(instance, &settings)),
        name if name == params::MONITOR => Some(monitor()),
        _ => None,
    };
    // What a button has changed counts.
    let settings = Settings::read(effect, time);
    tell(effect, instance, &settings, said);
    OK
}

fn text_of(in_args: &Properties) -> std::ffi::CString {
    host::text(&in_args.string(name::PROP_NAME).unwrap_or_default())
}

/// Writes the status, and the revision that makes the host render anew, each only if it has changed.
fn tell(effect: &Effect, instance: &Instance, settings: &Settings, said: Option<String>) {
    let engine = if settings.target.is_empty() { engine::started() } else { engine::engine() };
    let said = said.or_else(|| match engine {
        _ if render::is_elsewhere(effect, settings) => {
            Some("This effect was copied from another clip; press Propagate.".into())
        }
        Some(engine) if !settings.target.is_empty() => {
            engine.settle(Duration::from_millis(100));
            Some(engine.status(instance.number, &settings.target))
        }
        _ => Some("Choose a keyframe and press Propagate.".into()),
    });
    let said = said.unwrap_or_default();
    let mut shown = instance.shown.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if *shown != said {
        if let Some(param) = effect.param(params::STATUS) {
            param.set_string(&said);
        }
        *shown = said;
    }
    drop(shown);
    if let Some(engine) = engine {
        set_revision(effect, engine, settings);
    }
}

fn set_revision(effect: &Effect, engine: &Engine, settings: &Settings) {
    let revision = engine.revision(&settings.target);
    if let Some(param) = effect.param(params::REVISION).filter(|param| param.int() != Some(revision)) {
        param.set_int(revision);
    }
}

/// Resolve keeps what it has rendered and tells nobody when to look again, but lets a render set a parameter.
fn renew(suites: &Suites, effect: &Effect) {
    if !suites.host_name().starts_with("DaVinciResolve") {
        return;
    }
    let (Some(engine), Some(instance)) = (engine::started(), unsafe { Instance::of(effect) }) else { return };
    let mut renewed = instance.renewed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if renewed.is_none_or(|last| last.elapsed() > ANEW) {
        *renewed = Some(Instant::now());
        set_revision(effect, engine, &Settings::read(effect, 0.0));
    }
}

/// Writes the shown frame's plate and opens it where it can be painted on.
fn paint(effect: &Effect, settings: &Settings, in_args: &Properties, time: f64) -> String {
    let image = effect.clip(name::CLIP_SOURCE).and_then(|clip| clip.image(time));
    let Some(picture) = image.as_ref().and_then(Picture::of).filter(Picture::is_rgba) else {
        return "The host gives no picture of this frame here; save it from the host, paint it, and choose it as keyframe."
            .into();
    };
    let Some(folder) = endpoint::data_folder() else { return "Paintover's data folder cannot be found.".into() };
    let number = render::frame_number(in_args, time, settings.source_offset);
    let clip = [&settings.target.source, &settings.target.shot].into_iter().find(|name| !name.is_empty());
    let path = painting::path(folder, clip.map_or("clip", String::as_str), number);
    if let Err(reason) = painting::write(&picture, &path) {
        return reason;
    }
    let shown = path.to_string_lossy();
    if let Some(param) = effect.param(params::KEYFRAME_PATH) {
        param.set_string(&shown);
    }
    if let Some(param) = effect.param(params::KEYFRAME_FRAME) {
        param.set_int(i32::try_from(number).unwrap_or(0));
    }
    match endpoint::open(&shown) {
        Ok(()) => format!("Paint on {shown}, save it, and press Propagate."),
        Err(error) => format!("Open {shown} yourself ({error}), paint, save it, and press Propagate."),
    }
}

fn cancel(instance: &Instance, settings: &Settings) -> String {
    *instance.collecting() = None;
    let Some(engine) = engine::started() else { return "There is nothing to cancel.".into() };
    engine.set_outcome(instance.number, None);
    let jobs = engine.unfinished(&settings.target);
    if jobs.is_empty() {
        return "There is nothing to cancel.".into();
    }
    let _ = engine.requests.send(Request::Cancel(jobs));
    "Cancelling.".into()
}

fn monitor() -> String {
    match engine::started().and_then(Engine::monitor) {
        Some(page) => match endpoint::open(&page) {
            Ok(()) => format!("The monitor is at {page}"),
            Err(error) => format!("The browser cannot be started ({error}); the monitor is at {page}"),
        },
        None => "This engine has no monitor page; `paintover jobs` shows its queue.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failed_action() {
        crate::log::catch_panics();
        assert_eq!(guarded(|| panic!("on purpose")), FAILED);
        assert_eq!(guarded(|| OK), OK);
    }

    #[test]
    fn actions_before_load_and_without_a_name_fail() {
        let null = PropertySetHandle::null();
        let call = |action: *const c_char| unsafe { main_entry(action, std::ptr::null(), null, null) };
        assert_eq!(call(std::ptr::null()), FAILED);
        assert_eq!(call(name::ACTION_RENDER.as_ptr()), FAILED);
        assert_ne!(call(name::ACTION_LOAD.as_ptr()), OK);
    }
}
