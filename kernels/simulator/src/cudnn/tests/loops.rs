//! Convolutions against plain loops in f64.

use cudarc::cudnn::sys::{cudnnActivationMode_t, cudnnMathType_t, cudnnTensorFormat_t as Format};

use super::{Case, Fixture, NCHW, NHWC, PLAIN};
use crate::cudnn::support::{Algorithm, TABLE};
use crate::memory::Memory;
use crate::vendor::testing::{submit, tf32, tolerance, values};
use crate::vendor::{Dtype, store};

/// A tensor or filter, indexed in the order N, C, then space.
struct Array {
    values: Vec<f64>,
    sizes: [usize; 4],
    format: Format,
}

impl Array {
    fn read(memory: &Memory, dtype: Dtype, address: u64, sizes: [usize; 4], format: Format) -> Self {
        Self { values: values(memory, dtype, address, sizes.into_iter().product()), sizes, format }
    }

    fn at(&mut self, [n, c, h, w]: [usize; 4]) -> &mut f64 {
        let [_, channels, height, width] = self.sizes;
        &mut self.values[match self.format {
            Format::CUDNN_TENSOR_NHWC => ((n * height + h) * width + w) * channels + c,
            _ => ((n * channels + c) * height + h) * width + w,
        }]
    }
}

/// x, w and y.
fn arrays(fixture: &Fixture, case: &Case) -> [Array; 3] {
    let formats = [case.formats[0], case.formats[1], case.formats[0]];
    [0, 1, 2].map(|i| Array::read(&fixture.memory, case.dtype, fixture.addresses[i], case.sizes()[i], formats[i]))
}

/// Calls `visit` with the indices of x, w and y of every product.
fn products(case: &Case, mut visit: impl FnMut([usize; 4], [usize; 4], [usize; 4])) {
    let [[batch, _, height, width], [_, channels, r, s], [_, k, p, q]] = case.sizes();
    for (n, k, p, q) in (0..batch * k * p * q).map(|i| (i / q / p / k, i / q / p % k, i / q % p, i % q)) {
        for (c, r, s) in (0..channels * r * s).map(|i| (i / s / r, i / s % r, i % s)) {
            let h = (p * case.stride[0] + r * case.dilation[0]).wrapping_sub(case.pad[0]);
            let w = (q * case.stride[1] + s * case.dilation[1]).wrapping_sub(case.pad[1]);
            if h < height && w < width {
                let group = k / (case.channels[1] / case.groups);
                visit([n, group * channels + c, h, w], [k, c, r, s], [n, k, p, q]);
            }
        }
    }
}

/// alpha times what a pass sums up, in the place of its result; and of how many terms an element may consist.
fn expected(case: &Case, algorithm: Algorithm, [mut x, mut w, mut y]: [Array; 3]) -> (Vec<f64>, usize) {
    let result = match algorithm {
        Algorithm::Forward(_) => y.values.len(),
        Algorithm::BackwardData(_) => x.values.len(),
        Algorithm::BackwardFilter(_) => w.values.len(),
    };
    let zero = |array: &Array| Array { values: vec![0.0; array.values.len()], ..*array };
    let mut sums = match algorithm {
        Algorithm::Forward(_) => zero(&y),
        Algorithm::BackwardData(_) => zero(&x),
        Algorithm::BackwardFilter(_) => zero(&w),
    };
    let mut terms: usize = 0;
    products(case, |at_x, at_w, at_y| {
        terms += 1;
        match algorithm {
            Algorithm::Forward(_) => *sums.at(at_y) += *x.at(at_x) * *w.at(at_w),
            Algorithm::BackwardData(_) => *sums.at(at_x) += *y.at(at_y) * *w.at(at_w),
            Algorithm::BackwardFilter(_) => *sums.at(at_w) += *x.at(at_x) * *y.at(at_y),
        }
    });
    sums.values.iter_mut().for_each(|sum| *sum *= f64::from(case.scalars[0]));
    (sums.values, terms.div_ceil(result) + 1)
}

/// Runs a pass and checks its result.
fn check(case: &Case, algorithm: usize) {
    let fixture = Fixture::new(case, algorithm);
    let mut before = arrays(&fixture, case);
    let which = match fixture.algorithm {
        Algorithm::Forward(_) => 2,
        Algorithm::BackwardData(_) => 0,
        Algorithm::BackwardFilter(_) => 1,
    };
    let old = before[which].values.clone();
    if case.math == cudnnMathType_t::CUDNN_DEFAULT_MATH {
        before.iter_mut().flat_map(|array| &mut array.values).for_each(|x| *x = tf32(*x));
    }
    let (expected, terms) = expected(case, fixture.algorithm, before);
    submit(&fixture.memory, fixture.call().unwrap());
    let got = &arrays(&fixture, case)[which].values;
    for (index, (sum, old)) in expected.into_iter().zip(old).enumerate() {
        let expected = sum + f64::from(case.scalars[1]) * old;
        let allowed = tolerance(case.dtype, expected, terms);
        assert!(
            (got[index] - expected).abs() <= allowed,
            "{index}: {}, expected {expected} up to {allowed}",
            got[index]
        );
    }
}

