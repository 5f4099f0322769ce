//! Paintover's OpenFX effect: shows an engine's painted frames over a host's own pixels.
//!
//! `actions` is what a host calls, `render` and `composite` make a frame, `engine` and `session` keep up with the engine.

mod actions;
pub mod composite;
mod endpoint;
mod engine;
mod ffi;
mod host;
mod log;
mod methods;
mod painting;
mod params;
mod pin;
mod render;
mod sending;
mod session;

/// The wire's messages and clients, generated from `protos/`.
mod wire {
    #![allow(clippy::all, clippy::pedantic, missing_docs, dead_code)]
    tonic::include_proto!("paintover.v1");
}

use std::ffi::c_int;
use std::ptr;

static PLUGIN: ffi::Plugin = ffi::Plugin {
    api: ffi::name::PLUGIN_API.as_ptr(),
    api_version: 1,
    identifier: c"org.paintover.Paintover".as_ptr(),
    version_major: 1,
    version_minor: 0,
    set_host: Some(set_host),
    main_entry: Some(actions::main_entry),
};

unsafe extern "C" fn set_host(host: *mut ffi::Host) {
    host::set_host(host);
}

/// How many effects the library holds.
#[unsafe(no_mangle)]
pub extern "C" fn OfxGetNumberOfPlugins() -> c_int {
    1
}

/// The effect, for 0.
#[unsafe(no_mangle)]
pub extern "C" fn OfxGetPlugin(index: c_int) -> *const ffi::Plugin {
    if index == 0 { &raw const PLUGIN } else { ptr::null() }
}

/// Called first, by hosts of OpenFX 1.4 and later. Any host will do.
#[unsafe(no_mangle)]
pub extern "C" fn OfxSetHost(_host: *const ffi::Host) -> ffi::Status {
    ffi::OK
}
