//! Describes the parameters to the host.

use std::ffi::{CStr, CString};

use super::*;
use crate::abi::{Status, name};
use crate::host::{Effect, Properties, text};
use crate::methods;
use crate::wire::{self, Method, ParameterKind};

const GROUP_SHOT: &CStr = c"shotGroup";
const GROUP_METHOD: &CStr = c"methodGroup";
const GROUP_ADVANCED: &CStr = c"advancedGroup";
const GROUP_VIEW: &CStr = c"viewGroup";

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
