//! The recordings that are built in.

/// Every recording by its name below `fixtures/`, such as `tracker/seed-1.json`, ordered by name.
pub const ALL: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/fixtures.rs"));

/// The folders of [`ALL`] that hold vectors, and the file of the token cases.
const VECTORS: [&str; 4] = ["client/", "token.json", "tracker/", "tracker-rule/"];

/// The built-in tracker histories, client series and token cases.
pub fn vectors() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter()
        .copied()
        .filter(|(name, _)| VECTORS.iter().any(|folder| name.starts_with(folder)))
}
