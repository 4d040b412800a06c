//! Shards: independent trackers that share the topics among them.

/// Which of `pool_size` shards holds `topic`: the same on every node and every platform.
///
/// FNV-1a of the topic's bytes (64 bits), then the finaliser of splitmix64, modulo the size. Nodes whose
/// pool sizes differ would look for a topic in different shards, so the size is part of their
/// handshake.
///
/// # Panics
///
/// Panics where `pool_size` is 0.
pub fn shard_of(topic: &str, pool_size: usize) -> usize {
    let mut hash = topic.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ (hash >> 31)) % pool_size as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_everywhere() {
        let topics = ["", "room:lobby", "room:1", "ünï"];
        assert_eq!(topics.map(|topic| shard_of(topic, 1)), [0; 4]);
        assert_eq!(
            topics.map(|topic| shard_of(topic, 1_000_000_007)),
            [971_331_004, 71_933_755, 130_410_467, 184_569_729]
        );
    }

    #[test]
    fn topics_spread_evenly() {
        let mut counts = [0_u32; 8];
        for n in 0..80_000 {
            counts[shard_of(&format!("room:{n}"), counts.len())] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_600..10_400).contains(count)),
            "{counts:?}"
        );
    }
}
