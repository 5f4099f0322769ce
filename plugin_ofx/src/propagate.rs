//! The Propagate button: the shot by its path, or its frames sent from the host; then the keyframe and the job.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::abi::name;
use crate::clip;
use crate::connection::engine;
use crate::engine_state::{ConnectionState, EngineState};
use crate::host::Effect;
use crate::image::Image;
use crate::instance::Instance;
use crate::params::{self, Settings};
use crate::requests::{Order, Propagate, Request, ShotSource, Work};
use crate::upload::{Delivery, FrameCollector, deliver, messages};
use crate::wire;

/// How long a button may block the host's interface, except behind a progress bar with Cancel.
const BUTTON: Duration = Duration::from_millis(150);
/// How long the engine is waited for after the last frame.
const LAST: Duration = Duration::from_secs(10);
/// Messages of 1 MiB that may wait to be sent.
const QUEUED: usize = 256;

/// Which instance sends the frames that a key stands for: a copied effect has the key too, but another clip.
static OWNERS: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

/// Carries the Propagate button out; returns what to say.
pub fn propagate(effect: &Effect, instance: &Instance, settings: &Settings, time: f64) -> String {
    let Some(engine) = engine() else { return "Paintover cannot start a thread.".into() };
    match engine.wait_connection(BUTTON) {
        ConnectionState::Absent(reason) => {
            engine.send(Request::Wake);
            return reason;
        }
        ConnectionState::Silent => return "The engine does not answer; try again.".into(),
        ConnectionState::Searching | ConnectionState::Ready => {}
    }
    let string = |param| effect.param(param).and_then(|found| found.string()).unwrap_or_default();
    let keyframe = string(params::KEYFRAME_PATH);
    if !keyframe.is_empty() && !Path::new(&keyframe).is_file() {
        return format!("The keyframe {keyframe} does not exist; choose the painted picture of one frame.");
    }
    let frame = effect.param(params::KEYFRAME_FRAME).and_then(|found| found.int()).unwrap_or(0);
    let absolute = |path: &str| std::path::absolute(path).map_or(path.to_owned(), |p| p.to_string_lossy().into_owned());
    let work = |shot| Propagate {
        shot,
        keyframe: (!keyframe.is_empty()).then(|| (i64::from(frame), absolute(&keyframe))),
        method: settings.method.clone(),
        parameters: params::method_values(effect, &settings.method, time),
    };
    let target = &settings.target;
    if !settings.is_sent || !target.shot.is_empty() {
        bind(effect, settings);
        let shot = if target.shot.is_empty() {
            ShotSource::Create(wire::CreateShotRequest {
                from: Some(wire::create_shot_request::From::Path(target.source.clone())),
                range: target.range.map(|(first, last)| wire::FrameRange { first, last }),
                colorspace: string(params::COLORSPACE),
            })
        } else {
            ShotSource::Existing(target.shot.clone())
        };
        let reply = order(engine, instance, Work::Propagate(work(shot)));
        engine.set_outcome(instance.number, Some("The engine is asked to propagate.".into()));
        return wait_reply(&reply, BUTTON / 2).unwrap_or_else(|| engine.status(instance.number, target));
    }
    let Some((first, last)) = target.range.or_else(|| offset(clip::frame_range(effect), settings.source_offset)) else {
        return "The host does not say how long the clip is; set the source range.".into();
    };
    let key = own_key(&target.source, instance.number);
    if let Some(param) = effect.param(params::CLIP_KEY).filter(|_| key != target.source) {
        param.set_string(&key);
    }
    bind(effect, settings);
    let rate = effect.clip(name::CLIP_SOURCE).and_then(|clip| clip.properties().double(name::FRAME_RATE));
    let rate = rate
        .filter(|rate| (0.01..10_000.0).contains(rate))
        .map_or((0, 1), |rate| ((rate * 1000.0).round() as u32, 1000));
    let follow = wire::FramesFollow {
        key,
        range: Some(wire::FrameRange { first, last }),
        rate_numerator: rate.0,
        rate_denominator: rate.1,
    };
    let request = wire::CreateShotRequest {
        from: Some(wire::create_shot_request::From::FramesFollow(follow)),
        range: None,
        colorspace: string(params::COLORSPACE),
    };
    let shot = match order(engine, instance, Work::CreateShot(request)).recv_timeout(BUTTON) {
        Ok(Ok(shot)) => shot,
        Ok(Err(reason)) => return reason,
        Err(_) => return "The engine does not answer; try again.".into(),
    };
    let (sender, frames) = tokio::sync::mpsc::channel(QUEUED);
    let expected = u32::try_from(last - first + 1).unwrap_or(u32::MAX);
    let then = Work::UploadThen { frames, expected, then: Box::new(work(ShotSource::Existing(shot.clone()))) };
    let reply = order(engine, instance, then);
    let collector = FrameCollector { numbers: (first..=last).collect(), sender, shot };
    if effect.suites().host().int(name::TEMPORAL_ACCESS) == Some(1) {
        send_all(effect, collector, settings.source_offset, &reply)
    } else {
        *instance.collector() = Some(collector);
        engine.set_outcome(
            instance.number,
            Some("Play or render the clip once: its frames are sent as they are shown.".into()),
        );
        engine.status(instance.number, target)
    }
}

