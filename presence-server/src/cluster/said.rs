//! What was logged: a node that is refused tries again and again, and its reason is worth one line.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many addresses and reasons are remembered. With more, lines may repeat.
const MAX_REMEMBERED: usize = 1024;

/// What was logged of which address.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<BTreeSet<(String, &'static str)>>);

impl Said {
    /// Whether this is to be logged: it was not before.
    pub(super) fn is_new(&self, address: &str, reason: &'static str) -> bool {
        let mut said = self.lock();
        if said.len() >= MAX_REMEMBERED {
            said.clear();
        }
        said.insert((address.to_owned(), reason))
    }

    /// All is well there: what comes next is to be logged again.
    pub(super) fn forget(&self, address: &str) {
        self.lock().retain(|(known, _)| known != address);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(String, &'static str)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_once_for_each_address_until_all_is_well() {
        let said = Said::default();
        assert!(said.is_new("a:1", "secret"));
        assert!(!said.is_new("a:1", "secret"));
        assert!(said.is_new("a:1", "pool size") && said.is_new("b:1", "secret"));
        said.forget("a:1");
        assert!(said.is_new("a:1", "secret") && !said.is_new("b:1", "secret"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let said = Said::default();
        for n in 0..3 * MAX_REMEMBERED {
            said.is_new(&n.to_string(), "secret");
        }
        assert!(said.lock().len() <= MAX_REMEMBERED);
    }
}
