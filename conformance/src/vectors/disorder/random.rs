//! Random choices that are the same on every machine.

/// splitmix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0. The bias is below one in 10^15.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number of the range, both ends included.
    pub(super) fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            return None;
        }
        from.get(self.below(from.len()))
    }

    /// The index of one of `weights`, each as likely as it is heavy; 0 where all are 0.
    pub(super) fn weighted(&mut self, weights: &[usize]) -> usize {
        let sum: usize = weights.iter().sum();
        let mut point = self.below(sum.max(1));
        for (index, &weight) in weights.iter().enumerate() {
            if point < weight {
                return index;
            }
            point -= weight;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_are_those_published() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn weights_decide_how_often_an_index_comes() {
        let mut random = Random::new(0);
        let mut counts = [0; 3];
        for _ in 0..1_000 {
            counts[random.weighted(&[1, 0, 3])] += 1;
        }
        assert!(
            counts[0] > 150 && counts[1] == 0 && counts[2] > 600,
            "{counts:?}"
        );
        assert_eq!(random.weighted(&[]), 0);
    }
}
