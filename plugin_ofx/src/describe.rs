//! The describe actions: what the effect supports, its clips and parameters.

use std::ffi::{CStr, c_void};

use crate::abi::{MainEntry, OK, Status, name};
use crate::host::{Effect, Properties, Suites};
use crate::overlay;
use crate::params::describe as params;

/// The describe action.
pub fn describe(suites: &Suites, effect: &Effect) -> Status {
    let found = effect.properties();
    for label in [name::PROP_LABEL, name::PROP_SHORT_LABEL, name::PROP_LONG_LABEL] {
        found.set_string(label, c"Paintover");
    }
    let version = env!("CARGO_PKG_VERSION");
    for (index, part) in (0..).zip(version.split('.').filter_map(|part| part.parse().ok())) {
        found.set_int_at(name::PROP_VERSION, index, part);
    }
    found.set_text(name::PROP_VERSION_LABEL, version);
    for (index, icon) in (0..).zip([c"org.paintover.Paintover.svg", c"org.paintover.Paintover.png"]) {
        found.set_string_at(name::PROP_ICON, index, icon);
    }
    found.set_string(name::GROUPING, c"Paintover");
    found.set_string(
        name::PROP_DESCRIPTION,
        c"Paint over one frame; Paintover carries that edit through the whole shot.",
    );
    for (index, context) in (0..).zip([name::CONTEXT_FILTER, name::CONTEXT_GENERAL]) {
        found.set_string_at(name::SUPPORTED_CONTEXTS, index, context);
    }
    let depths = [name::DEPTH_BYTE, name::DEPTH_SHORT, name::DEPTH_HALF, name::DEPTH_FLOAT];
    for (index, depth) in (0..).zip(depths) {
        found.set_string_at(name::SUPPORTED_DEPTHS, index, depth);
    }
    found.set_string(name::THREAD_SAFETY, name::FULLY_SAFE);
    found.set_int(name::HOST_FRAME_THREADING, 0);
    found.set_int(name::SUPPORTS_TILES, 1);
    found.set_int(name::SUPPORTS_MULTI_RESOLUTION, 1);
    if reads_other_times(suites) {
        found.set_int(name::TEMPORAL_ACCESS, 1);
    }
    if suites.draws() {
        let entry: MainEntry = overlay::main_entry;
        found.set_pointer(name::OVERLAY_V2, entry as *mut c_void);
    }
    if manages_colour(suites) {
        found.set_string(name::COLOUR_STYLE, name::COLOUR_CORE);
        found.set_string(name::COLOUR_CONFIGS, name::COLOUR_CONFIG_NATIVE);
    }
    OK
}

/// Whether the host has OpenFX 1.5's colour management. Not Nuke's: 17 loses the panel of an effect that asks for it.
fn manages_colour(suites: &Suites) -> bool {
    let style = suites.host().string(name::COLOUR_STYLE).unwrap_or_default();
    !style.is_empty() && style != "OfxImageEffectColourManagementNone" && !suites.host_name().contains("nuke")
}

fn reads_other_times(suites: &Suites) -> bool {
    suites.host().int(name::TEMPORAL_ACCESS) == Some(1)
}

/// The describe-in-context action.
pub fn describe_in_context(suites: &Suites, effect: &Effect, in_args: &Properties) -> Status {
    let clip = |clip: &CStr, components: &[&CStr]| {
        let found = effect.define_clip(clip)?;
        for (index, component) in (0..).zip(components) {
            found.set_string_at(name::SUPPORTED_COMPONENTS, index, component);
        }
        found.set_int(name::SUPPORTS_TILES, 1);
        Ok::<_, Status>(found)
    };
    let described = || {
        let source = clip(name::CLIP_SOURCE, &[name::COMPONENT_RGBA, name::COMPONENT_RGB])?;
        if reads_other_times(suites) {
            source.set_int(name::TEMPORAL_ACCESS, 1);
        }
        clip(name::CLIP_OUTPUT, &[name::COMPONENT_RGBA, name::COMPONENT_RGB])?;
        if in_args.is(name::CONTEXT, name::CONTEXT_GENERAL) {
            let matte = clip(name::CLIP_MATTE, &[name::COMPONENT_ALPHA, name::COMPONENT_RGBA])?;
            matte.set_int(name::CLIP_OPTIONAL, 1);
            matte.set_int(name::CLIP_IS_MASK, 1);
        }
        params::describe(*effect)
    };
    match described() {
        Ok(()) => OK,
        Err(status) => {
            log::error!("describe: the host refused a clip or parameter with status {status}");
            status
        }
    }
}
