//! The host, made safe to talk to: every suite and every function in it may be missing.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::ffi::{
    ClipHandle, EffectHandle, FAILED, Host, ImageEffectSuite, OK, ParamHandle, ParamSetHandle, ParameterSuite,
    ProgressSuite, PropertySetHandle, PropertySuite, Status, TimeLineSuite, name,
};

static HOST: AtomicPtr<Host> = AtomicPtr::new(ptr::null_mut());
static SUITES: AtomicPtr<Suites> = AtomicPtr::new(ptr::null_mut());

/// What a host offers. The first three are needed.
pub struct Suites {
    host: PropertySetHandle,
    property: &'static PropertySuite,
    effect: &'static ImageEffectSuite,
    parameter: &'static ParameterSuite,
    progress: Option<&'static ProgressSuite>,
    time_line: Option<&'static TimeLineSuite>,
}

pub fn set_host(host: *mut Host) {
    HOST.store(host, Ordering::Release);
}

/// Fetches the suites. May be called again and from several threads; False where the host lacks what is needed.
pub fn load() -> bool {
    let host = HOST.load(Ordering::Acquire);
    // Safety: a host keeps what it gave while the plugin is loaded.
    let Some(host) = (unsafe { host.as_ref() }) else { return false };
    let Some(found) = fetch(host) else { return false };
    let known = SUITES.load(Ordering::Acquire);
    // Safety: what is stored here is never freed.
    if unsafe { known.as_ref() }.is_some_and(|known| known.same_as(&found)) {
        return true;
    }
    // Left behind on purpose: another thread may be using the one before. Hosts have one set of suites.
    SUITES.store(Box::into_raw(Box::new(found)), Ordering::Release);
    true
}

fn fetch(host: &Host) -> Option<Suites> {
    let fetch_suite = host.fetch_suite?;
    let get = |suite: &CStr, version| unsafe { fetch_suite(host.host, suite.as_ptr(), version) };
    // Safety: a suite of that name and version has this layout, and outlives us.
    unsafe {
        Some(Suites {
            host: host.host,
            property: get(name::SUITE_PROPERTY, 1).cast::<PropertySuite>().as_ref()?,
            effect: get(name::SUITE_IMAGE_EFFECT, 1).cast::<ImageEffectSuite>().as_ref()?,
            parameter: get(name::SUITE_PARAMETER, 1).cast::<ParameterSuite>().as_ref()?,
            progress: [2, 1]
                .iter()
                .find_map(|&version| get(name::SUITE_PROGRESS, version).cast::<ProgressSuite>().as_ref()),
            time_line: get(name::SUITE_TIME_LINE, 1).cast::<TimeLineSuite>().as_ref(),
        })
    }
}

/// The host's suites; None before `load`.
pub fn suites() -> Option<&'static Suites> {
    // Safety: what is stored here is never freed.
    unsafe { SUITES.load(Ordering::Acquire).as_ref() }
}

fn answer(status: Status) -> Result<(), Status> {
    if status == OK { Ok(()) } else { Err(status) }
}

impl Suites {
    fn same_as(&self, other: &Self) -> bool {
        let optional = |suite: Option<&ProgressSuite>| suite.map(ptr::from_ref);
        self.host == other.host
            && ptr::eq(self.property, other.property)
            && ptr::eq(self.effect, other.effect)
            && ptr::eq(self.parameter, other.parameter)
            && optional(self.progress) == optional(other.progress)
            && self.time_line.map(ptr::from_ref) == other.time_line.map(ptr::from_ref)
    }

    /// The host's own properties.
    pub fn host(&self) -> Properties<'_> {
        Properties { suite: self.property, handle: self.host }
    }

    /// The host's name, "DaVinciResolve" for one.
    pub fn host_name(&self) -> String {
        self.host().string(name::PROP_NAME).unwrap_or_default()
    }

    pub fn properties(&self, handle: PropertySetHandle) -> Properties<'_> {
        Properties { suite: self.property, handle }
    }

    pub fn effect(&self, handle: EffectHandle) -> Effect<'_> {
        Effect { suites: self, handle }
    }
}

/// A set of properties. Reading one that is not there gives None; writing one that the host does not know is no harm.
#[derive(Clone, Copy)]
pub struct Properties<'a> {
    suite: &'a PropertySuite,
    handle: PropertySetHandle,
}

impl Properties<'_> {
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
        self.set(self.suite.set_double, key, 0, value);
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

