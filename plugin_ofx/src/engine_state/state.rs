//! What is known of the engine, and which of its jobs' frames a request means.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::frame::Frame;
use crate::job_view::{JobView, job_number};
use crate::methods::BEST;
use crate::plate_check::{Samples, Verdict};
use crate::source::canonical;
use crate::target::{FrameRequest, Target, WaitPolicy};
use crate::wire::{Final, Shot};

/// How long a final render waits for a connection, and for a frame that the engine has.
const CONNECT: Duration = Duration::from_secs(30);
pub const FETCH: Duration = Duration::from_secs(5);
/// How soon a frame whose transfer failed is requested again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How soon a host's picture is compared again: what is before the effect may have changed.
const CHECK_AGAIN: Duration = Duration::from_secs(10);
const MAX_FRAMES: usize = 96;
const MAX_INLINE_BYTES: usize = 1 << 30;

/// Whether the engine can be talked to.
#[derive(Clone, Debug, PartialEq)]
pub enum ConnectionState {
    /// No engine has been found yet, or its first answers are outstanding.
    Searching,
    Ready,
    /// It runs but does not answer.
    Silent,
    /// There is none, and one sentence why.
    Absent(String),
}

pub struct Cached {
    pub frame: Arc<Frame>,
    pub sequence: u64,
    pub connection: u64,
    pub used: u64,
}

pub type Key = (String, i64);

#[derive(Default)]
pub struct State {
    pub connection_state: Option<ConnectionState>,
    /// Counts connections: what was learned from an earlier one may be out of date.
    pub connection: u64,
    /// Jobs of the present connection whose first change has not arrived.
    pub awaited: HashSet<String>,
    pub jobs: HashMap<String, JobView>,
    pub shots: HashMap<String, Shot>,
    pub monitor: Option<String>,
    /// What the method "best" is; None until the engine knows.
    pub best: Option<Final>,
    pub frames: HashMap<Key, Cached>,
    pub fetching: HashSet<Key>,
    pub failed: HashMap<Key, (Instant, String)>,
    pub clock: u64,
    /// Why an instance's last order failed, or how far it is.
    pub outcomes: HashMap<u64, String>,
    /// Owners of jobs that are being created.
    pub creating: HashSet<String>,
    /// Those of them that the user has cancelled.
    pub cancelled: HashSet<String>,
    /// Frames that renders did not get, the oldest first.
    pub missed: VecDeque<(Target, i64)>,
    /// Whether the host's pictures are the engine's.
    pub plate_checks: HashMap<CheckKey, PlateCheck>,
}

/// The number of an effect's instance, and its shot's name: another effect on the shot may be given another picture.
pub type CheckKey = (u64, String);

/// A comparison of the host's picture with the engine's plate.
#[derive(Default)]
pub struct PlateCheck {
    /// Of the host's picture, until the engine's plate arrives.
    pub waiting: Option<Samples>,
    /// What was found last, and when.
    pub found: Option<(Verdict, Instant)>,
    /// Why the engine's plate could not be had at the last attempt.
    pub error: Option<String>,
}

impl PlateCheck {
    /// What was found lately.
    pub fn fresh(&self) -> Option<Verdict> {
        self.found.filter(|(_, when)| when.elapsed() < CHECK_AGAIN).map(|(verdict, _)| verdict)
    }
}

pub enum Lookup {
    /// Nothing was propagated for the target.
    Nothing,
    Fresh(Arc<Frame>),
    /// The engine has it, or a newer one than the cached.
    Fetch(Key, Option<Arc<Frame>>),
    /// It may still be computed, or arrive at the next attempt; one sentence why it is not there.
    Pending(String),
    /// No job computes it; one sentence why.
    Missing(String),
}

impl State {
    /// How long to wait for what only a connected engine can answer.
    pub fn limit_without_answer(&self, policy: WaitPolicy) -> Duration {
        match (&self.connection_state, policy) {
            (Some(ConnectionState::Ready | ConnectionState::Absent(_)), _) => Duration::ZERO,
            (_, WaitPolicy::UntilFinished(most)) => most,
            (None | Some(ConnectionState::Searching), _) => CONNECT,
            (Some(ConnectionState::Silent), WaitPolicy::Interactive(_)) => Duration::ZERO,
            (Some(ConnectionState::Silent), WaitPolicy::Finished) => FETCH,
        }
    }

    /// The jobs that a target may mean, newest first.
    pub fn candidates(&self, target: &Target) -> Vec<(&String, &JobView)> {
        let mut found: Vec<_> = if target.job.is_empty() {
            self.jobs.iter().filter(|(_, job)| !job.prepare_only && self.is_of(target, job)).collect()
        } else {
            self.jobs.get_key_value(&target.job).into_iter().collect()
        };
        found.sort_by_key(|(name, _)| std::cmp::Reverse(job_number(name)));
        found
    }

    /// Whether a job is the target's: of the shot that is named; else the effect's own, or nobody's on the same source.
    fn is_of(&self, target: &Target, job: &JobView) -> bool {
        if !target.shot.is_empty() {
            return target.shot == job.shot;
        }
        if !job.owner.is_empty() {
            return target.owners.contains(&job.owner);
        }
        self.shots.get(&job.shot).is_some_and(|shot| is_source(target, shot))
    }

