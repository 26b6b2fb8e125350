// Sums and maxima over a warp and over a block, of which every thread gets the result, and sums down columns.
#pragma once

constexpr unsigned ALL_LANES = 0xffffffff;

__device__ inline float warp_sum(float x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}
__device__ inline float warp_max(float x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

// Of a block of whole warps, at most 32 of them; all its threads call it.
__device__ inline float block_sum(float x) {
    __shared__ float sums[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_sum(x);
    __syncthreads(); // the sums of an earlier call are used up
    if (lane == 0) sums[warp] = x;
    __syncthreads();
    return warp_sum(lane < warps ? sums[lane] : 0.0f);
}
__device__ inline float block_max(float x) {
    __shared__ float maxima[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_max(x);
    __syncthreads();
    if (lane == 0) maxima[warp] = x;
    __syncthreads();
    return warp_max(maxima[lane < warps ? lane : 0]);
}

// Calls store(column, sum) once for each column of x (rows, columns), whose rows are added in a fixed order. A block of 1024
// threads takes 32 columns, a warp every 32nd row of them: the rows' latencies overlap.
template <class Store> __device__ inline void sum_columns(const float* x, int rows, int columns, Store store) {
    __shared__ float sums[32][33];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, column = blockIdx.x * 32 + lane;
    float sum = 0.0f;
    if (column < columns) {
        for (int row = warp; row < rows; row += 32) sum += x[static_cast<long long>(row) * columns + column];
    }
    sums[warp][lane] = sum;
    __syncthreads();
    sum = warp_sum(sums[lane][warp]);
    column = blockIdx.x * 32 + warp;
    if (lane == 0 && column < columns) store(column, sum);
}
