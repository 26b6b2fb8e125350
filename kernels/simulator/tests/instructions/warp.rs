//! What lanes tell each other: every instruction is run for sets of lanes, and defined by a loop over them.

use mdetr_simulator::options::Approximation;

use super::harness::{Machine, Values};

/// Sets of lanes that run together.
const PRESENT: [u32; 6] = [u32::MAX, 0x0000_ffff, 0x5555_5555, 0x8000_0001, 0x0f0f_7003, 0x0000_0010];

/// Runs `text` with its sources set to `rows`; returns what the registers in `targets` hold, and the lanes at fault.
fn run(text: &str, rows: &[(&str, Values)], targets: &[&str], present: u32) -> (Vec<Values>, u32) {
    let mut machine = Machine::new(text, Approximation::Exact).unwrap();
    for (name, row) in rows {
        machine.set(name, *row);
    }
    let faulty = machine.run(present);
    (targets.iter().map(|target| machine.get(target)).collect(), faulty)
}

fn lanes(present: u32) -> impl Iterator<Item = usize> + Clone {
    (0..32).filter(move |lane| present >> lane & 1 == 1)
}

/// A row of unlike values with some that are alike.
fn values(seed: u64) -> Values {
    std::array::from_fn(|lane| {
        let x = (lane as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ seed).rotate_left(29);
        if x.is_multiple_of(3) { 7 } else { x & 0xffff_ffff }
    })
}

/// Every lane that is present holds what `expected` says for it, and the others what they held before, which is 0.
fn assert_lanes(text: &str, present: u32, found: &Values, expected: impl Fn(usize) -> u64) {
    for (lane, &found) in found.iter().enumerate() {
        let expected = if present >> lane & 1 == 1 { expected(lane) } else { 0 };
        assert_eq!(found, expected, "{text}: lane {lane} of {present:#x}");
    }
}

#[test]
fn shuffles() {
    let a = values(1);
    // widths of segments, as `__shfl_sync` and its like pass them on
    for width in [32, 16, 8, 4, 2, 1_u64] {
        for by in [0, 1, 2, 5, 15, 16, 31, 33] {
            for present in PRESENT {
                for mode in ["up", "down", "bfly", "idx"] {
                    let text = format!("shfl.sync.{mode}.b32 %r0|%p0, %r1, %r2, %r3, %r4");
                    let c = (32 - width) << 8 | if mode == "up" { 0 } else { 31 };
                    let rows = [("%r1", a), ("%r2", [by; 32]), ("%r3", [c; 32]), ("%r4", [present.into(); 32])];
                    let (found, faulty) = run(&text, &rows, &["%r0", "%p0"], present);
                    let by = by % 32;
                    let source = |lane: usize| {
                        let segment = lane as u64 / width * width;
                        let from = match mode {
                            "up" => (lane as u64).checked_sub(by).filter(|&from| from >= segment)?,
                            "down" => lane as u64 + by,
                            // segments before the own one may be read
                            "bfly" => lane as u64 ^ by,
                            _ => segment + by % width,
                        };
                        (from < segment + width).then_some(from as usize)
                    };
                    assert_lanes(&text, present, &found[0], |lane| a[source(lane).unwrap_or(lane)]);
                    assert_lanes(&text, present, &found[1], |lane| source(lane).is_some().into());
                    for lane in 0..32 {
                        let reads_absent = source(lane).is_some_and(|from| present >> from & 1 == 0);
                        let expected = present >> lane & 1 == 1 && reads_absent;
                        assert_eq!(faulty >> lane & 1 == 1, expected, "{text}: lane {lane} of {present:#x}, by {by}");
                    }
                }
            }
        }
    }
    let (found, _) = run("shfl.sync.bfly.b32 %r0, %r1, 1, 31, -1", &[("%r1", a)], &["%r0"], u32::MAX);
    assert_lanes("immediates", u32::MAX, &found[0], |lane| a[lane ^ 1]);
}

