//! The engine as renders and buttons see it: what is known of its jobs, and frames at hand.
//!
//! One background thread a process talks to it (`session`). Renders only look at what that thread has learned, and wait
//! for it no longer than they may.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use memmap2::Mmap;
use tokio::sync::mpsc::UnboundedSender;

use crate::composite::{Paint, Window};
use crate::session;
use crate::wire::{Job, JobState, Shot};

const NEARLY_NOW: Duration = Duration::from_millis(50);
/// How long a render that need not hurry waits for the first word of an engine, and for a frame that it has.
const CONNECT: Duration = Duration::from_secs(3);
const FETCH: Duration = Duration::from_secs(5);
/// How long a frame that could not be had is not asked for again.
const AGAIN: Duration = Duration::from_secs(1);
const MOST_FRAMES: usize = 96;
const MOST_INLINE_BYTES: usize = 1 << 30;

/// One frame of a result.
pub struct Frame {
    pub width: usize,
    pub height: usize,
    pub window: Window,
    pub best: bool,
    pub pixels: Pixels,
}

pub enum Pixels {
    Mapped(Mmap),
    Inline(Vec<u8>),
}

impl Frame {
    pub fn paint(&self) -> Option<Paint<'_>> {
        let pixels: &[u8] = match &self.pixels {
            Pixels::Mapped(map) => map,
            Pixels::Inline(bytes) => bytes,
        };
        Paint::new(self.width, self.height, self.window, pixels)
    }

    fn inline_bytes(&self) -> usize {
        match &self.pixels {
            Pixels::Mapped(_) => 0,
            Pixels::Inline(bytes) => bytes.len(),
        }
    }
}

/// How things stand with the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Link {
    /// It is looked for, or its first answers are awaited.
    Searching,
    Ready,
    /// It is there but does not answer.
    Silent,
    /// It is not there, and why.
    Absent(String),
}

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
pub struct Wanted<'a> {
    pub target: &'a Target,
    pub number: i64,
    /// Only of this method's jobs, and only what will not be bettered.
    pub final_of: Option<&'a str>,
}

/// How long a render waits.
#[derive(Clone, Copy)]
pub enum Patience {
    /// An interactive one: this long at most, whatever it is waiting for.
    Interactive(Duration),
    /// For what the engine already has.
    Made,
    /// Until the frame is made, for this long at most.
    UntilMade(Duration),
}

pub struct JobView {
    pub state: JobState,
    pub shot: String,
    pub method: String,
    pub prepare_only: bool,
    pub job: Job,
    /// Each frame's number, and the change that told of it last.
    frames: HashMap<i64, u64>,
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
    link: Option<Link>,
    /// Counts connections: what an earlier engine said may be no longer true.
    connection: u64,
    /// Jobs that were there when the connection was made and have not been told of yet.
    awaited: HashSet<String>,
    jobs: HashMap<String, JobView>,
    shots: HashMap<String, Shot>,
    monitor: Option<String>,
    frames: HashMap<Key, Cached>,
    fetching: HashSet<Key>,
    failed: HashMap<Key, (Instant, String)>,
    clock: u64,
    /// What became of an instance's last order.
    outcomes: HashMap<u64, String>,
}

pub struct Engine {
    state: Mutex<State>,
    changed: Condvar,
    pub(crate) requests: UnboundedSender<session::Request>,
}

static ENGINE: OnceLock<Option<Engine>> = OnceLock::new();
static ORDERS: AtomicU64 = AtomicU64::new(1);

/// The process's connection, made on first use; None where not even a thread can be had.
pub fn engine() -> Option<&'static Engine> {
    ENGINE
        .get_or_init(|| {
            let (requests, inbox) = tokio::sync::mpsc::unbounded_channel();
            crate::pin::stay_loaded();
            let thread = std::thread::Builder::new().name("paintover".into());
            thread.spawn(move || session::run(ENGINE.wait().as_ref(), inbox)).ok()?;
            Some(Engine { state: Mutex::default(), changed: Condvar::new(), requests })
        })
        .as_ref()
}

/// The connection, if it has been made.
pub fn started() -> Option<&'static Engine> {
    ENGINE.get()?.as_ref()
}

/// A number that no other instance of this process has.
pub fn new_instance_number() -> u64 {
    ORDERS.fetch_add(1, Ordering::Relaxed)
}

enum Lookup {
    Fresh(Arc<Frame>),
    /// The engine has it, or a better one than is at hand.
    Fetch(Key, Option<Arc<Frame>>),
    /// It may still be made, or be had when asked again.
    Coming(String),
    /// It will not come by itself.
    Never(String),
}

