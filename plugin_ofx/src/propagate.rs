//! The Propagate button: the shot by its path, or its frames sent from the host; then the keyframes and the job.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::abi::name;
use crate::checks::{self, ShotFacts};
use crate::clip;
use crate::connection::engine;
use crate::engine_state::{ConnectionState, EngineState};
use crate::host::Effect;
use crate::host_colour;
use crate::identity;
use crate::image::Image;
use crate::instance::Instance;
use crate::params::{self, Settings};
use crate::requests::{Order, Propagate, Request, ShotSource, Work};
use crate::upload::{self, Delivery, FrameCollector, deliver, messages};
use crate::wire;

/// How long a button may block the host's interface, except behind a progress bar with Cancel.
const BUTTON: Duration = Duration::from_millis(150);
/// How long the engine is waited for after the last frame.
const LAST: Duration = Duration::from_secs(10);
/// What an engine takes to start on a slow machine: the progress bar's whole length, not a limit.
const START: Duration = Duration::from_secs(20);
/// Messages of 1 MiB that may wait to be sent.
const QUEUED: usize = 256;

type Reply = Receiver<Result<String, String>>;

/// One press of the button.
struct Press<'a> {
    effect: &'a Effect<'a>,
    instance: &'a Instance,
    engine: &'static EngineState,
    settings: Settings,
    time: f64,
}

/// Starts a propagation. Returns one sentence for the user: what is done, or what to correct.
pub fn propagate(effect: &Effect, instance: &Instance, settings: &Settings, time: f64) -> String {
    let started = connected().and_then(|engine| {
        let (settings, removed) = identity::adopt(effect, instance, settings, time);
        if removed {
            return Err(
                "This effect was copied from another clip, whose keyframes were removed; paint a frame of this one."
                    .into(),
            );
        }
        Press { effect, instance, engine, settings, time }.start()
    });
    started.unwrap_or_else(|reason| reason)
}

/// The engine, if it is there or may still come.
pub fn connected() -> Result<&'static EngineState, String> {
    let engine = engine().ok_or("Paintover cannot start a thread.")?;
    match engine.wait_connection(BUTTON) {
        ConnectionState::Absent(reason) => {
            engine.send(Request::Wake);
            Err(reason)
        }
        ConnectionState::Silent => Err("The engine does not answer; try again.".into()),
        ConnectionState::Searching | ConnectionState::Ready => Ok(engine),
    }
}

/// Hands an order to the connection; its reply comes by the receiver.
pub fn order(engine: &EngineState, instance: &Instance, work: Work) -> Reply {
    let (reply, received) = sync_channel(1);
    let order = Order { instance: instance.number, work, reply, created: Instant::now() };
    engine.send(Request::Order(Box::new(order)));
    received
}

/// The reply, if it comes in time.
pub fn wait_reply(reply: &Reply, most: Duration) -> Option<String> {
    match reply.recv_timeout(most) {
        Ok(Ok(sentence) | Err(sentence)) => Some(sentence),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some("The engine went away; try again.".into()),
    }
}

/// The shot of a source on disk, or one that the user has named.
pub fn shot_source(effect: &Effect, settings: &Settings) -> ShotSource {
    let target = &settings.target;
    if !target.shot.is_empty() {
        return ShotSource::Existing(target.shot.clone());
    }
    ShotSource::Create(wire::CreateShotRequest {
        from: Some(wire::create_shot_request::From::Path(target.source.clone())),
        range: target.range.map(|(first, last)| wire::FrameRange { first, last }),
        colorspace: params::string(effect, params::COLORSPACE),
        ..Default::default()
    })
}

