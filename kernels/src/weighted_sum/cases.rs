//! One term, several of different shapes, none with elements.

use super::WeightedSum;
use crate::case::{Case, Draw, Input, Values};
use crate::philox::Philox;

fn case(name: &str, shapes: &[&[usize]], seed: u64) -> Case {
    let weight = |i: usize, j: usize| f64::from(Philox { seed, stream: 10 + i as u64 }.uniform(j as u64)) * 5.0;
    let weights = shapes.iter().enumerate().map(|(i, s)| (0..s.iter().product()).map(|j| weight(i, j)).collect());
    let inputs = shapes.iter().map(|s| Input::new("x", s, Values::Normal(1.0))).collect();
    Case::new(name, WeightedSum { weights: weights.collect() }, inputs).only_in_f32().seed(seed)
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one scalar", &[&[]], 1),
        case("MDETR", &[&[6], &[6], &[6], &[6]], 2),
        case("different shapes", &[&[2, 3], &[], &[1], &[0]], 3),
        case("no elements", &[&[0]], 4),
        case("more terms than a launch, long ones", &[&[6], &[70], &[1], &[3], &[300], &[5]], 5),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let shapes: Vec<Vec<usize>> = (0..d.size(1, 4)).map(|_| vec![d.size(1, 3), d.size(1, 3)]).collect();
    case("drawn", &shapes.iter().map(Vec::as_slice).collect::<Vec<_>>(), d.seed())
}
