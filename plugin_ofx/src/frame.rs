//! One frame of a result, as the engine made it.

use memmap2::Mmap;

use crate::composite::{Bounds, Paint};

/// A frame's size, its pixels and how far they may be trusted.
pub struct Frame {
    pub width: usize,
    pub height: usize,
    pub bounds: Bounds,
    /// No later stage of the job will improve it.
    pub is_final: bool,
    pub pixels: Pixels,
    /// The name of the shot that it is of.
    pub shot: String,
}

/// Half-float RGBA, in a file of the engine's or received.
pub enum Pixels {
    Mapped(Mmap),
    Inline(Vec<u8>),
}

impl Frame {
    /// None where the pixels are not as many as the bounds say.
    pub fn paint(&self) -> Option<Paint<'_>> {
        let pixels: &[u8] = match &self.pixels {
            Pixels::Mapped(map) => map,
            Pixels::Inline(bytes) => bytes,
        };
        Paint::new(self.width, self.height, self.bounds, pixels)
    }

    /// What it occupies of this process's own memory.
    pub fn inline_bytes(&self) -> usize {
        match &self.pixels {
            Pixels::Mapped(_) => 0,
            Pixels::Inline(bytes) => bytes.len(),
        }
    }
}
