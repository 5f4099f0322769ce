//! Finds the engine: its data folder, what it says there of itself, and the command that starts it.

use std::fs;
use std::path::{Path, PathBuf};
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

/// $PAINTOVER_DATA, else the platform's folder for a user's data: the bridge's rules. Looked up once: a host may change its
/// environment while other threads run.
pub fn data_folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(find_data_folder).as_deref()
}

fn find_data_folder() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("PAINTOVER_DATA").filter(|given| !given.is_empty()) {
        let given = PathBuf::from(given);
        let path = match given.strip_prefix("~") {
            Ok(rest) => std::env::home_dir()?.join(rest),
            Err(_) => given,
        };
        return std::path::absolute(path).ok();
    }
    Some(user_data_folder()?.join("paintover"))
}

#[cfg(target_os = "windows")]
fn user_data_folder() -> Option<PathBuf> {
    std::env::var_os("LOCALAPPDATA").map(PathBuf::from)
}

#[cfg(target_os = "macos")]
fn user_data_folder() -> Option<PathBuf> {
    Some(std::env::home_dir()?.join("Library/Application Support"))
}

#[cfg(not(any(target_os = "windows", target_os = "macos")))]
fn user_data_folder() -> Option<PathBuf> {
    match std::env::var_os("XDG_DATA_HOME").filter(|given| !given.is_empty()) {
        Some(given) => Some(PathBuf::from(given)),
        None => Some(std::env::home_dir()?.join(".local/share")),
    }
}

/// What `engine.json` and `token` say; None where no engine runs on the folder. A hint only: the file outlasts a crash.
pub fn read(folder: &Path) -> Option<Endpoint> {
    // The token first: it is made anew at each start, so none is ever shown at the address of an engine before.
    let token = fs::read_to_string(folder.join("token")).ok()?;
    let said: Value = serde_json::from_slice(&fs::read(folder.join("engine.json")).ok()?).ok()?;
    let address = said.get("address")?.as_str()?;
    if !may_live(said.get("pid")?.as_i64()?) {
        return None;
    }
    Some(Endpoint {
        address: address.to_owned(),
        token: token.trim().to_owned(),
        monitor: said.get("monitor").and_then(Value::as_str).map(str::to_owned),
    })
}

/// Whether an engine left its word behind without taking its leave.
pub fn has_crashed(folder: &Path) -> bool {
    folder.join("engine.json").exists() && read(folder).is_none()
}

#[cfg(unix)]
fn may_live(pid: i64) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // Signal 0 is not sent: only whether it could be is asked.
    pid > 0
        && (unsafe { libc::kill(pid, 0) } == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH))
}

#[cfg(not(unix))]
fn may_live(_: i64) -> bool {
    true
}

/// Whether the engine at this address can hand over files: one on this machine.
pub fn is_local(address: &str) -> bool {
    ["unix:", "127.", "localhost:", "[::1]:"].iter().any(|start| address.starts_with(start))
}

/// The command that starts the engine, without arguments of ours; None where none is installed.
///
/// $PAINTOVER_ENGINE (words parted by spaces; quotes keep them), else `command` in the data folder's `service.json`,
/// which the installer writes.
pub fn engine_command(folder: &Path) -> Option<Vec<String>> {
    static GIVEN: OnceLock<Vec<String>> = OnceLock::new();
    let given =
        GIVEN.get_or_init(|| std::env::var("PAINTOVER_ENGINE").map_or_else(|_| Vec::new(), |text| split_words(&text)));
    if !given.is_empty() {
        return Some(given.clone());
    }
    let said: Value = serde_json::from_slice(&fs::read(folder.join("service.json")).ok()?).ok()?;
    let words = said.get("command")?.as_array()?.iter().map(|word| word.as_str().map(str::to_owned));
    words.collect::<Option<Vec<_>>>().filter(|words| !words.is_empty())
}

fn split_words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Starts an engine that outlives this process and ends when nobody needs it. It says where it answers in the folder.
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
    // Reaps it: a zombie would seem to live.
    std::thread::Builder::new().name("paintover-wait".into()).spawn(move || child.wait())?;
    Ok(())
}

#[cfg(unix)]
fn detach(process: &mut Command) {
    use std::os::unix::process::CommandExt;
    process.process_group(0);
}

#[cfg(windows)]
fn detach(process: &mut Command) {
    use std::os::windows::process::CommandExt;
    process.creation_flags(0x0800_0000 | 0x0000_0200); // no window, a process group of its own
}

/// Opens a file or page with the program that the desktop has for it; $PAINTOVER_OPEN names another.
pub fn open(target: &str) -> std::io::Result<()> {
    let given = std::env::var("PAINTOVER_OPEN").map(|given| split_words(&given)).unwrap_or_default();
    let command: Vec<&str> = match &given[..] {
        [] if cfg!(target_os = "macos") => vec!["open"],
        [] if cfg!(windows) => vec!["cmd", "/C", "start", ""],
        [] => vec!["xdg-open"],
        words => words.iter().map(String::as_str).collect(),
    };
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).arg(target).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    detach(&mut process);
    let mut child = process.spawn()?;
    std::thread::Builder::new().name("paintover-wait".into()).spawn(move || child.wait())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_by_spaces_and_kept_by_quotes() {
        assert_eq!(split_words(r#"  "/a b/python" -m 'x y' "" "#), ["/a b/python", "-m", "x y", ""]);
        assert!(split_words("  ").is_empty());
    }

    #[test]
    fn an_engine_of_this_machine_is_known_by_its_address() {
        assert!(is_local("127.0.0.1:4321") && is_local("unix:/run/engine.sock") && is_local("[::1]:80"));
        assert!(!is_local("10.0.0.5:4321"));
    }
}
