//! What is refused, and why.

use cudarc::cudnn::sys::{
    cudnnActivationMode_t, cudnnConvolutionFwdAlgo_t, cudnnConvolutionMode_t, cudnnDataType_t, cudnnNanPropagation_t,
    cudnnTensorFormat_t as Format,
};

use super::{Case, Fixture, NCHW, PLAIN};
use crate::cudnn::support::{Algorithm, TABLE};
use crate::vendor::testing::refused;

/// Changes that make a sound convolution one that is refused.
type Change = fn(&mut Fixture);

#[test]
#[rustfmt::skip]
fn what_the_documentation_does_not_allow_is_refused() {
    let cases: [(bool, &str, Change); 19] = [
        (false, "CUDNN_DATA_DOUBLE is not modelled", |f| f.x.dtype = cudnnDataType_t::CUDNN_DATA_DOUBLE),
        (false, "they must agree", |f| f.w.dtype = cudnnDataType_t::CUDNN_DATA_HALF),
        (false, "they must agree", |f| f.y.dtype = cudnnDataType_t::CUDNN_DATA_HALF),
        (false, "sums in CUDNN_DATA_HALF", |f| f.convolution.compute = cudnnDataType_t::CUDNN_DATA_HALF),
        (false, "flipped filters", |f| f.convolution.mode = cudnnConvolutionMode_t::CUDNN_CONVOLUTION),
        (true, "[4, 4, 4, 5] dimensions", |f| f.convolution.pads.push(0)),
        (false, "5 dimensions", |f| {
            let lists = [&mut f.x.sizes, &mut f.w.sizes, &mut f.y.sizes, &mut f.convolution.pads];
            lists.into_iter().for_each(|list| list.push(1));
        }),
        (false, "neither packed NHWC nor packed NCHW", |f| f.x.strides[2] += 1),
        (false, "the filter is NHWC, x Nchw", |f| f.x.strides = vec![126, 42, 7, 1]),
        (true, "3 and 5 channels in 3 groups", |f| f.convolution.groups = 3),
        (true, "x has 3 channels in 1 groups", |f| f.w.sizes[1] = 2),
        (true, "expected a batch of 2 and [Some(3), Some(6)] pixels", |f| f.convolution.strides[0] = 2),
        (true, "and [None, Some(6)] pixels", |f| f.w.sizes[2] = 9),
        (true, "x is null", |f| f.addresses[0] = 0),
        (true, "y is at", |f| f.addresses[2] += 8),
        (true, "the workspace has 16 bytes", |f| f.workspace.1 = 16),
        (true, "bytes at 0x0", |f| f.workspace.0 = 0),
        (false, "WINOGRAD) is not modelled", |f| {
            f.algorithm = Algorithm::Forward(cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD);
        }),
        (false, "FWD_ALGO_FFT) is not modelled", |f| {
            f.algorithm = Algorithm::Forward(cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_FFT);
        }),
    ];
    for (invalid, reason, change) in cases {
        let mut fixture = Fixture::new(&PLAIN, 0);
        change(&mut fixture);
        refused(fixture.call(), invalid, reason);
        refused(fixture.fused(), invalid, reason);
    }
}

#[test]
#[rustfmt::skip]
fn the_fused_pass_has_rules_of_its_own() {
    let cases: [(bool, &str, Change); 9] = [
        (false, "expected ReLU or identity", |f| f.activation.mode = cudnnActivationMode_t::CUDNN_ACTIVATION_TANH),
        (false, "IDENTITY needs CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM", |f| {
            f.activation.mode = cudnnActivationMode_t::CUDNN_ACTIVATION_IDENTITY;
            f.algorithm = TABLE[1].algorithm;
        }),
        (false, "must not propagate NaN", |f| f.activation.nan = cudnnNanPropagation_t::CUDNN_PROPAGATE_NAN),
        (true, "they must match", |f| f.z.sizes[1] += 1),
        (false, "bias must have the type of x, CUDNN_DATA_FLOAT", |f| f.bias.dtype = cudnnDataType_t::CUDNN_DATA_HALF),
        (true, "expected [1, 5, 1, 1]", |f| f.bias.sizes[1] = 1),
        (false, "bias has strides", |f| f.bias.strides[1] = 2),
        (true, "the bias is null", |f| f.addresses[4] = 0),
        (true, "z is null", |f| { f.addresses[3] = 0; f.scalars[1] = 1.0 }),
    ];
    for (invalid, reason, change) in cases {
        let mut fixture = Fixture::new(&PLAIN, 0);
        change(&mut fixture);
        refused(fixture.fused(), invalid, reason);
        assert!(fixture.call().is_ok());
    }
}

#[test]
fn addresses_are_aligned_as_the_filter_asks() {
    let nchw = Case { formats: NCHW, ..PLAIN };
    let mut fixture = Fixture::new(&nchw, 0);
    fixture.addresses[0] += 4;
    assert!(fixture.call().is_ok());
    fixture.addresses[0] += 2;
    refused(fixture.call(), true, "not aligned to 4 bytes");
}

#[test]
fn one_channel_fits_either_layout() {
    let mut fixture = Fixture::new(&Case { channels: [1, 5], ..PLAIN }, 0);
    fixture.x.strides = vec![42, 42, 7, 1];
    assert!(fixture.call().is_ok());
    fixture.w.format = Format::CUDNN_TENSOR_NCHW;
    assert!(fixture.call().is_ok());
}
