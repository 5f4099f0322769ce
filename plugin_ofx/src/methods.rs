//! The engine's methods and their parameters, from a file: a host asks for a description before any engine runs.

use std::fs;
use std::sync::OnceLock;

use prost::Message;

use crate::data_folder::data_folder;
use crate::wire::{ListMethodsResponse, Method};

const FILE: &str = "openfx-methods.bin";
/// The choice that leaves the method to the engine: the best that its machine can run.
pub const BEST: &str = "best";
pub const DRAFT: &str = "draft";

/// Writes the engine's answer for the next description, if it has changed.
pub fn store(answer: &ListMethodsResponse) {
    let Some(folder) = data_folder() else { return };
    let (path, bytes) = (folder.join(FILE), answer.encode_to_vec());
    if answer.methods.is_empty() || fs::read(&path).is_ok_and(|known| known == bytes) {
        return;
    }
    let partial = folder.join(format!("{FILE}.{}", std::process::id()));
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, &path));
    if let Err(error) = written {
        log::warn!("{} cannot be written: {error}", path.display());
    }
}

/// The methods that an engine listed last, else those built in. Constant for the life of the process: a host stores a choice by
/// its index in the list that was described.
pub fn known() -> &'static [Method] {
    static KNOWN: OnceLock<Vec<Method>> = OnceLock::new();
    KNOWN.get_or_init(read)
}

fn read() -> Vec<Method> {
    let stored = data_folder().and_then(|folder| fs::read(folder.join(FILE)).ok());
    let answer = stored.and_then(|bytes| ListMethodsResponse::decode(&bytes[..]).ok()).unwrap_or_default();
    let usable: Vec<_> = answer.methods.into_iter().filter(|method| is_name(&method.name)).collect();
    if usable.is_empty() { built_in() } else { usable }
}

/// Whether a name may be part of a parameter's name in every host.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The methods of the engine that this library was built beside: see tools/ofx_methods.py.
fn built_in() -> Vec<Method> {
    serde_json::from_str(include_str!("../methods.json")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_methods_are_described() {
        let methods = built_in();
        assert_eq!(methods[0].name, "draft");
        assert!(methods.iter().all(|method| !method.title.is_empty() && !method.parameters.is_empty()));
    }

    #[test]
    fn names_are_ascii_identifiers() {
        assert!(is_name("vp4") && is_name("i2v_edit"));
        assert!(!is_name("") && !is_name("a b") && !is_name("ä"));
    }
}
