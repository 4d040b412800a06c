//! The recordings to replay: those named, those in folders that are named, or those built in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::fixtures;
use crate::vectors::{Content, Transcript, content};

/// The recordings of one kind that were found.
#[derive(Default)]
pub(crate) struct Sources {
    /// Each with its name, and its text or why it can't be read.
    pub(crate) found: Vec<(String, Result<String, String>)>,
    /// Those in folders that are of the other kind, which were passed over.
    pub(crate) skipped: usize,
}

impl Sources {
    /// What is at `paths`; without any, what is built in.
    pub(crate) fn at(paths: &[PathBuf], kind: Transcript) -> Self {
        let mut sources = Self::default();
        if paths.is_empty() {
            let built_in = fixtures::ALL
                .iter()
                .filter(|(_, text)| content(text) == Ok(Content::Transcript(kind)));
            sources.found = built_in
                .map(|&(name, text)| (name.to_owned(), Ok(text.to_owned())))
                .collect();
        }
        for path in paths {
            sources.collect(path, true, kind);
        }
        sources
    }

    fn collect(&mut self, path: &Path, is_named: bool, kind: Transcript) {
        let name = path.display().to_string();
        if path.is_dir() {
            match fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
                Ok(mut entries) => {
                    entries.sort_by_key(fs::DirEntry::file_name);
                    for entry in entries {
                        self.collect(&entry.path(), false, kind);
                    }
                }
                Err(error) => self.found.push((name, Err(error.to_string()))),
            }
            return;
        }
        if !is_named
            && path
                .extension()
                .is_none_or(|extension| extension != "jsonl")
        {
            return;
        }
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        let is_other = |text: &String| matches!(content(text), Ok(Content::Transcript(other)) if other != kind);
        if !is_named && text.as_ref().is_ok_and(is_other) {
            self.skipped += 1;
        } else {
            self.found.push((name, text));
        }
    }
}
