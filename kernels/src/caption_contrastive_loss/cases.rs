//! Shapes: one phrase and image, images of different sizes, phrases without rivals, no phrases, nothing at all.

use super::CaptionContrastiveLoss;
use crate::case::{Case, Draw, Input, Values};

fn case(name: &str, cells_of_image: &[usize], phrases: usize, channels: usize, scale: f64) -> Case {
    let images = cells_of_image.len();
    let mut cells = vec![0];
    for n in cells_of_image {
        cells.push(cells[cells.len() - 1] + n);
    }
    let n = cells[images];
    let unit = Values::Normal((channels as f64).sqrt().recip());
    Case::new(
        name,
        CaptionContrastiveLoss { cells: cells.into(), scale, divisor: 2.0 },
        vec![
            Input::new("features", &[n, channels], unit.clone()),
            Input::new("phrases", &[phrases, channels], unit),
            Input::index("image_of_phrase", &[phrases], Values::Index(0, images as i32)),
            Input::index("candidates", &[phrases, images], Values::Index(0, 2)),
        ],
    )
    .only_in_f32()
}

/// The fixed cases.
pub fn cases() -> Vec<Case> {
    vec![
        case("one phrase of one image", &[4], 1, 8, 20.0),
        case("odd sizes", &[5, 1, 18], 7, 13, 20.0),
        case("no phrases", &[3, 2], 0, 6, 20.0),
        case("no images", &[], 0, 6, 20.0),
        case("more images than warps", &[2, 1, 3, 1, 1, 2, 1, 1, 4, 1, 2], 3, 5, 20.0),
        case("more phrases than a block", &[1, 2], 260, 4, 20.0),
        case("a warm-up step", &[49; 16], 40, 96, 20.0).tolerance(2e-5),
        case("more cells than a task", &[300, 17], 3, 16, 20.0).tolerance(2e-5),
    ]
}

/// A random small case.
pub fn draw(d: &mut Draw) -> Case {
    let cells: Vec<usize> = (0..d.size(1, 3)).map(|_| d.size(1, 4)).collect();
    case("drawn", &cells, d.size(1, 4), d.size(1, 4), d.pick(&[1.0, 3.0])).seed(d.seed())
}
