// y () = the sum of weights x over the elements of up to four terms; weights lie term by term.
// A warp in all: there are a few dozen elements. Saved: the weights.

#include "dtype.cuh"
#include "reduce.cuh"

//@ weighted_sum_fwd warp: grid 1; block 32; registers 72
extern "C" __global__ void __launch_bounds__(32)
    weighted_sum_fwd_warp(T* y, int accumulate, const T* x0, const T* x1, const T* x2, const T* x3, const float* weights,
                          int N0, int N1, int N2, int N3) {
    float sum = 0.0f;
    auto add = [&](const T* x, int N) {
        for (int i = threadIdx.x; i < N; i += 32) sum += weights[i] * to_float(x[i]);
        weights += N;
    };
    add(x0, N0), add(x1, N1), add(x2, N2), add(x3, N3);
    sum = warp_sum(sum);
    if (threadIdx.x == 0) store_gradient(y, sum, accumulate);
}

// dx = dy weights, of one term.
//@ weighted_sum_bwd elements: grid elements/128; block 128; registers 24
extern "C" __global__ void __launch_bounds__(128)
    weighted_sum_bwd_elements(T* dx, int accumulate, const T* dy, const float* weights, int N) {
    int i = blockIdx.x * 128 + threadIdx.x;
    if (i < N) store_gradient(dx + i, to_float(*dy) * weights[i], accumulate);
}