fn owned(value: *const c_char) -> Option<String> {
    // Safety: what a host gives as a string ends with NUL.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
}

/// An effect: its description, or an instance.
#[derive(Clone, Copy)]
pub struct Effect<'a> {
    suites: &'a Suites,
    pub handle: EffectHandle,
}

impl<'a> Effect<'a> {
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

    pub fn define_clip(&self, clip: &CStr) -> Result<Properties<'a>, Status> {
        let mut handle = PropertySetHandle::null();
        let define = self.suites.effect.clip_define.ok_or(FAILED)?;
        answer(unsafe { define(self.handle, clip.as_ptr(), &raw mut handle) })?;
        Ok(self.suites.properties(handle))
    }

    pub fn define_param(&self, kind: &CStr, param: &CStr) -> Result<Properties<'a>, Status> {
        let mut handle = PropertySetHandle::null();
        let define = self.suites.parameter.define.ok_or(FAILED)?;
        answer(unsafe { define(self.param_set(), kind.as_ptr(), param.as_ptr(), &raw mut handle) })?;
        Ok(self.suites.properties(handle))
    }

    pub fn param(&self, param: &CStr) -> Option<Param<'a>> {
        let mut handle = ParamHandle::null();
        let set = self.param_set();
        let get = self.suites.parameter.get_handle.filter(|_| !set.is_null())?;
        let status = unsafe { get(set, param.as_ptr(), &raw mut handle, ptr::null_mut()) };
        (status == OK && !handle.is_null()).then_some(Param { suites: self.suites, handle })
    }

    pub fn clip(&self, clip: &CStr) -> Option<Clip<'a>> {
        let mut handle = ClipHandle::null();
        let get = self.suites.effect.clip_get_handle.filter(|_| !self.handle.is_null())?;
        let status = unsafe { get(self.handle, clip.as_ptr(), &raw mut handle, ptr::null_mut()) };
        (status == OK && !handle.is_null()).then_some(Clip { suites: self.suites, handle })
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

    /// Shows a bar with the host's Cancel, where it has one, until the returned value is dropped.
    pub fn progress(&self, label: &CStr) -> Progress<'a> {
        let suite = self.suites.progress.filter(|suite| suite.update.is_some());
        let shown = suite.and_then(|suite| {
            let status = unsafe { suite.start?(self.handle.0, label.as_ptr(), c"paintover".as_ptr()) };
            (status == OK).then_some(suite)
        });
        Progress { suite: shown, handle: self.handle }
    }
}

pub struct Progress<'a> {
    suite: Option<&'a ProgressSuite>,
    handle: EffectHandle,
}

impl Progress<'_> {
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

#[derive(Clone, Copy)]
pub struct Param<'a> {
    suites: &'a Suites,
    handle: ParamHandle,
}

impl Param<'_> {
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

    pub fn set_int(&self, value: c_int) {
        if let Some(set) = self.suites.parameter.set_value {
            unsafe { set(self.handle, value) };
        }
    }
}

#[derive(Clone, Copy)]
pub struct Clip<'a> {
    suites: &'a Suites,
    handle: ClipHandle,
}

impl<'a> Clip<'a> {
    pub fn properties(&self) -> Properties<'a> {
        let mut handle = PropertySetHandle::null();
        if let Some(get) = self.suites.effect.clip_get_property_set {
            unsafe { get(self.handle, &raw mut handle) };
        }
        self.suites.properties(handle)
    }

    /// The clip's picture at a time; given back to the host when dropped.
    pub fn image(&self, time: f64) -> Option<HostImage<'a>> {
        let mut handle = PropertySetHandle::null();
        let get = self.suites.effect.clip_get_image?;
        let status = unsafe { get(self.handle, time, ptr::null(), &raw mut handle) };
        // Not `then_some`: an image made and dropped at once would be given back.
        (status == OK && !handle.is_null()).then(|| HostImage { suites: self.suites, handle })
    }
}

pub struct HostImage<'a> {
    suites: &'a Suites,
    handle: PropertySetHandle,
}

impl HostImage<'_> {
    pub fn properties(&self) -> Properties<'_> {
        self.suites.properties(self.handle)
    }
}

impl Drop for HostImage<'_> {
    fn drop(&mut self) {
        if let Some(release) = self.suites.effect.clip_release_image {
            unsafe { release(self.handle) };
        }
    }
}
