// y[m] (M, C) = mean of x[index[k]] over k in offsets[m]..offsets[m + 1], zeros for an empty group; x is (N, C).
// A warp a chunk of a row (naive: a thread an element). Saved: index and offsets.

#include "rows.cuh"

//@ mean_rows_fwd warp: grid groups/8, chunks; block 256; registers 72
extern "C" __global__ void __launch_bounds__(256)
    mean_rows_fwd_warp(T* y, const T* x, const int* index, const int* offsets, int M, int C) {
    int m = blockIdx.x * 8 + threadIdx.x / 32;
    if (m >= M) return;
    int begin = offsets[m], end = offsets[m + 1];
    Columns<T> columns(blockIdx.y, C, has_vector_rows(y, C) && has_vector_rows(x, C));
    float sum[VECTOR<T>] = {}, v[VECTOR<T>];
    for (int k = begin; k < end; k++) {
        columns.load(v, x + static_cast<long long>(index[k]) * C);
#pragma unroll
        for (int j = 0; j < VECTOR<T>; j++) sum[j] += v[j];
    }
#pragma unroll
    for (int j = 0; j < VECTOR<T>; j++) sum[j] /= max(end - begin, 1);
    columns.store(y + static_cast<long long>(m) * C, sum);
}

//@ mean_rows_fwd naive: grid outputs/256; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    mean_rows_fwd_naive(T* y, const T* x, const int* index, const int* offsets, int M, int C) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= static_cast<long long>(M) * C) return;
    int begin = offsets[i / C], end = offsets[i / C + 1];
    float sum = 0.0f;
    for (int k = begin; k < end; k++) sum += to_float(x[static_cast<long long>(index[k]) * C + i % C]);
    y[i] = from_float<T>(sum / max(end - begin, 1));
}

// The group of member k: the last that begins at or before it.
__device__ inline int find_group(const int* offsets, int M, int k) {
    int low = 0, high = M; // offsets[low] <= k < offsets[high]
    while (high - low > 1) {
        int middle = (low + high) / 2;
        (offsets[middle] <= k ? low : high) = middle;
    }
    return low;
}

// dx[index[k]] sums dy[m] / (size of group m) over k. Groups are the few tokens of phrases, so that every row looks through all
// of them.
//@ mean_rows_bwd warp: grid rows/8, chunks; block 256; registers 80
extern "C" __global__ void __launch_bounds__(256)
    mean_rows_bwd_warp(T* dx, int accumulate, const T* dy, const int* index, const int* offsets, int N, int M, int C) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= N) return;
    Columns<T> columns(blockIdx.y, C, has_vector_rows(dx, C) && has_vector_rows(dy, C));
    float sum[VECTOR<T>] = {};
    sum_over_uses(sum, index, row, offsets[0], offsets[M], [&](float(&v)[VECTOR<T>], int k) {
        int m = find_group(offsets, M, k);
        columns.load(v, dy + static_cast<long long>(m) * C);
#pragma unroll
        for (int j = 0; j < VECTOR<T>; j++) v[j] /= offsets[m + 1] - offsets[m];
    });
    columns.store(dx + static_cast<long long>(row) * C, sum, accumulate);
}

//@ mean_rows_bwd naive: grid elements/256; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    mean_rows_bwd_naive(T* dx, int accumulate, const T* dy, const int* index, const int* offsets, int N, int M, int C) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= static_cast<long long>(N) * C) return;
    float sum = 0.0f;
    for (int m = 0; m < M; m++) {
        for (int k = offsets[m]; k < offsets[m + 1]; k++) {
            float value = to_float(dy[static_cast<long long>(m) * C + i % C]);
            if (index[k] == i / C) sum += value / (offsets[m + 1] - offsets[m]);
        }
    }
    store_gradient(dx + i, sum, accumulate);
}
