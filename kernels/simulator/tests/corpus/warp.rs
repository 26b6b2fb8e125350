//! Warps that diverge.

use crate::common::Arg;
use crate::support::{Loaded, Random, for_each_device, schedules};

const LANES: usize = 32;

fn numbers(seed: u64, low: i64, high: i64, n: usize) -> Vec<i32> {
    let mut random = Random(seed);
    (0..n).map(|_| (low + random.below((high - low) as u64) as i64) as i32).collect()
}

fn mask(lanes: impl Fn(usize) -> bool) -> u32 {
    (0..LANES).filter(|&lane| lanes(lane)).fold(0, |mask, lane| mask | 1 << lane)
}

/// One warp: inputs by lane, and some numbers, to `rows` of outputs by lane.
fn one_warp<T: bytemuck::Pod, I: bytemuck::Pod>(
    loaded: &mut Loaded,
    kernel: &str,
    rows: usize,
    x: &[I],
    more: Vec<Arg>,
) -> Vec<T> {
    let (y, x) = (loaded.device.uninitialized::<T>(rows * LANES), loaded.device.upload(x));
    let args: Vec<Arg> = [(&y).into(), (&x).into()].into_iter().chain(more).collect();
    loaded.launch(kernel, [1; 3], [32, 1, 1], 0, &args);
    loaded.device.download(&y)
}

fn votes(loaded: &mut Loaded) {
    for x in [numbers(1, -9, 9, LANES), vec![-4; LANES], vec![4; LANES]] {
        let y: Vec<u32> = one_warp(loaded, "votes", 6, &x, vec![3_i32.into()]);
        let below = mask(|lane| x[lane] < 3);
        let (all, any) = (u32::from(below == u32::MAX), u32::from(below != 0));
        let equal = u32::from(x.iter().all(|&other| other == x[0]));
        let want = [all, any, below, equal, u32::MAX].into_iter().flat_map(|row| [row; LANES]);
        let want: Vec<u32> = want.chain((0..LANES).map(|lane| (1 << lane) - 1)).collect();
        loaded.assert_same("votes", &y, &want);
    }
}

fn shuffles(loaded: &mut Loaded) {
    let x = numbers(2, -99, 99, LANES);
    for by in [0_usize, 1, 5, 16, 31] {
        let y: Vec<i32> = one_warp(loaded, "shuffles", 5, &x, vec![(by as i32).into()]);
        let from: [&dyn Fn(usize) -> usize; 5] = [
            &|_| by,
            &|lane| lane.checked_sub(by).unwrap_or(lane),
            &|lane| if lane % 16 + by < 16 { lane + by } else { lane },
            // segments after the own one cannot be read, those before can
            &|lane| if (lane ^ by) <= (lane | 7) { lane ^ by } else { lane },
            &|lane| lane / 4 * 4 + (lane + by) % 4,
        ];
        let want: Vec<i32> = from.iter().flat_map(|from| (0..LANES).map(|lane| x[from(lane)])).collect();
        loaded.assert_same("shuffles", &y, &want);

        let doubles: Vec<f64> = x.iter().map(|&x| f64::from(x) / 7.0).collect();
        let y: Vec<f64> = one_warp(loaded, "shuffle_f64", 1, &doubles, vec![(by as i32).into()]);
        loaded.assert_same("shuffle_f64", &y, &(0..LANES).map(|lane| doubles[lane ^ by]).collect::<Vec<_>>());
    }
}

fn two_sides(loaded: &mut Loaded) {
    let x = numbers(3, -99, 99, LANES);
    for of_first in [0, 1, 0xffff_ffff, 0x00ff_00ff, 0x8421_1248_u32] {
        let (sum, ballot) = (loaded.device.uninitialized::<i32>(LANES), loaded.device.uninitialized::<u32>(LANES));
        let args = [(&sum).into(), (&ballot).into(), (&loaded.device.upload(&x)).into(), of_first.into()];
        loaded.launch("two_sides", [1; 3], [32, 1, 1], 0, &args);
        let first = |lane: usize| of_first >> lane & 1 == 1;
        let total: i32 = (0..LANES).filter(|&lane| first(lane)).map(|lane| x[lane]).sum();
        let greatest = (0..LANES).filter(|&lane| !first(lane)).map(|lane| x[lane]).max();
        let own = |lane: usize| if first(lane) { total } else { greatest.unwrap() };
        let votes = [mask(|lane| !first(lane) && x[lane] < 0), mask(|lane| first(lane) && x[lane] > 0)];
        let want: Vec<i32> = (0..LANES).map(|lane| own(lane) + own(31 - lane)).collect();
        loaded.assert_same("two sides", &loaded.device.download(&sum), &want);
        let want: Vec<u32> = (0..LANES).map(|lane| votes[usize::from(first(lane))]).collect();
        loaded.assert_same("ballots", &loaded.device.download(&ballot), &want);
    }
}

