//! From a plan to pixels: where the objects are, and the picture of them.

use std::ops::Range;

use image::RgbImage;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::background;
use super::plan::{Plan, Recipe};
use super::relation::PixelBox;
use super::sprite::{Pose, Stamp};
use super::vocabulary::Vocabulary;

/// How much of the smaller box of two may lie in the other.
const MOST_OVERLAP: f32 = 0.15;
/// How far apart the centres of related objects are, in parts of the image's side.
const RELATION_MARGIN: f32 = 0.08;
/// Positions that are tried for an object before all positions are drawn anew.
const POSITIONS: usize = 20;
/// Arrangements that are tried before all poses are drawn anew.
const ARRANGEMENTS: usize = 20;
/// Degrees to either side.
const MOST_ROTATION: f32 = 20.0;

/// A picture of objects and their boxes.
#[derive(Debug)]
pub(super) struct Scene {
    pub image: RgbImage,
    /// The tight box of each object of the plan, as if nothing lay in front of it.
    pub boxes: Vec<PixelBox>,
}

impl Scene {
    /// Draws the objects of `plan` in a square image of `size` pixels.
    pub fn draw(rng: &mut ChaCha8Rng, vocabulary: &Vocabulary, recipe: &Recipe, plan: &Plan, size: usize) -> Self {
        let mut largest = recipe.sides.end;
        let placed = loop {
            if let Some(placed) = place(rng, vocabulary, plan, recipe.sides.start..largest, size) {
                break placed;
            }
            // Objects that do not fit get smaller: at the smallest side any plan fits.
            largest = recipe.sides.start + (largest - recipe.sides.start) * 0.95;
        };
        let mut canvas = background::paint(rng, size);
        for (stamp, at) in &placed {
            blend(&mut canvas, size, stamp, at);
        }
        let bytes = canvas.iter().flatten().map(|&v| (v * 255.0).round() as u8).collect();
        let image = RgbImage::from_raw(size as u32, size as u32, bytes).expect("three bytes a pixel");
        Self { image, boxes: placed.into_iter().map(|(_, at)| at).collect() }
    }
}

/// Draws a pose for each object and a position, or `None` if they find no place together.
fn place(
    rng: &mut ChaCha8Rng,
    vocabulary: &Vocabulary,
    plan: &Plan,
    sides: Range<f32>,
    size: usize,
) -> Option<Vec<(Stamp, PixelBox)>> {
    let draw = |&kind: &usize| {
        let pose = Pose {
            side: (sides.start + rng.random::<f32>() * (sides.end - sides.start)) * size as f32,
            angle: rng.random_range(-MOST_ROTATION..MOST_ROTATION).to_radians(),
            brightness: rng.random_range(0.8..1.15),
        };
        vocabulary.sprites[kind].draw(pose)
    };
    let stamps: Vec<Stamp> = plan.objects.iter().map(draw).collect::<Option<_>>()?;
    let boxes = (0..ARRANGEMENTS).find_map(|_| arrange(rng, &stamps, plan, size))?;
    Some(stamps.into_iter().zip(boxes).collect())
}

/// Draws a position for each stamp, or `None` if one finds no free place or a clause is broken.
fn arrange(rng: &mut ChaCha8Rng, stamps: &[Stamp], plan: &Plan, size: usize) -> Option<Vec<PixelBox>> {
    let mut placed: Vec<PixelBox> = vec![];
    for stamp in stamps {
        let free = |at: &PixelBox| {
            let most = |other: &PixelBox| MOST_OVERLAP * at.area().min(other.area()) as f32;
            placed.iter().all(|other| at.intersection(other) as f32 <= most(other))
        };
        let at = (0..POSITIONS).find_map(|_| position(rng, stamp, size).filter(free))?;
        placed.push(at);
    }
    satisfies(plan, &placed, size).then_some(placed)
}

/// A random place inside the image, or `None` for a stamp that is larger than the image.
fn position(rng: &mut ChaCha8Rng, stamp: &Stamp, size: usize) -> Option<PixelBox> {
    let (right, bottom) = (size.checked_sub(stamp.width)?, size.checked_sub(stamp.height)?);
    let (x, y) = (rng.random_range(0..=right), rng.random_range(0..=bottom));
    Some(PixelBox { x, y, width: stamp.width, height: stamp.height })
}

/// Whether all clauses hold for their targets, and their opposites for their decoys.
fn satisfies(plan: &Plan, placed: &[PixelBox], size: usize) -> bool {
    let margin = RELATION_MARGIN * size as f32;
    plan.phrases.iter().filter_map(|phrase| phrase.clause).all(|clause| {
        let [target, decoy, anchor] = [clause.target, clause.decoy, clause.anchor].map(|object| &placed[object]);
        clause.relation.holds(target, anchor, margin) && clause.relation.opposite().holds(decoy, anchor, margin)
    })
}

/// Lays a stamp over the canvas.
pub(super) fn blend(canvas: &mut [[f32; 3]], size: usize, stamp: &Stamp, at: &PixelBox) {
    for (row, pixels) in stamp.pixels.chunks_exact(stamp.width).enumerate() {
        let start = (at.y + row) * size + at.x;
        for (below, &[r, g, b, alpha]) in canvas[start..start + stamp.width].iter_mut().zip(pixels) {
            *below = [(below[0], r), (below[1], g), (below[2], b)].map(|(below, v)| below * (1.0 - alpha) + v);
        }
    }
}
