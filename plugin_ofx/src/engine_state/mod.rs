//! The engine as renders and buttons see it: its jobs and shots, and a cache of frames.
//!
//! The connection's thread keeps it up to date. Renders and buttons read it, and wait for a change of it no longer than their
//! `WaitPolicy` allows.

mod state;
#[cfg(test)]
mod stress;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::colour::ColourSpace;
use crate::frame::Frame;
use crate::job_view::JobView;
use crate::plate_check::{self, Samples, Verdict};
use crate::requests::Request;
use crate::target::{FrameRequest, Target, WaitPolicy};
use crate::wire::{Final, Job, Shot};
use state::{Cached, FETCH, Key, Lookup, PlateCheck, RETRY_AFTER, State, is_source};

pub use state::{CheckKey, ConnectionState};

const POLL: Duration = Duration::from_millis(50);
const MAX_MISSED: usize = 512;

/// Shared by all threads of the process.
pub struct EngineState {
    state: Mutex<State>,
    changed: Condvar,
    requests: UnboundedSender<Request>,
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
            self.set_missed(request.target, request.number);
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

    /// Whether the host's picture of a shot's frame is the engine's plate of it, compared anew every few seconds; an error is one
    /// sentence why that is not known within `most`. Ok(None): there is nothing to compare. `sample` gives some of the host's
    /// pixels.
    pub fn check_plate(
        &self,
        key: &CheckKey,
        number: i64,
        sample: impl FnOnce() -> Option<Samples>,
        most: Duration,
        aborted: &dyn Fn() -> bool,
    ) -> Result<Option<Verdict>, String> {
        let started = Instant::now();
        let is_due = {
            let state = self.lock();
            let check = state.plate_checks.get(key);
            let is_known = check.is_some_and(|check| check.waiting.is_some() || check.fresh().is_some());
            !is_known && state.connection_state == Some(ConnectionState::Ready)
        };
        if is_due {
            // Without the lock: the host may render for it, with this very effect too.
            let Some(samples) = sample() else { return Ok(None) };
            self.lock().plate_checks.entry(key.clone()).or_default().waiting = Some(samples);
            self.send(Request::FetchPlate(key.clone(), number));
        }
        let mut state = self.lock();
        loop {
            let check = state.plate_checks.get(key);
            if let Some(verdict) = check.and_then(PlateCheck::fresh) {
                return Ok(Some(verdict));
            }
            let left = most.saturating_sub(started.elapsed());
            if left.is_zero() || check.is_none_or(|check| check.waiting.is_none()) || aborted() {
                const LATE: &str = "The engine's picture of the source has not come, to compare the host's with.";
                let error = || check.and_then(|check| check.error.clone()).unwrap_or_else(|| LATE.to_owned());
                return check.and_then(|check| check.found).map(|(verdict, _)| Some(verdict)).ok_or_else(error);
            }
            state = self.changed.wait_timeout(state, left.min(POLL)).unwrap_or_else(|p| p.into_inner()).0;
        }
    }

    /// Whether the engine's plate for a check is still to come.
    pub fn is_checking(&self, key: &CheckKey) -> bool {
        self.lock().plate_checks.get(key).is_some_and(|check| check.waiting.is_some())
    }

    /// The engine's plate for a check; an error: it is tried again with the next frame.
    pub fn plate_fetched(&self, key: &CheckKey, plate: Result<Frame, String>) {
        self.change(|state| {
            let space = state.shots.get(&key.1).and_then(|shot| ColourSpace::from_name(&shot.colorspace));
            let Some(check) = state.plate_checks.get_mut(key) else { return };
            let Some(samples) = check.waiting.take() else { return };
            match plate {
                Ok(plate) => {
                    let verdict =
                        plate.paint().map_or(Verdict::Different, |paint| plate_check::compare(&samples, &paint, space));
                    if check.found.is_none_or(|(before, _)| before != verdict) {
                        log::info!("{}: the host's picture and the engine's: {verdict:?}", key.1);
                    }
                    (check.found, check.error) = (Some((verdict, Instant::now())), None);
                }
                Err(reason) => {
                    log::warn!("plate of {}: {reason}", key.1);
                    check.error = Some(reason);
                }
            }
        });
    }

    /// The colour space of a shot; None where it is not one that can be converted.
    pub fn colour_space(&self, shot: &str) -> Option<ColourSpace> {
        self.lock().shots.get(shot).and_then(|shot| ColourSpace::from_name(&shot.colorspace))
    }

    /// What was found of an instance's pictures of its target.
    pub fn plate_verdict(&self, instance: u64, target: &Target) -> Option<Verdict> {
        let state = self.lock();
        let (_, job) = *state.candidates(target).first()?;
        let (verdict, _) = state.plate_checks.get(&(instance, job.shot.clone()))?.found?;
        Some(verdict)
    }

    /// Notes a frame that a render did not get as it should be.
    pub fn set_missed(&self, target: &Target, number: i64) {
        let mut state = self.lock();
        let missed = (target.clone(), number);
        if !state.missed.contains(&missed) {
            state.missed.truncate(MAX_MISSED - 1);
            state.missed.push_front(missed);
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

    /// The keyframes' frames of the target's newest job, if that is the effect's own, and when it was created, in Unix time.
    pub fn propagated(&self, target: &Target) -> Option<(Vec<i64>, f64)> {
        let state = self.lock();
        let (_, job) = *state.candidates(target).first()?;
        target.owners.contains(&job.owner).then(|| (job.keyframe_frames(), job.job.create_time))
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

    /// What "best" is and why, one sentence, while the target's newest job is at work.
    pub fn why_best(&self, target: &Target) -> Option<String> {
        let state = self.lock();
        let (_, job) = *state.candidates(target).first()?;
        let best = state.best.as_ref().filter(|best| !job.finished() && job.method == best.method)?;
        Some(best.why.clone())
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
        let mut state = self.lock();
        state.outcomes.remove(&instance);
        state.plate_checks.retain(|(other, _), _| *other != instance);
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
            state.plate_checks.values_mut().for_each(|check| check.waiting = None);
            state.failed.clear();
            state.shots = shots.into_iter().map(|shot| (shot.name.clone(), shot)).collect();
            state.monitor = monitor;
            state.best = None;
        });
        if self.lock().awaited.is_empty() {
            self.set_connection_state(ConnectionState::Ready);
        }
    }

    /// Notes what the method "best" is.
    pub fn set_best(&self, best: Final) {
        self.change(|state| state.best = Some(best));
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
                    // A connection later, its job is not known yet: without its shot it has no colours.
                    let Some(job) = state.jobs.get(&key.0) else { return };
                    frame.shot.clone_from(&job.shot);
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