impl Press<'_> {
    fn start(mut self) -> Result<String, String> {
        let target = &self.settings.target;
        if target.range.is_none() && !self.settings.range_text.is_empty() {
            let typed = &self.settings.range_text;
            return Err(format!("The source range '{typed}' is not two ascending numbers; write it as 1001-1048."));
        }
        if let Some(keyframe) = Settings::edited_keyframe(self.effect) {
            self.settings.keyframes.put(keyframe);
        }
        if self.settings.is_sent && target.shot.is_empty() {
            return self.send_clip();
        }
        let known = self.engine.shot_of(target);
        let facts = known.map_or_else(ShotFacts::default, |shot| ShotFacts {
            range: shot.range.map(|range| (range.first, range.last)),
            size: Some((shot.width, shot.height)),
        });
        self.check(&facts)?;
        let work = self.work(shot_source(self.effect, &self.settings));
        self.own(&work);
        let reply = order(self.engine, self.instance, Work::Propagate(work));
        self.engine.set_outcome(self.instance.number, Some("The engine is asked to propagate.".into()));
        Ok(wait_reply(&reply, BUTTON / 2).unwrap_or_else(|| self.status()))
    }

    /// Checks the keyframes; those that pass become the effect's.
    fn check(&self, facts: &ShotFacts) -> Result<(), String> {
        checks::keyframes(&self.settings.keyframes, facts)?;
        params::set_keyframes(self.effect, &self.settings.keyframes);
        Ok(())
    }

    fn status(&self) -> String {
        self.engine.status(self.instance.number, &self.settings.target)
    }

    fn work(&self, shot: ShotSource) -> Box<Propagate> {
        Box::new(Propagate {
            shot,
            keyframes: self.settings.keyframes.clone(),
            parameters: params::method_values(self.effect, self.time),
            model: params::string(self.effect, params::MODEL).trim().to_owned(),
            method: self.settings.method.clone(),
            owner: format!("openfx-{}", Uuid::new_v4().simple()),
        })
    }

    /// Makes the job that will be created the one that the effect shows.
    fn own(&self, work: &Propagate) {
        self.engine.set_creating(&work.owner, true);
        params::add_owner(self.effect, &work.owner, &self.settings.target.owners);
        params::set_string(self.effect, params::JOB, "");
    }

    /// Propagates a clip whose frames the host has.
    fn send_clip(self) -> Result<String, String> {
        if self.settings.keyframes.is_empty() {
            return Err("There is no keyframe; press \"Paint this frame\", or choose a picture.".into());
        }
        let offset = self.settings.source_offset;
        let of_clip = || clip::frame_range(self.effect).map(|(first, last)| (first + offset, last + offset));
        let Some(range) = self.settings.target.range.or_else(of_clip) else {
            return Err("The host does not say how long the clip is; set the source range.".into());
        };
        let source = self.effect.clip(name::CLIP_SOURCE).ok_or("The effect has no source clip.")?;
        let shown = source.image(self.time);
        let shown = shown.as_ref().and_then(Image::of).filter(Image::has_colour);
        if shown.is_some_and(|image| image.is_proxy()) {
            return Err("The host shows a proxy of this clip; turn proxies off, or set the source.".into());
        }
        let facts = ShotFacts { range: Some(range), size: shown.map(|image| image.size()) };
        self.check(&facts)?;
        let failed = self.engine.has_failed(self.instance.number);
        let shot = self.create_shot(range)?;
        if failed {
            upload::forget_sent(&shot);
        }
        let number = clip::nearest_frame(self.time, offset);
        let unchanged = shown.is_some_and(|image| upload::was_sent(&shot, number, upload::digest(&image)));
        let work = self.work(ShotSource::Existing(shot.clone()));
        self.own(&work);
        let reads_all = self.effect.suites().host().int(name::TEMPORAL_ACCESS) == Some(1);
        if !reads_all && unchanged && upload::is_complete(&shot, range) {
            let reply = order(self.engine, self.instance, Work::Propagate(work));
            return Ok(wait_reply(&reply, BUTTON).unwrap_or_else(|| self.status()));
        }
        let (sender, frames) = tokio::sync::mpsc::channel(QUEUED);
        let expected = Arc::new(AtomicU32::new(u32::MAX));
        let then = Work::UploadThen { frames, expected: expected.clone(), then: work };
        let reply = order(self.engine, self.instance, then);
        let collector = FrameCollector { numbers: (range.0..=range.1).collect(), sender, shot, expected, count: 0 };
        if reads_all {
            return self.send_all(collector, &reply);
        }
        *self.instance.collector() = Some(collector);
        let sentence = "Play the clip once: its frames are sent as they are shown.";
        self.engine.set_outcome(self.instance.number, Some(sentence.into()));
        Ok(self.status())
    }

    /// The name of the shot whose frames will be sent.
    fn create_shot(&self, (first, last): (i64, i64)) -> Result<String, String> {
        let source = self.effect.clip(name::CLIP_SOURCE);
        let rate = source.and_then(|clip| clip.properties().double(name::FRAME_RATE));
        let rate = rate
            .filter(|rate| (0.01..10_000.0).contains(rate))
            .map_or((0, 1), |rate| ((rate * 1000.0).round() as u32, 1000));
        let follow = wire::FramesFollow {
            key: self.settings.target.source.clone(),
            range: Some(wire::FrameRange { first, last }),
            rate_numerator: rate.0,
            rate_denominator: rate.1,
        };
        let named = params::string(self.effect, params::COLORSPACE);
        let request = wire::CreateShotRequest {
            from: Some(wire::create_shot_request::From::FramesFollow(follow)),
            range: None,
            colorspace: if named.is_empty() { host_colour::of_sent(self.effect, &self.settings).into() } else { named },
            ..Default::default()
        };
        self.answer(&order(self.engine, self.instance, Work::CreateShot(request)))
    }

    /// A reply that the next step needs; behind the host's progress bar where it takes longer than a press may, as of an
    /// engine that is only starting.
    fn answer(&self, reply: &Reply) -> Result<String, String> {
        let mut answer = reply.recv_timeout(BUTTON);
        if answer == Err(RecvTimeoutError::Timeout) {
            let progress = self.effect.progress(c"Waiting for Paintover's engine");
            let waited = Instant::now();
            while answer == Err(RecvTimeoutError::Timeout) {
                let share = waited.elapsed().as_secs_f64() / START.as_secs_f64();
                if !progress.update(share.min(1.0)) {
                    return Err("Cancelled.".into());
                }
                answer = reply.recv_timeout(Duration::from_millis(100));
            }
        }
        answer.unwrap_or_else(|_| Err("The engine went away; try again.".into()))
    }

    /// Sends the clip's frames that have changed, behind the host's progress bar.
    fn send_all(&self, mut collector: FrameCollector, reply: &Reply) -> Result<String, String> {
        let progress = self.effect.progress(c"Sending the clip to Paintover");
        let clip = self.effect.clip(name::CLIP_SOURCE).ok_or("The effect has no source clip.")?;
        let mut numbers: Vec<i64> = collector.numbers.drain().collect();
        numbers.sort_unstable();
        let mut sent = Vec::new();
        for (index, &number) in numbers.iter().enumerate() {
            let share = index as f64 / numbers.len() as f64;
            if !progress.update(share) {
                return Err("Cancelled.".into());
            }
            let image = clip.image((number - self.settings.source_offset) as f64);
            let image = image.as_ref().and_then(Image::of).filter(Image::has_colour);
            let image = image
                .ok_or_else(|| format!("The host gave no picture of frame {number}; set the source path instead."))?;
            let digest = upload::digest(&image);
            if upload::was_sent(&collector.shot, number, digest) {
                continue;
            }
            for message in messages(&collector.shot, number, &image) {
                match deliver(&collector.sender, message, &progress, share) {
                    Delivery::Done => {}
                    Delivery::Cancelled => return Err("Cancelled.".into()),
                    Delivery::Stuck => {
                        return Err(wait_reply(reply, Duration::ZERO).unwrap_or("The engine does not answer.".into()));
                    }
                }
            }
            sent.push((number, digest));
        }
        collector.expected.store(u32::try_from(sent.len()).unwrap_or(u32::MAX), Ordering::Release);
        upload::set_sent(&collector.shot, sent);
        drop(collector);
        let started = Instant::now();
        loop {
            if let Some(sentence) = wait_reply(reply, Duration::from_millis(100)) {
                return Ok(sentence);
            }
            if !progress.update(1.0) || started.elapsed() > LAST {
                return Ok("All frames are sent; the engine is at work.".into());
            }
        }
    }
}
