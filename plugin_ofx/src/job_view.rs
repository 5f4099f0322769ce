//! A job as the engine last described it.

use std::collections::HashMap;

use crate::wire::{Job, JobState, UnsureRange};

/// Ranges of unsure frames that a status names; a host shows one line or a few.
const MOST_RANGES: usize = 3;

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

    /// How far the job is, one sentence; of one that is done, also which frames are not sure, and
    /// why, and what else the engine says of it.
    pub fn describe(&self) -> String {
        let named = format!("Job {} ({})", job_number(&self.job.name), self.method);
        let progress = self.job.progress.clone().unwrap_or_default();
        let frames = format!("{} of {} frames", progress.frames_done, progress.frames_total);
        match self.state {
            JobState::Running if progress.seconds_left >= 0.0 => {
                format!("{named} is running: {frames}, about {:.0} s left.", progress.seconds_left)
            }
            JobState::Running => format!("{named} is running: {frames}."),
            JobState::Done => {
                let said = if self.job.message.is_empty() { String::new() } else { format!(" {}", self.job.message) };
                format!("{named} is done: {frames}.{}{said}", unsure_in_words(&self.job.unsure))
            }
            JobState::Failed => format!("{named} failed: {}", self.job.message),
            JobState::Cancelled => format!("{named} was cancelled: {frames}."),
            JobState::Paused => format!("{named} is paused: {frames}."),
            JobState::Preparing => format!("{named} is being prepared."),
            JobState::WaitingForKeyframe => format!("{named} waits for a keyframe."),
            JobState::Queued | JobState::Unspecified => format!("{named} is queued."),
        }
    }
}

/// " Not sure at 5: the scene is not seen; 12-20: part of the edit was lost."; empty where every frame is sure. The least sure
/// ranges, in the order of their frames.
fn unsure_in_words(ranges: &[UnsureRange]) -> String {
    let mut named: Vec<&UnsureRange> = ranges.iter().collect();
    named.sort_by(|one, other| one.confidence.total_cmp(&other.confidence));
    named.truncate(MOST_RANGES);
    named.sort_by_key(|range| range.first);
    let others = ranges.len() - named.len();
    let mut words: Vec<String> = named.into_iter().map(in_words).collect();
    if others > 0 {
        words.push(format!("and {others} more"));
    }
    if words.is_empty() { String::new() } else { format!(" Not sure at {}.", words.join("; ")) }
}

/// "12-20: part of the edit was lost", as the `paintover` command and the monitor say it.
fn in_words(range: &UnsureRange) -> String {
    let UnsureRange { first, last, cause, .. } = range;
    if first == last { format!("{first}: {cause}") } else { format!("{first}-{last}: {cause}") }
}

/// The number in "jobs/<number>"; 0 for any other name.
pub fn job_number(name: &str) -> u64 {
    name.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Progress;

    fn done(unsure: Vec<UnsureRange>) -> JobView {
        let progress = Some(Progress { frames_done: 40, frames_total: 40, ..Progress::default() });
        let name = "jobs/7".to_owned();
        JobView {
            state: JobState::Done,
            shot: String::new(),
            method: "draft".to_owned(),
            prepare_only: false,
            owner: String::new(),
            job: Job { name, progress, unsure, ..Job::default() },
            frames: HashMap::new(),
        }
    }

    fn range(first: i64, last: i64, confidence: f32, cause: &str) -> UnsureRange {
        UnsureRange { first, last, confidence, cause: cause.to_owned(), ..UnsureRange::default() }
    }

    #[test]
    fn unsure_frames_are_named_with_the_reason() {
        let job = done(vec![range(5, 5, 0.0, "a flash"), range(12, 20, 0.3, "part of the edit was lost")]);
        let status =
            "Job 7 (draft) is done: 40 of 40 frames. Not sure at 5: a flash; 12-20: part of the edit was lost.";
        assert_eq!(job.describe(), status);
    }

    #[test]
    fn sure_job_says_nothing_of_it() {
        assert_eq!(done(vec![]).describe(), "Job 7 (draft) is done: 40 of 40 frames.");
    }

    #[test]
    fn what_the_engine_says_of_a_job_is_shown() {
        let mut view = done(vec![]);
        view.job.message = "A flash at 5: tracked across it.".to_owned();
        assert_eq!(view.describe(), "Job 7 (draft) is done: 40 of 40 frames. A flash at 5: tracked across it.");
    }

    #[test]
    fn least_sure_of_many_ranges_are_named() {
        let ranges = (0..5).map(|n| range(n, n, 0.4 - 0.1 * n as f32 % 0.4, "lost")).collect();
        let status = done(ranges).describe();
        assert!(status.ends_with("Not sure at 1: lost; 2: lost; 3: lost; and 2 more."), "{status}");
    }
}
