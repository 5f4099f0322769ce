//! Buttons and other changes of parameters by the user.

use std::time::{Duration, Instant};

use crate::abi::{OK, REPLY_DEFAULT, Status, name};
use crate::clip;
use crate::connection::{engine, started};
use crate::data_folder::data_folder;
use crate::desktop;
use crate::engine_state::EngineState;
use crate::host::{self, Effect, Properties, Suites};
use crate::host_colour;
use crate::identity;
use crate::image::Image;
use crate::instance::Instance;
use crate::keyframes::Keyframe;
use crate::methods;
use crate::params::{self, HostColour, Settings};
use crate::plate_check::Verdict;
use crate::plate_file;
use crate::propagate::{self, shot_source};
use crate::requests::{Request, Work};

/// How often a render may change the revision.
const REVISION_PERIOD: Duration = Duration::from_secs(1);
/// How long a button waits for the engine's reply.
const BUTTON: Duration = Duration::from_millis(75);

/// The instance-changed action: buttons, and the status after any change by the user.
pub fn instance_changed(effect: &Effect, in_args: &Properties) -> Status {
    let by_user = in_args.string(name::PROP_CHANGE_REASON).is_none_or(|reason| reason == "OfxChangeUserEdited");
    if !by_user || in_args.is(name::PROP_TYPE, c"OfxTypeClip") {
        return REPLY_DEFAULT;
    }
    let Some(instance) = (unsafe { Instance::of(effect) }) else { return REPLY_DEFAULT };
    let time = in_args.double(name::PROP_TIME).or_else(|| effect.time()).unwrap_or(0.0);
    let param = host::text(&in_args.string(name::PROP_NAME).unwrap_or_default());
    let settings = Settings::read(effect, time);
    identity::note(instance, &settings);
    let press = Press { effect, instance, settings: &settings, time };
    let sentence = match param.as_c_str() {
        name if name == params::PAINT => Some(press.paint(in_args)),
        name if name == params::PROPAGATE => Some(propagate::propagate(effect, instance, &settings, time)),
        name if name == params::CANCEL => Some(press.cancel()),
        name if name == params::REMOVE_KEYFRAME => Some(press.remove_keyframe()),
        name if name == params::PREVIOUS_KEYFRAME => Some(press.go_to_keyframe(false)),
        name if name == params::NEXT_KEYFRAME => Some(press.go_to_keyframe(true)),
        name if name == params::PAINT_SUGGESTED => Some(press.go_to_suggested()),
        name if name == params::MONITOR => Some(open_monitor()),
        name if name == params::OPEN_LOG => Some(open_log()),
        name if name == params::METHOD => {
            params::show_method(effect, &settings.method);
            None
        }
        _ => None,
    };
    // What a button has changed counts.
    let settings = Settings::read(effect, time);
    params::set_string(effect, params::KEYFRAME_LIST, &settings.keyframes.summary()); // a host's script may have changed them
    update_status(effect, instance, &settings, sentence);
    OK
}

/// Sets the status parameter, and the revision parameter that makes the host render again, each only if it changes.
fn update_status(effect: &Effect, instance: &Instance, settings: &Settings, sentence: Option<String>) {
    let engine = if settings.target.is_empty() { started() } else { engine() };
    let sentence = sentence.unwrap_or_else(|| match engine {
        _ if identity::is_elsewhere(effect, settings) => {
            "This effect was copied from another clip; press Propagate.".into()
        }
        Some(engine) if !settings.target.is_empty() => {
            engine.wait_connection(Duration::from_millis(100));
            let mut status = engine.status(instance.number, &settings.target);
            if settings.method == methods::BEST
                && let Some(why) = engine.why_best(&settings.target)
            {
                status = format!("{status} {why}");
            }
            if is_outdated(effect, engine, settings) {
                status.push_str(" It is painted otherwise by now: press Propagate.");
            }
            match (engine.plate_verdict(instance.number, &settings.target), settings.host_colour) {
                (Some(Verdict::Different), HostColour::Automatic) => format!("{status} {}", host_colour::different()),
                _ => status,
            }
        }
        _ => "Choose a keyframe and press Propagate.".into(),
    });
    let mut shown = instance.shown_status();
    if *shown != sentence {
        if let Some(param) = effect.param(params::STATUS) {
            param.set_string(&sentence);
        }
        *shown = sentence;
    }
    drop(shown);
    if let Some(engine) = engine {
        let recovered = engine.take_recovered(&settings.target);
        set_revision(effect, instance, engine, settings, recovered);
    }
}

