//! The effect's parameters: their names and values.

pub mod describe;

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::path::Path;

use crate::abi::name;
use crate::colour::ColourSpace;
use crate::host::{Effect, text};
use crate::keyframes::{Keyframe, Keyframes};
use crate::methods;
use crate::source;
use crate::target::Target;
use crate::wire::{self, Method, ParameterKind};

pub const STATUS: &CStr = c"status";
pub const JOB: &CStr = c"job";
pub const SHOT: &CStr = c"shot";
pub const SOURCE_PATH: &CStr = c"sourcePath";
pub const SOURCE_OFFSET: &CStr = c"sourceOffset";
pub const SOURCE_RANGE: &CStr = c"sourceRange";
pub const COLORSPACE: &CStr = c"colorspace";
pub const HOST_COLOURSPACE: &CStr = c"hostColorspace";
pub const METHOD: &CStr = c"method";
pub const QUALITY: &CStr = c"quality";
pub const KEYFRAME_PATH: &CStr = c"keyframePath";
pub const KEYFRAME_FRAME: &CStr = c"keyframeFrame";
pub const PAINT: &CStr = c"paint";
pub const PROPAGATE: &CStr = c"propagate";
pub const CANCEL: &CStr = c"cancel";
pub const REFRESH: &CStr = c"refresh";
pub const MONITOR: &CStr = c"monitor";
pub const VIEW: &CStr = c"view";
pub const WIPE: &CStr = c"wipe";
pub const MIX: &CStr = c"mix";
pub const MISSING: &CStr = c"missing";
pub const WAIT_SECONDS: &CStr = c"waitSeconds";
pub const KEYFRAME_MATTE: &CStr = c"keyframeMatte";
pub const KEYFRAME_LIST: &CStr = c"keyframeList";
pub const REMOVE_KEYFRAME: &CStr = c"removeKeyframe";
pub const PREVIOUS_KEYFRAME: &CStr = c"previousKeyframe";
pub const NEXT_KEYFRAME: &CStr = c"nextKeyframe";
pub const PAINT_SUGGESTED: &CStr = c"paintSuggested";
pub const OPEN_LOG: &CStr = c"openLog";
pub const MODEL: &CStr = c"model";
pub const SEND_FRAMES: &CStr = c"sendFrames";
/// The effect's identity, a UUID: names its paintings and its sent frames. Renewed on a copy.
pub const EFFECT_ID: &CStr = c"effectId";
/// The owners of the effect's own jobs, one a press of Propagate, the newest first, parted by commas.
pub const OWNERS: &CStr = c"owners";
/// The token of the session in which the effect acted last: see `claim`.
pub const LINEAGE: &CStr = c"lineage";
/// The keyframes, as `Keyframes::to_text` writes them.
pub const KEYFRAMES: &CStr = c"keyframes";
/// The clip that was propagated: a copy of the effect on another clip shows nothing of it.
pub const BOUND_TO: &CStr = c"boundTo";
/// Raised when better frames have arrived, so that the host renders anew.
pub const REVISION: &CStr = c"revision";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Result,
    Plate,
    Wipe,
    Matte,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Plate,
    Wait,
    Fail,
}

const VIEWS: [(&CStr, View); 4] =
    [(c"Result", View::Result), (c"Plate", View::Plate), (c"Wipe", View::Wipe), (c"Matte", View::Matte)];
const MISSINGS: [(&CStr, Missing); 3] =
    [(c"Wait", Missing::Wait), (c"Fail", Missing::Fail), (c"Show the plate", Missing::Plate)];
/// What the host's pictures are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostColour {
    /// As the host says, or as is found by comparing its picture with the engine's.
    Automatic,
    /// As the source is.
    Source,
    In(ColourSpace),
}

const HOST_COLOURS: [(&CStr, HostColour); 6] = [
    (c"Automatic", HostColour::Automatic),
    (c"As the source", HostColour::Source),
    (c"sRGB (display)", HostColour::In(ColourSpace::Srgb)),
    (c"Rec.709, gamma 2.4 (Resolve)", HostColour::In(ColourSpace::Gamma24)),
    (c"Linear Rec.709 (Nuke)", HostColour::In(ColourSpace::LinearRec709)),
    (c"ACEScg (Nuke with ACES)", HostColour::In(ColourSpace::AcesCg)),
];
/// Which jobs' frames are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quality {
    Best,
    Final,
    Draft,
}

const QUALITIES: [(&CStr, Quality); 3] =
    [(c"Best so far", Quality::Best), (c"Final only", Quality::Final), (c"Draft only", Quality::Draft)];
/// How many propagations an effect remembers, so that a frame of an earlier one shows until the newest has it.
const MAX_OWNERS: usize = 4;

