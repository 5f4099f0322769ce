//! How sources are named: a host, a script and the engine may spell one image sequence differently.

use std::path::Path;

/// A name to compare sources by: a pattern's number as %0Nd, whether it was written so or as ####, and with slashes.
pub fn canonical(source: &str) -> String {
    let hashes = source.find('#').map(|at| (at, source[at..].bytes().take_while(|&byte| byte == b'#').count()));
    let named = match hashes {
        Some((at, count)) => format!("{}%0{count}d{}", &source[..at], &source[at + count..]),
        None => source.to_owned(),
    };
    if cfg!(windows) { named.replace('\\', "/") } else { named }
}

/// The source that a host's path of a clip means, as a path or a pattern; "" where it is of nothing on this disk. Resolve names
/// sequences as a.[0001-0048].exr; others name one of their files.
pub fn of_host(path: &str) -> String {
    let file = Path::new(path);
    if file.is_file() {
        return sequence_of(file).unwrap_or_else(|| path.to_owned());
    }
    let Some((head, (first, tail))) = path.rsplit_once('[').and_then(|(head, rest)| {
        let (range, tail) = rest.split_once(']')?;
        let (first, last) = range.split_once('-')?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        (is_number(first) && is_number(last)).then_some((head, (first, tail)))
    }) else {
        return String::new();
    };
    let is_there = Path::new(&format!("{head}{first}{tail}")).is_file();
    if is_there { format!("{head}%0{}d{tail}", first.len()) } else { String::new() }
}

/// The pattern of the sequence that a file is a frame of; None for a file without neighbours: a video, a still.
fn sequence_of(file: &Path) -> Option<String> {
    let (stem, ending) = (file.file_stem()?.to_str()?, file.extension()?.to_str()?);
    let head = stem.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let digits = &stem[head.len()..];
    let number: u64 = digits.parse().ok()?;
    let width = digits.len();
    let is_neighbour = |number: Option<u64>| {
        number.is_some_and(|number| file.with_file_name(format!("{head}{number:0width$}.{ending}")).is_file())
    };
    let is_video = ["mov", "mp4", "mkv", "mxf", "avi", "m4v", "webm", "braw", "r3d"].contains(&&*ending.to_lowercase());
    let found = !is_video && (is_neighbour(number.checked_add(1)) || is_neighbour(number.checked_sub(1)));
    found.then(|| file.with_file_name(format!("{head}%0{width}d.{ending}")).to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_pattern_are_one() {
        assert_eq!(canonical("/a/sh.####.exr"), "/a/sh.%04d.exr");
        assert_eq!(canonical("/a/sh.%04d.exr"), "/a/sh.%04d.exr");
        assert_eq!(canonical("/a/b.mov"), "/a/b.mov");
    }

    #[test]
    fn hosts_paths_are_found_on_disk() {
        let folder = std::env::temp_dir().join(format!("paintover-source-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        for name in ["sh.0009.exr", "sh.0010.exr", "take.1.mov", "take.2.mov", "still.0001.png"] {
            std::fs::write(path(name), "").unwrap();
        }
        assert_eq!(of_host(&path("sh.[0009-0010].exr")), path("sh.%04d.exr"));
        assert_eq!(of_host(&path("sh.0009.exr")), path("sh.%04d.exr"));
        assert_eq!(of_host(&path("take.1.mov")), path("take.1.mov"));
        assert_eq!(of_host(&path("still.0001.png")), path("still.0001.png"));
        assert!(
            [path("gone.mov"), path("gone.[1-2].exr"), path("[a-b].exr"), String::new()]
                .iter()
                .all(|p| of_host(p).is_empty())
        );
        std::fs::remove_dir_all(folder).unwrap();
    }
}