fn offset(range: Option<(i64, i64)>, offset: i64) -> Option<(i64, i64)> {
    range.map(|(first, last)| (first + offset, last + offset))
}

/// Remembers on which clip the effect was propagated, and shows the newest job from now on.
fn bind(effect: &Effect, settings: &Settings) {
    let here = clip::identity(effect, settings.is_sent);
    if let Some(param) = effect.param(params::BOUND_TO).filter(|_| here != settings.bound_to) {
        param.set_string(&here);
    }
    if let Some(param) = effect.param(params::JOB).filter(|_| !settings.target.job.is_empty()) {
        param.set_string("");
    }
}

/// The key of an instance's frames: the one it has, unless another instance sends frames under it.
fn own_key(known: &str, instance: u64) -> String {
    let mut owners = OWNERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let owners = owners.get_or_insert_default();
    let mine = !known.is_empty() && *owners.entry(known.to_owned()).or_insert(instance) == instance;
    let key = if mine { known.to_owned() } else { format!("openfx-{}", Uuid::new_v4().simple()) };
    owners.insert(key.clone(), instance);
    key
}

/// Releases the keys of an instance that is destroyed.
pub fn release_keys(instance: u64) {
    let mut owners = OWNERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    owners.get_or_insert_default().retain(|_, owner| *owner != instance);
}

type Reply = Receiver<Result<String, String>>;

fn order(engine: &EngineState, instance: &Instance, work: Work) -> Reply {
    let (reply, received) = sync_channel(1);
    let order = Order { instance: instance.number, work, reply, created: Instant::now() };
    engine.send(Request::Order(Box::new(order)));
    received
}

/// The reply, if it comes in time.
fn wait_reply(reply: &Reply, most: Duration) -> Option<String> {
    match reply.recv_timeout(most) {
        Ok(Ok(sentence) | Err(sentence)) => Some(sentence),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some("The engine went away; try again.".into()),
    }
}

/// Sends the whole clip behind the host's progress bar.
fn send_all(effect: &Effect, mut collector: FrameCollector, offset: i64, reply: &Reply) -> String {
    let progress = effect.progress(c"Sending the clip to Paintover");
    let Some(clip) = effect.clip(name::CLIP_SOURCE) else { return "The effect has no source clip.".into() };
    let mut numbers: Vec<i64> = collector.numbers.drain().collect();
    numbers.sort_unstable();
    let total = numbers.len();
    for (done, number) in numbers.into_iter().enumerate() {
        let share = done as f64 / total as f64;
        if !progress.update(share) {
            return "Cancelled.".into();
        }
        let image = clip.image((number - offset) as f64);
        let Some(image) = image.as_ref().and_then(Image::of).filter(Image::is_rgba) else {
            return format!("The host gave no picture of frame {number}; set the source path instead.");
        };
        for message in messages(&collector.shot, number, &image) {
            match deliver(&collector.sender, message, &progress, share) {
                Delivery::Done => {}
                Delivery::Cancelled => return "Cancelled.".into(),
                Delivery::Stuck => {
                    return wait_reply(reply, Duration::ZERO).unwrap_or("The engine does not answer.".into());
                }
            }
        }
    }
    drop(collector);
    let started = Instant::now();
    loop {
        if let Some(sentence) = wait_reply(reply, Duration::from_millis(100)) {
            return sentence;
        }
        if !progress.update(1.0) || started.elapsed() > LAST {
            return "All frames are sent; the engine is at work.".into();
        }
    }
}