impl Engine {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let answer = change(&mut self.lock());
        self.changed.notify_all();
        answer
    }

    /// The wanted frame, best so far; or one sentence about why there is none.
    pub fn frame(&self, wanted: &Wanted, patience: Patience, aborted: &dyn Fn() -> bool) -> Result<Arc<Frame>, String> {
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            let (found, limit) = match state.lookup(wanted) {
                Lookup::Fresh(frame) => return Ok(frame),
                Lookup::Fetch(key, older) => {
                    let limit = match state.link {
                        Some(Link::Ready) => {
                            if state.fetching.insert(key.clone()) {
                                let _ = self.requests.send(session::Request::Fetch(key.0, key.1));
                            }
                            FETCH
                        }
                        _ => state.patience_without_answer(patience),
                    };
                    (older.ok_or_else(|| "The frame has not arrived yet.".to_owned()), limit)
                }
                Lookup::Coming(reason) => {
                    let limit = match patience {
                        Patience::UntilMade(_) => Duration::MAX,
                        _ => Duration::ZERO,
                    };
                    (Err(reason), limit)
                }
                Lookup::Never(reason) => {
                    let limit = state.patience_without_answer(patience);
                    (Err(reason), limit)
                }
            };
            let limit = match patience {
                Patience::Interactive(most) | Patience::UntilMade(most) => limit.min(most),
                Patience::Made => limit,
            };
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() || aborted() {
                return found;
            }
            state = self
                .changed
                .wait_timeout(state, left.min(NEARLY_NOW))
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .0;
        }
    }

    /// What to say of a target, one sentence.
    pub fn status(&self, instance: u64, target: &Target) -> String {
        let state = self.lock();
        match &state.link {
            Some(Link::Absent(reason)) => return reason.clone(),
            Some(Link::Silent) => return "The engine does not answer.".to_owned(),
            Some(Link::Searching) | None => return "Looking for the engine…".to_owned(),
            Some(Link::Ready) => {}
        }
        if let Some(outcome) = state.outcomes.get(&instance) {
            return outcome.clone();
        }
        match state.candidates(target).first() {
            Some((name, job)) => describe(name, job),
            None => "Nothing has been propagated here yet.".to_owned(),
        }
    }

    /// Changes with every frame that the target gains.
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

    pub fn link(&self) -> Link {
        self.lock().link.clone().unwrap_or(Link::Searching)
    }

    /// Waits until the engine is known to be ready, silent or absent.
    pub fn settle(&self, most: Duration) -> Link {
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            let left = most.saturating_sub(started.elapsed());
            match &state.link {
                Some(link) if *link != Link::Searching => return link.clone(),
                _ if left.is_zero() => return Link::Searching,
                _ => state = self.changed.wait_timeout(state, left).unwrap_or_else(|p| p.into_inner()).0,
            }
        }
    }

    /// Lets an engine be started again that was stopped.
    pub fn wake(&self) {
        let _ = self.requests.send(session::Request::Wake);
    }

    pub(crate) fn was_connected(&self) -> bool {
        self.lock().connection > 0
    }

    /// An instance is gone.
    pub fn forget(&self, instance: u64) {
        self.lock().outcomes.remove(&instance);
    }

    pub fn monitor(&self) -> Option<String> {
        self.lock().monitor.clone()
    }

    /// Forgets frames that nobody uses.
    pub fn purge(&self) {
        self.lock().frames.clear();
    }

    // What the session learns.

    pub(crate) fn set_link(&self, link: Link) {
        self.change(|state| {
            if state.link.as_ref() != Some(&link) {
                crate::log::line(&format!("engine: {link:?}"));
                state.link = Some(link);
            }
        });
    }

    pub(crate) fn connected(&self, jobs: Vec<String>, shots: Vec<Shot>, monitor: Option<String>) {
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
            self.set_link(Link::Ready);
        }
    }

    /// Takes in a job's change. Returns the name of its shot where that is not known.
    pub(crate) fn learn(&self, sequence: u64, job: Job) -> Option<String> {
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
        if complete && self.link() == Link::Searching {
            self.set_link(Link::Ready);
        }
        unknown
    }

    pub(crate) fn learn_shot(&self, shot: Shot) {
        self.change(|state| state.shots.insert(shot.name.clone(), shot));
    }

    pub(crate) fn fetched(&self, key: Key, connection: u64, sequence: u64, frame: Result<Frame, String>) {
        self.change(|state| {
            state.fetching.remove(&key);
            match frame {
                Ok(frame) => {
                    state.clock += 1;
                    let used = state.clock;
                    state.frames.insert(key, Cached { frame: Arc::new(frame), sequence, connection, used });
                    state.forget_oldest();
                }
                Err(reason) => {
                    crate::log::line(&format!("frame {} of {}: {reason}", key.1, key.0));
                    state.failed.retain(|_, (when, _)| when.elapsed() < AGAIN);
                    state.failed.insert(key, (Instant::now(), reason));
                }
            }
        });
    }

    /// The connection, and the change that told last of a frame.
    pub(crate) fn stamp(&self, key: &Key) -> (u64, u64) {
        let state = self.lock();
        let told = state.jobs.get(&key.0).and_then(|job| job.frames.get(&key.1)).copied();
        (state.connection, told.unwrap_or(0))
    }

    pub(crate) fn set_outcome(&self, instance: u64, outcome: Option<String>) {
        self.change(|state| match outcome {
            Some(outcome) => {
                crate::log::line(&outcome);
                state.outcomes.insert(instance, outcome)
            }
            None => state.outcomes.remove(&instance),
        });
    }
}

