//! The fast version: one pass over memory for statistics, one for outputs, in blocks of pixels whose sums are put together
//! in order, so that the result does not depend on the number of threads.

use rayon::prelude::*;

use super::statistics::{Moments, block, block_moments, column_sums};
use super::{GroupNorm, Sizes};
use crate::activation::Activation;
use crate::op::GradSlot;
use crate::simd::vectorized;

/// y (images, pixels, C), statistics (images, groups, 2), x as y, w (C), b (C).
pub fn forward(
    y: &mut [f32],
    statistics: &mut [f32],
    x: &[f32],
    w: &[f32],
    b: &[f32],
    norm: &GroupNorm,
    sizes: &Sizes,
) {
    let s = *sizes;
    if x.is_empty() {
        return;
    }
    let moments: Vec<Vec<Moments>> = blocks(x, &s).map(|x| vectorized(|| block_moments(x, s.c, s.group()))).collect();
    let blocks_an_image = s.image().div_ceil(block(s.c));
    for (statistics, moments) in statistics.chunks_mut(2 * s.groups).zip(moments.chunks(blocks_an_image)) {
        for (group, statistics) in statistics.chunks_mut(2).enumerate() {
            let all = moments.iter().fold(Moments::default(), |all, block| all.and(block[group]));
            statistics.copy_from_slice(&[all.mean, 1.0 / (all.squares / all.count + norm.eps as f32).sqrt()]);
        }
    }
    let channels = channels(statistics, w, &s);
    let floor = floor(norm.activation);
    y.par_chunks_mut(s.image()).zip(x.par_chunks(s.image())).zip(&channels).for_each(|((y, x), channels)| {
        y.par_chunks_mut(block(s.c)).zip(x.par_chunks(block(s.c))).for_each(|(y, x)| {
            vectorized(|| normalize(y, x, channels, b, floor));
        });
    });
}

#[inline(always)]
fn normalize(y: &mut [f32], x: &[f32], channels: &Channels, b: &[f32], floor: f32) {
    for (y, x) in y.chunks_exact_mut(b.len()).zip(x.chunks_exact(b.len())) {
        for ((((y, x), mean), factor), b) in y.iter_mut().zip(x).zip(&channels.mean).zip(&channels.factor).zip(b) {
            *y = ((x - mean) * factor + b).max(floor);
        }
    }
}

/// The blocks of all images; no block has pixels of two.
fn blocks<'a>(x: &'a [f32], s: &Sizes) -> impl ParallelIterator<Item = &'a [f32]> + use<'a> {
    let block = block(s.c);
    x.par_chunks(s.image()).flat_map(move |x| x.par_chunks(block))
}

/// What the activation cuts off below: z is kept where it is larger.
fn floor(activation: Activation) -> f32 {
    if activation == Activation::Relu { 0.0 } else { f32::NEG_INFINITY }
}

/// An image's statistics, a value a channel.
struct Channels {
    mean: Vec<f32>,
    rstd: Vec<f32>,
    /// rstd * w.
    factor: Vec<f32>,
}

fn channels(statistics: &[f32], w: &[f32], s: &Sizes) -> Vec<Channels> {
    let spread = |image: &[f32], i: usize| -> Vec<f32> {
        image.chunks_exact(2).flat_map(|group| std::iter::repeat_n(group[i], s.group())).collect()
    };
    statistics
        .chunks_exact(2 * s.groups)
        .map(|image| {
            let (mean, rstd) = (spread(image, 0), spread(image, 1));
            let factor = rstd.iter().zip(w).map(|(rstd, w)| rstd * w).collect();
            Channels { mean, rstd, factor }
        })
        .collect()
}

