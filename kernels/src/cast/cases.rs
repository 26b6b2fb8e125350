//! Shapes: one element, an odd size, more than a block, nothing; to every type that activations have.

use super::Cast;
use crate::DType;
use crate::case::{Case, Draw, Input, Values};

/// Half a unit in the last place, and a little for the addition of gradients in f32.
fn tolerance(to: DType) -> f64 {
    match to {
        DType::F16 => 1.01 * 2f64.powi(-11),
        DType::BF16 => 1.01 * 2f64.powi(-8),
        _ => 1e-7,
    }
}

fn case(name: &str, shape: &[usize], to: DType) -> Case {
    Case::new(name, Cast { to }, vec![Input::new("x", shape, Values::Normal(1.0))]).tolerance(tolerance(to))
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one element", &[1], DType::F16),
        case("odd size", &[3, 37], DType::BF16),
        case("to f32", &[5, 7], DType::F32),
        case("more elements than a block", &[5, 4001], DType::F16),
        case("nothing", &[0, 8], DType::BF16),
        case("tokens", &[860, 256], DType::F16),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let shape = [d.size(1, 6), d.size(1, 9)];
    case("drawn", &shape, d.pick(&[DType::F32, DType::F16, DType::BF16])).seed(d.seed())
}
