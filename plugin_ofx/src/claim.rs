//! Which process acts under an effect's id, and whether a project that is opened has been left behind by a copy of it.
//!
//! No host tells which project an effect is in. So beside an effect's paintings lies a claim, `claim.json`, which the process
//! that acts under the id holds locked: a copy of the project in another process finds it locked. And it names the lineage, a
//! token that is renewed in each session in which the effect acts and is stored in the project too: a project with an older
//! token than one that was saved since is a copy that parted from it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use serde_json::{Value, json};
use uuid::Uuid;

/// A claim that this process holds, until it is dropped.
pub struct Claim {
    file: File,
    /// The token of this session.
    pub lineage: String,
    is_saved: bool,
}

impl Claim {
    /// Claims an effect's id in the data folder. None where it is another's: it acts in another process, or the project that
    /// has `lineage` parted from the one that acted last.
    pub fn take(folder: &Path, effect: &str, lineage: &str) -> Option<Self> {
        let place = folder.join("painting").join(effect);
        let opened = fs::create_dir_all(&place).and_then(|()| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(place.join("claim.json"))
        });
        let mut file = opened.inspect_err(|error| log::warn!("{} cannot be claimed: {error}", place.display())).ok()?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return None; // an error is of a file system without locks
        }
        let mut text = String::new();
        let _ = file.read_to_string(&mut text);
        let known: Value = serde_json::from_str(&text).unwrap_or_default();
        let is_saved = known["saved"] == true;
        if is_saved && known["lineage"].as_str().is_some_and(|newest| newest != lineage) {
            return None;
        }
        let mut claim = Self { file, lineage: Uuid::new_v4().simple().to_string(), is_saved: false };
        claim.write();
        Some(claim)
    }

    /// Notes that the project is being saved with this session's token.
    pub fn set_saved(&mut self) {
        if !self.is_saved {
            self.is_saved = true;
            self.write();
        }
    }

    fn write(&mut self) {
        let text = json!({"lineage": self.lineage, "saved": self.is_saved}).to_string();
        let written =
            self.file.set_len(0).and_then(|()| self.file.rewind()).and_then(|()| self.file.write_all(text.as_bytes()));
        if let Err(error) = written {
            log::warn!("a claim cannot be written: {error}");
        }
    }
}

impl Drop for Claim {
    /// Unlocks by itself: to close the file does not while a process that another thread is starting has it still, between its
    /// fork and its exec.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> std::path::PathBuf {
        std::env::temp_dir().join(format!("paintover-claim-{}", Uuid::new_v4().simple()))
    }

    #[test]
    fn held_claim_is_nobody_elses() {
        let folder = folder();
        let first = Claim::take(&folder, "effect", "").unwrap();
        assert!(Claim::take(&folder, "effect", &first.lineage).is_none()); // a lock is of one opening of the file
        assert!(Claim::take(&folder, "another", "").is_some());
        let lineage = first.lineage.clone();
        drop(first);
        assert!(Claim::take(&folder, "effect", &lineage).is_some());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn claim_ends_while_a_child_process_has_the_file() {
        let folder = folder();
        let claim = Claim::take(&folder, "effect", "").unwrap();
        let (lineage, inherited) = (claim.lineage.clone(), claim.file.try_clone().unwrap());
        drop(claim);
        assert!(Claim::take(&folder, "effect", &lineage).is_some());
        drop(inherited);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn project_that_was_left_behind_by_its_copy_is_told() {
        let folder = folder();
        let original = Claim::take(&folder, "effect", "").unwrap().lineage.clone();
        let mut copy = Claim::take(&folder, "effect", &original).unwrap();
        copy.set_saved();
        let newest = copy.lineage.clone();
        drop(copy);
        assert!(Claim::take(&folder, "effect", &original).is_none());
        assert!(Claim::take(&folder, "effect", &newest).is_some());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn session_that_was_never_saved_is_gone_on_with() {
        let folder = folder();
        let saved = Claim::take(&folder, "effect", "").unwrap().lineage.clone();
        drop(Claim::take(&folder, "effect", &saved).unwrap()); // the host crashed
        assert!(Claim::take(&folder, "effect", &saved).is_some());
        fs::write(folder.join("painting/effect/claim.json"), "not JSON").unwrap();
        assert!(Claim::take(&folder, "effect", &saved).is_some());
        fs::remove_dir_all(folder).unwrap();
    }
}
