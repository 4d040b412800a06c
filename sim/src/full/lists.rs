//! Lists as nodes give them.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::truth::Number;

#[derive(Deserialize)]
struct Presence {
    metas: Vec<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    n: Number,
}

/// The numbers of all presences of a list, in ascending order. None of what is not a list.
pub(super) fn numbers(json: &str) -> Vec<Number> {
    let list: BTreeMap<String, Presence> = serde_json::from_str(json).unwrap_or_default();
    let metas = list.values().flat_map(|presence| &presence.metas);
    let mut numbers: Vec<Number> = metas.map(|meta| meta.n).collect();
    numbers.sort_unstable();
    numbers
}

/// A number that is the same for the same presences, whatever their order, and changes by
/// [`sign`] with each that comes or goes.
pub(super) fn digest(numbers: &[Number]) -> u64 {
    numbers.iter().fold(0, |sum, &number| sum ^ sign(number))
}

/// What a presence adds to a digest, and takes from it.
pub(super) fn sign(number: Number) -> u64 {
    // The finalizer of SplitMix64 (Steele et al., 2014).
    let mut mixed = u64::from(number).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_list_are_those_of_its_metas() {
        let list = r#"{"a":{"metas":[{"n":7,"phx_ref":"x"},{"n":3,"phx_ref":"y"}]},"b":{"metas":[{"n":5}]}}"#;
        assert_eq!(numbers(list), [3, 5, 7]);
        assert!(numbers("{}").is_empty());
    }

    #[test]
    fn a_digest_is_of_the_presences_alone() {
        assert_eq!(digest(&[1, 2, 3]), digest(&[3, 1, 2]));
        assert_eq!(digest(&[1, 2, 3]) ^ sign(2), digest(&[1, 3]));
        assert_ne!(digest(&[1, 2]), digest(&[3]));
        assert_eq!(digest(&[]), 0);
    }
}
