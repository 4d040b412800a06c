//! The second tier: the node that ships, whole, with the clients of its users.

#[allow(dead_code, reason = "the simulation around it comes next")]
mod client;