/// The parameters' values that a render and a button need.
#[derive(Clone, Debug)]
pub struct Settings {
    pub target: Target,
    pub source_offset: i64,
    pub view: View,
    pub wipe: f64,
    pub mix: f64,
    pub missing: Missing,
    pub wait_seconds: f64,
    /// Only finished frames of this method are shown; None: whatever there is.
    pub only: Option<String>,
    pub method: String,
    /// The target's source is the key of a clip whose frames are sent.
    pub is_sent: bool,
    pub host_colour: HostColour,
    pub bound_to: String,
    pub keyframes: Keyframes,
    pub effect_id: String,
    /// The range as it was typed.
    pub range_text: String,
}

impl Settings {
    pub fn read(effect: &Effect, time: f64) -> Self {
        let string = |param: &CStr| string(effect, param);
        let int = |param: &CStr, default| effect.param(param).and_then(|found| found.int()).unwrap_or(default);
        let double =
            |param: &CStr, default| effect.param(param).and_then(|found| found.double(time)).unwrap_or(default);
        let source = source_path(effect, &string(SOURCE_PATH), int(SEND_FRAMES, 0) != 0);
        let is_sent = source.is_empty();
        let effect_id = string(EFFECT_ID);
        let range_text = string(SOURCE_RANGE).trim().to_owned();
        let method = method_at(int(METHOD, 0)).to_owned();
        Self {
            target: Target {
                job: job_name(&string(JOB)),
                shot: shot_name(&string(SHOT)),
                source: if is_sent { upload_key(&effect_id) } else { source },
                range: frame_range(&range_text),
                owners: string(OWNERS).split(',').filter(|owner| !owner.is_empty()).map(str::to_owned).collect(),
            },
            source_offset: int(SOURCE_OFFSET, 0).into(),
            view: option_at(&VIEWS, int(VIEW, 0)),
            wipe: double(WIPE, 0.5).clamp(0.0, 1.0),
            mix: double(MIX, 1.0).clamp(0.0, 1.0),
            missing: option_at(&MISSINGS, int(MISSING, 0)),
            wait_seconds: double(WAIT_SECONDS, 600.0).clamp(0.0, 86400.0),
            only: match option_at(&QUALITIES, int(QUALITY, 0)) {
                Quality::Best => None,
                Quality::Final => Some(method.clone()),
                Quality::Draft => Some(methods::DRAFT.into()),
            },
            method,
            is_sent,
            host_colour: option_at(&HOST_COLOURS, int(HOST_COLOURSPACE, 0)),
            bound_to: string(BOUND_TO),
            keyframes: Keyframes::from_text(&string(KEYFRAMES)),
            effect_id,
            range_text,
        }
    }

    /// The keyframe that stands in the fields of the panel; None where no picture is chosen.
    pub fn edited_keyframe(effect: &Effect) -> Option<Keyframe> {
        let path = |param: &CStr| absolute(&string(effect, param));
        let frame = effect.param(KEYFRAME_FRAME).and_then(|found| found.int()).unwrap_or(0).into();
        let keyframe = Keyframe { frame, path: path(KEYFRAME_PATH), matte: path(KEYFRAME_MATTE) };
        (!keyframe.path.is_empty()).then_some(keyframe)
    }

    /// Whether the plate is all there is to show.
    pub fn is_identity(&self) -> bool {
        self.view == View::Plate || (self.mix == 0.0 && self.view != View::Matte) || self.target.is_empty()
    }
}

/// Stores the keyframes, and the list that the artist reads.
pub fn set_keyframes(effect: &Effect, keyframes: &Keyframes) {
    set_string(effect, KEYFRAMES, &keyframes.to_text());
    set_string(effect, KEYFRAME_LIST, &keyframes.summary());
}

/// Puts a new owner of a job before those that there are.
pub fn add_owner(effect: &Effect, owner: &str, known: &[String]) {
    let owners = std::iter::once(owner).chain(known.iter().map(String::as_str));
    set_string(effect, OWNERS, &owners.take(MAX_OWNERS).collect::<Vec<_>>().join(","));
}

/// A string parameter's value; "" where the host has none.
pub fn string(effect: &Effect, param: &CStr) -> String {
    effect.param(param).and_then(|found| found.string()).unwrap_or_default()
}

/// Sets a string parameter, if it has another value: some hosts render on every change.
pub fn set_string(effect: &Effect, param: &CStr, value: &str) {
    if let Some(found) = effect.param(param).filter(|found| found.string().unwrap_or_default() != value) {
        found.set_string(value);
    }
}

