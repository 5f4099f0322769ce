//! What belongs to one instance of the effect.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use crate::abi::name;
use crate::host::Effect;
use crate::upload::FrameCollector;

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// Lives between the host's create and destroy actions, at its instance's data pointer.
pub struct Instance {
    /// No other instance of this process has it.
    pub number: u64,
    shown_status: Mutex<String>,
    collector: Mutex<Option<FrameCollector>>,
    last_revision: Mutex<Option<Instant>>,
    seen_revision: Mutex<Option<i32>>,
    render_error: Mutex<Option<String>>,
    frame_region: Mutex<Option<[f64; 4]>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Instance {
    fn new() -> Self {
        Self {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            shown_status: Mutex::default(),
            collector: Mutex::default(),
            last_revision: Mutex::default(),
            seen_revision: Mutex::default(),
            render_error: Mutex::default(),
            frame_region: Mutex::default(),
        }
    }

    /// Makes one for the effect.
    pub fn attach(effect: &Effect) {
        effect.properties().set_pointer(name::PROP_INSTANCE_DATA, Box::into_raw(Box::new(Self::new())).cast());
    }

    /// The effect's. Hosts that ignore a failed create action have none.
    ///
    /// Safety: valid until the effect's destroy action, in which no other action of it runs.
    pub unsafe fn of<'a>(effect: &Effect) -> Option<&'a Self> {
        unsafe { effect.properties().pointer(name::PROP_INSTANCE_DATA).cast::<Self>().as_ref() }
    }

    /// Takes it from the effect.
    ///
    /// Safety: the host runs no other action of the effect from now on.
    pub unsafe fn detach(effect: &Effect) -> Option<Box<Self>> {
        let properties = effect.properties();
        let data = properties.pointer(name::PROP_INSTANCE_DATA).cast::<Self>();
        if data.is_null() {
            return None;
        }
        properties.set_pointer(name::PROP_INSTANCE_DATA, std::ptr::null_mut());
        Some(unsafe { Box::from_raw(data) })
    }

    /// Where frames that the host renders are collected to be sent; None while none are.
    pub fn collector(&self) -> MutexGuard<'_, Option<FrameCollector>> {
        lock(&self.collector)
    }

    /// The text of the status parameter.
    pub fn shown_status(&self) -> MutexGuard<'_, String> {
        lock(&self.shown_status)
    }

    /// When a render last changed the revision parameter.
    pub fn last_revision(&self) -> MutexGuard<'_, Option<Instant>> {
        lock(&self.last_revision)
    }

    /// What the engine had when the revision parameter was last changed: see `EngineState::revision`.
    pub fn seen_revision(&self) -> MutexGuard<'_, Option<i32>> {
        lock(&self.seen_revision)
    }

    /// Why the last render failed, if it did.
    pub fn render_error(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.render_error)
    }

    /// Where the last render placed the frame: x1, y1, x2, y2 in canonical coordinates.
    pub fn frame_region(&self) -> MutexGuard<'_, Option<[f64; 4]>> {
        lock(&self.frame_region)
    }
}
