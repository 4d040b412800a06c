//! The refs of one join's list, as the node tells them.

use std::collections::{BTreeMap, BTreeSet};

use presence_core::client::{Diff, Meta, Presences};
use serde::Deserialize;

use super::super::channel;
use super::Rule;

/// What is in the list of one join, by ref.
#[derive(Default)]
pub(super) struct Refs {
    /// Whether a state has come. Before, what the list has is known from the diffs alone.
    synced: bool,
    listed: BTreeSet<Box<str>>,
    /// Before the state: what has left.
    left: BTreeSet<Box<str>>,
    /// What the client tracks, by number, until it says that it may go.
    own: BTreeMap<u32, String>,
}

/// What the client sends to track, to update or to untrack.
#[derive(Deserialize)]
struct Change {
    key: String,
    meta: Option<Numbered>,
}

#[derive(Deserialize)]
struct Numbered {
    n: u32,
}

/// What a meta says of an update.
#[derive(Deserialize)]
struct Updated {
    phx_ref_prev: Option<String>,
}

impl Refs {
    /// The client asks for a change of what it tracks.
    pub(super) fn sent(&mut self, event: &str, payload: &serde_json::Value) {
        let Ok(Change { key, meta }) = Change::deserialize(payload) else {
            return;
        };
        match meta {
            Some(Numbered { n }) => {
                self.own.insert(n, key);
            }
            None if event == "untrack" => self.own.retain(|_, own| *own != key),
            None => {}
        }
    }

    /// Whatever the client tracks may go.
    pub(super) fn release_all(&mut self) {
        self.own.clear();
    }

    pub(super) fn state(&mut self, state: &Presences) -> Result<(), Rule> {
        let listed = refs(state)?;
        let is_placed =
            self.synced || (self.listed.is_subset(&listed) && self.left.is_disjoint(&listed));
        self.synced = true;
        self.listed = listed;
        self.left.clear();
        if is_placed {
            Ok(())
        } else {
            Err(Rule::StatePlace)
        }
    }

    pub(super) fn diff(&mut self, diff: &Diff) -> Result<(), Rule> {
        let (joins, leaves) = (refs(diff.joins())?, refs(diff.leaves())?);
        let checked = self.check(diff, &joins, &leaves);
        self.own
            .retain(|number, _| !has_number(diff.leaves(), *number));
        self.listed.retain(|listed| !leaves.contains(listed));
        self.left.retain(|left| !joins.contains(left));
        self.listed.extend(joins);
        if !self.synced {
            self.left.extend(leaves);
        }
        checked
    }

    fn check(
        &self,
        diff: &Diff,
        joins: &BTreeSet<Box<str>>,
        leaves: &BTreeSet<Box<str>>,
    ) -> Result<(), Rule> {
        if !joins.is_disjoint(leaves) || !joins.is_disjoint(&self.listed) {
            return Err(Rule::JoinsOnce);
        }
        let known = |one: &str| self.listed.contains(one);
        let may_leave = |one: &str| known(one) || (!self.synced && !self.left.contains(one));
        if !leaves.iter().all(|one| may_leave(one)) {
            return Err(Rule::LeavesOnce);
        }
        for meta in metas(diff.joins()) {
            let updated = serde_json::from_str(meta.json().get());
            let Ok(Updated { phx_ref_prev }) = updated else {
                return Err(Rule::Payloads);
            };
            // One that was never told, or is back after its node was away, has no leave here.
            if phx_ref_prev.is_some_and(|prev| known(&prev) && !leaves.contains(&*prev)) {
                return Err(Rule::UpdateWhole);
            }
        }
        for (key, presence) in diff.leaves().iter() {
            let joined = diff.joins().get(key);
            let joined = joined.map_or(&[][..], |presence| presence.metas());
            for left in presence.metas().iter().filter_map(channel::number) {
                let is_own = self.own.get(&left).is_some_and(|own| own == key);
                // By what it became, by itself where its node takes another incarnation, or, where its
                // node stops and hands over, by another's.
                let is_replaced = |joined| joined >= left || !self.own.contains_key(&joined);
                let mut joined = joined.iter().filter_map(channel::number);
                if is_own && !joined.any(is_replaced) {
                    return Err(Rule::OwnStays);
                }
            }
        }
        Ok(())
    }
}

fn metas(presences: &Presences) -> impl Iterator<Item = &Meta> {
    presences.iter().flat_map(|(_, presence)| presence.metas())
}

fn has_number(presences: &Presences, number: u32) -> bool {
    metas(presences).any(|meta| channel::number(meta) == Some(number))
}

/// The refs of all metas, each of which must have one of its own.
fn refs(presences: &Presences) -> Result<BTreeSet<Box<str>>, Rule> {
    let mut refs = BTreeSet::new();
    for meta in metas(presences) {
        let phx_ref = meta.phx_ref().ok_or(Rule::Payloads)?;
        if !refs.insert(phx_ref.into()) {
            return Err(Rule::JoinsOnce);
        }
    }
    Ok(refs)
}
