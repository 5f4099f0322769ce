//! The log file, `logs/openfx.log` in the data folder: what happened, for when no host shows it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::{Mutex, Once};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{LevelFilter, Log, Metadata, Record};

use crate::data_folder::data_folder;

const MAX_BYTES: u64 = 1 << 20;

struct FileLog {
    /// The last line: what every render would repeat is written once.
    last: Mutex<String>,
}

static LOG: FileLog = FileLog { last: Mutex::new(String::new()) };

/// Sends this library's records, and panics with their place, to the file.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if log::set_logger(&LOG).is_ok() {
            log::set_max_level(LevelFilter::Info);
        }
        std::panic::set_hook(Box::new(|panic| log::error!("panic: {panic}")));
    });
}

impl Log for FileLog {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
    }

    /// Never fails: a log that cannot be written must not disturb a host.
    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        {
            let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if *last == text {
                return;
            }
            last.clone_from(&text);
        }
        let _ = append(&text);
    }

    fn flush(&self) {}
}

fn append(text: &str) -> std::io::Result<()> {
    let Some(folder) = data_folder() else { return Ok(()) };
    let path = folder.join("logs").join("openfx.log");
    fs::create_dir_all(folder.join("logs"))?;
    if fs::metadata(&path).is_ok_and(|found| found.len() > MAX_BYTES) {
        fs::rename(&path, path.with_extension("log.1"))?;
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let line = format!("{seconds:.3} [{}] {text}\n", std::process::id());
    OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
}
