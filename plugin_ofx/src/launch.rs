//! Finds the engine, by what it writes into the data folder, or starts it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Where an engine answers, and the secret that every call carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: String,
    pub token: String,
    /// The page that shows its queue, where it has one.
    pub monitor: Option<String>,
}

/// The engine that `engine.json` and `token` describe; None where no engine runs on the folder. The file outlasts a crash, so
/// an engine at this address is likely, not certain.
pub fn read(folder: &Path) -> Option<Endpoint> {
    // The token first: it is made anew at each start, so none is ever shown at the address of an engine before.
    let token = fs::read_to_string(folder.join("token")).ok()?;
    let record: Value = serde_json::from_slice(&fs::read(folder.join("engine.json")).ok()?).ok()?;
    let address = record.get("address")?.as_str()?;
    if !may_run(record.get("pid")?.as_i64()?) {
        return None;
    }
    Some(Endpoint {
        address: address.to_owned(),
        token: token.trim().to_owned(),
        monitor: record.get("monitor").and_then(Value::as_str).map(str::to_owned),
    })
}

/// Whether an engine died without removing `engine.json`.
pub fn has_crashed(folder: &Path) -> bool {
    folder.join("engine.json").exists() && read(folder).is_none()
}

#[cfg(unix)]
fn may_run(pid: i64) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // Signal 0 checks that the process exists and sends nothing.
    pid > 0
        && (unsafe { libc::kill(pid, 0) } == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH))
}

#[cfg(not(unix))]
fn may_run(_: i64) -> bool {
    true
}

/// Whether the engine runs on this machine, so that its files can be mapped.
pub fn is_local(address: &str) -> bool {
    ["unix:", "127.", "localhost:", "[::1]:"].iter().any(|start| address.starts_with(start))
}

/// The command that starts the engine, before the arguments that `start` adds; None where none is installed.
///
/// `$PAINTOVER_ENGINE`, split as a shell would, else `command` in the data folder's `service.json`,
/// which the installer writes.
pub fn engine_command(folder: &Path) -> Option<Vec<String>> {
    static GIVEN: OnceLock<Vec<String>> = OnceLock::new();
    let given =
        GIVEN.get_or_init(|| std::env::var("PAINTOVER_ENGINE").map_or_else(|_| Vec::new(), |text| split_words(&text)));
    if !given.is_empty() {
        return Some(given.clone());
    }
    let record: Value = serde_json::from_slice(&fs::read(folder.join("service.json")).ok()?).ok()?;
    let words = record.get("command")?.as_array()?.iter().map(|word| word.as_str().map(str::to_owned));
    words.collect::<Option<Vec<_>>>().filter(|words| !words.is_empty())
}

/// A command's words by the shell's rules; none where a quote is not closed. On Windows a backslash is a letter.
pub fn split_words(text: &str) -> Vec<String> {
    let text = if cfg!(windows) { text.replace('\\', "\\\\") } else { text.to_owned() };
    shell_words::split(&text).unwrap_or_default()
}

/// Starts an engine that outlives this process and ends when no client and no job is left. It writes its address into the
/// data folder once it answers.
pub fn start(folder: &Path, command: &[String]) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("logs"))?;
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("logs/engine.log"))?;
    let mut process = Command::new(&command[0]);
    process
        .args(&command[1..])
        .arg("--data-dir")
        .arg(folder)
        .arg("--ephemeral")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    detach(&mut process);
    let mut child = process.spawn()?;
    // Reaps it: a zombie would count as running.
    std::thread::Builder::new().name("paintover-wait".into()).spawn(move || child.wait())?;
    Ok(())
}

#[cfg(unix)]
pub fn detach(process: &mut Command) {
    use std::os::unix::process::CommandExt;
    process.process_group(0);
}

#[cfg(windows)]
pub fn detach(process: &mut Command) {
    use std::os::windows::process::CommandExt;
    process.creation_flags(0x0800_0000 | 0x0000_0200); // no window, a process group of its own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_split_like_a_shell() {
        assert_eq!(split_words(r#"  "/a b/python" -m 'x y' "" "#), ["/a b/python", "-m", "x y", ""]);
        assert!(split_words("  ").is_empty());
    }

    #[test]
    fn local_addresses_are_recognised() {
        assert!(is_local("127.0.0.1:4321") && is_local("unix:/run/engine.sock") && is_local("[::1]:80"));
        assert!(!is_local("10.0.0.5:4321"));
    }
}
