//! Sums down the channels of blocks of pixels, and how blocks are put together.

/// Elements of a block: it stays in the second-level cache while it is summed a second time.
const BLOCK: usize = 16 * 1024;
/// Channels that are summed together: their sums stay in registers.
const LANES: usize = 32;

/// Elements of a block of whole pixels.
pub fn block(c: usize) -> usize {
    (BLOCK / c).max(1) * c
}

/// Adds `f(channel, value of each of the rows)` down the columns of (pixels, c) matrices.
#[inline(always)]
pub fn column_sums<const N: usize, const M: usize>(
    x: [&[f32]; N],
    c: usize,
    f: impl Fn(usize, [f32; N]) -> [f32; M],
) -> [Vec<f32>; M] {
    let mut sums = [(); M].map(|()| vec![0.0; c]);
    let pixels = x[0].len() / c;
    let whole = c / LANES * LANES;
    for from in (0..whole).step_by(LANES) {
        let mut lanes = [[0.0f32; LANES]; M];
        for pixel in 0..pixels {
            let rows: [&[f32; LANES]; N] =
                x.map(|x| x[pixel * c + from..][..LANES].try_into().expect("a row has that many channels left"));
            for i in 0..LANES {
                let values = f(from + i, rows.map(|row| row[i]));
                for m in 0..M {
                    lanes[m][i] += values[m];
                }
            }
        }
        for (sums, lanes) in sums.iter_mut().zip(lanes) {
            sums[from..from + LANES].copy_from_slice(&lanes);
        }
    }
    for pixel in 0..pixels {
        for channel in whole..c {
            let values = f(channel, x.map(|x| x[pixel * c + channel]));
            for m in 0..M {
                sums[m][channel] += values[m];
            }
        }
    }
    sums
}

/// Number, mean and sum of squares around the mean of some values.
#[derive(Clone, Copy, Default)]
pub struct Moments {
    pub count: f32,
    pub mean: f32,
    pub squares: f32,
}

impl Moments {
    /// Those of two sets together (Chan, Golub and LeVeque, 1979).
    pub fn and(self, other: Moments) -> Moments {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        let share = other.count / count;
        Moments {
            count,
            mean: self.mean + delta * share,
            squares: self.squares + other.squares + delta * delta * self.count * share,
        }
    }
}

/// The moments of each group of `group` channels in a block of pixels (pixels, c), in two passes.
#[inline(always)]
pub fn block_moments(x: &[f32], c: usize, group: usize) -> Vec<Moments> {
    let count = (x.len() / c * group) as f32;
    let [sums] = column_sums([x], c, |_, [v]| [v]);
    let means: Vec<f32> = sums.chunks_exact(group).map(|sums| sums.iter().sum::<f32>() / count).collect();
    let centres: Vec<f32> = means.iter().flat_map(|&mean| std::iter::repeat_n(mean, group)).collect();
    let [squares] = column_sums([x], c, |channel, [v]| [(v - centres[channel]) * (v - centres[channel])]);
    let squares = squares.chunks_exact(group).map(|squares| squares.iter().sum::<f32>());
    means.into_iter().zip(squares).map(|(mean, squares)| Moments { count, mean, squares }).collect()
}
