//! An effect: its descriptor, or an instance.

use std::ffi::CStr;
use std::ptr;

use super::clip::Clip;
use super::param::Param;
use super::progress::Progress;
use super::properties::{Properties, text};
use super::suites::Suites;
use crate::abi::{ClipHandle, EffectHandle, FAILED, OK, ParamHandle, ParamSetHandle, PropertySetHandle, Status, name};

fn checked(status: Status) -> Result<(), Status> {
    if status == OK { Ok(()) } else { Err(status) }
}

/// An effect: its descriptor, or an instance.
#[derive(Clone, Copy)]
pub struct Effect<'a> {
    suites: &'a Suites,
    handle: EffectHandle,
}

impl<'a> Effect<'a> {
    pub fn new(suites: &'a Suites, handle: EffectHandle) -> Self {
        Self { suites, handle }
    }

    pub fn properties(&self) -> Properties<'a> {
        let mut handle = PropertySetHandle::null();
        if let Some(get) = self.suites.effect.get_property_set.filter(|_| !self.handle.is_null()) {
            unsafe { get(self.handle, &raw mut handle) };
        }
        self.suites.properties(handle)
    }

    pub fn suites(&self) -> &'a Suites {
        self.suites
    }

    fn param_set(&self) -> ParamSetHandle {
        let mut handle = ParamSetHandle::null();
        if let Some(get) = self.suites.effect.get_param_set.filter(|_| !self.handle.is_null()) {
            unsafe { get(self.handle, &raw mut handle) };
        }
        handle
    }

    /// Has the host call the sync action before it saves or copies the parameters.
    pub fn set_needs_syncing(&self, needs: bool) {
        let mut handle = PropertySetHandle::null();
        let set = self.param_set();
        if let Some(get) = self.suites.parameter.set_get_property_set.filter(|_| !set.is_null()) {
            unsafe { get(set, &raw mut handle) };
        }
        self.suites.properties(handle).set_int(name::NEEDS_SYNCING, needs.into());
    }

    pub fn define_clip(&self, clip: &CStr) -> Result<Properties<'a>, Status> {
        let mut handle = PropertySetHandle::null();
        let define = self.suites.effect.clip_define.ok_or(FAILED)?;
        checked(unsafe { define(self.handle, clip.as_ptr(), &raw mut handle) })?;
        Ok(self.suites.properties(handle))
    }

    pub fn define_param(&self, kind: &CStr, param: &CStr) -> Result<Properties<'a>, Status> {
        let mut handle = PropertySetHandle::null();
        let define = self.suites.parameter.define.ok_or(FAILED)?;
        checked(unsafe { define(self.param_set(), kind.as_ptr(), param.as_ptr(), &raw mut handle) })?;
        Ok(self.suites.properties(handle))
    }

    pub fn param(&self, param: &CStr) -> Option<Param<'a>> {
        let mut handle = ParamHandle::null();
        let set = self.param_set();
        let get = self.suites.parameter.get_handle.filter(|_| !set.is_null())?;
        let status = unsafe { get(set, param.as_ptr(), &raw mut handle, ptr::null_mut()) };
        (status == OK && !handle.is_null()).then_some(Param::new(self.suites, handle))
    }

    pub fn clip(&self, clip: &CStr) -> Option<Clip<'a>> {
        let mut handle = ClipHandle::null();
        let get = self.suites.effect.clip_get_handle.filter(|_| !self.handle.is_null())?;
        let status = unsafe { get(self.handle, clip.as_ptr(), &raw mut handle, ptr::null_mut()) };
        (status == OK && !handle.is_null()).then_some(Clip::new(self.suites, handle))
    }

    /// Whether the host wants no more of this render.
    pub fn aborted(&self) -> bool {
        self.suites.effect.abort.is_some_and(|abort| unsafe { abort(self.handle) } != 0)
    }

    /// The time line's current time.
    pub fn time(&self) -> Option<f64> {
        let mut time = 0.0;
        let get = self.suites.time_line?.get_time?;
        (unsafe { get(self.handle.0, &raw mut time) } == OK).then_some(time)
    }

    /// Moves the time line, where the host allows it.
    pub fn go_to(&self, time: f64) -> bool {
        let go_to = self.suites.time_line.and_then(|suite| suite.goto_time);
        go_to.is_some_and(|go_to| unsafe { go_to(self.handle.0, time) } == OK)
    }

    /// Shows an error at the effect until it is cleared. Not in Resolve, which has offered functions that are not there.
    pub fn set_persistent_error(&self, sentence: &str) {
        let suite = self.suites.message.filter(|_| !self.suites.is_resolve());
        if let Some(set) = suite.and_then(|suite| suite.set_persistent) {
            let (id, format, sentence) = (c"paintover", c"%s", text(sentence));
            unsafe {
                set(self.handle.0, name::MESSAGE_ERROR.as_ptr(), id.as_ptr(), format.as_ptr(), sentence.as_ptr());
            }
        }
    }

    pub fn clear_persistent_error(&self) {
        let suite = self.suites.message.filter(|_| !self.suites.is_resolve());
        if let Some(clear) = suite.and_then(|suite| suite.clear_persistent) {
            unsafe { clear(self.handle.0) };
        }
    }

    /// Shows a bar with the host's Cancel, where it has one, until the returned value is dropped.
    pub fn progress(&self, label: &CStr) -> Progress<'a> {
        Progress::start(self.suites.progress, self.handle, label)
    }
}
