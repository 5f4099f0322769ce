//! The render action: the plate, and the painted colour over it where the engine has it.

use std::time::Duration;

use crate::actions::Instance;
use crate::composite::{Blend, CHANNELS, Depth, Paint, Placement, Scratch, decode};
use crate::engine::{Patience, Wanted, engine};
use crate::ffi::{FAILED, OK, Status, name};
use crate::host::{Effect, HostImage, Properties};
use crate::params::{Missing, Settings, View};
use crate::sending;

/// What an interactive render waits at most, for all together.
const INTERACTIVE: Duration = Duration::from_millis(150);

/// A host's picture in memory. Rows go up: row `y1` is the lowest.
#[derive(Clone, Copy)]
pub struct Picture {
    data: *mut u8,
    /// x1, y1, x2, y2; the last two are outside.
    pub bounds: [i32; 4],
    /// The whole frame in the same pixels, of which the bounds may be a part.
    pub region: [i32; 4],
    row_bytes: i64,
    pub depth: Depth,
    channels: usize,
    premultiplied: bool,
}

// A render's threads write rows of their own.
unsafe impl Sync for Picture {}

impl Picture {
    /// None where the host says something that no picture can be.
    pub fn of(image: &HostImage) -> Option<Self> {
        let found = image.properties();
        let data = found.pointer(name::IMAGE_DATA).cast::<u8>();
        let bounds = found.rectangle(name::IMAGE_BOUNDS)?;
        let depth = depth_of(&found.string(name::PIXEL_DEPTH)?)?;
        let channels = if found.is(name::COMPONENTS, name::COMPONENT_RGBA) {
            CHANNELS
        } else if found.is(name::COMPONENTS, name::COMPONENT_ALPHA) {
            1
        } else {
            return None;
        };
        let width = i64::from(bounds[2]) - i64::from(bounds[0]);
        let height = i64::from(bounds[3]) - i64::from(bounds[1]);
        let least = width.checked_mul((channels * depth.sample_bytes()) as i64)?;
        let row_bytes = found.int(name::IMAGE_ROW_BYTES).map_or(least, i64::from);
        let row_bytes = if row_bytes == 0 { least } else { row_bytes };
        let sound = !data.is_null() && width > 0 && height > 0 && (height == 1 || row_bytes.abs() >= least);
        let region = found.rectangle(name::IMAGE_REGION_OF_DEFINITION).filter(|region| is_region(region, &bounds));
        let premultiplied = found.is(name::PREMULTIPLICATION, name::PREMULTIPLIED);
        let region = region.unwrap_or(bounds);
        sound.then_some(Self { data, bounds, region, row_bytes, depth, channels, premultiplied })
    }

    fn pixel_bytes(&self) -> usize {
        self.channels * self.depth.sample_bytes()
    }

    /// Where pixel x, y lies, which must be inside the bounds.
    fn at(&self, x: i32, y: i32) -> *mut u8 {
        let row = (i64::from(y) - i64::from(self.bounds[1])) * self.row_bytes;
        let column = (i64::from(x) - i64::from(self.bounds[0])) * self.pixel_bytes() as i64;
        self.data.wrapping_offset((row + column) as isize)
    }

    /// The part of a row from `x1` to `x2` (outside) that the bounds hold.
    fn span(&self, x1: i32, x2: i32, y: i32) -> Option<(i32, i32)> {
        let (left, right) = (x1.max(self.bounds[0]), x2.min(self.bounds[2]));
        (left < right && (self.bounds[1]..self.bounds[3]).contains(&y)).then_some((left, right))
    }

    /// Whole rows from the top, without padding: as frames are sent.
    pub fn packed(&self) -> Vec<u8> {
        let [x1, y1, x2, y2] = self.bounds;
        let row = (x2 - x1) as usize * self.pixel_bytes();
        let mut packed = Vec::with_capacity(row * (y2 - y1) as usize);
        for y in (y1..y2).rev() {
            // Safety: the host says that its row holds these pixels.
            packed.extend_from_slice(unsafe { std::slice::from_raw_parts(self.at(x1, y), row) });
        }
        packed
    }

    pub fn size(&self) -> (u32, u32) {
        (self.bounds[2].abs_diff(self.bounds[0]), self.bounds[3].abs_diff(self.bounds[1]))
    }

    pub fn is_rgba(&self) -> bool {
        self.channels == CHANNELS
    }

