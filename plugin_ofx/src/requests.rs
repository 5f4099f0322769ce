//! What the host's threads ask of the connection's thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use tokio::sync::mpsc::Receiver;

use crate::engine_state::CheckKey;
use crate::keyframes::Keyframes;
use crate::wire;

pub enum Request {
    /// A frame of a job, by the job's name and the frame's number.
    Fetch(String, i64),
    /// A frame of a shot's plate, for `EngineState::plate_fetched`.
    FetchPlate(CheckKey, i64),
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
    Propagate(Box<Propagate>),
    /// Makes the shot of a clip whose frames will be sent; the reply is its name.
    CreateShot(wire::CreateShotRequest),
    /// Sends frames, and propagates once all that were expected are there.
    UploadThen {
        frames: Receiver<wire::UploadFramesRequest>,
        /// How many there are, once the last was handed over; until then `u32::MAX`.
        expected: Arc<AtomicU32>,
        then: Box<Propagate>,
    },
    /// Writes a frame of the shot to a file and opens that in the painting program.
    ExportFrame {
        shot: ShotSource,
        frame: i64,
        path: String,
    },
}

impl Work {
    /// The owner of the job that it creates.
    pub fn owner(&self) -> Option<&str> {
        match self {
            Self::Propagate(work) | Self::UploadThen { then: work, .. } => Some(&work.owner),
            Self::CreateShot(_) | Self::ExportFrame { .. } => None,
        }
    }
}

/// A job to create, its shot and keyframes first.
pub struct Propagate {
    pub shot: ShotSource,
    /// Empty: the shot's keyframes as they stand in the engine.
    pub keyframes: Keyframes,
    pub method: String,
    pub model: String,
    /// Of each method that it may be carried by.
    pub parameters: HashMap<String, HashMap<String, String>>,
    /// See `Target::owners`.
    pub owner: String,
}

pub enum ShotSource {
    /// By name, "shots/…".
    Existing(String),
    Create(wire::CreateShotRequest),
}
