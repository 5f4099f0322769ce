//! Which job and frame an effect shows, and how long it waits for it.

use std::time::Duration;

/// What is shown: a job, a shot's newest jobs, or the effect's own and its source's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// "jobs/12"; or empty. Shared on purpose: shown whoever's job it is.
    pub job: String,
    /// "shots/…"; or empty. Shared on purpose, as `job`.
    pub shot: String,
    /// The shot's source: a path, or the key of a clip whose frames were sent; or empty.
    pub source: String,
    /// First and last frame, where only a part of the source is the shot.
    pub range: Option<(i64, i64)>,
    /// The owners of this effect's own jobs, the newest first.
    pub owners: Vec<String>,
}

impl Target {
    pub fn is_empty(&self) -> bool {
        self.job.is_empty() && self.shot.is_empty() && self.source.is_empty() && self.owners.is_empty()
    }

    /// Whether a job is known to have been made for it: it is an error not to find one.
    pub fn has_job(&self) -> bool {
        !self.job.is_empty() || !self.owners.is_empty()
    }
}

/// A frame that a render needs.
pub struct FrameRequest<'a> {
    pub target: &'a Target,
    pub number: i64,
    /// Only frames of this method's jobs that no later stage will improve.
    pub final_of: Option<&'a str>,
}

/// How long a render waits for its frame, and what it accepts.
#[derive(Clone, Copy)]
pub enum WaitPolicy {
    /// At most this long in all: an interactive render. A frame of an older job is better than none.
    Interactive(Duration),
    /// A final render: for the engine, and for what it has already finished of the newest keyframes.
    Finished,
    /// A final render: at most this long for the engine to compute the frame.
    UntilFinished(Duration),
}

impl WaitPolicy {
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Interactive(_))
    }
}
