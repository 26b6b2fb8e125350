//! Sums down the channels of blocks of pixels, and how blocks are put together.

/// Elements of a block: it stays in the second-level cache while it is summed a second time.
const BLOCK: usize = 16 * 1024;
/// Channels that are summed together: their sums stay in registers.
const LANES: usize = 32;

/// Elements of a block of whole pixels.
pub fn block(c: usize) -> usize {
    (BLOCK / c).max(1) * c
}

/// Sums `f(values, parameters)` down the columns of (pixels, c) matrices; parameters are a value a channel.
#[inline(always)]
pub fn column_sums<const N: usize, const P: usize, const M: usize>(
    x: [&[f32]; N],
    parameters: [&[f32]; P],
    c: usize,
    f: impl Fn([f32; N], [f32; P]) -> [f32; M],
) -> [Vec<f32>; M] {
    let mut sums = [(); M].map(|()| vec![0.0; c]);
    let pixels = x[0].len() / c;
    let whole = c / LANES * LANES;
    for from in (0..whole).step_by(LANES) {
        let parameters = parameters.map(|p| lanes(p, from));
        let mut totals = [[0.0f32; LANES]; M];
        for pixel in 0..pixels {
            let rows = x.map(|x| lanes(x, pixel * c + from));
            for i in 0..LANES {
                let values = f(rows.map(|row| row[i]), parameters.map(|p| p[i]));
                for m in 0..M {
                    totals[m][i] += values[m];
                }
            }
        }
        for (sums, totals) in sums.iter_mut().zip(totals) {
            sums[from..from + LANES].copy_from_slice(&totals);
        }
    }
    for pixel in 0..pixels {
        for channel in whole..c {
            let values = f(x.map(|x| x[pixel * c + channel]), parameters.map(|p| p[channel]));
            for m in 0..M {
                sums[m][channel] += values[m];
            }
        }
    }
    sums
}

#[inline(always)]
fn lanes(x: &[f32], from: usize) -> &[f32; LANES] {
    x[from..from + LANES].try_into().expect("the slice is that long")
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
    let [sums] = column_sums([x], [], c, |[v], []| [v]);
    let means: Vec<f32> = sums.chunks_exact(group).map(|sums| sums.iter().sum::<f32>() / count).collect();
    let centres: Vec<f32> = means.iter().flat_map(|&mean| std::iter::repeat_n(mean, group)).collect();
    let [squares] = column_sums([x], [&centres], c, |[v], [centre]| [(v - centre) * (v - centre)]);
    let squares = squares.chunks_exact(group).map(|squares| squares.iter().sum::<f32>());
    means.into_iter().zip(squares).map(|(mean, squares)| Moments { count, mean, squares }).collect()
}
