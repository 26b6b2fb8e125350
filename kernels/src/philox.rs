//! Counter-based random numbers: Philox-4x32-10 (Salmon et al., SC 2011). A number is a pure function of
//! (key, counter), so a kernel draws the same mask in forward and backward, at any split over threads.

use crate::simd::vectorized;

/// Blocks that [`Philox::keep_all`] makes at a time: a few vectors' worth, so that the loop over them is vectorized.
const BLOCKS: usize = 64;

/// A position in a stream of random numbers: what an op that draws must save for its backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    /// The seed of the run.
    pub seed: u64,
    /// Which draw of the run this is; every op call gets one of its own.
    pub stream: u64,
}

impl Philox {
    /// Four random words for counter value `index`.
    #[inline(always)]
    pub fn block(self, index: u64) -> [u32; 4] {
        let mut c = [index as u32, (index >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        let mut k = [self.seed as u32, (self.seed >> 32) as u32];
        for _ in 0..10 {
            let p0 = u64::from(c[0]) * 0xD251_1F53;
            let p1 = u64::from(c[2]) * 0xCD9E_8D57;
            c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        }
        c
    }

    /// The random word of element `index` (four elements share a block).
    pub fn word(self, index: u64) -> u32 {
        self.block(index / 4)[(index % 4) as usize]
    }

    /// A number in [0, 1) with 24 random bits for element `index`.
    pub fn uniform(self, index: u64) -> f32 {
        (self.word(index) >> 8) as f32 / (1u32 << 24) as f32
    }

    /// A standard normal number for element `index` (Box-Muller on a block of its own).
    pub fn normal(self, index: u64) -> f64 {
        let b = self.block(index);
        let u = |w: u32| (f64::from(w) + 0.5) / 4_294_967_296.0;
        (-2.0 * u(b[0]).ln()).sqrt() * (std::f64::consts::TAU * u(b[1])).cos()
    }

    /// The factor of element `index` under inverted dropout: 0 with probability `p`, else 1 / (1 - p).
    pub fn keep(self, index: u64, p: f32) -> f32 {
        if self.uniform(index) < p { 0.0 } else { 1.0 / (1.0 - p) }
    }

    /// [`Self::keep`] of the elements from `first` on, many at a time.
    pub fn keep_all(self, first: u64, p: f32, factors: &mut [f32]) {
        let scale = 1.0 / (1.0 - p);
        let (mut index, mut rest) = (first, factors);
        vectorized(
            #[inline(always)]
            || {
                while !rest.is_empty() {
                    let words = self.words(index / 4);
                    let words = &words.as_flattened()[(index % 4) as usize..];
                    let (head, tail) = rest.split_at_mut(words.len().min(rest.len()));
                    for (factor, word) in head.iter_mut().zip(words) {
                        let uniform = (word >> 8) as f32 / (1u32 << 24) as f32;
                        *factor = if uniform < p { 0.0 } else { scale };
                    }
                    index += head.len() as u64;
                    rest = tail;
                }
            },
        );
    }

    /// [`Self::block`] of [`BLOCKS`] consecutive counters.
    #[inline(always)]
    fn words(self, first: u64) -> [[u32; 4]; BLOCKS] {
        let mut words = [[0; 4]; BLOCKS];
        for (i, block) in words.iter_mut().enumerate() {
            *block = self.block(first + i as u64);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution.
    #[test]
    fn known_answers() {
        let zero = Philox { seed: 0, stream: 0 };
        assert_eq!(zero.block(0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox { seed: u64::MAX, stream: u64::MAX };
        assert_eq!(ones.block(u64::MAX), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn many_at_a_time_are_the_same() {
        let philox = Philox { seed: 5, stream: 1 << 33 };
        for (first, n) in [(0, 1), (3, 200), (62, 64), ((1 << 34) - 7, 100)] {
            let mut factors = vec![f32::NAN; n];
            philox.keep_all(first, 0.3, &mut factors);
            let want: Vec<f32> = (0..n as u64).map(|i| philox.keep(first + i, 0.3)).collect();
            assert_eq!(factors, want, "{n} from {first}");
        }
    }
}