/// Shows the chosen method's parameters alone; where the engine chooses, those of the draft, which is what comes first.
pub fn show_method(effect: &Effect, chosen: &str) {
    let chosen = if chosen == methods::BEST { methods::DRAFT } else { chosen };
    for method in methods::known() {
        for parameter in method.parameters.iter().filter(|parameter| methods::is_name(&parameter.name)) {
            if let Some(param) = effect.param(&method_param_name(&method.name, &parameter.name)) {
                param.set_secret(method.name != chosen);
            }
        }
    }
}

/// The source file: the parameter's, else the one that the host reads the clip from; "" where the frames are to be sent.
fn source_path(effect: &Effect, given: &str, send_frames: bool) -> String {
    if !given.trim().is_empty() || send_frames {
        return if send_frames { String::new() } else { absolute(given) };
    }
    let host = effect.properties().string(name::SOURCE_FILE).unwrap_or_default();
    absolute(&source::of_host(&host))
}

/// The key under which an effect's frames are sent.
pub fn upload_key(effect_id: &str) -> String {
    if effect_id.is_empty() { String::new() } else { format!("openfx-{effect_id}") }
}

fn method_param_name(method: &str, parameter: &str) -> CString {
    text(&format!("{method}_{parameter}"))
}

/// Each method's parameters as a job takes them.
pub fn method_values(effect: &Effect, time: f64) -> HashMap<String, HashMap<String, String>> {
    let value = |method: &Method, parameter: &wire::Parameter| {
        let param = effect.param(&method_param_name(&method.name, &parameter.name))?;
        Some(match parameter.kind() {
            ParameterKind::Float => param.double(time)?.to_string(),
            ParameterKind::Int => param.int()?.to_string(),
            ParameterKind::Bool => (param.int()? != 0).to_string(),
            ParameterKind::Choice => parameter.choices.get(usize::try_from(param.int()?).ok()?)?.clone(),
            ParameterKind::String | ParameterKind::Unspecified => param.string()?,
        })
    };
    let values = |method: &Method| {
        method.parameters.iter().filter_map(|of| Some((of.name.clone(), value(method, of)?))).collect()
    };
    methods::known().iter().map(|method| (method.name.clone(), values(method))).collect()
}

/// The choices of the method: the first is the engine's, so that no method of a later engine takes its place.
fn method_names() -> impl Iterator<Item = &'static str> {
    std::iter::once(methods::BEST).chain(methods::known().iter().map(|method| method.name.as_str()))
}

fn method_at(index: i32) -> &'static str {
    usize::try_from(index).ok().and_then(|index| method_names().nth(index)).unwrap_or(methods::BEST)
}

fn option_at<T: Copy>(options: &[(&CStr, T)], index: i32) -> T {
    usize::try_from(index).ok().and_then(|index| options.get(index)).unwrap_or(&options[0]).1
}

/// A path as the engine knows its sources: absolute. A pattern is a path too.
fn absolute(path: &str) -> String {
    let path = path.trim();
    if path.is_empty() {
        return String::new();
    }
    std::path::absolute(Path::new(path)).map_or_else(|_| path.to_owned(), |found| found.to_string_lossy().into_owned())
}

fn job_name(given: &str) -> String {
    let given = given.trim();
    if given.is_empty() || given.starts_with("jobs/") { given.to_owned() } else { format!("jobs/{given}") }
}

fn shot_name(given: &str) -> String {
    let given = given.trim();
    if given.is_empty() || given.starts_with("shots/") { given.to_owned() } else { format!("shots/{given}") }
}

/// "1001-1048"; also below 0: "-5-10".
fn frame_range(given: &str) -> Option<(i64, i64)> {
    let given = given.trim();
    let split = given.get(1..)?.find('-')? + 1;
    let (first, last) = (given[..split].trim().parse().ok()?, given[split + 1..].trim().parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_two_ascending_numbers() {
        assert_eq!(frame_range(" 1001-1048 "), Some((1001, 1048)));
        assert_eq!(frame_range("-5-10"), Some((-5, 10)));
        assert_eq!(frame_range("-5--1"), Some((-5, -1)));
        assert!(["", "-", "5", "9-3", "a-b", "1-", "ä-1"].iter().all(|given| frame_range(given).is_none()));
    }

    #[test]
    fn job_may_be_given_by_number() {
        assert_eq!(
            (job_name("12"), job_name(" jobs/12 "), job_name("")),
            ("jobs/12".into(), "jobs/12".into(), "".into())
        );
        assert_eq!(shot_name("ab12"), "shots/ab12");
    }

    #[test]
    fn invalid_choice_is_the_first() {
        assert_eq!(option_at(&VIEWS, 3), View::Matte);
        assert_eq!((option_at(&VIEWS, -1), option_at(&VIEWS, 99)), (View::Result, View::Result));
    }
}
