//! A log file for what no host shows: `logs/openfx.log` in the data folder.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::endpoint::data_folder;

const LARGEST: u64 = 1 << 20;

/// The last line, so that what every render would say again is said once.
static LAST: Mutex<String> = Mutex::new(String::new());

/// Adds a line to the log. Never fails: a log that cannot be written is no reason to disturb a host.
pub fn line(text: &str) {
    {
        let mut last = LAST.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *last == text {
            return;
        }
        text.clone_into(&mut last);
    }
    let _ = write(text);
}

fn write(text: &str) -> std::io::Result<()> {
    let Some(folder) = data_folder() else { return Ok(()) };
    let path = folder.join("logs").join("openfx.log");
    fs::create_dir_all(folder.join("logs"))?;
    if fs::metadata(&path).is_ok_and(|found| found.len() > LARGEST) {
        fs::rename(&path, path.with_extension("log.1"))?;
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let whole = format!("{seconds:.3} [{}] {text}\n", std::process::id());
    OpenOptions::new().create(true).append(true).open(path)?.write_all(whole.as_bytes())
}

/// Lets panics, which are caught at the host's boundary, say where they were.
pub fn catch_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| line(&format!("panic: {panic}")))));
}
