//! The engine as renders and buttons see it: its jobs and shots, and a cache of frames.
//!
//! The connection's thread keeps it up to date. Renders and buttons read it, and wait for a change of it no longer than their
//! `WaitPolicy` allows.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::frame::Frame;
use crate::job_view::{JobView, job_number};
use crate::requests::Request;
use crate::target::{FrameRequest, Target, WaitPolicy};
use crate::wire::{Job, Shot};

const POLL: Duration = Duration::from_millis(50);
/// How long a final render waits for a connection, and for a frame that the engine has.
const CONNECT: Duration = Duration::from_secs(3);
const FETCH: Duration = Duration::from_secs(5);
/// How soon a frame whose transfer failed is requested again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
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

struct Cached {
    frame: Arc<Frame>,
    sequence: u64,
    connection: u64,
    used: u64,
}

type Key = (String, i64);

#[derive(Default)]
struct State {
    connection_state: Option<ConnectionState>,
    /// Counts connections: what was learned from an earlier one may be out of date.
    connection: u64,
    /// Jobs of the present connection whose first change has not arrived.
    awaited: HashSet<String>,
    jobs: HashMap<String, JobView>,
    shots: HashMap<String, Shot>,
    monitor: Option<String>,
    frames: HashMap<Key, Cached>,
    fetching: HashSet<Key>,
    failed: HashMap<Key, (Instant, String)>,
    clock: u64,
    /// Why an instance's last order failed, or how far it is.
    outcomes: HashMap<u64, String>,
}

/// Shared by all threads of the process.
pub struct EngineState {
    state: Mutex<State>,
    changed: Condvar,
    requests: UnboundedSender<Request>,
}

enum Lookup {
    Fresh(Arc<Frame>),
    /// The engine has it, or a newer one than the cached.
    Fetch(Key, Option<Arc<Frame>>),
    /// It may still be computed, or arrive at the next attempt; one sentence why it is not there.
    Pending(String),
    /// No job computes it; one sentence why.
    Missing(String),
}

