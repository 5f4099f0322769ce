//! The host's progress bar.

use std::ffi::CStr;

use crate::abi::{EffectHandle, OK, ProgressSuite};

pub struct Progress<'a> {
    suite: Option<&'a ProgressSuite>,
    handle: EffectHandle,
}

impl<'a> Progress<'a> {
    /// Shows the bar, if the host has one; hides it when dropped.
    pub(super) fn start(suite: Option<&'a ProgressSuite>, handle: EffectHandle, label: &CStr) -> Self {
        let suite = suite.filter(|suite| suite.update.is_some()).filter(|suite| {
            let started = suite.start.map(|start| unsafe { start(handle.0, label.as_ptr(), c"paintover".as_ptr()) });
            started == Some(OK)
        });
        Self { suite, handle }
    }

    /// Moves the bar to `done` of 0 to 1. False: the user has cancelled.
    pub fn update(&self, done: f64) -> bool {
        match self.suite.and_then(|suite| suite.update) {
            Some(update) => unsafe { update(self.handle.0, done) == OK },
            None => true,
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(end) = self.suite.and_then(|suite| suite.end) {
            unsafe { end(self.handle.0) };
        }
    }
}
