//! Products against plain loops in f64.

use cudarc::cublaslt::sys::{cublasComputeType_t as Compute, cublasLtEpilogue_t as Code};

use super::{Case, PLAIN, Product};
use crate::cublas_lt::descriptor::MatmulDesc;
use crate::cublas_lt::epilogue::{Activation, Aux, Bias, Epilogue};
use crate::cublas_lt::support::TABLE;
use crate::memory::Memory;
use crate::vendor::testing::{submit, tf32, tolerance, values};
use crate::vendor::{Dtype, store};

/// The tanh form.
fn gelu(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
    x / (1.0 + (-2.0 * inner).exp())
}

/// Runs a case, and checks everything that it wrote.
fn check(case: Case) {
    let mut product = Product::new(case);
    let types = &TABLE[case.types];
    let ([m, n, k], result) = (case.sizes, types.result);
    let (mut a, mut b, c) = (product.values(0), product.values(1), product.values(2));
    if product.desc.compute == Compute::CUBLAS_COMPUTE_32F_FAST_TF32 as u32 {
        a.iter_mut().chain(&mut b).for_each(|x| *x = tf32(*x));
    }
    let epilogue = Epilogue::new(product.desc.epilogue).unwrap();
    let (bias_stride, aux_ld) = (product.desc.bias_stride as usize, product.desc.aux_ld as usize);
    let bias_len = if epilogue.bias == Bias::None { 0 } else { case.batch * bias_stride };
    let bias = values(&product.memory, result, product.desc.bias, bias_len);
    let aux_len = if epilogue.aux == Aux::None { 0 } else { case.batch * aux_ld * n };
    let aux = |memory: &Memory, desc: &MatmulDesc| match epilogue.aux {
        Aux::None => Vec::new(),
        Aux::Input => values(memory, result, desc.aux, aux_len),
        Aux::Mask => {
            let bytes = memory.find(desc.aux, 0).unwrap().0.read(0, aux_len as u64 / 8);
            bytes.iter().flat_map(|byte| (0..8).map(move |bit| f64::from(byte >> bit & 1))).collect()
        }
    };
    let aux_before = aux(&product.memory, &product.desc);

    let call = product.call(std::ptr::null()).unwrap();
    submit(&product.memory, call);

    let (d, aux_after) = (product.values(3), aux(&product.memory, &product.desc));
    let grads = values(&product.memory, result, product.desc.bias, bias_len);
    let at = |index: usize, batch: usize, i: usize, j: usize| {
        let layout = &product.layouts[index];
        batch * layout.batch_stride as usize + j * layout.ld as usize + i
    };
    let op_a = |batch, i, l| a[if case.trans[0] { at(0, batch, l, i) } else { at(0, batch, i, l) }];
    let op_b = |batch, l, j| b[if case.trans[1] { at(1, batch, j, l) } else { at(1, batch, l, j) }];
    let near = |what: &str, got: f64, expected: f64, terms: usize| {
        let allowed = tolerance(result, expected, terms);
        assert!((got - expected).abs() <= allowed, "{what}: {got}, expected {expected} up to {allowed}");
    };
    for batch in 0..case.batch {
        let mut sums = vec![0.0; m];
        for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let sum: f64 = (0..k).map(|l| op_a(batch, i, l) * op_b(batch, l, j)).sum();
            let [alpha, beta] = case.scalars;
            let mut x = alpha * sum + if beta == 0.0 { 0.0 } else { beta * c[at(2, batch, i, j)] };
            if epilogue.bias == Bias::Add {
                x += bias[batch * bias_stride + i];
            }
            let aux_at = (batch * n + j) * aux_ld + i;
            let y = match epilogue.activation {
                Activation::None => x,
                Activation::Relu => x.max(0.0),
                Activation::Gelu => gelu(x),
                Activation::ReluGrad => x * aux_before[aux_at],
                Activation::GeluGrad => {
                    x * (gelu(aux_before[aux_at] + 1e-5) - gelu(aux_before[aux_at] - 1e-5)) / 2e-5
                }
            };
            sums[i] += y;
            near("D", d[at(3, batch, i, j)], y, k);
            match epilogue.activation {
                Activation::Relu if epilogue.aux == Aux::Mask => {
                    assert!(x.abs() < 1e-4 || (x > 0.0) == (aux_after[aux_at] == 1.0), "mask of {x}");
                }
                Activation::Gelu if epilogue.aux == Aux::Input => near("input of GELU", aux_after[aux_at], x, k),
                _ => {}
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            let grad = grads.get(batch * bias_stride + i).copied();
            match epilogue.bias {
                Bias::GradD => near("gradient of bias", grad.unwrap(), sum, n * k),
                Bias::GradA => near("sums of A", grad.unwrap(), (0..k).map(|l| op_a(batch, i, l)).sum(), k),
                Bias::None | Bias::Add | Bias::GradB => {}
            }
        }
        if epilogue.bias == Bias::GradB {
            (0..n).for_each(|j| {
                near("sums of B", grads[batch * bias_stride + j], (0..k).map(|l| op_b(batch, l, j)).sum(), k);
            });
        }
        if !case.in_place {
            let gap = |j: usize| &d[at(3, batch, m, j)..at(3, batch, 0, j + 1)];
            assert!((0..n).all(|j| gap(j).iter().all(|x| x.is_nan())), "written between columns");
        }
    }
}

