//! Generates the wire's messages and clients from protos/, without protoc.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protos");
    let files = ["engine", "frame", "job", "keyframe", "shot"].map(|name| format!("paintover/v1/{name}.proto"));
    println!("cargo:rerun-if-changed={}", protos.display());
    println!("cargo:rerun-if-changed=build.rs");
    link_the_unwinder()?;
    let set = protox::compile(files, [&protos])?;
    let mut builder = tonic_prost_build::configure().build_server(false).build_transport(false);
    for message in ["paintover.v1.Method", "paintover.v1.Parameter"] {
        builder = builder.type_attribute(message, "#[derive(serde::Deserialize)] #[serde(default)]");
    }
    builder.compile_fds(set)?;
    Ok(())
}

/// Puts GCC's unwinder into the library, which then needs nothing but the C library: what stands for `libgcc_s.so` when
/// linking are the static halves of it.
fn link_the_unwinder() -> std::io::Result<()> {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        let folder = std::env::var("OUT_DIR").unwrap_or_default();
        std::fs::write(Path::new(&folder).join("libgcc_s.so"), "GROUP ( -lgcc_eh -lgcc )\n")?;
        println!("cargo:rustc-link-search=native={folder}");
    }
    Ok(())
}
