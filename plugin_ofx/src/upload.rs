//! Sending a clip's frames to the engine.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::composite::Depth;
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
    let whole = image.bounds == image.region && image.is_rgba();
    if !whole || !collector.numbers.contains(&number) {
        return;
    }
    let messages = messages(&collector.shot, number, image);
    if collector.sender.capacity() < messages.len() {
        return; // it will be rendered again
    }
    let sent = messages.into_iter().all(|message| collector.sender.try_send(message).is_ok());
    collector.numbers.remove(&number);
    if !sent || collector.numbers.is_empty() {
        *waiting = None;
    }
}

/// The messages that send one frame, without its alpha.
pub fn messages(shot: &str, number: i64, image: &Image) -> Vec<wire::UploadFramesRequest> {
    let kind = match image.depth {
        Depth::Byte => wire::SampleType::Uint8,
        Depth::Short => wire::SampleType::Uint16,
        Depth::Half => wire::SampleType::Half,
        Depth::Float => wire::SampleType::Float,
    };
    let (width, height) = image.size();
    let header = wire::FrameHeader { shot: shot.to_owned(), number, width, height, channels: 3, r#type: kind.into() };
    upload_messages(header, &rgb(&image.packed(), image.depth))
}

/// A frame's header, then its bytes in parts of at most 1 MiB.
fn upload_messages(header: wire::FrameHeader, bytes: &[u8]) -> Vec<wire::UploadFramesRequest> {
    use wire::upload_frames_request::Part;
    let message = |part| wire::UploadFramesRequest { part: Some(part) };
    std::iter::once(message(Part::Frame(header)))
        .chain(bytes.chunks(1 << 20).map(|part| message(Part::Data(part.to_vec()))))
        .collect()
}
