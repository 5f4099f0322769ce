//! The host's suites, of which every optional one and every function may be missing.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::properties::Properties;
use crate::abi::{
    DrawSuite, Host, ImageEffectSuite, InteractSuite, MessageSuite, ParameterSuite, ProgressSuite, PropertySetHandle,
    PropertySuite, TimeLineSuite, name,
};

static HOST: AtomicPtr<Host> = AtomicPtr::new(ptr::null_mut());
static SUITES: AtomicPtr<Suites> = AtomicPtr::new(ptr::null_mut());

/// What a host offers. The first three are needed.
pub struct Suites {
    host: PropertySetHandle,
    pub(super) property: &'static PropertySuite,
    pub(super) effect: &'static ImageEffectSuite,
    pub(super) parameter: &'static ParameterSuite,
    pub(super) progress: Option<&'static ProgressSuite>,
    pub(super) time_line: Option<&'static TimeLineSuite>,
    pub(super) message: Option<&'static MessageSuite>,
    pub(super) interact: Option<&'static InteractSuite>,
    pub(super) draw: Option<&'static DrawSuite>,
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
            message: get(name::SUITE_MESSAGE, 2).cast::<MessageSuite>().as_ref(),
            interact: get(name::SUITE_INTERACT, 1).cast::<InteractSuite>().as_ref(),
            draw: get(name::SUITE_DRAW, 1).cast::<DrawSuite>().as_ref(),
        })
    }
}

/// The host's suites; None before `load`.
pub fn suites() -> Option<&'static Suites> {
    // Safety: what is stored here is never freed.
    unsafe { SUITES.load(Ordering::Acquire).as_ref() }
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
            && self.message.map(ptr::from_ref) == other.message.map(ptr::from_ref)
            && self.interact.map(ptr::from_ref) == other.interact.map(ptr::from_ref)
            && self.draw.map(ptr::from_ref) == other.draw.map(ptr::from_ref)
    }

    /// The host's own properties.
    pub fn host(&self) -> Properties<'_> {
        self.properties(self.host)
    }

    /// The host's name, "DaVinciResolve" for one.
    pub fn host_name(&self) -> String {
        self.host().string(name::PROP_NAME).unwrap_or_default()
    }

    pub fn is_resolve(&self) -> bool {
        self.host_name().starts_with("DaVinciResolve")
    }

    pub fn properties(&self, handle: PropertySetHandle) -> Properties<'_> {
        Properties::new(self.property, handle)
    }
}
