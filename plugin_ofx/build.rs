//! Generates the wire's messages and clients from protos/, without protoc.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protos");
    let files = ["engine", "frame", "job", "keyframe", "shot"].map(|name| format!("paintover/v1/{name}.proto"));
    println!("cargo:rerun-if-changed={}", protos.display());
    let set = protox::compile(files, [&protos])?;
    tonic_prost_build::configure().build_server(false).build_transport(false).compile_fds(set)?;
    Ok(())
}
