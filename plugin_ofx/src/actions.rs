//! The plugin's entry point: the host's actions. Nothing but a status leaves it.

use std::ffi::{CStr, c_char, c_void};

use crate::abi::{ERR_MISSING_HOST_FEATURE, EffectHandle, FAILED, OK, PropertySetHandle, REPLY_DEFAULT, Status, name};
use crate::buttons;
use crate::connection;
use crate::describe;
use crate::file_log;
use crate::guard::guarded;
use crate::host::{self, Effect, Properties, Suites};
use crate::identity;
use crate::instance::Instance;
use crate::params::{self, Settings};
use crate::render;

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
            file_log::install();
            return if host::load() { OK } else { ERR_MISSING_HOST_FEATURE };
        }
        let Some(suites) = host::suites() else { return FAILED };
        let effect = Effect::new(suites, EffectHandle(handle.cast_mut()));
        act(action, suites, &effect, &suites.properties(in_args), &suites.properties(out_args))
    })
}

fn act(action: &CStr, suites: &Suites, effect: &Effect, in_args: &Properties, out_args: &Properties) -> Status {
    match action {
        _ if action == name::ACTION_UNLOAD => OK,
        _ if action == name::ACTION_DESCRIBE => describe::describe(suites, effect),
        _ if action == name::ACTION_DESCRIBE_IN_CONTEXT => describe::describe_in_context(suites, effect, in_args),
        _ if action == name::ACTION_CREATE_INSTANCE => {
            Instance::attach(effect);
            let settings = Settings::read(effect, 0.0);
            params::show_method(effect, &settings.method);
            if let Some(instance) = unsafe { Instance::of(effect) } {
                identity::note(instance, &settings);
            }
            OK
        }
        _ if action == name::ACTION_DESTROY_INSTANCE => destroy(effect),
        _ if action == name::ACTION_RENDER => {
            let status = render::render(effect, in_args);
            buttons::update_after_render(suites, effect);
            status
        }
        _ if action == name::ACTION_IS_IDENTITY => identity(effect, in_args, out_args),
        _ if action == name::ACTION_OUTPUT_COLOURSPACE => {
            out_args.set_string(name::CLIP_COLOURSPACE, name::COLOUR_OF_SOURCE);
            OK
        }
        _ if action == name::ACTION_CLIP_PREFERENCES => {
            out_args.set_int(name::FRAME_VARYING, 1);
            OK
        }
        _ if action == name::ACTION_INSTANCE_CHANGED => buttons::instance_changed(effect, in_args),
        _ if action == name::ACTION_BEGIN_SEQUENCE_RENDER => render::begin_sequence(effect, in_args),
        _ if action == name::ACTION_END_SEQUENCE_RENDER => OK,
        _ if action == name::ACTION_REGION_OF_DEFINITION => region_of_definition(effect, in_args, out_args),
        _ if action == name::ACTION_SYNC_PRIVATE_DATA => {
            if let Some(instance) = unsafe { Instance::of(effect) } {
                identity::saved(effect, instance);
            }
            OK
        }
        _ if action == name::ACTION_PURGE_CACHES => {
            if let Some(engine) = connection::started() {
                engine.clear_cache();
            }
            OK
        }
        _ => REPLY_DEFAULT,
    }
}

fn destroy(effect: &Effect) -> Status {
    // Safety: it is the destroy action, the last of the effect.
    if let Some(instance) = unsafe { Instance::detach(effect) } {
        identity::release(instance.number);
        if let Some(engine) = connection::started() {
            engine.forget(instance.number);
        }
    }
    OK
}

/// The output covers what the source covers.
fn region_of_definition(effect: &Effect, in_args: &Properties, out_args: &Properties) -> Status {
    let time = in_args.double(name::PROP_TIME).unwrap_or(0.0);
    let source = effect.clip(name::CLIP_SOURCE).and_then(|clip| clip.region_of_definition(time));
    let Some(region) = source else { return REPLY_DEFAULT };
    for (index, side) in (0..).zip([region.x1, region.y1, region.x2, region.y2]) {
        out_args.set_double_at(name::REGION_OF_DEFINITION, index, side);
    }
    OK
}

/// Answers the same for every time, because hosts cache the answer.
fn identity(effect: &Effect, in_args: &Properties, out_args: &Properties) -> Status {
    let time = in_args.double(name::PROP_TIME).unwrap_or(0.0);
    let collecting = unsafe { Instance::of(effect) }.is_some_and(|instance| instance.collector().is_some());
    if collecting || !Settings::read(effect, time).is_identity() {
        return REPLY_DEFAULT;
    }
    out_args.set_string(name::PROP_NAME, name::CLIP_SOURCE);
    out_args.set_double(name::PROP_TIME, time);
    OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_before_load_fail() {
        let null = PropertySetHandle::null();
        let call = |action: *const c_char| unsafe { main_entry(action, std::ptr::null(), null, null) };
        assert_eq!(call(std::ptr::null()), FAILED);
        assert_eq!(call(name::ACTION_RENDER.as_ptr()), FAILED);
        assert_ne!(call(name::ACTION_LOAD.as_ptr()), OK);
    }
}
