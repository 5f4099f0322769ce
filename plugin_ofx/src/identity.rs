//! Whose effect it is: its id, and the clip that it belongs to.

use std::collections::HashMap;
use std::sync::Mutex;

use uuid::Uuid;

use crate::clip;
use crate::host::Effect;
use crate::instance::Instance;
use crate::keyframes::Keyframes;
use crate::params::{self, Settings};

/// Which instance of this process acts under an id. A copied effect has its original's id until it acts.
static CLAIMS: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

/// Whether the effect was copied to another clip than the one that it was propagated on.
pub fn is_elsewhere(effect: &Effect, settings: &Settings) -> bool {
    clip::is_elsewhere(effect, &settings.bound_to, settings.is_sent)
}

/// Makes the effect act for the clip that it is on: gives it an id of its own, and takes what belongs to another clip away.
/// Returns the settings after that, and whether keyframes of another clip were removed.
pub fn adopt(effect: &Effect, instance: &Instance, settings: &Settings, time: f64) -> (Settings, bool) {
    let elsewhere = is_elsewhere(effect, settings);
    let known = if elsewhere { "" } else { &settings.effect_id };
    params::set_string(effect, params::EFFECT_ID, &claim(known, instance.number));
    if elsewhere {
        params::set_keyframes(effect, &Keyframes::default());
        for param in [params::OWNERS, params::KEYFRAME_PATH, params::KEYFRAME_MATTE] {
            params::set_string(effect, param, "");
        }
    }
    params::set_string(effect, params::BOUND_TO, &clip::identity(effect, settings.is_sent));
    (Settings::read(effect, time), elsewhere)
}

/// The id under which an instance acts: the known one, unless there is none or another instance acts under it.
fn claim(known: &str, instance: u64) -> String {
    let mut claims = CLAIMS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let claims = claims.get_or_insert_default();
    if !known.is_empty() && *claims.entry(known.to_owned()).or_insert(instance) == instance {
        return known.to_owned();
    }
    let id = Uuid::new_v4().simple().to_string();
    claims.insert(id.clone(), instance);
    id
}

/// Releases the id of an instance that is destroyed.
pub fn release(instance: u64) {
    let mut claims = CLAIMS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    claims.get_or_insert_default().retain(|_, claimant| *claimant != instance);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_gets_an_id_of_its_own() {
        let first = claim("", 1);
        assert_eq!(claim(&first, 1), first);
        assert_ne!(claim(&first, 2), first);
        release(1);
        assert_eq!(claim(&first, 3), first);
    }
}
