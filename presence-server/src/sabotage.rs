//! Deliberate defects of a node, which a simulation plants to prove that it finds them.
//!
//! A node has none unless its settings bring a [`Saboteur`], which takes the feature `sabotage`. Without
//! it a [`Sabotage`] is nothing at all and never acts, so that what would ask it costs nothing.

use std::fmt;
#[cfg(feature = "sabotage")]
use std::sync::Arc;

/// What can be wrong with a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Defect {
    /// What a channel tracked is not dropped when its task ends.
    PresencesKept,
    /// A kept list is not taken for outdated when its topic changes, and is read until the next change.
    SnapshotLate,
    /// A `presence_state` is made at its time, and pushed only after the next diff of its topic.
    StateLate,
    /// The first broadcast after a channel has subscribed does not reach it.
    BroadcastLost,
    /// Frames of a link are delivered although another has taken its place.
    OldConnection,
    /// A node that stops does not tell the changes that wait, and says that it has.
    DrainForgets,
    /// Once it was full, the queue to a peer takes nothing any more, and does not say so.
    OverflowUnhealed,
    /// A `presence_diff` goes out twice.
    DiffTwice,
    /// A `presence_diff` never goes out.
    DiffLost,
    /// A `presence_diff` goes out as one with its leaves and then one with its joins.
    UpdateSplit,
    /// A channel's untrack is answered and not carried out.
    LeaveIgnored,
}

/// Decides when defects act.
pub trait Saboteur: Send + Sync + fmt::Debug {
    /// Whether the defect acts at this opportunity.
    fn acts(&self, defect: Defect) -> bool;
}

/// The defects of one node: none by default.
#[derive(Clone, Debug, Default)]
pub struct Sabotage {
    #[cfg(feature = "sabotage")]
    saboteur: Option<Arc<dyn Saboteur>>,
}

#[cfg(feature = "sabotage")]
impl Sabotage {
    /// The defects that act when `saboteur` says so.
    pub fn new(saboteur: Arc<dyn Saboteur>) -> Self {
        Self {
            saboteur: Some(saboteur),
        }
    }

    pub(crate) fn acts(&self, defect: Defect) -> bool {
        let saboteur = self.saboteur.as_ref();
        saboteur.is_some_and(|saboteur| saboteur.acts(defect))
    }
}

#[cfg(not(feature = "sabotage"))]
impl Sabotage {
    pub(crate) fn acts(&self, _: Defect) -> bool {
        false
    }
}
