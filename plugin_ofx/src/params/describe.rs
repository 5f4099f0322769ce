//! Describes the parameters to the host.

use std::cell::RefCell;

use super::*;
use crate::abi::{PropertySetHandle, Status, name};
use crate::host::Properties;

const GROUP_KEYFRAMES: &CStr = c"keyframeGroup";
const GROUP_SHOT: &CStr = c"shotGroup";
const GROUP_METHOD: &CStr = c"methodGroup";
const GROUP_ADVANCED: &CStr = c"advancedGroup";
const GROUP_VIEW: &CStr = c"viewGroup";
const PAGE_PAINT: &CStr = c"paintPage";
const PAGE_METHOD: &CStr = c"methodPage";
const PAGE_VIEW: &CStr = c"viewPage";
const PAGE_SHOT: &CStr = c"shotPage";

/// Describes one effect's parameters, each on a page and most under a group.
struct Describer<'a> {
    effect: Effect<'a>,
    /// What was defined since the last page.
    defined: RefCell<Vec<CString>>,
}

impl<'a> Describer<'a> {
    /// Defines a parameter. One that the host refuses, as some do strings and groups, is left out: it removes a feature and not
    /// the effect.
    fn define(&self, kind: &CStr, param: &CStr) -> Properties<'a> {
        match self.effect.define_param(kind, param) {
            Ok(found) => {
                self.defined.borrow_mut().push(param.to_owned());
                found
            }
            Err(status) => {
                log::warn!("describe: the host refused the parameter {} with status {status}", param.to_string_lossy());
                self.effect.suites().properties(PropertySetHandle::null())
            }
        }
    }

    /// A page of all that was defined since the one before.
    fn page(&self, param: &CStr, label: &str) {
        let children = self.defined.take();
        let found = self.define(name::PARAM_PAGE, param);
        self.defined.take();
        found.set_text(name::PROP_LABEL, label);
        for (index, child) in (0..).zip(&children) {
            found.set_string_at(name::PARAM_PROP_PAGE_CHILD, index, child);
        }
    }

    fn param(
        &self,
        kind: &CStr,
        param: &CStr,
        label: &str,
        hint: &str,
        group: Option<&CStr>,
    ) -> Result<Properties<'a>, Status> {
        let found = self.define(kind, param);
        found.set_text(name::PROP_LABEL, label);
        found.set_text(name::PARAM_PROP_HINT, hint);
        found.set_string(name::PARAM_PROP_SCRIPT_NAME, param);
        if let Some(group) = group {
            found.set_string(name::PARAM_PROP_PARENT, group);
        }
        if kind != name::PARAM_BUTTON {
            found.set_int(name::PARAM_PROP_ANIMATES, 0);
        }
        Ok(found)
    }

    fn group(&self, param: &CStr, label: &str, open: bool) -> Result<(), Status> {
        let found = self.define(name::PARAM_GROUP, param);
        found.set_text(name::PROP_LABEL, label);
        found.set_int(name::PARAM_PROP_GROUP_OPEN, open.into());
        Ok(())
    }

    fn button(&self, param: &CStr, label: &str, hint: &str, group: Option<&CStr>) -> Result<(), Status> {
        self.param(name::PARAM_BUTTON, param, label, hint, group).map(|_| ())
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
        found.set_int(name::PARAM_PROP_FILE_EXISTS, 1);
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
    ) -> Result<Properties<'a>, Status> {
        let found = self.param(name::PARAM_DOUBLE, param, label, hint, Some(group))?;
        found.set_double(name::PARAM_PROP_DEFAULT, default);
        found.set_double(name::PARAM_PROP_MIN, least);
        found.set_double(name::PARAM_PROP_MAX, most);
        found.set_double(name::PARAM_PROP_DISPLAY_MIN, least.max(-1000.0));
        found.set_double(name::PARAM_PROP_DISPLAY_MAX, most.min(1000.0));
        Ok(found)
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

    fn boolean(&self, param: &CStr, label: &str, hint: &str, group: &CStr) -> Result<(), Status> {
        let found = self.param(name::PARAM_BOOLEAN, param, label, hint, Some(group))?;
        found.set_int(name::PARAM_PROP_DEFAULT, 0);
        Ok(())
    }

    /// For what the artist reads, and the effect writes.
    fn read_only(&self, found: Properties) {
        found.set_int(name::PARAM_PROP_ENABLED, 0);
        found.set_int(name::PARAM_PROP_EVALUATE_ON_CHANGE, 0);
    }

    /// A method's own parameter, as the engine describes it.
    fn method_param(&self, method: &Method, parameter: &wire::Parameter) -> Result<(), Status> {
        let param = method_param_name(&method.name, &parameter.name);
        let group = if parameter.basic { GROUP_METHOD } else { GROUP_ADVANCED };
        let label = method_param_label(method, parameter);
        let limits = (parameter.minimum.unwrap_or(-1e6), parameter.maximum.unwrap_or(1e6));
        let default = &parameter.default_value;
        match parameter.kind() {
            ParameterKind::Float => {
                let default = default.parse().unwrap_or(0.0);
                self.double(&param, &label, &parameter.help, group, (default, limits.0, limits.1)).map(|_| ())
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

/// A parameter's title and unit, and whose it is where several methods have one of that title: not every host hides those of
/// the methods that are not chosen.
fn method_param_label(method: &Method, parameter: &wire::Parameter) -> String {
    let unit = if parameter.unit.is_empty() { String::new() } else { format!(" ({})", parameter.unit) };
    let titles = methods::known().iter().flat_map(|known| &known.parameters).map(|known| &known.title);
    let is_shared = titles.filter(|title| **title == parameter.title).count() > 1;
    let whose = if is_shared { format!(", {}", method.title) } else { String::new() };
    format!("{}{unit}{whose}", parameter.title)
}

/// Describes every parameter, each exactly once, in the order of work.
pub fn describe(effect: Effect) -> Result<(), Status> {
    let describer = Describer { effect, defined: RefCell::default() };
    describe_buttons(&describer)?;
    describe_keyframes(&describer)?;
    describer.page(PAGE_PAINT, "Paint");
    describe_method(&describer)?;
    describer.page(PAGE_METHOD, "Method");
    describe_view(&describer)?;
    describer.page(PAGE_VIEW, "View");
    describe_shot(&describer)?;
    describer.page(PAGE_SHOT, "Shot");
    describe_hidden(&describer)
}

fn describe_buttons(describer: &Describer) -> Result<(), Status> {
    let status = describer.string(STATUS, "Status", "What Paintover's engine says of this clip.", None)?;
    describer.read_only(status);
    status.set_int(name::PARAM_PROP_PERSISTENT, 0);
    let hint = "Writes this frame to a file and opens it in your painting program.";
    describer.button(PAINT, "Paint this frame", hint, None)?;
    let hint = "Carries the painted keyframes through the shot.";
    describer.button(PROPAGATE, "Propagate", hint, None)?;
    let hint = "Stops this effect's propagation; the frames made so far stay.";
    describer.button(CANCEL, "Cancel", hint, None)?;
    let hint = "Asks for the status, and renders anew if better frames have arrived.";
    describer.button(REFRESH, "Refresh", hint, None)?;
    describer.button(MONITOR, "Open the monitor", "Shows the engine's queue in the browser.", None)?;
    let hint = "Opens the folder of the log files, for a report of what went wrong.";
    describer.button(OPEN_LOG, "Open the log folder", hint, None)
}

fn describe_keyframes(describer: &Describer) -> Result<(), Status> {
    const GROUP: Option<&CStr> = Some(GROUP_KEYFRAMES);
    describer.group(GROUP_KEYFRAMES, "Keyframes", true)?;
    let hint = "The painted frames: a frame's number and its picture. Propagate adds what stands below.";
    let list = describer.string(KEYFRAME_LIST, "Keyframes", hint, GROUP)?;
    list.set_string(name::PARAM_PROP_STRING_MODE, name::STRING_IS_MULTI_LINE);
    describer.read_only(list);
    describer.file(KEYFRAME_PATH, "Picture", "The painted picture of one frame.", GROUP_KEYFRAMES)?;
    let hint =
        "The number of the painted frame in the shot. A picture is of one frame: another number moves its keyframe.";
    describer.integer(KEYFRAME_FRAME, "Its frame", hint, GROUP, (0, i32::MIN, i32::MAX))?;
    let hint =
        "A picture that is white where the edit applies. Empty: where the painted picture differs from the plate.";
    describer.file(KEYFRAME_MATTE, "Its matte", hint, GROUP_KEYFRAMES)?;
    let hint = "Removes the keyframe of the shown frame, or else the one whose number stands above.";
    describer.button(REMOVE_KEYFRAME, "Remove keyframe", hint, GROUP)?;
    let hint = "Goes to the keyframe before the shown frame, and puts it into the fields above.";
    describer.button(PREVIOUS_KEYFRAME, "Previous keyframe", hint, GROUP)?;
    let hint = "Goes to the keyframe after the shown frame, and puts it into the fields above.";
    describer.button(NEXT_KEYFRAME, "Next keyframe", hint, GROUP)?;
    let hint = "Goes to the frame that the engine suggests to paint next; press \"Paint this frame\" there.";
    describer.button(PAINT_SUGGESTED, "Go to suggested frame", hint, GROUP)
}

fn describe_method(describer: &Describer) -> Result<(), Status> {
    let methods = methods::known();
    describer.group(GROUP_METHOD, "Method", true)?;
    describer.group(GROUP_ADVANCED, "Method, advanced", false)?;
    let names: Vec<CString> = method_names().map(text).collect();
    let options = names.iter().map(CString::as_c_str);
    let summaries = methods.iter().map(|method| format!("\n{}: {}", method.name, method.summary)).collect::<String>();
    let hint = format!(
        "How the paint is carried through the shot; below are the chosen method's parameters, of best the draft's.\n\
         best: The best that this machine can run, behind a draft; the status says which.{summaries}"
    );
    describer.choice(METHOD, "Method", &hint, GROUP_METHOD, options, 0)?;
    let hint = "The model of a method that computes with one: a name that `paintover methods` lists, or a folder. Empty: the \
                method's own.";
    describer.string(MODEL, "Model", hint, Some(GROUP_METHOD))?;
    for method in methods {
        for parameter in method.parameters.iter().filter(|parameter| methods::is_name(&parameter.name)) {
            describer.method_param(method, parameter)?;
        }
    }
    Ok(())
}

fn describe_view(describer: &Describer) -> Result<(), Status> {
    describer.group(GROUP_VIEW, "View", true)?;
    let hint = "What the effect shows. Wipe: the result left of the line, the plate right of it.";
    describer.choice(VIEW, "View", hint, GROUP_VIEW, VIEWS.iter().map(|view| view.0), 0)?;
    let hint = "Where the wipe's line is, from the left edge (0) to the right (1).";
    describer.double(WIPE, "Wipe", hint, GROUP_VIEW, (0.5, 0.0, 1.0))?.set_int(name::PARAM_PROP_ANIMATES, 1);
    let hint = "How much of the painted result is shown.";
    describer.double(MIX, "Mix", hint, GROUP_VIEW, (1.0, 0.0, 1.0))?.set_int(name::PARAM_PROP_ANIMATES, 1);
    let hint = "Best so far: drafts until final frames come. Final only: finished frames of the chosen method. Draft only: those \
                of the draft, to compare.";
    describer.choice(QUALITY, "Quality", hint, GROUP_VIEW, QUALITIES.iter().map(|quality| quality.0), 0)?;
    let hint = "What a final render does for a frame that is not made yet. Wait: waits for it, and fails if it does not come in \
                time. Fail: fails at once. Show the plate: delivers the untouched frame. Interactive renders never wait.";
    describer.choice(MISSING, "Missing frame", hint, GROUP_VIEW, MISSINGS.iter().map(|missing| missing.0), 0)?;
    let hint = "How long a final render waits for one frame.";
    describer.double(WAIT_SECONDS, "Wait at most (s)", hint, GROUP_VIEW, (600.0, 0.0, 86400.0)).map(|_| ())
}

fn describe_shot(describer: &Describer) -> Result<(), Status> {
    const GROUP: Option<&CStr> = Some(GROUP_SHOT);
    describer.group(GROUP_SHOT, "Shot", false)?;
    let hint = "The clip's video file, or the pattern of its image sequence. Empty: the file that the host reads, if it says \
                so; else the frames are sent from the host.";
    describer.file(SOURCE_PATH, "Source", hint, GROUP_SHOT)?;
    let hint = "Sends the host's frames even if the file is known: for a clip that is changed before this effect.";
    describer.boolean(SEND_FRAMES, "Send the frames", hint, GROUP_SHOT)?;
    let hint = "Added to the host's frame number to get the source's.";
    describer.integer(SOURCE_OFFSET, "Source offset", hint, GROUP, (0, i32::MIN, i32::MAX))?;
    let hint = "First and last frame of the shot in the source, as 1001-1048. Empty: the whole source.";
    describer.string(SOURCE_RANGE, "Source range", hint, GROUP)?;
    let hint = "The source's OpenColorIO colour space. Empty: from the file's tags.";
    describer.string(COLORSPACE, "Colour space", hint, GROUP)?;
    let hint = "The colours that the host hands over. Automatic: as it says, or as is found by comparing its picture with the \
                source's. Sent frames are taken as this says; Automatic takes float as linear, but in Resolve as sRGB.";
    let options = HOST_COLOURS.iter().map(|option| option.0);
    describer.choice(HOST_COLOURSPACE, "Host colour space", hint, GROUP_SHOT, options, 0)?;
    let hint = "Shows the newest jobs of this shot (shots/…), whoever made them.";
    describer.string(SHOT, "Shot", hint, GROUP)?;
    let hint = "Shows this job (its number) rather than this effect's newest.";
    describer.string(JOB, "Job", hint, GROUP).map(|_| ())
}

fn describe_hidden(describer: &Describer) -> Result<(), Status> {
    for (param, label) in [
        (EFFECT_ID, "Effect id"),
        (LINEAGE, "Lineage"),
        (OWNERS, "Owners"),
        (KEYFRAMES, "Keyframe data"),
        (BOUND_TO, "Bound to"),
    ] {
        let found = describer.string(param, label, "", None)?;
        found.set_int(name::PARAM_PROP_SECRET, 1);
        found.set_int(name::PARAM_PROP_EVALUATE_ON_CHANGE, 0);
    }
    let revision = describer.integer(REVISION, "Revision", "", None, (0, 0, i32::MAX))?;
    revision.set_int(name::PARAM_PROP_SECRET, 1);
    revision.set_string(name::PARAM_PROP_INVALIDATION, name::PARAM_INVALIDATE_ALL);
    Ok(())
}
