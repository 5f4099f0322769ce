//! The render action: the plate, and the painted colour over it where the engine has it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::abi::{FAILED, OK, Status, name};
use crate::canvas::Canvas;
use crate::clip;
use crate::composite::{Blend, Placement};
use crate::connection::engine;
use crate::engine_state::ConnectionState;
use crate::frame::Frame;
use crate::host::{Effect, Properties};
use crate::host_colour::{self, Painting};
use crate::identity;
use crate::image::Image;
use crate::instance::Instance;
use crate::params::{Missing, Settings, View};
use crate::requests::Request;
use crate::target::{FrameRequest, WaitPolicy};
use crate::upload;

/// How long an interactive render waits in all.
const INTERACTIVE: Duration = Duration::from_millis(150);
const POLL: Duration = Duration::from_millis(100);
/// How long a final render waits for an engine before it shows how long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a final render fails while the clip is collected.
const COLLECTED: &str = "This frame was only sent to the engine: play the clip once, or render it with Missing frame at \
                         \"Show the plate\", then render again.";

/// Renders one frame.
pub fn render(effect: &Effect, in_args: &Properties) -> Status {
    let time = in_args.double(name::PROP_TIME).unwrap_or(0.0);
    let Some(image) = effect.clip(name::CLIP_OUTPUT).and_then(|clip| clip.image(time)) else { return FAILED };
    let Some(output) = Image::of(&image) else {
        log::warn!("render: the host's output image cannot be used");
        return FAILED;
    };
    let source = effect.clip(name::CLIP_SOURCE).and_then(|clip| clip.image(time));
    let plate = source.as_ref().and_then(Image::of);
    let mut canvas = Canvas::new(output, plate, in_args.rectangle(name::RENDER_WINDOW));

    let settings = Settings::read(effect, time);
    let number = clip::frame_number(in_args, time, settings.source_offset);
    let is_final = !is_interactive(in_args);
    if collect(effect, canvas.plate.as_ref(), number) {
        canvas.fill();
        return deliver_plate(effect, &settings, is_final.then(|| COLLECTED.into()));
    }
    if settings.is_identity() || canvas.plate.is_none() || !output.has_colour() || canvas.is_empty() {
        canvas.fill();
        return if source.is_some() && canvas.plate.is_none() { FAILED } else { OK };
    }
    match find_frame(effect, &settings, number, is_final) {
        Ok(frame) => {
            let warning =
                frame.and_then(|frame| draw(effect, &settings, &mut canvas, (&frame, number), time, is_final));
            canvas.finish();
            let status = if is_final && warning.is_some() { FAILED } else { OK };
            report(effect, warning);
            status
        }
        Err(reason) => {
            log::warn!("render: {reason}");
            canvas.fill();
            deliver_plate(effect, &settings, is_final.then_some(reason))
        }
    }
}

/// The status of a render that shows the plate: a final one, which has a reason, fails unless the artist chose plates.
fn deliver_plate(effect: &Effect, settings: &Settings, reason: Option<String>) -> Status {
    let reason = reason.filter(|_| settings.missing != Missing::Plate);
    let status = if reason.is_some() { FAILED } else { OK };
    report(effect, reason);
    status
}

/// Sends the plate where the effect collects the clip's frames; false where it does not. Such a render is for its plate alone.
fn collect(effect: &Effect, plate: Option<&Image>, number: i64) -> bool {
    let Some((instance, plate)) = unsafe { Instance::of(effect) }.zip(plate) else { return false };
    let mut collector = instance.collector();
    let collecting = collector.is_some();
    upload::collect(&mut collector, plate, number);
    collecting
}

/// Whether the host renders for its viewer and not for a result.
fn is_interactive(in_args: &Properties) -> bool {
    in_args.int(name::INTERACTIVE) == Some(1)
}

fn policy(settings: &Settings, is_final: bool) -> WaitPolicy {
    match settings.missing {
        _ if !is_final => WaitPolicy::Interactive(INTERACTIVE),
        Missing::Wait => WaitPolicy::UntilFinished(Duration::from_secs_f64(settings.wait_seconds)),
        Missing::Plate | Missing::Fail => WaitPolicy::Finished,
    }
}

