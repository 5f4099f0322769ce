//! A safe interface to the host's suites: what is missing reads as None and is written without effect.

mod clip;
mod draw;
mod effect;
mod param;
mod progress;
mod properties;
mod suites;

pub use clip::HostImage;
pub use draw::DrawContext;
pub use effect::Effect;
pub use progress::Progress;
pub use properties::{Properties, text};
pub use suites::{Suites, load, set_host, suites};
