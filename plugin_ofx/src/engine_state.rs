//! The engine as renders and buttons see it: its jobs and shots, and a cache of frames.
//!
//! The connection's thread keeps it up to date. Renders and buttons read it, and wait for a change of it no longer than their
//! `WaitPolicy` allows.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::colour::ColourSpace;
use crate::frame::Frame;
use crate::job_view::{JobView, job_number};
use crate::plate_check::{self, Samples, Verdict};
use crate::requests::Request;
use crate::target::{FrameRequest, Target, WaitPolicy};
use crate::wire::{Job, Shot};

const POLL: Duration = Duration::from_millis(50);
/// How long a final render waits for a connection, and for a frame that the engine has.
const CONNECT: Duration = Duration::from_secs(30);
const FETCH: Duration = Duration::from_secs(5);
/// How soon a frame whose transfer failed is requested again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const MAX_FRAMES: usize = 96;
const MAX_MISSED: usize = 512;
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
    /// Owners of jobs that are being created.
    creating: HashSet<String>,
    /// Those of them that the user has cancelled.
    cancelled: HashSet<String>,
    /// Frames that renders did not get, the oldest first.
    missed: VecDeque<(Target, i64)>,
    /// Whether the host's pictures of a shot are the engine's, by the shot's name.
    plate_checks: HashMap<String, PlateCheck>,
}

/// Samples of the host's picture until the engine's plate arrives; then the verdict.
enum PlateCheck {
    Waiting(Samples),
    Done(Verdict),
}

/// Shared by all threads of the process.
pub struct EngineState {
    state: Mutex<State>,
    changed: Condvar,
    requests: UnboundedSender<Request>,
}

enum Lookup {
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

    /// The best frame so far for the request; None where nothing was propagated for its target; else one sentence why there is
    /// no frame.
    pub fn frame(
        &self,
        request: &FrameRequest,
        policy: WaitPolicy,
        aborted: &dyn Fn() -> bool,
    ) -> Result<Option<Arc<Frame>>, String> {
        let found = self.wait_frame(request, policy, aborted);
        if !matches!(found, Ok(Some(_))) {
            let mut state = self.lock();
            let missed = (request.target.clone(), request.number);
            if !state.missed.contains(&missed) {
                state.missed.truncate(MAX_MISSED - 1);
                state.missed.push_front(missed);
            }
        }
        found
    }

