//! Whose effect it is: its id, and the clip that it belongs to.

use std::collections::HashMap;
use std::sync::Mutex;

use uuid::Uuid;

use crate::claim::Claim;
use crate::clip;
use crate::data_folder::data_folder;
use crate::host::Effect;
use crate::instance::Instance;
use crate::keyframes::Keyframes;
use crate::params::{self, Settings};
use crate::plate_file;

/// Which instance of this process acts under an id, and which instances have it.
#[derive(Default)]
struct Ids {
    claims: HashMap<String, u64>,
    /// The id of each live instance, as its parameter last had it.
    held: HashMap<u64, String>,
    /// What this process holds against others, by the id.
    locks: HashMap<String, Claim>,
}

static IDS: Mutex<Option<Ids>> = Mutex::new(None);

fn with_ids<T>(work: impl FnOnce(&mut Ids) -> T) -> T {
    let mut ids = IDS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    work(ids.get_or_insert_default())
}

/// Notes the id that an instance has: of those that share one, none is known to be the original.
pub fn note(instance: &Instance, settings: &Settings) {
    with_ids(|ids| ids.note(&settings.effect_id, instance.number));
}

/// Whether the effect was copied to another clip than the one that it was propagated on.
pub fn is_elsewhere(effect: &Effect, settings: &Settings) -> bool {
    clip::is_elsewhere(effect, &settings.bound_to, settings.is_sent)
}

/// Makes the effect act for the clip that it is on: gives it an id of its own, and takes what belongs to another clip away.
/// Returns the settings after that, and whether keyframes of another clip were removed.
pub fn adopt(effect: &Effect, instance: &Instance, settings: &Settings, time: f64) -> (Settings, bool) {
    let elsewhere = is_elsewhere(effect, settings);
    let known = if elsewhere { "" } else { &settings.effect_id };
    let (id, lineage) = with_ids(|ids| {
        let id = ids.claim(known, instance.number);
        match ids.lock(&id, &params::string(effect, params::LINEAGE)) {
            Some(lineage) => (id, lineage),
            None => ids.renew(instance.number),
        }
    });
    params::set_string(effect, params::EFFECT_ID, &id);
    params::set_string(effect, params::LINEAGE, &lineage);
    effect.set_needs_syncing(true);
    if !elsewhere && !known.is_empty() && id != *known {
        take_paintings(effect, settings, &id);
    }
    if elsewhere {
        params::set_keyframes(effect, &Keyframes::default());
        for param in [params::OWNERS, params::KEYFRAME_PATH, params::KEYFRAME_MATTE] {
            params::set_string(effect, param, "");
        }
    }
    params::set_string(effect, params::BOUND_TO, &clip::identity(effect, settings.is_sent));
    (Settings::read(effect, time), elsewhere)
}

/// The host is about to save or copy the effect's parameters.
pub fn saved(effect: &Effect, instance: &Instance) {
    with_ids(|ids| {
        let held = ids.held.get(&instance.number).filter(|id| ids.claims.get(*id) == Some(&instance.number)).cloned();
        if let Some(claim) = held.and_then(|id| ids.locks.get_mut(&id)) {
            claim.set_saved();
        }
    });
    effect.set_needs_syncing(false);
}

/// Gives an effect that shared its id copies of its own of the pictures that were painted under it, so that no two effects paint
/// on one file and no painting is lost.
fn take_paintings(effect: &Effect, settings: &Settings, id: &str) {
    let Some(folder) = data_folder() else { return };
    let mut keyframes = Keyframes::default();
    for keyframe in settings.keyframes.iter() {
        let mut own = keyframe.clone();
        for path in [&mut own.path, &mut own.matte] {
            match plate_file::copy_painting(folder, path.as_ref(), &settings.effect_id, id) {
                Ok(Some(copy)) => *path = copy.to_string_lossy().into_owned(),
                Ok(None) => {}
                Err(reason) => log::warn!("{reason}"),
            }
        }
        if Settings::edited_keyframe(effect).is_some_and(|edited| edited == *keyframe) {
            params::set_string(effect, params::KEYFRAME_PATH, &own.path);
            params::set_string(effect, params::KEYFRAME_MATTE, &own.matte);
        }
        keyframes.put(own);
    }
    params::set_keyframes(effect, &keyframes);
}

impl Ids {
    fn note(&mut self, id: &str, instance: u64) {
        self.held.insert(instance, id.to_owned());
    }

    /// The id under which an instance acts: the known one, if it is its alone or it has acted under it; else a new one.
    fn claim(&mut self, known: &str, instance: u64) -> String {
        let claimant = self.claims.get(known).copied();
        let is_shared = self.held.iter().any(|(&other, id)| other != instance && id == known);
        let keeps = claimant.map_or(!is_shared, |claimant| claimant == instance);
        let id = if keeps && !known.is_empty() { known.to_owned() } else { new_id() };
        self.claims.insert(id.clone(), instance);
        self.note(&id, instance);
        id
    }

    /// Holds an id against other processes; the lineage to store with it. None where it is another's.
    fn lock(&mut self, id: &str, lineage: &str) -> Option<String> {
        if let Some(claim) = self.locks.get(id) {
            return Some(claim.lineage.clone());
        }
        let Some(folder) = data_folder() else { return Some(lineage.to_owned()) };
        let claim = Claim::take(folder, id, lineage)?;
        let lineage = claim.lineage.clone();
        self.locks.insert(id.to_owned(), claim);
        Some(lineage)
    }

    /// A new id for an instance, and its lineage.
    fn renew(&mut self, instance: u64) -> (String, String) {
        let id = new_id();
        self.claims.retain(|_, claimant| *claimant != instance);
        self.claims.insert(id.clone(), instance);
        self.note(&id, instance);
        let lineage = self.lock(&id, "").unwrap_or_default();
        (id, lineage)
    }

    fn release(&mut self, instance: u64) {
        self.claims.retain(|_, claimant| *claimant != instance);
        self.held.remove(&instance);
        let held = &self.held;
        self.locks.retain(|id, _| held.values().any(|other| other == id));
    }
}

fn new_id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Releases the id of an instance that is destroyed.
pub fn release(instance: u64) {
    with_ids(|ids| ids.release(instance));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_gets_an_id_of_its_own() {
        let mut ids = Ids::default();
        let first = ids.claim("", 1);
        ids.note(&first, 2);
        assert_eq!(ids.claim(&first, 1), first);
        assert_ne!(ids.claim(&first, 2), first);
        ids.release(1);
        assert_eq!(ids.claim(&first, 3), first);
    }

    #[test]
    fn shared_id_is_nobodys_in_a_new_session() {
        let mut ids = Ids::default();
        ids.note("saved", 1);
        ids.note("saved", 2);
        let own = ids.claim("saved", 2);
        assert_ne!(own, "saved");
        assert_eq!(ids.claim(&own, 2), own);
        assert_eq!(ids.claim("saved", 1), "saved"); // it is its alone by now
    }
}