impl EngineState {
    pub fn new(requests: UnboundedSender<Request>) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), requests }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.lock());
        self.changed.notify_all();
        answer
    }

    /// The best frame so far for the request; or one sentence why there is none.
    pub fn frame(
        &self,
        request: &FrameRequest,
        policy: WaitPolicy,
        aborted: &dyn Fn() -> bool,
    ) -> Result<Arc<Frame>, String> {
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            let (found, limit) = match state.lookup(request) {
                Lookup::Fresh(frame) => return Ok(frame),
                Lookup::Fetch(key, older) => {
                    let limit = match state.connection_state {
                        Some(ConnectionState::Ready) => {
                            if state.fetching.insert(key.clone()) {
                                let _ = self.requests.send(Request::Fetch(key.0, key.1));
                            }
                            FETCH
                        }
                        _ => state.limit_without_answer(policy),
                    };
                    (older.ok_or_else(|| "The frame has not arrived yet.".to_owned()), limit)
                }
                Lookup::Pending(reason) => {
                    let limit = match policy {
                        WaitPolicy::UntilFinished(_) => Duration::MAX,
                        _ => Duration::ZERO,
                    };
                    (Err(reason), limit)
                }
                Lookup::Missing(reason) => {
                    let limit = state.limit_without_answer(policy);
                    (Err(reason), limit)
                }
            };
            let limit = match policy {
                WaitPolicy::Interactive(most) | WaitPolicy::UntilFinished(most) => limit.min(most),
                WaitPolicy::Finished => limit,
            };
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() || aborted() {
                return found;
            }
            state = self.changed.wait_timeout(state, left.min(POLL)).unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    /// The target's status, one sentence.
    pub fn status(&self, instance: u64, target: &Target) -> String {
        let state = self.lock();
        match &state.connection_state {
            Some(ConnectionState::Absent(reason)) => return reason.clone(),
            Some(ConnectionState::Silent) => return "The engine does not answer.".to_owned(),
            Some(ConnectionState::Searching) | None => return "Looking for the engine…".to_owned(),
            Some(ConnectionState::Ready) => {}
        }
        if let Some(outcome) = state.outcomes.get(&instance) {
            return outcome.clone();
        }
        match state.candidates(target).first() {
            Some((_, job)) => job.describe(),
            None => "Nothing has been propagated here yet.".to_owned(),
        }
    }

    /// A number that changes with every frame that the target gains.
    pub fn revision(&self, target: &Target) -> i32 {
        let state = self.lock();
        let newest = state.candidates(target).iter().flat_map(|(_, job)| job.frames.values().copied()).max();
        i32::try_from(newest.unwrap_or(0) & 0x3fff_ffff).unwrap_or(0)
    }

    /// The unfinished jobs of a target.
    pub fn unfinished(&self, target: &Target) -> Vec<String> {
        let state = self.lock();
        let unfinished = |job: &&(&String, &JobView)| !job.1.finished();
        state.candidates(target).iter().filter(unfinished).map(|(name, _)| (*name).clone()).collect()
    }

    pub fn connection_state(&self) -> ConnectionState {
        self.lock().connection_state.clone().unwrap_or(ConnectionState::Searching)
    }

    /// Waits until the state is another than `Searching`.
    pub fn wait_connection(&self, most: Duration) -> ConnectionState {
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            let left = most.saturating_sub(started.elapsed());
            match &state.connection_state {
                Some(known) if *known != ConnectionState::Searching => return known.clone(),
                _ if left.is_zero() => return ConnectionState::Searching,
                _ => state = self.changed.wait_timeout(state, left).unwrap_or_else(|p| p.into_inner()).0,
            }
        }
    }

    /// Hands a request to the connection's thread.
    pub fn send(&self, request: Request) {
        let _ = self.requests.send(request);
    }

    pub fn was_connected(&self) -> bool {
        self.lock().connection > 0
    }

    /// Drops what is kept for an instance that is destroyed.
    pub fn forget(&self, instance: u64) {
        self.lock().outcomes.remove(&instance);
    }

    pub fn monitor(&self) -> Option<String> {
        self.lock().monitor.clone()
    }

    /// Drops the cached frames.
    pub fn clear_cache(&self) {
        self.lock().frames.clear();
    }

    // For the connection.

    pub fn set_connection_state(&self, new: ConnectionState) {
        self.change(|state| {
            if state.connection_state.as_ref() != Some(&new) {
                log::info!("engine: {new:?}");
                state.connection_state = Some(new);
            }
        });
    }

    pub fn connected(&self, jobs: Vec<String>, shots: Vec<Shot>, monitor: Option<String>) {
        self.change(|state| {
            state.connection += 1;
            state.awaited = jobs.into_iter().collect();
            state.jobs.clear();
            state.fetching.clear();
            state.failed.clear();
            state.shots = shots.into_iter().map(|shot| (shot.name.clone(), shot)).collect();
            state.monitor = monitor;
        });
        if self.lock().awaited.is_empty() {
            self.set_connection_state(ConnectionState::Ready);
        }
    }

    /// Applies a job's change. Returns its shot's name if that shot is not known yet.
    pub fn update_job(&self, sequence: u64, job: Job) -> Option<String> {
        let (unknown, complete) = self.change(|state| {
            state.awaited.remove(&job.name);
            let spec = job.spec.clone().unwrap_or_default();
            let unknown = (!state.shots.contains_key(&spec.shot)).then(|| spec.shot.clone());
            let before = state.jobs.remove(&job.name).map(|known| known.frames).unwrap_or_default();
            let mut frames = before;
            frames.extend(job.frames.iter().map(|frame| (frame.number, sequence)));
            let view = JobView {
                state: job.state(),
                shot: spec.shot,
                method: spec.method,
                prepare_only: spec.prepare_only,
                frames,
                job,
            };
            state.jobs.insert(view.job.name.clone(), view);
            (unknown, state.awaited.is_empty())
        });
        if complete && self.connection_state() == ConnectionState::Searching {
            self.set_connection_state(ConnectionState::Ready);
        }
        unknown
    }

    pub fn update_shot(&self, shot: Shot) {
        self.change(|state| state.shots.insert(shot.name.clone(), shot));
    }

    pub fn fetched(&self, key: Key, connection: u64, sequence: u64, frame: Result<Frame, String>) {
        self.change(|state| {
            state.fetching.remove(&key);
            match frame {
                Ok(frame) => {
                    state.clock += 1;
                    let used = state.clock;
                    state.frames.insert(key, Cached { frame: Arc::new(frame), sequence, connection, used });
                    state.evict();
                }
                Err(reason) => {
                    log::warn!("frame {} of {}: {reason}", key.1, key.0);
                    state.failed.retain(|_, (when, _)| when.elapsed() < RETRY_AFTER);
                    state.failed.insert(key, (Instant::now(), reason));
                }
            }
        });
    }

    /// The number of the connection, and the sequence number of the last change to a frame.
    pub fn version_of(&self, key: &Key) -> (u64, u64) {
        let state = self.lock();
        let sequence = state.jobs.get(&key.0).and_then(|job| job.frames.get(&key.1)).copied();
        (state.connection, sequence.unwrap_or(0))
    }

    pub fn set_outcome(&self, instance: u64, outcome: Option<String>) {
        self.change(|state| match outcome {
            Some(outcome) => {
                log::info!("{outcome}");
                state.outcomes.insert(instance, outcome)
            }
            None => state.outcomes.remove(&instance),
        });
    }
}