impl JobView {
    fn finished(&self) -> bool {
        matches!(self.state, JobState::Done | JobState::Failed | JobState::Cancelled)
    }
}

impl State {
    /// How long what only a connected engine can answer is waited for.
    fn patience_without_answer(&self, patience: Patience) -> Duration {
        match (&self.link, patience) {
            (None | Some(Link::Searching), Patience::UntilMade(most)) => most,
            (None | Some(Link::Searching), _) => CONNECT,
            (Some(Link::Silent), Patience::UntilMade(most)) => most,
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

    fn lookup(&mut self, wanted: &Wanted) -> Lookup {
        let mut never = "No job makes this frame.".to_owned();
        let mut coming = false;
        let mut pick = None;
        let shown = |job: &JobView| wanted.final_of.is_none_or(|method| job.method == method);
        for (name, job) in self.candidates(wanted.target).into_iter().filter(|(_, job)| shown(job)) {
            if let Some(&sequence) = job.frames.get(&wanted.number) {
                pick = Some(((name.clone(), wanted.number), sequence));
                break;
            }
            if job.finished() {
                never = describe(name, job);
            } else {
                coming = true;
            }
        }
        let Some((key, sequence)) = pick else {
            return if coming {
                Lookup::Coming(not_made())
            } else {
                self.remembered(wanted).map_or(Lookup::Never(never), Lookup::Fresh)
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
            Some((frame, true)) if wanted.final_of.is_none() || frame.best => Lookup::Fresh(frame),
            Some((_, true)) => Lookup::Coming(not_made()),
            older => match self.failed.get(&key) {
                Some((when, reason)) if when.elapsed() < AGAIN => Lookup::Coming(reason.clone()),
                _ => Lookup::Fetch(key, older.map(|(frame, _)| frame)),
            },
        }
    }

    /// While the engine is away: a frame that it gave before, of a job that is named.
    fn remembered(&self, wanted: &Wanted) -> Option<Arc<Frame>> {
        if self.link == Some(Link::Ready) || wanted.final_of.is_some() {
            return None;
        }
        let key = (wanted.target.job.clone(), wanted.number);
        self.frames.get(&key).map(|cached| cached.frame.clone())
    }

    fn forget_oldest(&mut self) {
        let too_many = |state: &Self| {
            state.frames.len() > MOST_FRAMES
                || state.frames.values().map(|cached| cached.frame.inline_bytes()).sum::<usize>() > MOST_INLINE_BYTES
        };
        while self.frames.len() > 1 && too_many(self) {
            let oldest = self.frames.iter().min_by_key(|(_, cached)| cached.used).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.frames.remove(&key));
        }
    }
}

fn not_made() -> String {
    "The frame is not made yet.".to_owned()
}

fn job_number(name: &str) -> u64 {
    name.rsplit('/').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn describe(name: &str, view: &JobView) -> String {
    let number = job_number(name);
    let progress = view.job.progress.clone().unwrap_or_default();
    let frames = format!("{} of {} frames", progress.frames_done, progress.frames_total);
    match view.state {
        JobState::Running if progress.seconds_left >= 0.0 => {
            format!("Job {number} is running: {frames}, about {:.0} s left.", progress.seconds_left)
        }
        JobState::Running => format!("Job {number} is running: {frames}."),
        JobState::Done => format!("Job {number} is done: {frames}."),
        JobState::Failed => format!("Job {number} failed: {}", view.job.message),
        JobState::Cancelled => format!("Job {number} was cancelled: {frames}."),
        JobState::Paused => format!("Job {number} is paused: {frames}."),
        JobState::Preparing => format!("Job {number} is being prepared."),
        JobState::WaitingForKeyframe => format!("Job {number} waits for a keyframe."),
        JobState::Queued | JobState::Unspecified => format!("Job {number} is queued."),
    }
}
