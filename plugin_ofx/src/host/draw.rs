//! Drawing into the host's viewer.

use std::ffi::c_void;

use super::suites::Suites;
use crate::abi::{DRAW_LINES, InteractHandle, OK, PointD, RgbaColour, STANDARD_COLOUR_ACTIVE};

/// The host's drawing context, for one draw action.
pub struct DrawContext<'a> {
    suites: &'a Suites,
    context: *mut c_void,
}

impl<'a> DrawContext<'a> {
    pub fn new(suites: &'a Suites, context: *mut c_void) -> Self {
        Self { suites, context }
    }

    /// Draws a line between two points of canonical coordinates, in the host's colour for what is active.
    pub fn line(&self, from: (f64, f64), to: (f64, f64)) -> bool {
        let Some(suite) = self.suites.draw.filter(|_| !self.context.is_null()) else { return false };
        let (Some(get_colour), Some(set_colour), Some(draw)) = (suite.get_colour, suite.set_colour, suite.draw) else {
            return false;
        };
        let points = [PointD { x: from.0, y: from.1 }, PointD { x: to.0, y: to.1 }];
        let mut colour = RgbaColour { r: 1.0, g: 1.0, b: 1.0, a: 1.0 };
        unsafe {
            get_colour(self.context, STANDARD_COLOUR_ACTIVE, &raw mut colour);
            set_colour(self.context, &raw const colour) == OK
                && draw(self.context, DRAW_LINES, points.as_ptr(), 2) == OK
        }
    }
}

impl Suites {
    /// Whether the host has what an overlay needs.
    pub fn draws(&self) -> bool {
        self.draw.is_some() && self.interact.is_some()
    }

    /// Asks the host to draw an overlay again.
    pub fn redraw(&self, interact: InteractHandle) {
        if let Some(redraw) = self.interact.and_then(|suite| suite.redraw) {
            unsafe { redraw(interact) };
        }
    }
}
