//! Many threads on the shared state at once: no deadlock, and never a frame of another job, of another shot, or older than one
//! that the same thread got before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::composite::Bounds;
use crate::frame::Pixels;
use crate::wire::{FrameSummary, JobSpec, JobState};

const LENGTH: Duration = Duration::from_secs(2);
const JOBS: u8 = 3;
const NUMBERS: i64 = 8;
/// A test that waits longer than this for a thread is in a deadlock.
const JOIN: Duration = Duration::from_secs(30);

/// What one thread does until it is stopped; returns how often it did it.
type Work = Box<dyn FnOnce(&EngineState, &AtomicBool) -> u64 + Send>;

fn target(job: u8) -> Target {
    Target { source: format!("/media/{job}.mov"), owners: vec![format!("owner-{job}")], ..Default::default() }
}

fn job(job: u8, state: JobState, number: i64) -> Job {
    let spec = JobSpec { shot: format!("shots/{job}"), owner: format!("owner-{job}"), ..Default::default() };
    let frame = FrameSummary { number, ..Default::default() };
    Job {
        name: format!("jobs/{job}"),
        state: state.into(),
        spec: Some(spec),
        frames: vec![frame],
        ..Default::default()
    }
}

/// A frame of one pixel, whose bytes hold its job and the sequence number of its version.
fn frame(job: u8, sequence: u64) -> Frame {
    let mut bytes = vec![job];
    bytes.extend(&sequence.to_le_bytes()[..7]);
    let bounds = Bounds { x: 0, y: 0, width: 1, height: 1 };
    Frame { width: 1, height: 1, bounds, is_final: true, pixels: Pixels::Inline(bytes), shot: String::new() }
}

fn version(frame: &Frame) -> (u8, u64) {
    let Pixels::Inline(bytes) = &frame.pixels else { panic!("the frame is not inline") };
    let mut sequence = [0; 8];
    sequence[..7].copy_from_slice(&bytes[1..]);
    (bytes[0], u64::from_le_bytes(sequence))
}

/// The connection's thread: it loses the engine, finds it, hears of better frames, and answers requests.
fn connect(state: &EngineState, requests: &mut UnboundedReceiver<Request>, stop: &AtomicBool) {
    let shot =
        |job: u8| Shot { name: format!("shots/{job}"), source: format!("/media/{job}.mov"), ..Default::default() };
    let mut sequence = 0;
    while !stop.load(Ordering::Relaxed) {
        state.set_connection_state(ConnectionState::Searching);
        state.connected((0..JOBS).map(|job| format!("jobs/{job}")).collect(), (0..JOBS).map(shot).collect(), None);
        for _ in 0..200 {
            sequence += 1;
            let number = (sequence / u64::from(JOBS)) as i64 % NUMBERS;
            state.update_job(sequence, job((sequence % u64::from(JOBS)) as u8, JobState::Running, number));
            while let Ok(request) = requests.try_recv() {
                let Request::Fetch(name, number) = request else { continue };
                let key = (name, number);
                let (connection, version) = state.version_of(&key);
                let job = key.0.bytes().last().unwrap() - b'0';
                let failed = sequence % 50 == 0;
                let reply = if failed { Err("lost".to_owned()) } else { Ok(frame(job, sequence)) };
                state.fetched(key, connection, version, reply);
            }
        }
    }
}

/// A render thread. Returns how many frames it got.
fn render(state: &EngineState, own: u8, stop: &AtomicBool) -> u64 {
    let target = target(own);
    let mut newest = [0; NUMBERS as usize];
    let mut got = 0;
    for number in (0..NUMBERS).cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let request = FrameRequest { target: &target, number, final_of: None };
        let policy = WaitPolicy::Interactive(Duration::from_millis(5));
        let Ok(Some(found)) = state.frame(&request, policy, &|| stop.load(Ordering::Relaxed)) else { continue };
        let (job, sequence) = version(&found);
        assert_eq!((job, found.shot.as_str()), (own, format!("shots/{own}").as_str()));
        assert!(sequence >= newest[number as usize], "frame {number} went back to an older version");
        newest[number as usize] = sequence;
        got += 1;
    }
    got
}

/// The host's main thread: buttons and the status.
fn press(state: &EngineState, own: u8, stop: &AtomicBool) {
    let target = target(own);
    let owner = &target.owners[0];
    while !stop.load(Ordering::Relaxed) {
        state.set_creating(owner, true);
        assert!(!state.status(own.into(), &target).is_empty());
        state.cancel_creation(owner);
        state.set_outcome(own.into(), Some("stopped".into()));
        state.set_creating(owner, false);
        assert!(!state.is_cancelled(owner));
        state.take_recovered(&target);
        state.unfinished(&target);
        state.revision(&target);
        state.clear_cache();
        state.forget(own.into());
        state.wait_connection(Duration::from_millis(1));
    }
}

#[test]
fn renders_buttons_and_the_connection_share_the_state() {
    let (sender, mut requests) = unbounded_channel();
    let state = Arc::new(EngineState::new(sender));
    let stop = Arc::new(AtomicBool::new(false));
    let (done, finished) = std::sync::mpsc::channel();
    let spawn = |work: Work| {
        let (state, stop, done) = (state.clone(), stop.clone(), done.clone());
        thread::spawn(move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&state, &stop)));
            let _ = done.send(result.map_err(|_| ()));
        });
    };
    spawn(Box::new(move |state, stop| {
        connect(state, &mut requests, stop);
        0
    }));
    for own in 0..JOBS {
        spawn(Box::new(move |state, stop| render(state, own, stop)));
        spawn(Box::new(move |state, stop| render(state, own, stop)));
        spawn(Box::new(move |state, stop| {
            press(state, own, stop);
            0
        }));
    }
    thread::sleep(LENGTH);
    stop.store(true, Ordering::Relaxed);
    let got: u64 = (0..1 + 3 * u32::from(JOBS))
        .map(|_| finished.recv_timeout(JOIN).expect("no deadlock").expect("no panic"))
        .sum();
    assert!(got > 0, "no frame was shown");
}
