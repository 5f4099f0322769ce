//! The effect's keyframes: painted pictures and their frames' numbers, stored in one string parameter.

use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

/// One painted frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyframe {
    /// The frame's number in the shot.
    pub frame: i64,
    /// The painted picture.
    pub path: String,
    /// A picture whose grey values say where the edit applies; or empty.
    pub matte: String,
}

/// Keyframes in ascending order, at most one a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyframes(Vec<Keyframe>);

impl Keyframes {
    /// Reads what `to_text` writes; what is not such text is no keyframes.
    pub fn from_text(text: &str) -> Self {
        let mut keyframes = Self::default();
        let entries = serde_json::from_str::<Vec<Value>>(text).unwrap_or_default();
        for entry in entries {
            let string = |index: usize| entry.get(index).and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(frame) = entry.get(0).and_then(Value::as_i64) {
                keyframes.put(Keyframe { frame, path: string(1), matte: string(2) });
            }
        }
        keyframes
    }

    /// JSON: [[frame, path, matte], …].
    pub fn to_text(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        Value::Array(self.0.iter().map(|keyframe| json!([keyframe.frame, keyframe.path, keyframe.matte])).collect())
            .to_string()
    }

    /// Adds a keyframe. It replaces the one of its frame, and the one of the same picture: a picture is of one frame, so a
    /// corrected number moves it.
    pub fn put(&mut self, keyframe: Keyframe) {
        self.0.retain(|other| other.frame != keyframe.frame && other.path != keyframe.path);
        let index = self.0.partition_point(|other| other.frame < keyframe.frame);
        self.0.insert(index, keyframe);
    }

    /// Removes the keyframe of a frame; false if there is none.
    pub fn remove(&mut self, frame: i64) -> bool {
        let count = self.0.len();
        self.0.retain(|keyframe| keyframe.frame != frame);
        self.0.len() < count
    }

    pub fn get(&self, frame: i64) -> Option<&Keyframe> {
        self.0.iter().find(|keyframe| keyframe.frame == frame)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Keyframe> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The nearest keyframe after a frame (`forward`) or before it.
    pub fn neighbour(&self, frame: i64, forward: bool) -> Option<&Keyframe> {
        if forward {
            self.0.iter().find(|keyframe| keyframe.frame > frame)
        } else {
            self.0.iter().rev().find(|keyframe| keyframe.frame < frame)
        }
    }

    /// Whether they are other than what was propagated: of other frames, or painted on since `when`, in Unix time.
    pub fn changed_since(&self, frames: &[i64], when: f64) -> bool {
        let is_newer = |path: &String| {
            let changed = std::fs::metadata(path).and_then(|found| found.modified()).ok();
            let age = changed.and_then(|changed| changed.duration_since(SystemTime::UNIX_EPOCH).ok());
            age.is_some_and(|age| age.as_secs_f64() > when)
        };
        !self.0.iter().map(|keyframe| keyframe.frame).eq(frames.iter().copied())
            || self.0.iter().any(|keyframe| is_newer(&keyframe.path) || is_newer(&keyframe.matte))
    }

    /// One line a keyframe for the artist: the frame's number and the picture's name.
    pub fn summary(&self) -> String {
        let line = |keyframe: &Keyframe| {
            let file = Path::new(&keyframe.path).file_name().unwrap_or_default().to_string_lossy();
            let matte = if keyframe.matte.is_empty() { "" } else { " + matte" };
            format!("{}: {file}{matte}", keyframe.frame)
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyframe(frame: i64, path: &str) -> Keyframe {
        Keyframe { frame, path: path.into(), matte: String::new() }
    }

    #[test]
    fn text_round_trips() {
        let mut keyframes = Keyframes::default();
        keyframes.put(Keyframe { frame: 8, path: "b \"ä\".tif".into(), matte: "m.png".into() });
        keyframes.put(keyframe(-4, "a.tif"));
        assert_eq!(Keyframes::from_text(&keyframes.to_text()), keyframes);
        assert_eq!(keyframes.summary(), "-4: a.tif\n8: b \"ä\".tif + matte");
        assert!(["", "nonsense", "[1]", "[[\"a\"]]", "{}"].iter().all(|text| Keyframes::from_text(text).is_empty()));
    }

    #[test]
    fn corrected_number_moves_the_picture() {
        let mut keyframes = Keyframes::default();
        keyframes.put(keyframe(40, "a.tif"));
        keyframes.put(keyframe(4, "a.tif"));
        keyframes.put(keyframe(9, "b.tif"));
        keyframes.put(keyframe(9, "c.tif"));
        assert_eq!(
            keyframes.iter().map(|found| (found.frame, found.path.as_str())).collect::<Vec<_>>(),
            [(4, "a.tif"), (9, "c.tif")]
        );
    }

    #[test]
    fn neighbours_are_the_nearest() {
        let mut keyframes = Keyframes::default();
        [1, 5, 9].iter().for_each(|&frame| keyframes.put(keyframe(frame, &format!("{frame}.tif"))));
        assert_eq!(keyframes.neighbour(5, true).unwrap().frame, 9);
        assert_eq!(keyframes.neighbour(5, false).unwrap().frame, 1);
        assert!(keyframes.neighbour(9, true).is_none());
        assert!(keyframes.remove(5) && !keyframes.remove(5));
    }
}
