// Sums of exponentials.
#pragma once

#include "dtype.cuh"
#include "reduce.cuh"

__device__ inline float infinity() { return __int_as_float(0x7f800000); }

// Calls f(column, x[column]) for this lane's share of a row, 16 bytes at a time where the row allows it.
template <class F> __device__ inline void for_each_of_lane(const float* x, int N, F f) {
    int lane = threadIdx.x % 32;
    if (N % 4 == 0 && is_vector_aligned(x)) {
        for (int i = lane * 4; i < N; i += 128) {
            float v[4];
            load_vector(v, x + i);
#pragma unroll
            for (int j = 0; j < 4; j++) f(i + j, v[j]);
        }
    } else {
        for (int i = lane; i < N; i += 32) f(i, x[i]);
    }
}

// log of the sum of e^x over a row, by a warp; -infinity for an empty one. The second pass comes from the L1 cache.
__device__ inline float warp_logsumexp(const float* x, int N) {
    float max = -infinity(), sum = 0.0f;
    for_each_of_lane(x, N, [&](int, float v) { max = fmaxf(max, v); });
    max = warp_max(max);
    if (isinf(max)) return max;
    for_each_of_lane(x, N, [&](int, float v) { sum += expf(v - max); });
    return max + logf(warp_sum(sum));
}