    /// The matte that a row of it says, 0 where it has no pixels.
    fn mattes(&self, x1: i32, x2: i32, y: i32, into: &mut Vec<f32>, scratch: &mut Vec<f32>) {
        into.clear();
        into.resize(x1.abs_diff(x2) as usize, 0.0);
        let Some((left, right)) = self.span(x1, x2, y) else { return };
        let count = left.abs_diff(right) as usize;
        scratch.resize(count * self.channels, 0.0);
        // Safety: inside the bounds.
        let bytes = unsafe { std::slice::from_raw_parts(self.at(left, y), count * self.pixel_bytes()) };
        decode(self.depth, bytes, scratch);
        let white = match self.depth {
            Depth::Byte => 255.0,
            Depth::Short => 65535.0,
            Depth::Half | Depth::Float => 1.0,
        };
        let held = scratch.iter().skip(self.channels - 1).step_by(self.channels);
        for (matte, value) in into[left.abs_diff(x1) as usize..].iter_mut().zip(held) {
            *matte = if *value > 0.0 { (value / white).min(1.0) } else { 0.0 };
        }
    }
}

/// A region that the bounds lie in; hosts leave it empty or infinite when they do not mean it.
fn is_region(region: &[i32; 4], bounds: &[i32; 4]) -> bool {
    const MOST: i32 = 1 << 20;
    region.iter().all(|side| (-MOST..=MOST).contains(side))
        && region[0] <= bounds[0]
        && region[1] <= bounds[1]
        && region[2] >= bounds[2]
        && region[3] >= bounds[3]
}

fn depth_of(text: &str) -> Option<Depth> {
    let names = [name::DEPTH_BYTE, name::DEPTH_SHORT, name::DEPTH_HALF, name::DEPTH_FLOAT];
    let found = names.iter().position(|known| known.to_bytes() == text.as_bytes())?;
    Some(Depth::ALL[found])
}

/// The pixels that a render must give. If dropped unfinished, by an error or a panic, it fills them with the plate.
struct Canvas {
    output: Picture,
    plate: Option<Picture>,
    window: [i32; 4],
    done: bool,
}

impl Canvas {
    fn new(output: Picture, plate: Option<Picture>, window: Option<[i32; 4]>) -> Self {
        let bounds = output.bounds;
        let window = window.unwrap_or(bounds);
        let window =
            [window[0].max(bounds[0]), window[1].max(bounds[1]), window[2].min(bounds[2]), window[3].min(bounds[3])];
        let alike = |plate: &Picture| plate.depth == output.depth && plate.channels == output.channels;
        Self { output, plate: plate.filter(alike), window, done: false }
    }

    fn is_empty(&self) -> bool {
        self.window[0] >= self.window[2] || self.window[1] >= self.window[3]
    }

