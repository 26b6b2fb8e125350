// Sums and maxima: of a warp by shuffles, of a block through shared memory, of a grid by the last block to finish.
// Rows of x (rows, n) are reduced to y (rows), strided over the lanes; blocks are whole warps.

#include <cuda_fp16.h>
#include <math_constants.h>

template <typename T> __device__ T warp_sum(T value) {
    for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(0xffffffff, value, offset);
    return value; // lane 0 has the sum
}

// The sum over the block, in thread 0.
template <typename T> __device__ T block_sum(T value) {
    __shared__ T of_warp[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    value = warp_sum(value);
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    if (warp == 0) value = warp_sum(lane < blockDim.x / 32 ? of_warp[lane] : T(0));
    return value;
}

template <typename T> __device__ void row_sum(T* y, const T* x, int n) {
    T sum = T(0);
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[blockIdx.x * n + i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) y[blockIdx.x] = sum;
}

extern "C" __global__ void row_sum_f32(float* y, const float* x, int n) { row_sum(y, x, n); }
extern "C" __global__ void row_sum_f64(double* y, const double* x, int n) { row_sum(y, x, n); }
extern "C" __global__ void row_sum_f16(__half* y, const __half* x, int n) { row_sum(y, x, n); }
extern "C" __global__ void row_sum_i32(int* y, const int* x, int n) { row_sum(y, x, n); }
extern "C" __global__ void row_sum_i64(long long* y, const long long* x, int n) { row_sum(y, x, n); }

// A warp a row, several warps a block; the butterfly leaves the maximum and where it is in every lane.
extern "C" __global__ void row_argmax(float* y, int* argmax, const float* x, int rows, int n) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    float best = -CUDART_INF_F;
    int at = n;
    for (int i = lane; i < n; i += 32) {
        if (x[row * n + i] > best) {
            best = x[row * n + i];
            at = i;
        }
    }
    for (int mask = 16; mask > 0; mask /= 2) {
        float other = __shfl_xor_sync(0xffffffff, best, mask);
        int other_at = __shfl_xor_sync(0xffffffff, at, mask);
        if (other > best || (other == best && other_at < at)) {
            best = other;
            at = other_at;
        }
    }
    if (lane == row % 32) {
        y[row] = best;
        argmax[row] = at;
    }
}

// Inclusive prefix sums of a row by one block: within warps by shuffles, across them through shared memory.
extern "C" __global__ void prefix_sum(int* y, const int* x, int n) {
    __shared__ int of_warp[32];
    __shared__ int carry;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (threadIdx.x == 0) carry = 0;
    for (int start = 0; start < n; start += blockDim.x) {
        int i = start + threadIdx.x;
        int sum = i < n ? x[i] : 0;
        for (int offset = 1; offset < 32; offset *= 2) {
            int before = __shfl_up_sync(0xffffffff, sum, offset);
            if (lane >= offset) sum += before;
        }
        if (lane == 31) of_warp[warp] = sum;
        __syncthreads();
        int total = carry;
        for (int w = 0; w < warp; w++) total += of_warp[w];
        total += sum;
        if (i < n) y[i] = total;
        __syncthreads();
        if (threadIdx.x == blockDim.x - 1) carry = total;
        // The next round's barrier orders this write before the reads of it.
    }
}

// The sum of x (n) by several blocks in one launch. The block that draws the last ticket sums the others' results, in
// their order, whatever the order in which they came. counter is 0 before, and again after.
template <typename T> __device__ void grid_sum(T* y, T* of_block, unsigned* counter, const T* x, int n) {
    __shared__ bool last;
    T sum = T(0);
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        of_block[blockIdx.x] = sum;
        __threadfence(); // the sum is visible before the ticket is drawn
        last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
        __threadfence(); // the others' sums are visible after it
    }
    __syncthreads();
    if (!last) return;
    sum = T(0);
    for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) sum += of_block[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *y = sum;
}

extern "C" __global__ void grid_sum_f32(float* y, float* of_block, unsigned* counter, const float* x, int n) {
    grid_sum(y, of_block, counter, x, n);
}
extern "C" __global__ void grid_sum_f64(double* y, double* of_block, unsigned* counter, const double* x, int n) {
    grid_sum(y, of_block, counter, x, n);
}
