//! The effect's parameters: described to the host, and read from it.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::path::Path;

use crate::engine::Target;
use crate::ffi::{Status, name};
use crate::host::{Effect, Properties, text};
use crate::methods;
use crate::wire::{self, Method, ParameterKind};

pub const STATUS: &CStr = c"status";
pub const JOB: &CStr = c"job";
pub const SHOT: &CStr = c"shot";
pub const SOURCE_PATH: &CStr = c"sourcePath";
pub const SOURCE_OFFSET: &CStr = c"sourceOffset";
pub const SOURCE_RANGE: &CStr = c"sourceRange";
pub const COLORSPACE: &CStr = c"colorspace";
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
/// Tells this clip from others where its frames were sent.
pub const CLIP_KEY: &CStr = c"clipKey";
/// The clip that was propagated, so that a copy of the effect on another clip shows nothing of it.
pub const BOUND_TO: &CStr = c"boundTo";
/// Raised when better frames have arrived, so that the host renders anew.
pub const REVISION: &CStr = c"revision";

const GROUP_SHOT: &CStr = c"shotGroup";
const GROUP_METHOD: &CStr = c"methodGroup";
const GROUP_ADVANCED: &CStr = c"advancedGroup";
const GROUP_VIEW: &CStr = c"viewGroup";

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
    [(c"Show the plate", Missing::Plate), (c"Wait", Missing::Wait), (c"Fail", Missing::Fail)];
const QUALITIES: [&CStr; 2] = [c"Best so far", c"Final only"];

/// Describes one effect's parameters, each under a group.
struct Describer<'a> {
    effect: Effect<'a>,
}

