//! The files to replay: those named, those in folders that are named, or those built in.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::kind::{Content, Kind, Transcript, content};
use super::{Unreadable, is_transcript};

/// How many folders may lie within each other, so that a link to a folder above ends.
const DEPTH: usize = 32;

/// One file, or what stands in its place.
pub(super) enum Source {
    /// A recording that is built in.
    BuiltIn(&'static str, &'static str),
    /// A file that was named: it must hold a vector.
    Named(PathBuf),
    /// A file found in the folder that is the `folder`-th path named.
    Found { path: PathBuf, folder: usize },
    /// A path that could not be looked into.
    Broken(PathBuf, Unreadable),
}

/// What a source holds.
pub(super) enum Held {
    Vector(Kind, Value),
    /// Found in a folder and passed over.
    Skipped(Skipped),
}

/// Why a file in a folder is passed over.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skipped {
    Transcript(Transcript),
    /// Not JSON, neither by its name nor by its first character.
    Other,
}

/// Everything built in, by name.
pub(super) fn built_in() -> Vec<Source> {
    let mut sources: Vec<_> = crate::fixtures::vectors().collect();
    sources.sort_by_cached_key(|(name, _)| natural(name));
    sources
        .into_iter()
        .map(|(name, text)| Source::BuiltIn(name, text))
        .collect()
}

/// The files named, and those in the folders named, each folder's by name.
pub(super) fn expand(paths: &[PathBuf]) -> Vec<Source> {
    let mut sources = Vec::new();
    for (folder, path) in paths.iter().enumerate() {
        if path.is_dir() {
            collect(path, folder, DEPTH, &mut sources);
        } else {
            sources.push(Source::Named(path.clone()));
        }
    }
    sources
}

fn collect(path: &Path, folder: usize, depth: usize, sources: &mut Vec<Source>) {
    if depth == 0 {
        let unreadable = Unreadable::new("", format_args!("more than {DEPTH} folders deep"));
        return sources.push(Source::Broken(path.to_owned(), unreadable));
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => return sources.push(Source::Broken(path.to_owned(), failed(&error))),
    };
    entries.retain(|entry| !is_hidden(&entry.file_name()));
    entries.sort_by_cached_key(|entry| natural(&entry.file_name().to_string_lossy()));
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, folder, depth - 1, sources);
        } else {
            sources.push(Source::Found { path, folder });
        }
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// A name that sorts as people count: `seed-2` before `seed-10`.
fn natural(name: &str) -> Vec<(String, usize, String)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        let number = number.trim_start_matches('0');
        parts.push((text.to_owned(), number.len(), number.to_owned()));
        rest = tail;
    }
    parts
}

impl Source {
    /// The name to show.
    pub(super) fn name(&self) -> String {
        match self {
            Self::BuiltIn(name, _) => (*name).to_owned(),
            Self::Named(path) | Self::Found { path, .. } | Self::Broken(path, _) => {
                path.display().to_string()
            }
        }
    }

    /// Reads it and tells what it holds.
    pub(super) fn read(&self) -> Result<Held, Unreadable> {
        let bytes;
        let (text, is_found) = match self {
            Self::BuiltIn(_, text) => (*text, false),
            Self::Broken(_, unreadable) => return Err(unreadable.clone()),
            Self::Named(path) => {
                bytes = fs::read(path).map_err(|error| failed(&error))?;
                (utf8(&bytes)?, false)
            }
            Self::Found { path, .. } => {
                bytes = fs::read(path).map_err(|error| failed(&error))?;
                if !is_json(path, &bytes) {
                    return Ok(Held::Skipped(Skipped::Other));
                }
                (utf8(&bytes)?, true)
            }
        };
        match content(text)? {
            Content::Vector(kind, value) => Ok(Held::Vector(kind, value)),
            Content::Transcript(transcript) if is_found => {
                Ok(Held::Skipped(Skipped::Transcript(transcript)))
            }
            Content::Transcript(transcript) => Err(is_transcript(transcript)),
        }
    }
}

/// Whether a file in a folder must be readable: by its name, or because it begins as JSON does.
fn is_json(path: &Path, bytes: &[u8]) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    matches!(extension, Some("json" | "jsonl")) || bytes.trim_ascii_start().starts_with(b"{")
}

fn utf8(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Unreadable::new("", format_args!("not UTF-8 text from byte {at} on"))
    })
}

fn failed(error: &io::Error) -> Unreadable {
    Unreadable::new("", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_people_count() {
        let mut names = ["b/seed-10", "b/seed-2", "a", "b/seed-02x", "b/seed-1", "b"];
        names.sort_by_cached_key(|name| natural(name));
        assert_eq!(
            names,
            ["a", "b", "b/seed-1", "b/seed-2", "b/seed-02x", "b/seed-10"]
        );
    }

    #[test]
    fn what_does_not_look_like_json_is_told_by_name_and_first_character() {
        let json = |name: &str, text: &str| is_json(Path::new(name), text.as_bytes());
        assert!(json("a.json", ""));
        assert!(json("a.jsonl", "# no"));
        assert!(json("a", " \n{"));
        assert!(!json("README.md", "# {"));
        assert!(!json("a", ""));
    }
}
