//! Paintover's data folder, by the rules of the engine and its clients.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// `$PAINTOVER_DATA` ("~" is the home folder), else `paintover` in the platform's folder for a user's data. None where there
/// is no home folder. Looked up once: a host may change its environment while other threads run.
pub fn data_folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(find).as_deref()
}

fn find() -> Option<PathBuf> {
    let Some(given) = std::env::var_os("PAINTOVER_DATA").filter(|given| !given.is_empty()) else {
        return Some(dirs::data_local_dir()?.join("paintover"));
    };
    let given = PathBuf::from(given);
    let path = match given.strip_prefix("~") {
        Ok(rest) => dirs::home_dir()?.join(rest),
        Err(_) => given,
    };
    std::path::absolute(path).ok()
}