/// The frame to show; None where there is nothing but the plate to show; else one sentence why there is no frame.
fn find_frame(effect: &Effect, settings: &Settings, number: i64, is_final: bool) -> Result<Option<Arc<Frame>>, String> {
    if identity::is_elsewhere(effect, settings) {
        return Err("The effect was copied from another clip; press Propagate.".into());
    }
    let request = FrameRequest { target: &settings.target, number, final_of: settings.only.as_deref() };
    let engine = engine().ok_or("Paintover cannot start a thread.")?;
    if is_final {
        engine.send(Request::Wake);
    }
    engine.frame(&request, policy(settings, is_final), &|| effect.aborted())
}

/// The begin-sequence action: a final render waits for an engine that is just starting, behind the host's progress bar.
pub fn begin_sequence(effect: &Effect, in_args: &Properties) -> Status {
    let settings = Settings::read(effect, in_args.double_at(name::FRAME_RANGE, 0).unwrap_or(0.0));
    if is_interactive(in_args) || settings.is_identity() || !settings.target.has_job() {
        return OK;
    }
    let Some(engine) = engine() else { return OK };
    engine.send(Request::Wake);
    if engine.wait_connection(PATIENCE) != ConnectionState::Searching {
        return OK;
    }
    let progress = effect.progress(c"Waiting for Paintover's engine");
    let started = Instant::now();
    let most = Duration::from_secs_f64(settings.wait_seconds);
    while engine.wait_connection(POLL) == ConnectionState::Searching && started.elapsed() < most {
        if !progress.update(started.elapsed().as_secs_f64() / most.as_secs_f64()) {
            report(effect, Some("The render was cancelled while the engine started.".into()));
            return FAILED;
        }
    }
    OK
}

/// Shows why a render failed at the effect; clears that after one that did not.
fn report(effect: &Effect, error: Option<String>) {
    let Some(instance) = (unsafe { Instance::of(effect) }) else { return };
    let mut shown = instance.render_error();
    if *shown == error {
        return;
    }
    match &error {
        Some(sentence) => effect.set_persistent_error(sentence),
        None => effect.clear_persistent_error(),
    }
    *shown = error;
}

/// Writes the plate and the frame's paint over it. Returns one sentence about what may be wrong with that.
fn draw(
    effect: &Effect,
    settings: &Settings,
    canvas: &mut Canvas,
    (frame, number): (&Frame, i64),
    time: f64,
    is_final: bool,
) -> Option<String> {
    let matte_image = effect
        .clip(name::CLIP_MATTE)
        .filter(|clip| clip.properties().int(name::CLIP_CONNECTED) == Some(1))
        .and_then(|clip| clip.image(time));
    let holdout = matte_image.as_ref().and_then(Image::of);
    let plate = canvas.plate.unwrap_or(canvas.output);
    let format = clip::project_format(effect, &plate);
    let size = (frame.width, frame.height);
    let paint = frame.paint()?;
    let place = Placement::find(size, plate.region, format, plate.scale)?;
    let painting = Painting { frame, number, plate: &plate, time, place: &place };
    let found = host_colour::conversion(effect, settings, engine()?, &painting, is_final);
    let [x1, y1, x2, y2] = place.rectangle(size);
    if let Some(instance) = unsafe { Instance::of(effect) } {
        *instance.frame_region() = Some(plate.canonical_of([x1, y1, x2, y2]));
    }
    let right = match settings.view {
        View::Wipe => (x1 + (x2 - x1) * settings.wipe).round() as i32,
        _ => i32::MAX,
    };
    let blend = Blend {
        depth: canvas.output.depth,
        mix: settings.mix as f32,
        premultiplied: plate.premultiplied,
        matte_view: settings.view == View::Matte,
        conversion: *found.as_ref().unwrap_or(&None),
    };
    canvas.paint(&paint, &place, blend, right, holdout.as_ref());
    found.err()
}