/// dx, dw, db from dy; ReLU's derivative is told from the pre-activation, computed anew as in `normalize`.
#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
pub fn backward(
    dx: &mut GradSlot,
    dw: &mut GradSlot,
    db: &mut GradSlot,
    dy: &[f32],
    x: &[f32],
    w: &[f32],
    b: &[f32],
    statistics: &[f32],
    norm: &GroupNorm,
    sizes: &Sizes,
) {
    let s = *sizes;
    if x.is_empty() {
        dw.store(|_| 0.0f32);
        db.store(|_| 0.0f32);
        return;
    }
    let channels = channels(statistics, w, &s);
    let floor = floor(norm.activation);
    // Per image and channel: sums of h and of h xhat, with h = dy where the activation lets it through.
    let sums: Vec<[Vec<f32>; 2]> = dy
        .par_chunks(s.image())
        .zip(x.par_chunks(s.image()))
        .zip(&channels)
        .map(|((dy, x), channels)| {
            let parts: Vec<[Vec<f32>; 2]> = dy
                .par_chunks(block(s.c))
                .zip(x.par_chunks(block(s.c)))
                .map(|(dy, x)| vectorized(|| gradient_sums(dy, x, channels, b, floor)))
                .collect();
            total(parts.iter(), s.c)
        })
        .collect();
    if let Some((dx, accumulate)) = dx.target::<f32>() {
        dx.par_chunks_mut(s.image()).zip(dy.par_chunks(s.image())).zip(x.par_chunks(s.image())).enumerate().for_each(
            |(image, ((dx, dy), x))| {
                let means = group_means(&sums[image], w, &s);
                let channels = &channels[image];
                dx.par_chunks_mut(block(s.c)).zip(dy.par_chunks(block(s.c))).zip(x.par_chunks(block(s.c))).for_each(
                    |((dx, dy), x)| {
                        vectorized(|| data_gradient(dx, dy, x, channels, b, &means, floor, accumulate));
                    },
                );
            },
        );
    }
    let [b_sums, w_sums] = total(sums.iter(), s.c);
    dw.store(|c| w_sums[c]);
    db.store(|c| b_sums[c]);
}

#[inline(always)]
fn gradient_sums(dy: &[f32], x: &[f32], channels: &Channels, b: &[f32], floor: f32) -> [Vec<f32>; 2] {
    let Channels { mean, rstd, factor } = channels;
    column_sums([dy, x], [mean, rstd, factor, b], b.len(), |[dy, x], [mean, rstd, factor, b]| {
        let centred = x - mean;
        let h = if centred * factor + b > floor { dy } else { 0.0 };
        [h, h * centred * rstd]
    })
}

/// Adds sums in order.
fn total<'a>(parts: impl Iterator<Item = &'a [Vec<f32>; 2]>, c: usize) -> [Vec<f32>; 2] {
    let mut total = [vec![0.0; c], vec![0.0; c]];
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            total.iter_mut().zip(part).for_each(|(total, v)| *total += v);
        }
    }
    total
}

/// (mean of g, mean of g xhat) over each group, a value a channel, with g = h w.
fn group_means(sums: &[Vec<f32>; 2], w: &[f32], s: &Sizes) -> [Vec<f32>; 2] {
    [0, 1].map(|i| {
        let weighted: Vec<f32> = sums[i].iter().zip(w).map(|(sum, w)| sum * w).collect();
        let mean = |group: &[f32]| group.iter().sum::<f32>() / s.shared() as f32;
        weighted.chunks_exact(s.group()).flat_map(|group| std::iter::repeat_n(mean(group), s.group())).collect()
    })
}

/// dx = factor h - rstd (mean(g) + xhat mean(g xhat)).
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "outputs, inputs, scalars, sizes, as in every kernel")]
fn data_gradient(
    dx: &mut [f32],
    dy: &[f32],
    x: &[f32],
    channels: &Channels,
    b: &[f32],
    means: &[Vec<f32>; 2],
    floor: f32,
    accumulate: bool,
) {
    let c = b.len();
    let Channels { mean, rstd, factor } = channels;
    let (mean, rstd, factor) = (&mean[..c], &rstd[..c], &factor[..c]);
    let (mean_g, mean_gx) = (&means[0][..c], &means[1][..c]);
    for ((dx, dy), x) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(c)).zip(x.chunks_exact(c)) {
        for i in 0..c {
            let centred = x[i] - mean[i];
            let h = if centred * factor[i] + b[i] > floor { dy[i] } else { 0.0 };
            let value = factor[i] * h - rstd[i] * (mean_g[i] + centred * rstd[i] * mean_gx[i]);
            dx[i] = if accumulate { dx[i] + value } else { value };
        }
    }
}
