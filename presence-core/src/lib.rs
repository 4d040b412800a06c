//! Phoenix Presence as pure state machines.
//!
//! Presence tells every client of a topic who is online. This crate holds all of it that can be had
//! without touching the outside world: the replicated set, what clients see of it, what a client does
//! with what it sees, and the formats in which all that travels. It is fully deterministic: the same
//! inputs give the same outputs, byte for byte, in every process.
//!
//! It does no I/O, reads no clock, draws no random numbers, starts no thread and awaits nothing. Time,
//! random choices and messages come in as arguments; what is to be done comes out. So it brings no
//! transport, no timer and no runtime: those are `presence-server`'s.
//!
//! | module | what lives there |
//! |---|---|
//! | [`clock`] | replicas, dots and version vectors |
//! | [`cloud`] | dots as intervals |
//! | [`entry`] | pids, keys and presences as the set lends them |
//! | [`set`] | the replicated set |
//! | [`delta`] | what one replica tells another about it |
//! | [`presence`] | metas by key, refs, the payloads of `presence_state` and `presence_diff` |
//! | [`client`] | a channel's presence list, as phoenix.js keeps it |
//! | [`channel`] | one socket's channels |
//! | [`wire`] | the serializers 1.0.0 and 2.0.0, and the cluster codec |
//! | [`tracker`] | one replica's protocol: heartbeats, transfers, who is up or down |
//! | [`token`] | signed tokens, as `Phoenix.Token` makes them |
//!
//! Every state machine keeps one contract: mutate it with a `handle_*` method, then drain its outputs
//! with `poll_*` until `None`. An output is never lost and never waits for the next input. No input
//! from a peer or a client can make it panic, or grow beyond a bound that its configuration names.
//!
//! # Example
//!
//! Two replicas, and what the second is told of the first:
//!
//! ```
//! use presence_core::clock::ReplicaId;
//! use presence_core::entry::{Key, Pid};
//! use presence_core::presence::{self, Meta, Presences};
//! use presence_core::set::{Diff, Limits, Set};
//!
//! let mut here = Set::new(ReplicaId::new("here", 1), Limits::default(), 0);
//! let mut there = Set::new(ReplicaId::new("there", 1), Limits::default(), 0);
//! there.up(here.replica())?;
//!
//! let meta = Meta::parse(r#"{"device": "phone"}"#)?;
//! presence::track(&mut here, &"room:lobby".into(), Pid(1), Key::Text("Alice"), &meta)?;
//!
//! let mut diff = Diff::new();
//! there.merge(&here.take_delta(), &mut diff)?;
//! assert_eq!(diff.joins.len(), 1);
//! let list = Presences::group(there.list("room:lobby"));
//! assert!(list.to_json().starts_with(r#"{"Alice":{"metas":[{"device": "phone","phx_ref":"#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod channel;
pub mod client;
pub mod clock;
pub mod cloud;
pub mod delta;
pub mod entry;
pub mod presence;
pub mod set;
pub mod token;
pub mod tracker;
pub mod wire;
