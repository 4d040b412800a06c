//! Journals: what happens to a node's shards, written down so that it can be played again.
//!
//! A line for the shard's beginning, and one for each input of its tracker, see
//! [`presence_core::tracker::journal`]. `sim replay FILE` plays one.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use presence_core::tracker::journal::{Header, Record};

/// Where the journals of a node's shards go.
pub trait Journals: Send + Sync + fmt::Debug {
    /// Begins the journal of one life of a shard.
    ///
    /// # Errors
    ///
    /// Why it can't be written: the shard goes on without one.
    fn open(&self, shard: u32, header: &Header) -> io::Result<Box<dyn Journal>>;
}

/// The journal of one life of a shard.
pub trait Journal: Send {
    /// Takes what happens next.
    fn record(&mut self, record: &Record);

    /// Whether it holds all that it was given.
    fn is_whole(&self) -> bool {
        true
    }
}

/// Journals as files of a directory: `NAME-SHARD-INCARNATION.jsonl`.
#[derive(Clone, Debug)]
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// Journals in `directory`, which is made where there is none.
    ///
    /// # Errors
    ///
    /// Why it can't be made.
    pub fn new(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }
}

impl Journals for Files {
    fn open(&self, shard: u32, header: &Header) -> io::Result<Box<dyn Journal>> {
        let replica = &header.replica;
        // A name may have characters that are none of a file's name.
        let name: String = replica
            .name()
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_.@".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let file = format!("{name}-{shard}-{}.jsonl", replica.incarnation());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(self.directory.join(file))?;
        let mut journal = FileJournal {
            file: Some(BufWriter::new(file)),
        };
        journal.write(&header.to_line());
        Ok(Box::new(journal))
    }
}

/// A journal that is a file.
struct FileJournal {
    /// `None` once it could not be written: a journal with a gap is none.
    file: Option<BufWriter<File>>,
}

impl FileJournal {
    fn write(&mut self, line: &str) {
        let Some(file) = &mut self.file else {
            return;
        };
        // Each line at once, so that a crash leaves a whole journal.
        let written = writeln!(file, "{line}").and_then(|()| file.flush());
        if let Err(error) = written {
            tracing::error!(%error, "a journal ends, since it can't be written");
            self.file = None;
        }
    }
}

impl Journal for FileJournal {
    fn record(&mut self, record: &Record) {
        self.write(&record.to_line());
    }

    fn is_whole(&self) -> bool {
        self.file.is_some()
    }
}
