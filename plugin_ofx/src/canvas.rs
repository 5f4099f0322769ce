//! The output of one render: the plate, and paint blended over it.

use crate::composite::{Blend, CHANNELS, Depth, Paint, Placement, Scratch, encode};
use crate::image::{Image, rgb};

/// The pixels that a render must write. If dropped unfinished, by an error or a panic, it fills them with the plate.
pub struct Canvas {
    pub output: Image,
    pub plate: Option<Image>,
    window: [i32; 4],
    done: bool,
}

impl Canvas {
    pub fn new(output: Image, plate: Option<Image>, window: Option<[i32; 4]>) -> Self {
        let bounds = output.bounds;
        let window = window.unwrap_or(bounds);
        let window =
            [window[0].max(bounds[0]), window[1].max(bounds[1]), window[2].min(bounds[2]), window[3].min(bounds[3])];
        let alike = |plate: &Image| plate.depth == output.depth && plate.channels == output.channels;
        Self { output, plate: plate.filter(alike), window, done: false }
    }

    pub fn is_empty(&self) -> bool {
        self.window[0] >= self.window[2] || self.window[1] >= self.window[3]
    }

    /// Row `y` of the output, filled with the plate; transparent black where there is none.
    ///
    /// Safety: `y` is in the render window, and no other reference to the row is alive.
    #[allow(clippy::mut_from_ref)] // the host's memory, not the canvas's
    unsafe fn row(&self, y: i32) -> &mut [u8] {
        let [x1, _, x2, _] = self.window;
        let size = self.output.pixel_bytes();
        let start = self.output.at(x1, y);
        // Safety: the window lies in the output's bounds, the span in the plate's. In hosts that render in place both
        // are the same memory, which `copy` allows.
        unsafe {
            let all = x1.abs_diff(x2) as usize * size;
            let Some((plate, (left, right))) = self.plate.and_then(|plate| Some((plate, plate.span(x1, x2, y)?)))
            else {
                std::ptr::write_bytes(start, 0, all);
                return std::slice::from_raw_parts_mut(start, all);
            };
            let before = left.abs_diff(x1) as usize * size;
            let inside = left.abs_diff(right) as usize * size;
            std::ptr::copy(plate.at(left, y), start.add(before), inside);
            std::ptr::write_bytes(start, 0, before);
            std::ptr::write_bytes(start.add(before + inside), 0, all - before - inside);
            std::slice::from_raw_parts_mut(start, all)
        }
    }

    /// `Blend::row_from`, where the plate has the whole row in memory that does not overlap the output's.
    ///
    /// Safety: as for `row`.
    unsafe fn row_from_plate(&self, y: i32, paint: &Paint, place: &Placement, blend: Blend) -> bool {
        let [x1, _, x2, _] = self.window;
        let Some(plate) = self.plate.filter(|plate| plate.span(x1, x2, y) == Some((x1, x2))) else { return false };
        let (from, to) = (plate.at(x1, y), self.output.at(x1, y));
        let bytes = x1.abs_diff(x2) as usize * self.output.pixel_bytes();
        if from.addr().abs_diff(to.addr()) < bytes {
            return false;
        }
        // Safety: both are inside their bounds, and apart.
        let (from, to) =
            unsafe { (std::slice::from_raw_parts(from, bytes), std::slice::from_raw_parts_mut(to, bytes)) };
        blend.row_from(from, to, (x1, y), paint, place)
    }

    /// Copies the plate.
    pub fn fill(&mut self) {
        if !self.is_empty() {
            for y in self.window[1]..self.window[3] {
                // Safety: one row at a time, inside the window.
                unsafe { self.row(y) };
            }
        }
        self.done = true;
    }

    /// Copies the plate, if nothing was written yet.
    pub fn finish(&mut self) {
        if !self.done {
            self.fill();
        }
    }

    /// Fills with the plate, and the paint over it left of `right`.
    pub fn paint(&mut self, paint: &Paint, place: &Placement, blend: Blend, right: i32, holdout: Option<&Image>) {
        let [x1, y1, x2, y2] = self.window;
        let right = right.clamp(x1, x2);
        let painted = right.abs_diff(x1) as usize * self.output.pixel_bytes();
        let rows = |from: i32, to: i32| {
            let (mut scratch, mut mattes, mut samples, mut rgba) =
                (Scratch::default(), Vec::new(), Vec::new(), Vec::new());
            for y in from..to {
                // Safety: every row is taken once, by one thread.
                if holdout.is_none()
                    && right == x2
                    && self.output.channels == CHANNELS
                    && unsafe { self.row_from_plate(y, paint, place, blend) }
                {
                    continue;
                }
                let row = unsafe { self.row(y) };
                let holdout = holdout.map(|holdout| {
                    holdout.alpha_row(x1, right, y, &mut mattes, &mut samples);
                    &mattes[..]
                });
                let row = &mut row[..painted];
                if self.output.channels == 3 {
                    add_alpha(row, blend.depth, &mut rgba);
                    blend.row(&mut rgba, (x1, y), paint, place, holdout, &mut scratch);
                    row.copy_from_slice(&rgb(&rgba, blend.depth, CHANNELS));
                } else {
                    blend.row(row, (x1, y), paint, place, holdout, &mut scratch);
                }
            }
        };
        if !self.is_empty() {
            in_bands(y1, y2, self.window[0].abs_diff(x2) as usize * self.output.pixel_bytes(), &rows);
        }
        self.done = true;
    }
}

impl Drop for Canvas {
    fn drop(&mut self) {
        self.finish();
    }
}

/// RGB pixels as RGBA ones of alpha 1.
fn add_alpha(rgb: &[u8], depth: Depth, rgba: &mut Vec<u8>) {
    let mut opaque = [0; 4];
    let opaque = &mut opaque[..depth.sample_bytes()];
    encode(depth, &[depth.white()], opaque);
    rgba.clear();
    for pixel in rgb.chunks_exact(3 * depth.sample_bytes()) {
        rgba.extend_from_slice(pixel);
        rgba.extend_from_slice(opaque);
    }
}

const BAND_BYTES: usize = 8 << 20;
const MAX_BANDS: usize = 4;

/// Processes an image's rows; those of a large one on several threads.
fn in_bands(y1: i32, y2: i32, row_bytes: usize, rows: &(impl Fn(i32, i32) + Sync)) {
    let height = y1.abs_diff(y2) as usize;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bands = (height * row_bytes / BAND_BYTES).min(MAX_BANDS).min(cores).max(1);
    let edge = |band: usize| y1 + (height * band / bands) as i32;
    std::thread::scope(|scope| {
        for band in 1..bands {
            let work = move || rows(edge(band), edge(band + 1));
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                rows(edge(band), edge(band + 1));
            }
        }
        rows(edge(0), edge(1));
    });
}