impl<'a> Describer<'a> {
    fn param(
        &self,
        kind: &CStr,
        param: &CStr,
        label: &str,
        hint: &str,
        group: Option<&CStr>,
    ) -> Result<Properties<'a>, Status> {
        let found = self.effect.define_param(kind, param)?;
        found.set_text(name::PROP_LABEL, label);
        found.set_text(name::PARAM_PROP_HINT, hint);
        found.set_string(name::PARAM_PROP_SCRIPT_NAME, param);
        if let Some(group) = group {
            found.set_string(name::PARAM_PROP_PARENT, group);
        }
        if ![name::PARAM_GROUP, name::PARAM_BUTTON].contains(&kind) {
            found.set_int(name::PARAM_PROP_ANIMATES, 0);
        }
        Ok(found)
    }

    fn group(&self, param: &CStr, label: &str, open: bool) -> Result<(), Status> {
        let found = self.effect.define_param(name::PARAM_GROUP, param)?;
        found.set_text(name::PROP_LABEL, label);
        found.set_int(name::PARAM_PROP_GROUP_OPEN, open.into());
        Ok(())
    }

    fn button(&self, param: &CStr, label: &str, hint: &str) -> Result<(), Status> {
        self.param(name::PARAM_BUTTON, param, label, hint, None).map(|_| ())
    }

    fn string(&self, param: &CStr, label: &str, hint: &str, group: Option<&CStr>) -> Result<Properties<'a>, Status> {
        let found = self.param(name::PARAM_STRING, param, label, hint, group)?;
        found.set_string(name::PARAM_PROP_STRING_MODE, name::STRING_IS_SINGLE_LINE);
        found.set_string(name::PARAM_PROP_DEFAULT, c"");
        Ok(found)
    }

    fn file(&self, param: &CStr, label: &str, hint: &str, group: &CStr) -> Result<(), Status> {
        let found = self.string(param, label, hint, Some(group))?;
        found.set_string(name::PARAM_PROP_STRING_MODE, name::STRING_IS_FILE_PATH);
        found.set_int(name::PARAM_PROP_FILE_EXISTS, 0);
        Ok(())
    }

    fn integer(
        &self,
        param: &CStr,
        label: &str,
        hint: &str,
        group: Option<&CStr>,
        range: (i32, i32, i32),
    ) -> Result<Properties<'a>, Status> {
        let found = self.param(name::PARAM_INTEGER, param, label, hint, group)?;
        let (default, least, most) = range;
        found.set_int(name::PARAM_PROP_DEFAULT, default);
        found.set_int(name::PARAM_PROP_MIN, least);
        found.set_int(name::PARAM_PROP_MAX, most);
        found.set_int(name::PARAM_PROP_DISPLAY_MIN, least.max(-10_000));
        found.set_int(name::PARAM_PROP_DISPLAY_MAX, most.min(10_000));
        Ok(found)
    }

    fn double(
        &self,
        param: &CStr,
        label: &str,
        hint: &str,
        group: &CStr,
        (default, least, most): (f64, f64, f64),
    ) -> Result<(), Status> {
        let found = self.param(name::PARAM_DOUBLE, param, label, hint, Some(group))?;
        found.set_double(name::PARAM_PROP_DEFAULT, default);
        found.set_double(name::PARAM_PROP_MIN, least);
        found.set_double(name::PARAM_PROP_MAX, most);
        found.set_double(name::PARAM_PROP_DISPLAY_MIN, least.max(-1000.0));
        found.set_double(name::PARAM_PROP_DISPLAY_MAX, most.min(1000.0));
        Ok(())
    }

    fn choice<'c>(
        &self,
        param: &CStr,
        label: &str,
        hint: &str,
        group: &CStr,
        options: impl Iterator<Item = &'c CStr>,
        default: usize,
    ) -> Result<(), Status> {
        let found = self.param(name::PARAM_CHOICE, param, label, hint, Some(group))?;
        for (index, option) in (0..).zip(options) {
            found.set_string_at(name::PARAM_PROP_CHOICE_OPTION, index, option);
        }
        found.set_int(name::PARAM_PROP_DEFAULT, i32::try_from(default).unwrap_or(0));
        Ok(())
    }

    fn hidden(&self, found: Properties) {
        found.set_int(name::PARAM_PROP_SECRET, 1);
        found.set_int(name::PARAM_PROP_EVALUATE_ON_CHANGE, 0);
    }

    /// A method's own parameter, as the engine describes it.
    fn method_param(&self, method: &Method, parameter: &wire::Parameter) -> Result<(), Status> {
        let param = method_param_name(&method.name, &parameter.name);
        let group = if parameter.basic { GROUP_METHOD } else { GROUP_ADVANCED };
        let unit = if parameter.unit.is_empty() { String::new() } else { format!(" ({})", parameter.unit) };
        let label = format!("{}{unit}", parameter.title);
        let limits = (parameter.minimum.unwrap_or(-1e6), parameter.maximum.unwrap_or(1e6));
        let default = &parameter.default_value;
        match parameter.kind() {
            ParameterKind::Float => {
                let default = default.parse().unwrap_or(0.0);
                self.double(&param, &label, &parameter.help, group, (default, limits.0, limits.1))
            }
            ParameterKind::Int => {
                let range = (default.parse().unwrap_or(0), limits.0 as i32, limits.1 as i32);
                self.integer(&param, &label, &parameter.help, Some(group), range).map(|_| ())
            }
            ParameterKind::Bool => {
                let found = self.param(name::PARAM_BOOLEAN, &param, &label, &parameter.help, Some(group))?;
                found.set_int(name::PARAM_PROP_DEFAULT, (default == "true").into());
                Ok(())
            }
            ParameterKind::Choice => {
                let options: Vec<CString> = parameter.choices.iter().map(|choice| text(choice)).collect();
                let default = parameter.choices.iter().position(|choice| choice == default).unwrap_or(0);
                let options = options.iter().map(CString::as_c_str);
                self.choice(&param, &label, &parameter.help, group, options, default)
            }
            ParameterKind::String | ParameterKind::Unspecified => {
                let found = self.string(&param, &label, &parameter.help, Some(group))?;
                found.set_text(name::PARAM_PROP_DEFAULT, default);
                Ok(())
            }
        }
    }
}

fn method_param_name(method: &str, parameter: &str) -> CString {
    text(&format!("{method}_{parameter}"))
}

