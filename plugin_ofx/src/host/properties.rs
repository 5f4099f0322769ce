//! Property sets.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use crate::abi::{OK, PropertySetHandle, PropertySuite, Status};

/// A set of properties. Reading one that is not there gives None; writing one that the host does not know is no harm.
#[derive(Clone, Copy)]
pub struct Properties<'a> {
    suite: &'a PropertySuite,
    handle: PropertySetHandle,
}

impl<'a> Properties<'a> {
    pub(super) fn new(suite: &'a PropertySuite, handle: PropertySetHandle) -> Self {
        Self { suite, handle }
    }

    pub fn int_at(&self, key: &CStr, index: c_int) -> Option<c_int> {
        let mut value = 0;
        self.get(self.suite.get_int, key, index, &mut value).then_some(value)
    }

    pub fn int(&self, key: &CStr) -> Option<c_int> {
        self.int_at(key, 0)
    }

    pub fn double_at(&self, key: &CStr, index: c_int) -> Option<f64> {
        let mut value = 0.0;
        self.get(self.suite.get_double, key, index, &mut value).then_some(value).filter(|value| value.is_finite())
    }

    pub fn double(&self, key: &CStr) -> Option<f64> {
        self.double_at(key, 0)
    }

    pub fn string(&self, key: &CStr) -> Option<String> {
        let mut value = ptr::null_mut();
        self.get(self.suite.get_string, key, 0, &mut value);
        owned(value)
    }

    pub fn is(&self, key: &CStr, wanted: &CStr) -> bool {
        self.string(key).is_some_and(|value| value.as_bytes() == wanted.to_bytes())
    }

    pub fn pointer(&self, key: &CStr) -> *mut c_void {
        let mut value = ptr::null_mut();
        self.get(self.suite.get_pointer, key, 0, &mut value);
        value
    }

    /// Two numbers: x, y.
    pub fn pair(&self, key: &CStr) -> Option<(f64, f64)> {
        Some((self.double_at(key, 0)?, self.double_at(key, 1)?))
    }

    /// Four whole numbers: x1, y1, x2, y2.
    pub fn rectangle(&self, key: &CStr) -> Option<[c_int; 4]> {
        let mut values = [0; 4];
        for (index, value) in (0..).zip(&mut values) {
            *value = self.int_at(key, index)?;
        }
        Some(values)
    }

    fn get<T>(
        &self,
        function: Option<unsafe extern "C" fn(PropertySetHandle, *const c_char, c_int, *mut T) -> Status>,
        key: &CStr,
        index: c_int,
        value: &mut T,
    ) -> bool {
        function
            .filter(|_| !self.handle.is_null())
            .is_some_and(|get| unsafe { get(self.handle, key.as_ptr(), index, value) } == OK)
    }

    pub fn set_int(&self, key: &CStr, value: c_int) {
        self.set_int_at(key, 0, value);
    }

    pub fn set_int_at(&self, key: &CStr, index: c_int, value: c_int) {
        self.set(self.suite.set_int, key, index, value);
    }

    pub fn set_double(&self, key: &CStr, value: f64) {
        self.set_double_at(key, 0, value);
    }

    pub fn set_double_at(&self, key: &CStr, index: c_int, value: f64) {
        self.set(self.suite.set_double, key, index, value);
    }

    pub fn set_string(&self, key: &CStr, value: &CStr) {
        self.set_string_at(key, 0, value);
    }

    pub fn set_string_at(&self, key: &CStr, index: c_int, value: &CStr) {
        self.set(self.suite.set_string, key, index, value.as_ptr());
    }

    pub fn set_text(&self, key: &CStr, value: &str) {
        self.set_string(key, &text(value));
    }

    pub fn set_pointer(&self, key: &CStr, value: *mut c_void) {
        self.set(self.suite.set_pointer, key, 0, value);
    }

    fn set<T>(
        &self,
        function: Option<unsafe extern "C" fn(PropertySetHandle, *const c_char, c_int, T) -> Status>,
        key: &CStr,
        index: c_int,
        value: T,
    ) {
        if let Some(set) = function.filter(|_| !self.handle.is_null()) {
            unsafe { set(self.handle, key.as_ptr(), index, value) };
        }
    }
}

/// A C string of the text, which ends at its first NUL if it has one.
pub fn text(value: &str) -> CString {
    let end = value.find('\0').unwrap_or(value.len());
    CString::new(&value[..end]).unwrap_or_default()
}

/// A copy of a host's string; None for NULL.
pub(super) fn owned(value: *const c_char) -> Option<String> {
    // Safety: what a host gives as a string ends with NUL.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
}