#[test]
fn products_are_those_of_plain_loops() {
    for types in 0..TABLE.len() {
        for trans in [[false, false], [true, false], [false, true], [true, true]] {
            check(Case { types, trans, ..PLAIN });
            check(Case { types, trans, batch: 3, gap: 3, scalars: [-0.5, 2.0], ..PLAIN });
        }
        check(Case { types, sizes: [300, 140, 33], ..PLAIN });
        check(Case { types, sizes: [1, 1, 1], ..PLAIN });
        check(Case { types, in_place: true, batch: 2, scalars: [1.5, 1.0], ..PLAIN });
        check(Case { types, device_scalars: true, scalars: [0.75, -1.0], ..PLAIN });
    }
}

#[test]
fn epilogues_are_those_of_plain_loops() {
    for epilogue in Epilogue::ALL.map(|(code, ..)| code) {
        for (types, row) in TABLE.iter().enumerate() {
            let training = Epilogue::new(epilogue as u32).unwrap();
            if !row.training && (training.aux != Aux::None || training.writes_bias()) {
                continue;
            }
            check(Case { types, epilogue, ..PLAIN });
            check(Case { types, epilogue, sizes: [261, 131, 9], batch: 2, scalars: [0.5, 1.0], ..PLAIN });
        }
    }
}

#[test]
fn tf32_rounds_its_factors() {
    let mut product = Product::new(PLAIN);
    product.desc.compute = Compute::CUBLAS_COMPUTE_32F_FAST_TF32 as u32;
    let third = 1.0 / 3.0;
    for (index, len) in [15, 21].into_iter().enumerate() {
        store(&product.memory, Dtype::F32, product.addresses[index], &vec![third; len]);
    }
    let call = product.call(std::ptr::null()).unwrap();
    submit(&product.memory, call);
    let expected = 3.0 * tf32(third) * tf32(third);
    assert!((product.values(3)[0] - expected).abs() < 1e-7, "{} {expected}", product.values(3)[0]);
}

#[test]
fn a_factor_may_be_the_same_in_every_batch() {
    let mut product = Product::new(Case { batch: 2, ..PLAIN });
    product.layouts[1].batch_stride = 0;
    let b = values(&product.memory, Dtype::F32, product.addresses[1], 3);
    let call = product.call(std::ptr::null()).unwrap();
    submit(&product.memory, call);
    let (a, d) = (product.values(0), product.values(3));
    let expected: f64 = (0..3).map(|l| a[15 + 5 * l] * b[l]).sum();
    assert!((d[35] - expected).abs() < 1e-6);
}

#[test]
fn a_nan_survives_relu() {
    let mut product = Product::new(Case { epilogue: Code::CUBLASLT_EPILOGUE_RELU, ..PLAIN });
    store(&product.memory, Dtype::F32, product.addresses[0], &[f64::NAN]);
    let call = product.call(std::ptr::null()).unwrap();
    submit(&product.memory, call);
    assert!(product.values(3)[0].is_nan());
}