fn reductions(loaded: &mut Loaded) {
    for x in [numbers(4, -99, 99, LANES), numbers(5, i32::MIN.into(), i32::MAX.into(), LANES)] {
        let y: Vec<i32> = one_warp(loaded, "reductions", 8, &x, vec![]);
        let unsigned = || x.iter().map(|&x| x as u32);
        let want = [
            x.iter().fold(0, |sum: i32, x| sum.wrapping_add(*x)),
            x.iter().copied().min().unwrap(),
            x.iter().copied().max().unwrap(),
            unsigned().min().unwrap() as i32,
            unsigned().max().unwrap() as i32,
            x.iter().fold(-1, |a, b| a & b),
            x.iter().fold(0, |a, b| a | b),
            x.iter().fold(0, |a, b| a ^ b),
        ];
        loaded.assert_same("reductions", &y, &want.iter().flat_map(|&row| [row; LANES]).collect::<Vec<_>>());
    }
}

fn matches(loaded: &mut Loaded) {
    for n in [1, 32, 75, 300] {
        let keys = numbers(n as u64, 0, 6, n);
        let (counts, peers) = (loaded.device.zeros::<u32>(6), loaded.device.uninitialized::<u32>(n));
        let args = [(&counts).into(), (&peers).into(), (&loaded.device.upload(&keys)).into(), (n as i32).into()];
        loaded.launch_over("histogram_by_match", n, 64, &args);
        let want: Vec<u32> = (0..6).map(|key| keys.iter().filter(|&&k| k == key).count() as u32).collect();
        loaded.assert_same("histogram", &loaded.device.download(&counts), &want);
        let of_warp = |i: usize| i / LANES * LANES;
        let peer = |i: usize| mask(|lane| keys.get(of_warp(i) + lane) == Some(&keys[i]));
        loaded.assert_same("peers", &loaded.device.download(&peers), &(0..n).map(peer).collect::<Vec<u32>>());
    }
    let keys: Vec<u64> = numbers(7, 0, 3, LANES).iter().map(|&key| (key as u64) << 40 | 5).collect();
    let y: Vec<u32> = one_warp(loaded, "match_u64", 1, &keys, vec![]);
    loaded.assert_same("match", &y, &keys.iter().map(|key| mask(|lane| keys[lane] == *key)).collect::<Vec<_>>());
}

fn divergent_loop(loaded: &mut Loaded) {
    let x: Vec<u32> = numbers(8, 1, 100, LANES).iter().map(|&x| x as u32).collect();
    let (steps, company) = (loaded.device.uninitialized::<i32>(LANES), loaded.device.uninitialized::<i32>(LANES));
    let args = [(&steps).into(), (&company).into(), (&loaded.device.upload(&x)).into()];
    loaded.launch("divergent_loop", [1; 3], [32, 1, 1], 0, &args);
    let collatz = |x: u32| {
        let next = |&x: &u32| Some(if x % 2 == 1 { 3 * x + 1 } else { x / 2 });
        std::iter::successors(Some(x), next).take_while(|&x| x != 1).count() as i32
    };
    let want: Vec<i32> = x.iter().map(|&x| collatz(x)).collect();
    loaded.assert_same("steps", &loaded.device.download(&steps), &want);
    let met = |&own: &i32| (0..own).map(|round| want.iter().filter(|&&steps| steps > round).count() as i32).sum();
    loaded.assert_same("company", &loaded.device.download(&company), &want.iter().map(met).collect::<Vec<i32>>());
}

fn early_return(loaded: &mut Loaded) {
    for (n, limit) in [(1, 3), (70, 9), (200, 50)] {
        let y = loaded.device.uninitialized::<i32>(n);
        loaded.launch_over("early_return", n, 64, &[(&y).into(), limit.into(), (n as i32).into()]);
        let divisors = |i: i32| (1..=i).filter(|d| i % d == 0 && *d < limit).count() as i32;
        let want = (0..n as i32).map(|i| if i >= limit { divisors(i) } else { -divisors(i) });
        loaded.assert_same("early return", &loaded.device.download(&y), &want.collect::<Vec<i32>>());
    }
}

fn expand(loaded: &mut Loaded) {
    let counts = numbers(9, 0, 9, LANES);
    let owners: Vec<i32> = (0..LANES).flat_map(|lane| vec![lane as i32; counts[lane] as usize]).collect();
    let (out, total) = (loaded.device.uninitialized::<i32>(owners.len()), loaded.device.uninitialized::<i32>(1));
    let args = [(&out).into(), (&total).into(), (&loaded.device.upload(&counts)).into()];
    loaded.launch("expand", [1; 3], [32, 1, 1], 0, &args);
    loaded.assert_same("owners", &loaded.device.download(&out), &owners);
    loaded.assert_same("total", &loaded.device.download(&total), &[owners.len() as i32]);
}

#[test]
fn partial_masks() {
    for_each_device("warp", &schedules(), |loaded| {
        votes(loaded);
        shuffles(loaded);
        two_sides(loaded);
        reductions(loaded);
        matches(loaded);
        divergent_loop(loaded);
        early_return(loaded);
        expand(loaded);
    });
}
