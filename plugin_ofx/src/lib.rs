//! Paintover's OpenFX effect: shows an engine's painted frames over a host's own pixels.
//!
//! `actions` is what a host calls; `render` makes a frame, `buttons` follows the user, `connection` talks to the engine.

mod abi;
mod actions;
mod buttons;
mod canvas;
mod checks;
mod claim;
mod client;
mod clip;
mod colour;
pub mod composite;
mod connection;
mod data_folder;
mod describe;
mod desktop;
mod engine_state;
mod file_log;
mod frame;
mod guard;
mod host;
mod host_colour;
mod identity;
mod image;
mod instance;
mod job_view;
mod keyframes;
mod launch;
mod methods;
mod overlay;
mod params;
mod plate_check;
mod plate_file;
mod propagate;
mod render;
mod requests;
mod residency;
mod source;
mod target;
mod upload;

/// The engine's messages and clients, generated from `protos/`.
mod wire {
    #![allow(clippy::all, clippy::pedantic, missing_docs, dead_code)]
    tonic::include_proto!("paintover.v1");
}

use std::ffi::c_int;
use std::ptr;

static PLUGIN: abi::Plugin = abi::Plugin {
    api: abi::name::PLUGIN_API.as_ptr(),
    api_version: 1,
    identifier: c"org.paintover.Paintover".as_ptr(),
    version_major: 1,
    version_minor: 0,
    set_host: Some(set_host),
    main_entry: Some(actions::main_entry),
};

unsafe extern "C" fn set_host(host: *mut abi::Host) {
    host::set_host(host);
}

/// The number of effects in the library.
#[unsafe(no_mangle)]
pub extern "C" fn OfxGetNumberOfPlugins() -> c_int {
    1
}

/// The effect, for 0.
#[unsafe(no_mangle)]
pub extern "C" fn OfxGetPlugin(index: c_int) -> *const abi::Plugin {
    if index == 0 { &raw const PLUGIN } else { ptr::null() }
}

/// Called first, by hosts of OpenFX 1.4 and later. Any host will do.
#[unsafe(no_mangle)]
pub extern "C" fn OfxSetHost(_host: *const abi::Host) -> abi::Status {
    abi::OK
}
