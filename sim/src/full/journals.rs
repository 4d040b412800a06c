//! The journals of a node's shards, noted as it runs.

use std::io;
use std::sync::Arc;

use presence_core::tracker::journal::{Header, Record};
use presence_server::journal::{Journal, Journals};

use super::happened::Happened;
use super::stage::Stage;

/// Notes what happens to the shards of a node.
#[derive(Debug)]
pub(super) struct StageJournals {
    pub(super) stage: Arc<Stage>,
    pub(super) node: usize,
}

struct Noted {
    stage: Arc<Stage>,
    node: usize,
    shard: usize,
}

impl Journals for StageJournals {
    fn open(&self, shard: u32, header: &Header) -> io::Result<Box<dyn Journal>> {
        let (node, shard) = (self.node, shard as usize);
        self.stage.note(Happened::Began {
            node,
            shard,
            header: Box::new(header.clone()),
        });
        let stage = Arc::clone(&self.stage);
        Ok(Box::new(Noted { stage, node, shard }))
    }
}

impl Journal for Noted {
    fn record(&mut self, record: &Record) {
        self.stage.note(Happened::Input {
            node: self.node,
            shard: self.shard,
            record: Box::new(record.clone()),
        });
    }
}