    /// Row `y` of the output, filled with the plate; transparent black where there is none.
    ///
    /// Safety: `y` is in the window, and no other row of the same number is alive.
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
            let held = left.abs_diff(right) as usize * size;
            std::ptr::copy(plate.at(left, y), start.add(before), held);
            std::ptr::write_bytes(start, 0, before);
            std::ptr::write_bytes(start.add(before + held), 0, all - before - held);
            std::slice::from_raw_parts_mut(start, all)
        }
    }

    /// The quick way of `Blend::row_from`, where the plate has the whole row in memory of its own.
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

    fn fill(&mut self) {
        if !self.is_empty() {
            for y in self.window[1]..self.window[3] {
                // Safety: one row at a time, inside the window.
                unsafe { self.row(y) };
            }
        }
        self.done = true;
    }

    /// Fills with the plate and the paint over it.
    fn paint(&mut self, paint: &Paint, place: &Placement, blend: Blend, right: i32, hold: Option<&Picture>) {
        let [x1, y1, x2, y2] = self.window;
        let right = right.clamp(x1, x2);
        let painted = right.abs_diff(x1) as usize * self.output.pixel_bytes();
        let rows = |from: i32, to: i32| {
            let (mut scratch, mut mattes, mut samples) = (Scratch::default(), Vec::new(), Vec::new());
            for y in from..to {
                // Safety: every row is taken once, by one thread.
                if hold.is_none() && right == x2 && unsafe { self.row_from_plate(y, paint, place, blend) } {
                    continue;
                }
                let row = unsafe { self.row(y) };
                let hold = hold.map(|hold| {
                    hold.mattes(x1, right, y, &mut mattes, &mut samples);
                    &mattes[..]
                });
                blend.row(&mut row[..painted], (x1, y), paint, place, hold, &mut scratch);
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
        if !self.done {
            self.fill();
        }
    }
}

const BAND_BYTES: usize = 8 << 20;
const MOST_BANDS: usize = 4;

/// Does a picture's rows, a large one's on several threads.
fn in_bands(y1: i32, y2: i32, row_bytes: usize, rows: &(impl Fn(i32, i32) + Sync)) {
    let height = y1.abs_diff(y2) as usize;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let bands = (height * row_bytes / BAND_BYTES).min(MOST_BANDS).min(cores).max(1);
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

/// The host's time as the number of a source's frame.
pub fn frame_number(in_args: &Properties, time: f64, offset: i64) -> i64 {
    let source = in_args.double(name::SOURCE_FRAME).or_else(|| in_args.int(name::SOURCE_FRAME).map(f64::from));
    (source.unwrap_or(time).round() as i64).saturating_add(offset)
}

/// Whether a copied effect is on another clip than the one that it was propagated on.
pub fn is_elsewhere(effect: &Effect, settings: &Settings) -> bool {
    let here = clip_identity(effect, settings.is_sent);
    !settings.bound_to.is_empty() && !here.is_empty() && settings.bound_to != here
}

/// What tells the clip from others: its file where the host says it; else, for one whose frames are sent, its range.
pub fn clip_identity(effect: &Effect, is_sent: bool) -> String {
    match effect.properties().string(name::SOURCE_FILE).filter(|path| !path.is_empty()) {
        Some(path) => path,
        None if is_sent => clip_range(effect).map_or_else(String::new, |(first, last)| format!("{first}-{last}")),
        None => String::new(),
    }
}

/// The first and last time at which the Source clip has pictures.
pub fn clip_range(effect: &Effect) -> Option<(i64, i64)> {
    const MOST: f64 = 1e6;
    let found = effect.clip(name::CLIP_SOURCE)?.properties();
    let (first, last) = (found.double_at(name::FRAME_RANGE, 0)?, found.double_at(name::FRAME_RANGE, 1)?);
    let sane = first <= last && last - first < MOST && first.abs() < MOST && last.abs() < MOST;
    sane.then_some((first.round() as i64, last.round() as i64))
}

/// Renders one frame.
pub fn render(effect: &Effect, in_args: &Properties) -> Status {
    let time = in_args.double(name::PROP_TIME).unwrap_or(0.0);
    let Some(image) = effect.clip(name::CLIP_OUTPUT).and_then(|clip| clip.image(time)) else { return FAILED };
    let Some(output) = Picture::of(&image) else {
        crate::log::line("render: the host's output picture cannot be used");
        return FAILED;
    };
    let source = effect.clip(name::CLIP_SOURCE).and_then(|clip| clip.image(time));
    let plate = source.as_ref().and_then(Picture::of);
    let window = in_args.rectangle(name::RENDER_WINDOW);
    let mut canvas = Canvas::new(output, plate, window);

    let settings = Settings::read(effect, time);
    let number = frame_number(in_args, time, settings.source_offset);
    if let Some((instance, plate)) = unsafe { Instance::of(effect) }.zip(canvas.plate) {
        sending::collect(instance, &plate, number);
    }
    if settings.is_identity() || canvas.plate.is_none() || !output.is_rgba() || canvas.is_empty() {
        canvas.fill();
        return if source.is_some() && canvas.plate.is_none() { FAILED } else { OK };
    }
    if is_elsewhere(effect, &settings) {
        crate::log::line("render: the effect was copied from another clip; it shows the plate until it is propagated");
        canvas.fill();
        return OK;
    }
    let interactive = in_args.int(name::INTERACTIVE) == Some(1);
    let patience = match settings.missing {
        _ if interactive => Patience::Interactive(INTERACTIVE),
        Missing::Wait => Patience::UntilMade(Duration::from_secs_f64(settings.wait_seconds)),
        Missing::Plate | Missing::Fail => Patience::Made,
    };
    let wanted =
        Wanted { target: &settings.target, number, final_of: settings.final_only.then_some(settings.method.as_str()) };
    let found = match engine() {
        Some(engine) => engine.frame(&wanted, patience, &|| effect.aborted()),
        None => Err("Paintover cannot start a thread.".into()),
    };
    let frame = match found {
        Ok(frame) => frame,
        Err(reason) => {
            crate::log::line(&format!("render: {reason}"));
            canvas.fill();
            return if settings.missing == Missing::Fail && !interactive { FAILED } else { OK };
        }
    };
    let matte_image = effect
        .clip(name::CLIP_MATTE)
        .filter(|clip| clip.properties().int(name::CLIP_CONNECTED) == Some(1))
        .and_then(|clip| clip.image(time));
    let hold = matte_image.as_ref().and_then(Picture::of);
    let region = canvas.plate.map_or(output.region, |plate| plate.region);
    let (Some(paint), Some(place)) = (frame.paint(), Placement::fit((frame.width, frame.height), region)) else {
        canvas.fill();
        return OK;
    };
    let right = match settings.view {
        View::Wipe => region[0] + (f64::from(region[2] - region[0]) * settings.wipe).round() as i32,
        _ => i32::MAX,
    };
    let blend = Blend {
        depth: output.depth,
        mix: settings.mix as f32,
        premultiplied: canvas.plate.is_some_and(|plate| plate.premultiplied),
        matte_view: settings.view == View::Matte,
    };
    canvas.paint(&paint, &place, blend, right, hold.as_ref());
    OK
}