/// Describes every parameter, each exactly once.
pub fn describe(effect: Effect) -> Result<(), Status> {
    let describer = Describer { effect };
    let methods = methods::known();

    let status = describer.string(STATUS, "Status", "What Paintover's engine says of this clip.", None)?;
    status.set_int(name::PARAM_PROP_ENABLED, 0);
    status.set_int(name::PARAM_PROP_EVALUATE_ON_CHANGE, 0);
    status.set_int(name::PARAM_PROP_PERSISTENT, 0);
    describer.button(
        PAINT,
        "Paint this frame",
        "Writes this frame to a file and opens it in your painting program.",
    )?;
    describer.button(PROPAGATE, "Propagate", "Carries the painted keyframe through the shot.")?;
    describer.button(CANCEL, "Cancel", "Stops this shot's propagation; the frames made so far stay.")?;
    describer.button(REFRESH, "Refresh", "Asks for the status, and renders anew if better frames have arrived.")?;
    describer.button(MONITOR, "Open the monitor", "Shows the engine's queue in the browser.")?;

    describer.group(GROUP_VIEW, "View", true)?;
    let hint = "What the effect shows. Wipe: the result left of the line, the plate right of it.";
    describer.choice(VIEW, "View", hint, GROUP_VIEW, VIEWS.iter().map(|view| view.0), 0)?;
    let hint = "Where the wipe's line is, from the left edge (0) to the right (1).";
    describer.double(WIPE, "Wipe", hint, GROUP_VIEW, (0.5, 0.0, 1.0))?;
    describer.double(MIX, "Mix", "How much of the painted result is shown.", GROUP_VIEW, (1.0, 0.0, 1.0))?;
    let hint =
        "Best so far: drafts until final frames come. Final only: frames of the chosen method that are finished.";
    describer.choice(QUALITY, "Quality", hint, GROUP_VIEW, QUALITIES.into_iter(), 0)?;
    let hint = "What a render does for a frame that is not made yet. Wait: final renders wait for it, and show the plate if it \
                does not come in time; interactive ones never wait. Fail: the render fails.";
    describer.choice(MISSING, "Missing frame", hint, GROUP_VIEW, MISSINGS.iter().map(|missing| missing.0), 0)?;
    let hint = "How long a final render waits for one frame.";
    describer.double(WAIT_SECONDS, "Wait at most (s)", hint, GROUP_VIEW, (60.0, 0.0, 86400.0))?;

    describer.group(GROUP_SHOT, "Shot and keyframe", true)?;
    describer.file(KEYFRAME_PATH, "Keyframe", "The painted picture of one frame.", GROUP_SHOT)?;
    let hint = "The number of the painted frame in the shot.";
    describer.integer(KEYFRAME_FRAME, "Keyframe's frame", hint, Some(GROUP_SHOT), (0, i32::MIN, i32::MAX))?;
    let hint = "The clip's video file, or the pattern of its image sequence. Empty: the frames are sent from the host.";
    describer.file(SOURCE_PATH, "Source", hint, GROUP_SHOT)?;
    let hint = "Added to the host's frame number to get the source's.";
    describer.integer(SOURCE_OFFSET, "Source offset", hint, Some(GROUP_SHOT), (0, i32::MIN, i32::MAX))?;
    let hint = "First and last frame of the shot in the source, as 1001-1048. Empty: the whole source.";
    describer.string(SOURCE_RANGE, "Source range", hint, Some(GROUP_SHOT))?;
    let hint = "The source's OpenColorIO colour space. Empty: from the file's tags.";
    describer.string(COLORSPACE, "Colour space", hint, Some(GROUP_SHOT))?;
    let hint = "Shows the newest jobs of this shot (shots/…) rather than those of the source.";
    describer.string(SHOT, "Shot", hint, Some(GROUP_SHOT))?;
    let hint = "Shows this job (its number) rather than the newest of the shot.";
    describer.string(JOB, "Job", hint, Some(GROUP_SHOT))?;

    describer.group(GROUP_METHOD, "Method", true)?;
    describer.group(GROUP_ADVANCED, "Advanced", false)?;
    let names: Vec<CString> = methods.iter().map(|method| text(&method.name)).collect();
    let options = names.iter().map(CString::as_c_str);
    describer.choice(METHOD, "Method", "How the paint is carried through the shot.", GROUP_METHOD, options, 0)?;
    for method in methods {
        for parameter in method.parameters.iter().filter(|parameter| methods::is_name(&parameter.name)) {
            describer.method_param(method, parameter)?;
        }
    }

    describer.hidden(describer.string(CLIP_KEY, "Clip key", "", None)?);
    describer.hidden(describer.string(BOUND_TO, "Bound to", "", None)?);
    let revision = describer.integer(REVISION, "Revision", "", None, (0, 0, i32::MAX))?;
    revision.set_int(name::PARAM_PROP_SECRET, 1);
    revision.set_string(name::PARAM_PROP_INVALIDATION, name::PARAM_INVALIDATE_ALL);
    Ok(())
}

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
    pub final_only: bool,
    pub method: String,
    /// The target's source is the key of a clip whose frames are sent.
    pub is_sent: bool,
    pub bound_to: String,
}