impl State {
    /// How long to wait for what only a connected engine can answer.
    fn limit_without_answer(&self, policy: WaitPolicy) -> Duration {
        match (&self.connection_state, policy) {
            (None | Some(ConnectionState::Searching), WaitPolicy::UntilFinished(most)) => most,
            (None | Some(ConnectionState::Searching), _) => CONNECT,
            (Some(ConnectionState::Silent), WaitPolicy::UntilFinished(most)) => most,
            _ => Duration::ZERO,
        }
    }

    /// The jobs that a target may mean, newest first.
    fn candidates(&self, target: &Target) -> Vec<(&String, &JobView)> {
        let mut found: Vec<_> = if target.job.is_empty() {
            self.jobs.iter().filter(|(_, job)| !job.prepare_only && self.is_of(target, &job.shot)).collect()
        } else {
            self.jobs.get_key_value(&target.job).into_iter().collect()
        };
        found.sort_by_key(|(name, _)| std::cmp::Reverse(job_number(name)));
        found
    }

    fn is_of(&self, target: &Target, shot: &str) -> bool {
        if !target.shot.is_empty() {
            return target.shot == shot;
        }
        let Some(shot) = self.shots.get(shot).filter(|_| !target.source.is_empty()) else { return false };
        let ranged = match (target.range, &shot.range) {
            (Some((first, last)), Some(range)) => (range.first, range.last) == (first, last),
            (Some(_), None) => false,
            (None, _) => true,
        };
        shot.source == target.source && ranged
    }

    fn lookup(&mut self, request: &FrameRequest) -> Lookup {
        let mut missing = "No job makes this frame.".to_owned();
        let mut pending = false;
        let mut pick = None;
        let shown = |job: &JobView| request.final_of.is_none_or(|method| job.method == method);
        for (name, job) in self.candidates(request.target).into_iter().filter(|(_, job)| shown(job)) {
            if let Some(&sequence) = job.frames.get(&request.number) {
                pick = Some(((name.clone(), request.number), sequence));
                break;
            }
            if job.finished() {
                missing = job.describe();
            } else {
                pending = true;
            }
        }
        let Some((key, sequence)) = pick else {
            return if pending {
                Lookup::Pending(not_finished())
            } else {
                self.stale_frame(request).map_or(Lookup::Missing(missing), Lookup::Fresh)
            };
        };
        self.clock += 1;
        let (clock, connection) = (self.clock, self.connection);
        let cached = self.frames.get_mut(&key);
        let cached = cached.map(|cached| {
            cached.used = clock;
            (cached.frame.clone(), cached.connection == connection && cached.sequence >= sequence)
        });
        match cached {
            Some((frame, true)) if request.final_of.is_none() || frame.is_final => Lookup::Fresh(frame),
            Some((_, true)) => Lookup::Pending(not_finished()),
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

    fn evict(&mut self) {
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

fn not_finished() -> String {
    "The frame is not made yet.".to_owned()
}
