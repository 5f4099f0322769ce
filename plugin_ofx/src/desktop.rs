//! Opens files and pages in the user's programs.

use std::process::{Command, Stdio};

use crate::launch::{detach, split_words};

/// Opens a file or page with the program that the desktop has for it; `$PAINTOVER_OPEN` names another. Does not wait.
pub fn open(target: &str) -> std::io::Result<()> {
    let given = std::env::var("PAINTOVER_OPEN").map(|given| split_words(&given)).unwrap_or_default();
    let Some((program, arguments)) = given.split_first() else { return open::that_detached(target) };
    let mut process = Command::new(program);
    process.args(arguments).arg(target).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    detach(&mut process);
    let mut child = process.spawn()?;
    std::thread::Builder::new().name("paintover-wait".into()).spawn(move || child.wait())?;
    Ok(())
}

/// Opens a picture to paint on; returns one sentence for the user.
pub fn paint(path: &str) -> String {
    match open(path) {
        Ok(()) => format!("Paint on {path}, save it, and press Propagate."),
        Err(error) => format!("Open {path} yourself ({error}), paint, save it, and press Propagate."),
    }
}
