//! Buttons and other changes of parameters by the user.

use std::ffi::CString;
use std::time::{Duration, Instant};

use crate::abi::{OK, REPLY_DEFAULT, Status, name};
use crate::clip;
use crate::connection::{engine, started};
use crate::data_folder::data_folder;
use crate::desktop::open;
use crate::engine_state::EngineState;
use crate::host::{self, Effect, Properties, Suites};
use crate::image::Image;
use crate::instance::Instance;
use crate::params::{self, Settings};
use crate::plate_file;
use crate::propagate;
use crate::requests::Request;

/// How often a render may change the revision.
const REVISION_PERIOD: Duration = Duration::from_secs(1);

/// The instance-changed action: buttons, and the status after any change by the user.
pub fn instance_changed(effect: &Effect, in_args: &Properties) -> Status {
    let by_user = in_args.string(name::PROP_CHANGE_REASON).is_none_or(|reason| reason == "OfxChangeUserEdited");
    if !by_user || in_args.is(name::PROP_TYPE, c"OfxTypeClip") {
        return REPLY_DEFAULT;
    }
    let Some(instance) = (unsafe { Instance::of(effect) }) else { return REPLY_DEFAULT };
    let time = in_args.double(name::PROP_TIME).or_else(|| effect.time()).unwrap_or(0.0);
    let param = param_name(in_args);
    let settings = Settings::read(effect, time);
    let sentence = match param.as_c_str() {
        name if name == params::PAINT => Some(paint(effect, &settings, in_args, time)),
        name if name == params::PROPAGATE => Some(propagate::propagate(effect, instance, &settings, time)),
        name if name == params::CANCEL => Some(cancel(instance, &settings)),
        name if name == params::MONITOR => Some(monitor()),
        _ => None,
    };
    // What a button has changed counts.
    let settings = Settings::read(effect, time);
    update_status(effect, instance, &settings, sentence);
    OK
}

fn param_name(in_args: &Properties) -> CString {
    host::text(&in_args.string(name::PROP_NAME).unwrap_or_default())
}

/// Sets the status parameter, and the revision parameter that makes the host render again, each only if it changes.
fn update_status(effect: &Effect, instance: &Instance, settings: &Settings, sentence: Option<String>) {
    let engine = if settings.target.is_empty() { started() } else { engine() };
    let sentence = sentence.or_else(|| match engine {
        _ if clip::is_elsewhere(effect, &settings.bound_to, settings.is_sent) => {
            Some("This effect was copied from another clip; press Propagate.".into())
        }
        Some(engine) if !settings.target.is_empty() => {
            engine.wait_connection(Duration::from_millis(100));
            Some(engine.status(instance.number, &settings.target))
        }
        _ => Some("Choose a keyframe and press Propagate.".into()),
    });
    let sentence = sentence.unwrap_or_default();
    let mut shown = instance.shown_status();
    if *shown != sentence {
        if let Some(param) = effect.param(params::STATUS) {
            param.set_string(&sentence);
        }
        *shown = sentence;
    }
    drop(shown);
    if let Some(engine) = engine {
        set_revision(effect, engine, settings);
    }
}

fn set_revision(effect: &Effect, engine: &EngineState, settings: &Settings) {
    let revision = engine.revision(&settings.target);
    if let Some(param) = effect.param(params::REVISION).filter(|param| param.int() != Some(revision)) {
        param.set_int(revision);
    }
}

/// After a render: Resolve caches rendered frames, and lets a render set the parameter that invalidates them.
pub fn update_after_render(suites: &Suites, effect: &Effect) {
    if !suites.host_name().starts_with("DaVinciResolve") {
        return;
    }
    let (Some(engine), Some(instance)) = (started(), unsafe { Instance::of(effect) }) else { return };
    let mut last = instance.last_revision();
    if last.is_none_or(|last| last.elapsed() > REVISION_PERIOD) {
        *last = Some(Instant::now());
        set_revision(effect, engine, &Settings::read(effect, 0.0));
    }
}

/// Writes the frame's plate to a file and opens it in the painting program.
fn paint(effect: &Effect, settings: &Settings, in_args: &Properties, time: f64) -> String {
    let source = effect.clip(name::CLIP_SOURCE).and_then(|clip| clip.image(time));
    let Some(image) = source.as_ref().and_then(Image::of).filter(Image::is_rgba) else {
        return "The host gives no picture of this frame here; save it from the host, paint it, and choose it as keyframe."
            .into();
    };
    let Some(folder) = data_folder() else { return "Paintover's data folder cannot be found.".into() };
    let number = clip::frame_number(in_args, time, settings.source_offset);
    let clip_name = [&settings.target.source, &settings.target.shot].into_iter().find(|name| !name.is_empty());
    let path = plate_file::path(folder, clip_name.map_or("clip", String::as_str), number);
    if let Err(reason) = plate_file::write(&image, &path) {
        return reason;
    }
    let shown = path.to_string_lossy();
    if let Some(param) = effect.param(params::KEYFRAME_PATH) {
        param.set_string(&shown);
    }
    if let Some(param) = effect.param(params::KEYFRAME_FRAME) {
        param.set_int(i32::try_from(number).unwrap_or(0));
    }
    match open(&shown) {
        Ok(()) => format!("Paint on {shown}, save it, and press Propagate."),
        Err(error) => format!("Open {shown} yourself ({error}), paint, save it, and press Propagate."),
    }
}

fn cancel(instance: &Instance, settings: &Settings) -> String {
    *instance.collector() = None;
    let Some(engine) = started() else { return "There is nothing to cancel.".into() };
    engine.set_outcome(instance.number, None);
    let jobs = engine.unfinished(&settings.target);
    if jobs.is_empty() {
        return "There is nothing to cancel.".into();
    }
    engine.send(Request::Cancel(jobs));
    "Cancelling.".into()
}

fn monitor() -> String {
    match started().and_then(EngineState::monitor) {
        Some(page) => match open(&page) {
            Ok(()) => format!("The monitor is at {page}"),
            Err(error) => format!("The browser cannot be started ({error}); the monitor is at {page}"),
        },
        None => "This engine has no monitor page; `paintover jobs` shows its queue.".into(),
    }
}
