//! Sending a clip's frames to the engine.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::composite::{Depth, decode, encode};
use crate::host::Progress;
use crate::image::{Image, rgb};
use crate::wire;

/// How long an engine that accepts no more frames is waited for.
const STUCK: Duration = Duration::from_secs(10);

/// Frames that are sent as the host renders them.
pub struct FrameCollector {
    pub numbers: HashSet<i64>,
    pub sender: Sender<wire::UploadFramesRequest>,
    pub shot: String,
    /// Set once the last frame was handed over.
    pub expected: Arc<AtomicU32>,
    pub count: u32,
}

/// The digest of each frame that was sent in this process, by shot and number: a frame that has not changed is not sent again.
static SENT: Mutex<BTreeMap<(String, i64), u64>> = Mutex::new(BTreeMap::new());

fn sent() -> MutexGuard<'static, BTreeMap<(String, i64), u64>> {
    SENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A digest of an image's samples.
pub fn digest(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&image.packed());
    hasher.finish()
}

pub fn was_sent(shot: &str, number: i64, digest: u64) -> bool {
    sent().get(&(shot.to_owned(), number)) == Some(&digest)
}

pub fn set_sent(shot: &str, frames: impl IntoIterator<Item = (i64, u64)>) {
    sent().extend(frames.into_iter().map(|(number, digest)| ((shot.to_owned(), number), digest)));
}

/// Forgets what was sent of a shot, so that all of it is sent again.
pub fn forget_sent(shot: &str) {
    sent().retain(|(name, _), _| name != shot);
}

/// Whether every frame of a range was sent.
pub fn is_complete(shot: &str, (first, last): (i64, i64)) -> bool {
    let sent = sent();
    (first..=last).all(|number| sent.contains_key(&(shot.to_owned(), number)))
}

/// What became of a message.
pub enum Delivery {
    Done,
    Cancelled,
    Stuck,
}

/// Queues a message, behind a progress bar that stands at `share` of 0 to 1.
pub fn deliver(
    sender: &Sender<wire::UploadFramesRequest>,
    mut message: wire::UploadFramesRequest,
    progress: &Progress,
    share: f64,
) -> Delivery {
    let started = Instant::now();
    loop {
        match sender.try_send(message) {
            Ok(()) => return Delivery::Done,
            Err(TrySendError::Closed(_)) => return Delivery::Stuck,
            Err(TrySendError::Full(back)) => message = back,
        }
        std::thread::sleep(Duration::from_millis(10));
        if !progress.update(share) {
            return Delivery::Cancelled;
        }
        if started.elapsed() > STUCK {
            return Delivery::Stuck;
        }
    }
}

/// Sends a rendered frame's plate, if it is one that the collector still lacks.
pub fn collect(waiting: &mut Option<FrameCollector>, image: &Image, number: i64) {
    let Some(collector) = waiting.as_mut() else { return };
    let whole = image.bounds == image.region && image.has_colour();
    if !whole || !collector.numbers.contains(&number) {
        return;
    }
    let messages = messages(&collector.shot, number, image);
    if collector.sender.capacity() < messages.len() {
        return; // it will be rendered again
    }
    let delivered = messages.into_iter().all(|message| collector.sender.try_send(message).is_ok());
    if delivered {
        collector.count += 1;
        set_sent(&collector.shot, [(number, digest(image))]);
    }
    collector.numbers.remove(&number);
    if delivered && collector.numbers.is_empty() {
        collector.expected.store(collector.count, Ordering::Release);
    }
    if !delivered || collector.numbers.is_empty() {
        *waiting = None;
    }
}

/// The messages that send one frame, without its alpha; a float image as half floats, which is what the engine computes in.
pub fn messages(shot: &str, number: i64, image: &Image) -> Vec<wire::UploadFramesRequest> {
    let samples = rgb(&image.packed(), image.depth, image.channels);
    let (kind, samples) = match image.depth {
        Depth::Byte => (wire::SampleType::Uint8, samples),
        Depth::Short => (wire::SampleType::Uint16, samples),
        Depth::Half => (wire::SampleType::Half, samples),
        Depth::Float => (wire::SampleType::Half, to_half(&samples)),
    };
    let (width, height) = image.size();
    let header = wire::FrameHeader { shot: shot.to_owned(), number, width, height, channels: 3, r#type: kind.into() };
    upload_messages(header, &samples)
}

/// Float samples as half floats.
fn to_half(samples: &[u8]) -> Vec<u8> {
    let mut values = vec![0.0; samples.len() / Depth::Float.sample_bytes()];
    decode(Depth::Float, samples, &mut values);
    let mut halves = vec![0; values.len() * Depth::Half.sample_bytes()];
    encode(Depth::Half, &values, &mut halves);
    halves
}

/// A frame's header, then its bytes in parts of at most 1 MiB.
fn upload_messages(header: wire::FrameHeader, bytes: &[u8]) -> Vec<wire::UploadFramesRequest> {
    use wire::upload_frames_request::Part;
    let message = |part| wire::UploadFramesRequest { part: Some(part) };
    std::iter::once(message(Part::Frame(header)))
        .chain(bytes.chunks(1 << 20).map(|part| message(Part::Data(part.to_vec()))))
        .collect()
}
