//! Which job and frame an effect shows, and how long it waits for it.

use std::time::Duration;

/// What is shown: a job, or the newest jobs of a shot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// "jobs/12"; or empty.
    pub job: String,
    /// "shots/…"; or empty.
    pub shot: String,
    /// The shot's source: a path, or the key of a clip whose frames were sent; or empty.
    pub source: String,
    /// First and last frame, where only a part of the source is the shot.
    pub range: Option<(i64, i64)>,
}

impl Target {
    pub fn is_empty(&self) -> bool {
        self.job.is_empty() && self.shot.is_empty() && self.source.is_empty()
    }
}

/// A frame that a render needs.
pub struct FrameRequest<'a> {
    pub target: &'a Target,
    pub number: i64,
    /// Only frames of this method's jobs that no later stage will improve.
    pub final_of: Option<&'a str>,
}

/// How long a render waits for its frame.
#[derive(Clone, Copy)]
pub enum WaitPolicy {
    /// At most this long in all: an interactive render.
    Interactive(Duration),
    /// Until what the engine has already finished has arrived.
    Finished,
    /// At most this long for the engine to compute the frame.
    UntilFinished(Duration),
}