    fn wait_frame(
        &self,
        request: &FrameRequest,
        policy: WaitPolicy,
        aborted: &dyn Fn() -> bool,
    ) -> Result<Option<Arc<Frame>>, String> {
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            let (found, limit) = match state.lookup(request, policy) {
                Lookup::Fresh(frame) => return Ok(Some(frame)),
                Lookup::Nothing => (Ok(None), state.limit_without_answer(policy)),
                Lookup::Fetch(key, older) => {
                    let limit = if state.connection_state == Some(ConnectionState::Ready) {
                        if state.fetching.insert(key.clone()) {
                            self.send(Request::Fetch(key.0, key.1));
                        }
                        FETCH
                    } else {
                        state.limit_without_answer(policy)
                    };
                    let older = older.filter(|_| !policy.is_final());
                    (older.map(Some).ok_or_else(|| "The frame has not arrived yet.".to_owned()), limit)
                }
                Lookup::Pending(reason) => {
                    let limit = match policy {
                        WaitPolicy::UntilFinished(_) => Duration::MAX,
                        _ => state.limit_without_answer(policy),
                    };
                    (Err(reason), limit)
                }
                Lookup::Missing(reason) => (Err(reason), state.limit_without_answer(policy)),
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

    /// Whether the host's picture of a shot's frame is the engine's plate of it, judged once a shot; None if that is not known
    /// within `most`. `sample` gives some of the host's pixels.
    pub fn check_plate(
        &self,
        shot: &str,
        number: i64,
        sample: impl FnOnce() -> Option<Samples>,
        most: Duration,
    ) -> Option<Verdict> {
        let started = Instant::now();
        let mut state = self.lock();
        if !state.plate_checks.contains_key(shot) && state.connection_state == Some(ConnectionState::Ready) {
            state.plate_checks.insert(shot.to_owned(), PlateCheck::Waiting(sample()?));
            self.send(Request::FetchPlate(shot.to_owned(), number));
        }
        loop {
            match state.plate_checks.get(shot) {
                Some(PlateCheck::Done(verdict)) => return Some(*verdict),
                Some(PlateCheck::Waiting(_)) => {}
                None => return None,
            }
            let left = most.saturating_sub(started.elapsed());
            if left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(|p| p.into_inner()).0;
        }
    }

    /// The engine's plate for a check; an error: it is tried again with the next frame.
    pub fn plate_fetched(&self, shot: &str, plate: Result<Frame, String>) {
        self.change(|state| {
            let Some(PlateCheck::Waiting(samples)) = state.plate_checks.remove(shot) else { return };
            match plate {
                Ok(plate) => {
                    let space = state.shots.get(shot).and_then(|shot| ColourSpace::from_name(&shot.colorspace));
                    let verdict =
                        plate.paint().map_or(Verdict::Different, |paint| plate_check::compare(&samples, &paint, space));
                    log::info!("{shot}: the host's picture and the engine's: {verdict:?}");
                    state.plate_checks.insert(shot.to_owned(), PlateCheck::Done(verdict));
                }
                Err(reason) => log::warn!("plate of {shot}: {reason}"),
            }
        });
    }

    /// The colour space of a shot; None where it is not one that can be converted.
    pub fn colour_space(&self, shot: &str) -> Option<ColourSpace> {
        self.lock().shots.get(shot).and_then(|shot| ColourSpace::from_name(&shot.colorspace))
    }

    /// What was found of a target's plates, where they are not the engine's.
    pub fn plate_verdict(&self, target: &Target) -> Option<Verdict> {
        let state = self.lock();
        let (_, job) = *state.candidates(target).first()?;
        match state.plate_checks.get(&job.shot) {
            Some(PlateCheck::Done(verdict)) => Some(*verdict),
            _ => None,
        }
    }

    /// Whether frames that renders of this target did not get are there by now; those are forgotten.
    pub fn take_recovered(&self, target: &Target) -> bool {
        let mut state = self.lock();
        let missed = std::mem::take(&mut state.missed);
        let (recovered, missed) = missed.into_iter().partition::<VecDeque<_>, _>(|(wanted, number)| {
            wanted == target && state.candidates(target).iter().any(|(_, job)| job.frames.contains_key(number))
        });
        state.missed = missed;
        !recovered.is_empty()
    }

    /// Notes that a job of this owner is being created, or no longer is.
    pub fn set_creating(&self, owner: &str, creating: bool) {
        self.change(|state| {
            if creating {
                state.creating.insert(owner.to_owned());
            } else {
                state.creating.remove(owner);
                state.cancelled.remove(owner);
            }
        });
    }

    /// Cancels the job that is being created for this owner; false if none is.
    pub fn cancel_creation(&self, owner: &str) -> bool {
        self.change(|state| {
            state.creating.contains(owner) && {
                state.cancelled.insert(owner.to_owned());
                true
            }
        })
    }

    /// Whether an instance's last order failed.
    pub fn has_failed(&self, instance: u64) -> bool {
        self.lock().outcomes.contains_key(&instance)
    }

    pub fn is_cancelled(&self, owner: &str) -> bool {
        self.lock().cancelled.contains(owner)
    }

    /// The target's shot, if the engine knows it.
    pub fn shot_of(&self, target: &Target) -> Option<Shot> {
        let state = self.lock();
        let is_it =
            |shot: &&Shot| if target.shot.is_empty() { is_source(target, shot) } else { shot.name == target.shot };
        state.shots.values().find(is_it).cloned()
    }

    /// Frames that the newest job suggests to paint next.
    pub fn suggested(&self, target: &Target) -> Vec<i64> {
        let state = self.lock();
        state.candidates(target).first().map(|(_, job)| job.job.suggested_keyframes.clone()).unwrap_or_default()
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
            None if target.owners.first().is_some_and(|owner| state.creating.contains(owner)) => {
                "The engine is asked to propagate.".to_owned()
            }
            None => "Nothing has been propagated here yet.".to_owned(),
        }
    }

    /// A number that changes with every frame that the target gains.
    pub fn revision(&self, target: &Target) -> i32 {
        let state = self.lock();
        let newest = state.candidates(target).iter().flat_map(|(_, job)| job.frames.values().copied()).max();
        i32::try_from(newest.unwrap_or(0) & 0x3fff_ffff).unwrap_or(0)
    }

    /// The unfinished jobs of a target that are not another client's.
    pub fn unfinished(&self, target: &Target) -> Vec<String> {
        let state = self.lock();
        let unfinished = |job: &&(&String, &JobView)| {
            !job.1.finished()
                && (job.1.owner.is_empty() || target.owners.contains(&job.1.owner) || !target.job.is_empty())
        };
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
            state.plate_checks.retain(|_, check| matches!(check, PlateCheck::Done(_)));
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
            state.creating.remove(&spec.owner);
            let unknown = (!state.shots.contains_key(&spec.shot)).then(|| spec.shot.clone());
            let before = state.jobs.remove(&job.name).map(|known| known.frames).unwrap_or_default();
            let mut frames = before;
            frames.extend(job.frames.iter().map(|frame| (frame.number, sequence)));
            let view = JobView {
                state: job.state(),
                shot: spec.shot,
                method: spec.method,
                prepare_only: spec.prepare_only,
                owner: spec.owner,
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
                Ok(mut frame) => {
                    frame.shot = state.jobs.get(&key.0).map(|job| job.shot.clone()).unwrap_or_default();
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
            (Some(ConnectionState::Ready | ConnectionState::Absent(_)), _) => Duration::ZERO,
            (_, WaitPolicy::UntilFinished(most)) => most,
            (None | Some(ConnectionState::Searching), _) => CONNECT,
            (Some(ConnectionState::Silent), WaitPolicy::Interactive(_)) => Duration::ZERO,
            (Some(ConnectionState::Silent), WaitPolicy::Finished) => FETCH,
        }
    }

    /// The jobs that a target may mean, newest first.
    fn candidates(&self, target: &Target) -> Vec<(&String, &JobView)> {
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
        jobs.retain(|(_, job)| request.final_of.is_none_or(|method| job.method == method));
        jobs
    }

    fn lookup(&mut self, request: &FrameRequest, policy: WaitPolicy) -> Lookup {
        let creating = request.target.owners.first().is_some_and(|owner| self.creating.contains(owner));
        if creating && policy.is_final() {
            return Lookup::Pending("The propagation is being prepared.".to_owned());
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

fn not_finished(number: i64) -> String {
    format!("Frame {number} is not made yet.")
}

/// Whether a shot is of the target's source and range.
fn is_source(target: &Target, shot: &Shot) -> bool {
    let ranged = match (target.range, &shot.range) {
        (Some((first, last)), Some(range)) => (range.first, range.last) == (first, last),
        (Some(_), None) => false,
        (None, _) => true,
    };
    !target.source.is_empty() && shot.source == target.source && ranged
}