#[test]
fn convolutions_are_those_of_plain_loops() {
    let mixed = [Format::CUDNN_TENSOR_NHWC, Format::CUDNN_TENSOR_NCHW];
    for (algorithm, formats) in (0..TABLE.len()).flat_map(|row| [NHWC, NCHW, mixed].map(|formats| (row, formats))) {
        for dtype in [Dtype::F16, Dtype::Bf16, Dtype::F32] {
            let plain = Case { dtype, formats, ..PLAIN };
            check(&plain, algorithm);
            check(&Case { scalars: [-0.5, 2.0], stride: [2, 3], ..plain }, algorithm);
            check(&Case { dilation: [2, 3], pad: [2, 1], ..plain }, algorithm);
            check(&Case { groups: 3, channels: [6, 9], stride: [2, 1], ..plain }, algorithm);
            check(&Case { taps: [1, 1], pad: [0, 0], channels: [16, 8], ..plain }, algorithm);
            check(&Case { channels: [1, 1], taps: [6, 7], pad: [0, 0], ..plain }, algorithm);
        }
        check(&Case { formats, size: [13, 50], channels: [4, 140], batch: 1, ..PLAIN }, algorithm);
        check(&Case { formats, groups: 8, channels: [8, 8], pad: [3, 2], ..PLAIN }, algorithm);
        check(&Case { formats, math: cudnnMathType_t::CUDNN_DEFAULT_MATH, ..PLAIN }, algorithm);
    }
}

#[test]
fn conversion_rounds_factors_to_f16() {
    let case = Case { math: cudnnMathType_t::CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION, taps: [1, 1], ..PLAIN };
    let case = Case { channels: [1, 1], pad: [0, 0], ..case };
    let fixture = Fixture::new(&case, 0);
    let third = 1.0 / 3.0;
    store(&fixture.memory, Dtype::F32, fixture.addresses[0], &[third]);
    store(&fixture.memory, Dtype::F32, fixture.addresses[1], &[1.0]);
    submit(&fixture.memory, fixture.call().unwrap());
    assert_eq!(values(&fixture.memory, Dtype::F32, fixture.addresses[2], 1), [half::f16::from_f64(third).to_f64()]);
}

#[test]
fn bias_residual_and_activation_are_those_of_plain_loops() {
    for (formats, dtype) in [(NHWC, Dtype::F16), (NHWC, Dtype::Bf16), (NHWC, Dtype::F32), (NCHW, Dtype::F32)] {
        for relu in [true, false] {
            for (scalars, in_place) in [([1.0, 1.0], true), ([0.5, -2.0], false), ([1.0, 0.0], false)] {
                let case = Case { formats, dtype, scalars, size: [13, 14], ..PLAIN };
                let mut fixture = Fixture::new(&case, 0);
                if in_place {
                    fixture.addresses[3] = fixture.addresses[2];
                }
                if scalars[1] == 0.0 {
                    fixture.addresses[3] = 0;
                }
                if !relu {
                    fixture.activation.mode = cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY;
                }
                let before = arrays(&fixture, &case);
                let len = before[2].values.len();
                let z = if scalars[1] == 0.0 { 0 } else { len };
                let z = values(&fixture.memory, dtype, fixture.addresses[3], z);
                let bias = values(&fixture.memory, dtype, fixture.addresses[4], case.channels[1]);
                let (sums, terms) = expected(&case, fixture.algorithm, before);
                submit(&fixture.memory, fixture.fused().unwrap());
                let got = values(&fixture.memory, dtype, fixture.addresses[2], len);
                for (index, sum) in sums.into_iter().enumerate() {
                    let channel = match formats[0] {
                        Format::CUDNN_TENSOR_NHWC => index % case.channels[1],
                        _ => index / (case.outputs(0) * case.outputs(1)) % case.channels[1],
                    };
                    let x = sum + bias[channel] + z.get(index).map_or(0.0, |z| f64::from(scalars[1]) * z);
                    let y = if relu { x.max(0.0) } else { x };
                    assert!(
                        (got[index] - y).abs() <= tolerance(dtype, y, terms),
                        "{index}: {}, expected {y}",
                        got[index]
                    );
                }
            }
        }
    }
}

#[test]
fn relu_does_not_propagate_nan() {
    let fixture = Fixture::new(&PLAIN, 0);
    store(&fixture.memory, Dtype::F32, fixture.addresses[4], &[f64::NAN; 5]);
    submit(&fixture.memory, fixture.fused().unwrap());
    assert_eq!(values(&fixture.memory, Dtype::F32, fixture.addresses[2], 5), [0.0; 5]);
}