/// Whether the effect's keyframes, with the one in the panel's fields, are other than those that it propagated last.
fn is_outdated(effect: &Effect, engine: &EngineState, settings: &Settings) -> bool {
    let keyframes = &settings.keyframes;
    let Some((frames, when)) = engine.propagated(&settings.target).filter(|_| !keyframes.is_empty()) else {
        return false;
    };
    let is_listed = |edited: Keyframe| keyframes.iter().any(|keyframe| *keyframe == edited);
    keyframes.changed_since(&frames, when) || !Settings::edited_keyframe(effect).is_none_or(is_listed)
}

/// Changes the revision, which the host renders anew for, if the engine has other frames than at the last change, or frames
/// that renders `recovered`. It counts up and is saved with the project: a value never comes back, in whatever session.
fn set_revision(effect: &Effect, instance: &Instance, engine: &EngineState, settings: &Settings, recovered: bool) {
    let newest = engine.revision(&settings.target);
    let mut seen = instance.seen_revision();
    let changed = seen.unwrap_or(0) != newest;
    if !changed && !recovered {
        return;
    }
    *seen = Some(newest);
    if let Some(param) = effect.param(params::REVISION) {
        let next = param.int().unwrap_or(0).max(0).checked_add(1);
        param.set_int(next.unwrap_or(1));
    }
}

/// After a render: Resolve caches rendered frames, and lets a render set the parameter that invalidates them.
pub fn update_after_render(suites: &Suites, effect: &Effect) {
    if !suites.is_resolve() {
        return;
    }
    let (Some(engine), Some(instance)) = (started(), unsafe { Instance::of(effect) }) else { return };
    let mut last = instance.last_revision();
    if last.is_none_or(|last| last.elapsed() > REVISION_PERIOD) {
        *last = Some(Instant::now());
        let settings = Settings::read(effect, 0.0);
        let recovered = engine.take_recovered(&settings.target);
        set_revision(effect, instance, engine, &settings, recovered);
    }
}

/// While the pen moves over the viewer: the standard lets an overlay set the parameter that makes the host render again, so that
/// better frames appear without a press of Refresh.
pub fn update_from_overlay(effect: &Effect, settings: &Settings) {
    let (Some(engine), Some(instance)) = (started(), unsafe { Instance::of(effect) }) else { return };
    let mut last = instance.last_revision();
    if last.is_none_or(|last| last.elapsed() > REVISION_PERIOD) {
        *last = Some(Instant::now());
        let recovered = engine.take_recovered(&settings.target);
        set_revision(effect, instance, engine, settings, recovered);
    }
}

/// A button that the user pressed, at a time.
struct Press<'a> {
    effect: &'a Effect<'a>,
    instance: &'a Instance,
    settings: &'a Settings,
    time: f64,
}

