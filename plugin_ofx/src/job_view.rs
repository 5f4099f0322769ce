//! A job as the engine last described it.

use std::collections::HashMap;

use crate::wire::{Job, JobState};

pub struct JobView {
    pub state: JobState,
    pub shot: String,
    pub method: String,
    pub prepare_only: bool,
    /// Whose job it is, an effect's text; or empty.
    pub owner: String,
    pub job: Job,
    /// Each finished frame's number, and the sequence number of the last change to it.
    pub frames: HashMap<i64, u64>,
}

impl JobView {
    pub fn finished(&self) -> bool {
        matches!(self.state, JobState::Done | JobState::Failed | JobState::Cancelled)
    }

    /// The names of its keyframes.
    pub fn keyframes(&self) -> &[String] {
        self.job.spec.as_ref().map_or(&[], |spec| &spec.keyframes)
    }

    /// Their frames: a name is "shots/<shot>/keyframes/<frame>-<digest>", and a frame may be below 0.
    pub fn keyframe_frames(&self) -> Vec<i64> {
        let frame = |name: &String| name.rsplit('/').next()?.rsplit_once('-')?.0.parse().ok();
        let mut frames: Vec<i64> = self.keyframes().iter().filter_map(frame).collect();
        frames.sort_unstable();
        frames
    }

    /// One sentence: how far the job is.
    pub fn describe(&self) -> String {
        let number = job_number(&self.job.name);
        let progress = self.job.progress.clone().unwrap_or_default();
        let frames = format!("{} of {} frames", progress.frames_done, progress.frames_total);
        match self.state {
            JobState::Running if progress.seconds_left >= 0.0 => {
                format!("Job {number} is running: {frames}, about {:.0} s left.", progress.seconds_left)
            }
            JobState::Running => format!("Job {number} is running: {frames}."),
            JobState::Done => format!("Job {number} is done: {frames}."),
            JobState::Failed => format!("Job {number} failed: {}", self.job.message),
            JobState::Cancelled => format!("Job {number} was cancelled: {frames}."),
            JobState::Paused => format!("Job {number} is paused: {frames}."),
            JobState::Preparing => format!("Job {number} is being prepared."),
            JobState::WaitingForKeyframe => format!("Job {number} waits for a keyframe."),
            JobState::Queued | JobState::Unspecified => format!("Job {number} is queued."),
        }
    }
}

/// The number in "jobs/<number>"; 0 for any other name.
pub fn job_number(name: &str) -> u64 {
    name.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
