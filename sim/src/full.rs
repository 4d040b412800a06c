//! The second tier: the node that ships, whole, on turmoil's network, and clients that speak to it.
//!
//! No model stands in for any part: the mesh, the shards, the sockets, the channels and the long polls are
//! those of `presence-server`, each node in a world (`environment`) of its own. What turmoil cannot do to
//! them is done between a node and its world: its process stops (`gate`) for a while, its connections
//! go wrong (`stream`), its messages get lost (`carrier`). Clients speak WebSocket and long polling over
//! turmoil's network, and keep their lists as phoenix.js does.
//!
//! Each tracker's inputs are noted as they come, and played into a tracker of the first tier, which so
//! judges what the real one does: `judge`. TLS between nodes is left out: it changes nothing of what is
//! said, and its records would cost most of the time.
//!
//! A run is one thread, one seed, and time in ticks of 10 ms.

mod carrier;
mod client;
mod environment;
mod gate;
mod happened;
mod host;
mod journals;
mod judge;
mod links;
mod lists;
mod outside;
mod people;
mod play;
mod spoil;
mod stage;
mod stream;

pub use self::play::run;