impl Press<'_> {
    /// Writes the frame's plate to a file of this effect's, and opens it in the painting program.
    fn paint(&self, in_args: &Properties) -> String {
        let source = self.effect.clip(name::CLIP_SOURCE).and_then(|clip| clip.image(self.time));
        let Some(image) = source.as_ref().and_then(Image::of).filter(Image::has_colour) else {
            return "The host gives no picture of this frame here; save it from the host, paint it, and choose it as \
                    keyframe."
                .into();
        };
        let Some(folder) = data_folder() else { return "Paintover's data folder cannot be found.".into() };
        let (settings, _) = identity::adopt(self.effect, self.instance, self.settings, self.time);
        let frame = clip::frame_number(in_args, self.time, settings.source_offset);
        let target = &settings.target;
        let clip_name = [&target.source, &target.shot].into_iter().find(|name| !name.is_empty() && !settings.is_sent);
        let path = plate_file::path(folder, &settings.effect_id, clip_name.map_or("clip", String::as_str), frame);
        let path = path.to_string_lossy().into_owned();
        if self.is_smaller(&settings, &image) {
            if settings.is_sent && target.shot.is_empty() {
                return "The host shows a proxy of this clip; turn proxies off to paint at full size.".into();
            }
            if let Err(reason) = plate_file::make_folder(path.as_ref()) {
                return reason;
            }
            self.edit(&settings, Keyframe { frame, path: path.clone(), matte: String::new() });
            return self.export(&settings, frame, path);
        }
        if let Err(reason) = plate_file::write(&image, path.as_ref()) {
            return reason;
        }
        let sentence = desktop::paint(&path);
        self.edit(&settings, Keyframe { frame, path, matte: String::new() });
        sentence
    }

    /// Whether the host's image has fewer pixels than the shot.
    fn is_smaller(&self, settings: &Settings, image: &Image) -> bool {
        let shot = started().and_then(|engine| engine.shot_of(&settings.target));
        let size = image.size();
        image.is_proxy() || shot.is_some_and(|shot| !settings.is_sent && (size.0 < shot.width || size.1 < shot.height))
    }

    /// Has the engine write the frame at its own size.
    fn export(&self, settings: &Settings, frame: i64, path: String) -> String {
        let engine = match propagate::connected() {
            Ok(engine) => engine,
            Err(reason) => return reason,
        };
        let shot = shot_source(self.effect, settings);
        let work = Work::ExportFrame { shot, frame, path: path.clone() };
        let reply = propagate::order(engine, self.instance, work);
        propagate::wait_reply(&reply, BUTTON)
            .unwrap_or_else(|| format!("The host shows a proxy; the engine writes the whole frame to {path}."))
    }

    /// Adds a keyframe to the list, and puts it into the fields of the panel.
    fn edit(&self, settings: &Settings, keyframe: Keyframe) {
        self.show(&keyframe);
        let mut keyframes = settings.keyframes.clone();
        keyframes.put(keyframe);
        params::set_keyframes(self.effect, &keyframes);
    }

    /// Puts a keyframe into the fields of the panel.
    fn show(&self, keyframe: &Keyframe) {
        params::set_string(self.effect, params::KEYFRAME_PATH, &keyframe.path);
        params::set_string(self.effect, params::KEYFRAME_MATTE, &keyframe.matte);
        if let Some(param) = self.effect.param(params::KEYFRAME_FRAME) {
            param.set_int(i32::try_from(keyframe.frame).unwrap_or(0));
        }
    }

    /// Removes the keyframe of the shown frame, else the one in the fields. Its picture stays on disk.
    fn remove_keyframe(&self) -> String {
        let mut keyframes = self.settings.keyframes.clone();
        let shown = clip::nearest_frame(self.time, self.settings.source_offset);
        let edited = Settings::edited_keyframe(self.effect);
        let frame = keyframes.get(shown).or_else(|| keyframes.get(edited.as_ref()?.frame)).map(|found| found.frame);
        let Some(frame) = frame else {
            return format!("Frame {shown} has no keyframe; go to one with \"Next keyframe\".");
        };
        let removed = keyframes.get(frame).cloned();
        keyframes.remove(frame);
        params::set_keyframes(self.effect, &keyframes);
        if edited.map(|found| found.path) == removed.map(|found| found.path) {
            params::set_string(self.effect, params::KEYFRAME_PATH, "");
            params::set_string(self.effect, params::KEYFRAME_MATTE, "");
        }
        format!("The keyframe of frame {frame} is removed; press Propagate.")
    }

    fn go_to_keyframe(&self, forward: bool) -> String {
        let shown = clip::nearest_frame(self.time, self.settings.source_offset);
        let Some(keyframe) = self.settings.keyframes.neighbour(shown, forward) else {
            return format!("There is no keyframe {} frame {shown}.", if forward { "after" } else { "before" });
        };
        self.show(keyframe);
        self.go_to(keyframe.frame, "a keyframe")
    }

    fn go_to_suggested(&self) -> String {
        let suggested = started().map(|engine| engine.suggested(&self.settings.target)).unwrap_or_default();
        match suggested.iter().find(|&&frame| self.settings.keyframes.get(frame).is_none()) {
            Some(&frame) => self.go_to(frame, "the frame to paint next"),
            None => "The engine suggests no frame to paint.".into(),
        }
    }

    fn go_to(&self, frame: i64, what: &str) -> String {
        let moved = self.effect.go_to((frame - self.settings.source_offset) as f64);
        if moved { format!("Frame {frame} is {what}.") } else { format!("Go to frame {frame} yourself: it is {what}.") }
    }

    fn cancel(&self) -> String {
        const NOTHING: &str = "There is nothing to cancel.";
        let collecting = self.instance.collector().take().is_some();
        let Some(engine) = started() else { return NOTHING.into() };
        engine.set_outcome(self.instance.number, None);
        let target = &self.settings.target;
        let creating = target.owners.first().is_some_and(|owner| engine.cancel_creation(owner));
        let jobs = engine.unfinished(target);
        if jobs.is_empty() && !creating && !collecting {
            return NOTHING.into();
        }
        if !jobs.is_empty() {
            engine.send(Request::Cancel(jobs));
        }
        "Cancelling.".into()
    }
}

fn open_monitor() -> String {
    match started().and_then(EngineState::monitor) {
        Some(page) => match desktop::open(&page) {
            Ok(()) => format!("The monitor is at {page}"),
            Err(error) => format!("The browser cannot be started ({error}); the monitor is at {page}"),
        },
        None => "This engine has no monitor page; `paintover jobs` shows its queue.".into(),
    }
}

fn open_log() -> String {
    let Some(folder) = data_folder().map(|folder| folder.join("logs")) else {
        return "Paintover's data folder cannot be found.".into();
    };
    let shown = folder.to_string_lossy();
    match std::fs::create_dir_all(&folder).and_then(|()| desktop::open(&shown)) {
        Ok(()) => format!("The logs are in {shown}"),
        Err(error) => format!("Open {shown} yourself ({error}); the logs are there."),
    }
}
