//! What the host's threads ask of the connection's thread.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use tokio::sync::mpsc::Receiver;

use crate::wire;

pub enum Request {
    /// A frame of a job, by the job's name and the frame's number.
    Fetch(String, i64),
    Order(Box<Order>),
    /// Cancels jobs by their names.
    Cancel(Vec<String>),
    /// A user needs an engine: a stopped one may be started again.
    Wake,
}

/// What a button asks for.
pub struct Order {
    /// The number of the instance whose button it is.
    pub instance: u64,
    pub work: Work,
    /// Receives one sentence: what was done, or why it was not.
    pub reply: SyncSender<Result<String, String>>,
    pub created: Instant,
}

pub enum Work {
    Propagate(Propagate),
    /// Makes the shot of a clip whose frames will be sent; the reply is its name.
    CreateShot(wire::CreateShotRequest),
    /// Sends frames, and propagates once all that were expected are there.
    UploadThen {
        frames: Receiver<wire::UploadFramesRequest>,
        expected: u32,
        then: Box<Propagate>,
    },
}

pub struct Propagate {
    pub shot: ShotSource,
    /// Its frame's number and file; None: the shot's keyframes as they stand.
    pub keyframe: Option<(i64, String)>,
    pub method: String,
    pub parameters: HashMap<String, String>,
}

pub enum ShotSource {
    /// By name, "shots/…".
    Existing(String),
    Create(wire::CreateShotRequest),
}