#[test]
fn votes() {
    let some = values(2).map(|value| value & 1);
    for row in [[0; 32], [1; 32], some] {
        for present in PRESENT {
            for (not, flip) in [("", 0), ("!", 1)] {
                let row_is = |lane: usize| row[lane] ^ flip == 1;
                let all = lanes(present).all(row_is);
                let any = lanes(present).any(row_is);
                for (mode, expected) in [("all", all), ("any", any), ("uni", all || !any)] {
                    let text = format!("vote.sync.{mode}.pred %p0, {not}%p1, %r1");
                    let (found, _) = run(&text, &[("%p1", row)], &["%p0"], present);
                    assert_lanes(&text, present, &found[0], |_| expected.into());
                }
                let text = format!("vote.sync.ballot.b32 %r0, {not}%p1, %r1");
                let (found, _) = run(&text, &[("%p1", row)], &["%r0"], present);
                let ballot = lanes(present).filter(|&lane| row_is(lane)).map(|lane| 1 << lane).sum();
                assert_lanes(&text, present, &found[0], |_| ballot);
            }
        }
    }
}

#[test]
fn matches() {
    for row in [values(3), [9; 32]] {
        for present in PRESENT {
            for (ty, r) in [("b32", "%r"), ("b64", "%rd")] {
                let alike = |lane| lanes(present).filter(|&i| row[i] == row[lane]).map(|i| 1 << i).sum::<u64>();
                let text = format!("match.any.sync.{ty} %r0, {r}1, %r2");
                let (found, _) = run(&text, &[(&format!("{r}1"), row)], &["%r0"], present);
                assert_lanes(&text, present, &found[0], alike);
                let same = lanes(present).all(|lane| alike(lane) == u64::from(present));
                let text = format!("match.all.sync.{ty} %r0|%p0, {r}1, %r2");
                let (found, _) = run(&text, &[(&format!("{r}1"), row)], &["%r0", "%p0"], present);
                assert_lanes(&text, present, &found[0], |_| if same { present.into() } else { 0 });
                assert_lanes(&text, present, &found[1], |_| same.into());
            }
        }
    }
}

#[test]
fn reductions() {
    let a = values(4);
    for present in PRESENT {
        let signed = lanes(present).map(|lane| i128::from(a[lane] as i32));
        let unsigned = lanes(present).map(|lane| i128::from(a[lane]));
        let bits = lanes(present).map(|lane| a[lane]);
        let cases = [
            ("add.u32", unsigned.clone().sum::<i128>() as u32),
            ("min.u32", unsigned.clone().min().unwrap() as u32),
            ("max.u32", unsigned.max().unwrap() as u32),
            ("add.s32", signed.clone().sum::<i128>() as u32),
            ("min.s32", signed.clone().min().unwrap() as u32),
            ("max.s32", signed.max().unwrap() as u32),
            ("and.b32", bits.clone().fold(u64::MAX, |x, y| x & y) as u32),
            ("or.b32", bits.clone().fold(0, |x, y| x | y) as u32),
            ("xor.b32", bits.fold(0, |x, y| x ^ y) as u32),
        ];
        for (operation, expected) in cases {
            let text = format!("redux.sync.{operation} %r0, %r1, %r2");
            let (found, faulty) = run(&text, &[("%r1", a)], &["%r0"], present);
            assert_lanes(&text, present, &found[0], |_| expected.into());
            assert_eq!(faulty, 0);
        }
    }
}

#[test]
fn who_is_there() {
    for present in PRESENT {
        let (found, _) = run("activemask.b32 %r0", &[], &["%r0"], present);
        assert_lanes("activemask", present, &found[0], |_| present.into());
        let (found, _) = run("elect.sync %r0|%p0, %r1", &[], &["%r0", "%p0"], present);
        let first = lanes(present).next().unwrap();
        assert_lanes("elect", present, &found[0], |_| first as u64);
        assert_lanes("elect", present, &found[1], |lane| (lane == first).into());
    }
}