impl Settings {
    pub fn read(effect: &Effect, time: f64) -> Self {
        let string = |param: &CStr| effect.param(param).and_then(|found| found.string()).unwrap_or_default();
        let int = |param: &CStr, default| effect.param(param).and_then(|found| found.int()).unwrap_or(default);
        let double =
            |param: &CStr, default| effect.param(param).and_then(|found| found.double(time)).unwrap_or(default);
        let source = absolute(&string(SOURCE_PATH));
        let is_sent = source.is_empty();
        Self {
            target: Target {
                job: job_name(&string(JOB)),
                shot: shot_name(&string(SHOT)),
                source: if is_sent { string(CLIP_KEY) } else { source },
                range: frame_range(&string(SOURCE_RANGE)),
            },
            source_offset: int(SOURCE_OFFSET, 0).into(),
            view: picked(&VIEWS, int(VIEW, 0)),
            wipe: double(WIPE, 0.5).clamp(0.0, 1.0),
            mix: double(MIX, 1.0).clamp(0.0, 1.0),
            missing: picked(&MISSINGS, int(MISSING, 0)),
            wait_seconds: double(WAIT_SECONDS, 60.0).clamp(0.0, 86400.0),
            final_only: int(QUALITY, 0) == 1,
            method: method_at(int(METHOD, 0)).map_or_else(|| "draft".into(), |method| method.name.clone()),
            is_sent,
            bound_to: string(BOUND_TO),
        }
    }

    /// Whether the plate is all there is to show, at any time.
    pub fn is_identity(&self) -> bool {
        self.view == View::Plate || (self.mix == 0.0 && self.view != View::Matte) || self.target.is_empty()
    }
}

/// The chosen method's parameters as a job takes them.
pub fn method_values(effect: &Effect, method: &str, time: f64) -> HashMap<String, String> {
    let Some(found) = methods::known().iter().find(|known| known.name == method) else { return HashMap::new() };
    let value = |parameter: &wire::Parameter| {
        let param = effect.param(&method_param_name(method, &parameter.name))?;
        Some(match parameter.kind() {
            ParameterKind::Float => param.double(time)?.to_string(),
            ParameterKind::Int => param.int()?.to_string(),
            ParameterKind::Bool => (param.int()? != 0).to_string(),
            ParameterKind::Choice => parameter.choices.get(usize::try_from(param.int()?).ok()?)?.clone(),
            ParameterKind::String | ParameterKind::Unspecified => param.string()?,
        })
    };
    found.parameters.iter().filter_map(|parameter| Some((parameter.name.clone(), value(parameter)?))).collect()
}

fn method_at(index: i32) -> Option<&'static Method> {
    methods::known().get(usize::try_from(index).ok()?)
}

fn picked<T: Copy>(options: &[(&CStr, T)], index: i32) -> T {
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
    fn a_range_is_two_numbers_the_first_not_above_the_last() {
        assert_eq!(frame_range(" 1001-1048 "), Some((1001, 1048)));
        assert_eq!(frame_range("-5-10"), Some((-5, 10)));
        assert_eq!(frame_range("-5--1"), Some((-5, -1)));
        assert!(["", "-", "5", "9-3", "a-b", "1-", "ä-1"].iter().all(|given| frame_range(given).is_none()));
    }

    #[test]
    fn a_job_may_be_given_by_its_number() {
        assert_eq!(
            (job_name("12"), job_name(" jobs/12 "), job_name("")),
            ("jobs/12".into(), "jobs/12".into(), "".into())
        );
        assert_eq!(shot_name("ab12"), "shots/ab12");
    }

    #[test]
    fn choices_that_no_host_should_give_mean_the_first() {
        assert_eq!(picked(&VIEWS, 3), View::Matte);
        assert_eq!((picked(&VIEWS, -1), picked(&VIEWS, 99)), (View::Result, View::Result));
    }
}
