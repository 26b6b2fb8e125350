//! Backgrounds: a blend of two muted tints by a pattern.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Paints a background of `size` x `size` RGB pixels, row-major, 0 to 1.
pub(super) fn paint(rng: &mut ChaCha8Rng, size: usize) -> Vec<[f32; 3]> {
    let (first, second) = (tint(rng), tint(rng));
    pattern(rng, size).into_iter().map(|t| std::array::from_fn(|c| first[c] + (second[c] - first[c]) * t)).collect()
}

/// How far each pixel is from the first tint to the second, 0 to 1.
fn pattern(rng: &mut ChaCha8Rng, size: usize) -> Vec<f32> {
    let direction = rng.random_range(0.0..std::f32::consts::TAU);
    let (sin, cos) = (libm::sinf(direction), libm::cosf(direction));
    let at = |i: usize| ((i % size) as f32 / size as f32 - 0.5, (i / size) as f32 / size as f32 - 0.5);
    let along = |i: usize| at(i).0 * cos + at(i).1 * sin; // -0.71 to 0.71
    let all = 0..size * size;
    match rng.random_range(0..5) {
        0 => vec![0.0; size * size],
        1 => all.map(|i| 0.5 + along(i) / std::f32::consts::SQRT_2).collect(),
        2 => {
            let (stripes, phase) = (rng.random_range(2.0..7.0), rng.random_range(0.0..std::f32::consts::TAU));
            all.map(|i| 0.5 + 0.5 * libm::sinf(along(i) * stripes * std::f32::consts::TAU + phase)).collect()
        }
        3 => {
            let blobs: Vec<[f32; 3]> = (0..rng.random_range(2..6))
                .map(|_| [rng.random_range(-0.5..0.5), rng.random_range(-0.5..0.5), rng.random_range(0.1..0.35)])
                .collect();
            let blob = |(x, y): (f32, f32), [cx, cy, radius]: [f32; 3]| {
                let squared = ((x - cx).powi(2) + (y - cy).powi(2)) / (radius * radius);
                1.0 / (1.0 + squared * squared)
            };
            all.map(|i| blobs.iter().map(|&b| blob(at(i), b)).sum::<f32>().min(1.0)).collect()
        }
        _ => noise(rng, size),
    }
}

/// Value noise: random values on a grid, bilinear between them.
fn noise(rng: &mut ChaCha8Rng, size: usize) -> Vec<f32> {
    let cells = rng.random_range(6..24);
    let values: Vec<f32> = (0..(cells + 2) * (cells + 2)).map(|_| rng.random()).collect();
    let along = |k: usize| {
        let position = k as f32 / size as f32 * cells as f32;
        (position as usize, position.fract())
    };
    (0..size * size)
        .map(|i| {
            let ((x, fx), (y, fy)) = (along(i % size), along(i / size));
            let row = |y: usize| {
                let left = y * (cells + 2) + x;
                values[left] + (values[left + 1] - values[left]) * fx
            };
            row(y) + (row(y + 1) - row(y)) * fy
        })
        .collect()
}

/// A colour of low saturation that is neither so dark nor so vivid that objects drown in it.
fn tint(rng: &mut ChaCha8Rng) -> [f32; 3] {
    let (hue, saturation, value) =
        (rng.random_range(0.0..6.0_f32), rng.random_range(0.0..0.35), rng.random_range(0.55..1.0));
    std::array::from_fn(|c| {
        let k = (5.0 - 2.0 * c as f32 + hue) % 6.0;
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}
