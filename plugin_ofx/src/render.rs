//! The render action: the plate, and the painted colour over it where the engine has it.

use std::time::Duration;

use crate::abi::{FAILED, OK, Status, name};
use crate::canvas::Canvas;
use crate::clip;
use crate::composite::{Blend, Placement};
use crate::connection::engine;
use crate::host::{Effect, Properties};
use crate::image::Image;
use crate::instance::Instance;
use crate::params::{Missing, Settings, View};
use crate::target::{FrameRequest, WaitPolicy};
use crate::upload;

/// How long an interactive render waits in all.
const INTERACTIVE: Duration = Duration::from_millis(150);

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
    let window = in_args.rectangle(name::RENDER_WINDOW);
    let mut canvas = Canvas::new(output, plate, window);

    let settings = Settings::read(effect, time);
    let number = clip::frame_number(in_args, time, settings.source_offset);
    if let Some((instance, plate)) = unsafe { Instance::of(effect) }.zip(canvas.plate) {
        upload::collect(&mut instance.collector(), &plate, number);
    }
    if settings.is_identity() || canvas.plate.is_none() || !output.is_rgba() || canvas.is_empty() {
        canvas.fill();
        return if source.is_some() && canvas.plate.is_none() { FAILED } else { OK };
    }
    if clip::is_elsewhere(effect, &settings.bound_to, settings.is_sent) {
        log::warn!("render: the effect was copied from another clip; it shows the plate until it is propagated");
        canvas.fill();
        return OK;
    }
    let interactive = in_args.int(name::INTERACTIVE) == Some(1);
    let policy = match settings.missing {
        _ if interactive => WaitPolicy::Interactive(INTERACTIVE),
        Missing::Wait => WaitPolicy::UntilFinished(Duration::from_secs_f64(settings.wait_seconds)),
        Missing::Plate | Missing::Fail => WaitPolicy::Finished,
    };
    let request = FrameRequest {
        target: &settings.target,
        number,
        final_of: settings.final_only.then_some(settings.method.as_str()),
    };
    let found = match engine() {
        Some(engine) => engine.frame(&request, policy, &|| effect.aborted()),
        None => Err("Paintover cannot start a thread.".into()),
    };
    let frame = match found {
        Ok(frame) => frame,
        Err(reason) => {
            log::warn!("render: {reason}");
            canvas.fill();
            return if settings.missing == Missing::Fail && !interactive { FAILED } else { OK };
        }
    };
    let matte_image = effect
        .clip(name::CLIP_MATTE)
        .filter(|clip| clip.properties().int(name::CLIP_CONNECTED) == Some(1))
        .and_then(|clip| clip.image(time));
    let holdout = matte_image.as_ref().and_then(Image::of);
    let region = canvas.plate.map_or(output.region, |plate| plate.region);
    let (Some(paint), Some(place)) = (frame.paint(), Placement::fit((frame.width, frame.height), region)) else {
        canvas.fill();
        return OK;
    };
    let right = match settings.view {
        View::Wipe => region[0] + (f64::from(region[2] - region[0]) * settings.wipe).round() as i32,
        _ => i32::MAX,
    };
    let blend = Blend {
        depth: output.depth,
        mix: settings.mix as f32,
        premultiplied: canvas.plate.is_some_and(|plate| plate.premultiplied),
        matte_view: settings.view == View::Matte,
    };
    canvas.paint(&paint, &place, blend, right, holdout.as_ref());
    OK
}
