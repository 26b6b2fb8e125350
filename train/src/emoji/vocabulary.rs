//! The kinds of a preset with their sprites, and the pairs of kinds that are held out.

use anyhow::Result;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::Preset;
use super::kinds::{BASE, COLOURED, Kind};
use super::sprite::Sprite;

/// The kinds that scenes are made of.
///
/// Held-out pairs form a ring through all kinds in an order drawn from the seed: neighbours never meet, neither as
/// objects nor as names, outside the split that is built around them. Each kind is thus in two pairs and no kind is
/// rarer than another.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub kinds: Vec<Kind>,
    pub sprites: Vec<Sprite>,
    ring: Vec<usize>,
    /// The place of each kind in `ring`.
    place: Vec<usize>,
}

impl Vocabulary {
    /// Decodes the sprites of `preset` and draws the held-out pairs from `seed`.
    ///
    /// # Errors
    /// If a picture does not decode.
    pub fn new(preset: Preset, seed: u64) -> Result<Self> {
        let kinds = match preset {
            Preset::Base => BASE.to_vec(),
            Preset::Hard => [BASE, COLOURED].concat(),
        };
        let sprites = kinds.iter().map(Sprite::decode).collect::<Result<_>>()?;
        let mut ring: Vec<usize> = (0..kinds.len()).collect();
        ring.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut place = vec![0; kinds.len()];
        for (i, &kind) in ring.iter().enumerate() {
            place[kind] = i;
        }
        Ok(Self { kinds, sprites, ring, place })
    }

    /// The held-out pairs, as indices of kinds.
    pub fn held_out(&self) -> impl Iterator<Item = [usize; 2]> {
        self.ring.iter().zip(self.ring.iter().cycle().skip(1)).map(|(&a, &b)| [a, b])
    }

    /// Whether the pair of `a` and `b` is held out.
    pub fn is_held_out(&self, a: usize, b: usize) -> bool {
        let apart = self.place[a].abs_diff(self.place[b]);
        apart == 1 || apart == self.ring.len() - 1
    }

    /// Whether `a` and `b` differ by colour alone.
    pub fn are_siblings(&self, a: usize, b: usize) -> bool {
        a != b && self.kinds[a].noun == self.kinds[b].noun
    }

    /// Whether another kind has the noun of `kind`.
    pub fn has_sibling(&self, kind: usize) -> bool {
        (0..self.kinds.len()).any(|other| self.are_siblings(kind, other))
    }

    /// Draws one of the kinds that satisfy `allowed`, or `None` if none does.
    pub fn draw(&self, rng: &mut ChaCha8Rng, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let pool: Vec<usize> = (0..self.kinds.len()).filter(|&kind| allowed(kind)).collect();
        (!pool.is_empty()).then(|| pool[rng.random_range(0..pool.len())])
    }
}
