//! Flash attention, forward and backward, in f32 and on tensor cores; sequences are ragged.

use half::f16;

use crate::common::{Arg, Buffer};
use crate::support::{Float, Loaded, Random, exact, for_each_device, schedules};

/// (B, H, M, N, D), and the valid keys of each sequence.
struct Case {
    heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
    lengths: Vec<i32>,
}

fn cases(width: usize) -> Vec<Case> {
    let case =
        |heads, queries, keys, lengths: &[i32]| Case { heads, queries, keys, width, lengths: lengths.to_vec() };
    vec![case(1, 1, 1, &[1]), case(2, 37, 70, &[70, 33, 0]), case(1, 70, 130, &[129])]
}

/// Results in f64, for all heads.
struct Reference {
    o: Vec<f64>,
    lse: Vec<f64>,
    dq: Vec<f64>,
    dk: Vec<f64>,
    dv: Vec<f64>,
}

impl Case {
    fn scale(&self) -> f64 {
        1.0 / (self.width as f64).sqrt()
    }

    fn sequences(&self) -> usize {
        self.lengths.len() * self.heads
    }

    fn reference(&self, [q, k, v, d_o]: [&[f64]; 4]) -> Reference {
        let (m, n, d) = (self.queries, self.keys, self.width);
        let (of_queries, of_keys) = (self.sequences() * m * d, self.sequences() * n * d);
        let mut result = Reference {
            o: vec![0.0; of_queries],
            lse: vec![f64::NEG_INFINITY; self.sequences() * m],
            dq: vec![0.0; of_queries],
            dk: vec![0.0; of_keys],
            dv: vec![0.0; of_keys],
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let add = |y: &mut [f64], x: &[f64], by: f64| y.iter_mut().zip(x).for_each(|(y, x)| *y += by * x);
        for row in 0..self.sequences() * m {
            let head = row / m;
            let query = row * d..(row + 1) * d;
            let key = |j: usize| (head * n + j) * d..(head * n + j + 1) * d;
            let length = self.lengths[head / self.heads] as usize;
            let scores: Vec<f64> = (0..length).map(|j| self.scale() * dot(&q[query.clone()], &k[key(j)])).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = max + scores.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
            let p: Vec<f64> = scores.iter().map(|s| (s - lse).exp()).collect();
            if length > 0 {
                result.lse[row] = lse;
            }
            (0..length).for_each(|j| add(&mut result.o[query.clone()], &v[key(j)], p[j]));
            let delta = dot(&result.o[query.clone()], &d_o[query.clone()]);
            for j in 0..length {
                let ds = self.scale() * p[j] * (dot(&d_o[query.clone()], &v[key(j)]) - delta);
                add(&mut result.dv[key(j)], &d_o[query.clone()], p[j]);
                add(&mut result.dk[key(j)], &q[query.clone()], ds);
                add(&mut result.dq[query.clone()], &k[key(j)], ds);
            }
        }
        result
    }

    fn sizes(&self) -> [Arg; 4] {
        let [heads, queries, keys] = [self.heads, self.queries, self.keys].map(|size| Arg::from(size as i32));
        [Arg::from(self.scale() as f32), heads, queries, keys]
    }

    fn grid(&self, rows: usize) -> [u32; 3] {
        [rows.div_ceil(64) as u32, self.sequences() as u32, 1]
    }

    /// Q, K, V and dO.
    fn inputs<T: Float>(&self) -> [Vec<T>; 4] {
        let mut random = Random((self.queries * self.keys) as u64);
        let rows = [self.queries, self.keys, self.keys, self.queries];
        rows.map(|rows| random.floats(self.sequences() * rows * self.width))
    }
}

fn arguments(buffers: &[Buffer], sizes: [Arg; 4]) -> Vec<Arg> {
    buffers.iter().map(Arg::from).chain(sizes).collect()
}

/// In f32 sums of a few hundred roundings; with operands in f16 every weight and dS is rounded to it.
fn compare<T: Float, Q: Float>(loaded: &Loaded, kernel: &str, buffer: &Buffer, want: &[f64]) {
    let got: Vec<T> = loaded.device.download(buffer);
    let greatest = want.iter().filter(|x| x.is_finite()).fold(1.0, |greatest: f64, x| greatest.max(x.abs()));
    loaded.assert_close(kernel, &got, want, |_| (8.0 * Q::ROUNDING + 256.0 * f32::ROUNDING) * greatest);
}

fn check_f32(loaded: &mut Loaded, case: &Case) {
    let inputs = case.inputs::<f32>();
    let [q, k, v, d_o] = inputs.each_ref().map(|x| loaded.device.upload(x));
    let lengths = loaded.device.upload(&case.lengths);
    let [o, dk, dv] = [&q, &k, &v].map(|x| loaded.device.uninitialized::<u8>(x.bytes as usize));
    let dq = loaded.device.zeros::<u8>(q.bytes as usize);
    let lse = loaded.device.uninitialized::<f32>(case.sequences() * case.queries);
    let (forward, backward) = (format!("attention_fwd_{}", case.width), format!("attention_bwd_{}", case.width));

    let args = arguments(&[o, lse, q, k, v, lengths], case.sizes());
    loaded.launch(&forward, case.grid(case.queries), [64, 1, 1], 0, &args);
    let args = arguments(&[dq, dk, dv, d_o, o, q, k, v, lse, lengths], case.sizes());
    loaded.launch(&backward, case.grid(case.keys), [64, 1, 1], 0, &args);

    let inputs = inputs.map(|x| exact(&x));
    let want = case.reference(inputs.each_ref().map(Vec::as_slice));
    let results = [
        ("O", o, &want.o),
        ("lse", lse, &want.lse),
        ("dQ", dq, &want.dq),
        ("dK", dk, &want.dk),
        ("dV", dv, &want.dv),
    ];
    for (name, buffer, want) in results {
        compare::<f32, f32>(loaded, name, &buffer, want);
    }
}

fn check_fwd_f16(loaded: &mut Loaded, case: &Case) {
    let inputs = case.inputs::<f16>();
    let [q, k, v, _] = inputs.each_ref().map(|x| loaded.device.upload(x));
    let lengths = loaded.device.upload(&case.lengths);
    let o = loaded.device.uninitialized::<u8>(q.bytes as usize);
    let lse = loaded.device.uninitialized::<f32>(case.sequences() * case.queries);
    let args = arguments(&[o, lse, q, k, v, lengths], case.sizes());
    loaded.launch(&format!("attention_fwd_{}", case.width), case.grid(case.queries), [128, 1, 1], 0, &args);
    let inputs = inputs.map(|x| exact(&x));
    let want = case.reference(inputs.each_ref().map(Vec::as_slice));
    compare::<f16, f16>(loaded, "O", &o, &want.o);
    compare::<f32, f32>(loaded, "lse", &lse, &want.lse);
}

fn check_bwd_f16(loaded: &mut Loaded, case: &Case) {
    let inputs = case.inputs::<f16>();
    let exact_inputs = inputs.each_ref().map(|x| exact(x));
    let want = case.reference(exact_inputs.each_ref().map(Vec::as_slice));
    let [q, k, v, d_o] = inputs.each_ref().map(|x| loaded.device.upload(x));
    let [o, lengths] = [loaded.device.upload(&round::<f16>(&want.o)), loaded.device.upload(&case.lengths)];
    let lse = loaded.device.upload(&round::<f32>(&want.lse));
    let rows = case.sequences() * case.queries;
    let (delta, dq) = (loaded.device.uninitialized::<f32>(rows), loaded.device.zeros::<f32>(rows * case.width));
    let [dk, dv] = [&k, &v].map(|x| loaded.device.uninitialized::<u8>(x.bytes as usize));

    let args = [(&delta).into(), (&d_o).into(), (&o).into(), (rows as i32).into(), (case.width as i32).into()];
    loaded.launch_over("attention_delta", rows * 32, 64, &args);
    let args = arguments(&[dq, dk, dv, d_o, q, k, v, lse, delta, lengths], case.sizes());
    loaded.launch(&format!("attention_bwd_{}", case.width), case.grid(case.keys), [128, 1, 1], 0, &args);
    compare::<f32, f16>(loaded, "dQ", &dq, &want.dq);
    compare::<f16, f16>(loaded, "dK", &dk, &want.dk);
    compare::<f16, f16>(loaded, "dV", &dv, &want.dv);
}

fn round<T: Float>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&x| T::of(x)).collect()
}

fn check(file: &str, check: fn(&mut Loaded, &Case)) {
    for_each_device(file, &schedules(), |loaded| {
        [32, 64].into_iter().flat_map(cases).for_each(|case| check(loaded, &case));
    });
}

#[test]
fn in_f32() {
    check("flash_attention_f32", check_f32);
}

#[test]
fn forward_on_tensor_cores() {
    check("flash_attention_fwd", check_fwd_f16);
}

#[test]
fn backward_on_tensor_cores() {
    check("flash_attention_bwd", check_bwd_f16);
}
