//! A clip's properties and images.

use std::ptr;

use super::properties::Properties;
use super::suites::Suites;
use crate::abi::{ClipHandle, OK, PropertySetHandle, RectD};

#[derive(Clone, Copy)]
pub struct Clip<'a> {
    suites: &'a Suites,
    handle: ClipHandle,
}

impl<'a> Clip<'a> {
    pub(super) fn new(suites: &'a Suites, handle: ClipHandle) -> Self {
        Self { suites, handle }
    }

    pub fn properties(&self) -> Properties<'a> {
        let mut handle = PropertySetHandle::null();
        if let Some(get) = self.suites.effect.clip_get_property_set {
            unsafe { get(self.handle, &raw mut handle) };
        }
        self.suites.properties(handle)
    }

    /// The clip's region of definition at a time, x1, y1, x2, y2 in canonical coordinates.
    pub fn region_of_definition(&self, time: f64) -> Option<RectD> {
        let mut region = RectD::default();
        let get = self.suites.effect.clip_get_region_of_definition?;
        (unsafe { get(self.handle, time, &raw mut region) } == OK).then_some(region)
    }

    /// The clip's image at a time; released when dropped.
    pub fn image(&self, time: f64) -> Option<HostImage<'a>> {
        self.image_of(time, ptr::null())
    }

    /// The same, all of its region of definition: a render in tiles is given a part of it.
    pub fn whole_image(&self, time: f64) -> Option<HostImage<'a>> {
        let region = self.region_of_definition(time)?;
        self.image_of(time, &raw const region)
    }

    fn image_of(&self, time: f64, region: *const RectD) -> Option<HostImage<'a>> {
        let mut handle = PropertySetHandle::null();
        let get = self.suites.effect.clip_get_image?;
        let status = unsafe { get(self.handle, time, region, &raw mut handle) };
        // Not `then_some`, which would construct, drop and so release an image for other statuses.
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