    /// The jobs whose frames a render accepts, newest first. A final one accepts only those of the newest keyframes.
    fn accepted(&self, request: &FrameRequest, policy: WaitPolicy) -> Vec<(&String, &JobView)> {
        let mut jobs = self.candidates(request.target);
        if policy.is_final()
            && let Some(&(_, newest)) = jobs.first()
        {
            jobs.retain(|(_, job)| job.keyframes() == newest.keyframes());
        }
        let method = request.final_of.map(|method| match &self.best {
            Some(best) if method == BEST => &best.method,
            _ => method,
        });
        jobs.retain(|(_, job)| method.is_none_or(|method| job.method == method));
        jobs
    }

    pub fn lookup(&mut self, request: &FrameRequest, policy: WaitPolicy) -> Lookup {
        let creating = request.target.owners.first().is_some_and(|owner| self.creating.contains(owner));
        if creating && policy.is_final() {
            return Lookup::Pending("The propagation is being prepared.".to_owned());
        }
        if request.final_of == Some(BEST) && self.best.is_none() && !self.jobs.is_empty() {
            return Lookup::Pending("The engine is looking at this machine's GPUs.".to_owned());
        }
        let jobs = self.accepted(request, policy);
        let found = jobs.iter().find_map(|(name, job)| Some(((*name).clone(), *job.frames.get(&request.number)?)));
        if let Some((name, sequence)) = found {
            return self.lookup_frame(request, (name, request.number), sequence);
        }
        if creating || jobs.iter().any(|(_, job)| !job.finished()) {
            return Lookup::Pending(not_finished(request.number));
        }
        let reason = match (jobs.first(), &self.connection_state) {
            (Some((_, job)), _) => self.why_missing(job, request.number),
            (None, Some(ConnectionState::Absent(reason))) => reason.clone(),
            (None, Some(ConnectionState::Silent)) => "The engine does not answer.".to_owned(),
            (None, None | Some(ConnectionState::Searching)) => "The engine is still being looked for.".to_owned(),
            (None, _) if request.final_of.is_some() && !self.candidates(request.target).is_empty() => {
                "The chosen method has not been propagated.".to_owned()
            }
            (None, _) if request.target.has_job() => {
                "The engine no longer has this effect's job; press Propagate.".to_owned()
            }
            (None, _) => return Lookup::Nothing,
        };
        self.stale_frame(request).filter(|_| !policy.is_final()).map_or(Lookup::Missing(reason), Lookup::Fresh)
    }

    fn why_missing(&self, job: &JobView, number: i64) -> String {
        let range = self.shots.get(&job.shot).and_then(|shot| shot.range);
        match range.filter(|range| !(range.first..=range.last).contains(&number)) {
            Some(range) => format!("Frame {number} is not in the shot ({} to {}).", range.first, range.last),
            None => job.describe(),
        }
    }

    /// A frame that the engine has, from the cache where that is up to date.
    fn lookup_frame(&mut self, request: &FrameRequest, key: Key, sequence: u64) -> Lookup {
        self.clock += 1;
        let (clock, connection) = (self.clock, self.connection);
        let cached = self.frames.get_mut(&key).map(|cached| {
            cached.used = clock;
            (cached.frame.clone(), cached.connection == connection && cached.sequence >= sequence)
        });
        match cached {
            Some((frame, true)) if request.final_of.is_none() || frame.is_final => Lookup::Fresh(frame),
            Some((_, true)) => Lookup::Pending(not_finished(request.number)),
            older => match self.failed.get(&key) {
                Some((when, reason)) if when.elapsed() < RETRY_AFTER => Lookup::Pending(reason.clone()),
                _ => Lookup::Fetch(key, older.map(|(frame, _)| frame)),
            },
        }
    }

    /// Without a connection: a frame that is still cached, of a job that is named.
    fn stale_frame(&self, request: &FrameRequest) -> Option<Arc<Frame>> {
        if self.connection_state == Some(ConnectionState::Ready) || request.final_of.is_some() {
            return None;
        }
        let key = (request.target.job.clone(), request.number);
        self.frames.get(&key).map(|cached| cached.frame.clone())
    }

    pub fn evict(&mut self) {
        let too_many = |state: &Self| {
            state.frames.len() > MAX_FRAMES
                || state.frames.values().map(|cached| cached.frame.inline_bytes()).sum::<usize>() > MAX_INLINE_BYTES
        };
        while self.frames.len() > 1 && too_many(self) {
            let oldest = self.frames.iter().min_by_key(|(_, cached)| cached.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.frames.remove(&key));
        }
    }
}

fn not_finished(number: i64) -> String {
    format!("Frame {number} is not made yet.")
}

/// Whether a shot is of the target's source and range.
pub fn is_source(target: &Target, shot: &Shot) -> bool {
    let ranged = match (target.range, &shot.range) {
        (Some((first, last)), Some(range)) => (range.first, range.last) == (first, last),
        (Some(_), None) => false,
        (None, _) => true,
    };
    let same = || shot.source == target.source || canonical(&shot.source) == canonical(&target.source);
    !target.source.is_empty() && ranged && same()
}
