//! An instance's parameters.

use std::ffi::{c_char, c_int};
use std::ptr;

use super::properties::{owned, text};
use super::suites::Suites;
use crate::abi::{OK, ParamHandle, PropertySetHandle, name};

#[derive(Clone, Copy)]
pub struct Param<'a> {
    suites: &'a Suites,
    handle: ParamHandle,
}

impl<'a> Param<'a> {
    pub(super) fn new(suites: &'a Suites, handle: ParamHandle) -> Self {
        Self { suites, handle }
    }

    pub fn int(&self) -> Option<c_int> {
        let mut value = 0;
        let get = self.suites.parameter.get_value?;
        (unsafe { get(self.handle, &raw mut value) } == OK).then_some(value)
    }

    pub fn double(&self, time: f64) -> Option<f64> {
        let mut value: f64 = 0.0;
        let status = match (self.suites.parameter.get_value_at_time, self.suites.parameter.get_value) {
            (Some(get), _) => unsafe { get(self.handle, time, &raw mut value) },
            (None, Some(get)) => unsafe { get(self.handle, &raw mut value) },
            (None, None) => return None,
        };
        (status == OK && value.is_finite()).then_some(value)
    }

    pub fn string(&self) -> Option<String> {
        let mut value: *mut c_char = ptr::null_mut();
        let get = self.suites.parameter.get_value?;
        if unsafe { get(self.handle, &raw mut value) } != OK {
            return None;
        }
        owned(value)
    }

    pub fn set_string(&self, value: &str) {
        if let Some(set) = self.suites.parameter.set_value {
            unsafe { set(self.handle, text(value).as_ptr()) };
        }
    }

    /// Shows or hides the parameter.
    pub fn set_secret(&self, secret: bool) {
        let mut handle = PropertySetHandle::null();
        if let Some(get) = self.suites.parameter.get_property_set {
            unsafe { get(self.handle, &raw mut handle) };
        }
        let properties = self.suites.properties(handle);
        if properties.int(name::PARAM_PROP_SECRET).unwrap_or(0) != c_int::from(secret) {
            properties.set_int(name::PARAM_PROP_SECRET, secret.into());
        }
    }

    pub fn set_double(&self, value: f64) {
        if let Some(set) = self.suites.parameter.set_value {
            unsafe { set(self.handle, value) };
        }
    }

    pub fn set_int(&self, value: c_int) {
        if let Some(set) = self.suites.parameter.set_value {
            unsafe { set(self.handle, value) };
        }
    }
}
