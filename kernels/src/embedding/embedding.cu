// y[n] = table[ids[n]] (N, C); the gradient of a row of the table (V, C) is the sum of dy over its uses, in their order.
// A warp a chunk of a row (naive: a thread an element). Saved: ids; backward finds where each row was used.

#include "rows.cuh"

//@ embedding_fwd warp: grid ids/8, chunks; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    embedding_fwd_warp(T* y, const T* table, const int* ids, int N, int C) {
    int n = blockIdx.x * 8 + threadIdx.x / 32;
    if (n >= N) return;
    Columns<T> columns(blockIdx.y, C, has_vector_rows(y, C) && has_vector_rows(table, C));
    float v[VECTOR<T>];
    columns.load(v, table + static_cast<long long>(ids[n]) * C);
    columns.store(y + static_cast<long long>(n) * C, v);
}

//@ embedding_fwd naive: grid outputs/256; block 256; registers 32
extern "C" __global__ void __launch_bounds__(256)
    embedding_fwd_naive(T* y, const T* table, const int* ids, int N, int C) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i < static_cast<long long>(N) * C) y[i] = table[static_cast<long long>(ids[i / C]) * C + i % C];
}

// Where each row is used first and last; the row of the padding id (-1: none) nowhere.
//@ embedding_bwd_uses marks: grid ids/256; block 256; registers 24
extern "C" __global__ void __launch_bounds__(256)
    embedding_bwd_uses_marks(int2* uses, const int* ids, int padding, int N) {
    int n = blockIdx.x * 256 + threadIdx.x;
    if (n < N && ids[n] != padding) mark_use(uses, ids[n], n, N);
}

// Most rows are used nowhere: they become zeros, or stay as they are.
//@ embedding_bwd warp: grid rows/8, chunks; block 256; registers 80
extern "C" __global__ void __launch_bounds__(256)
    embedding_bwd_warp(T* dtable, int accumulate, const T* dy, const int* ids, const int2* uses, int rows, int N, int C) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= rows) return;
    int begin = N - uses[row].x, end = uses[row].y;
    if (end == 0 && accumulate) return;
    Columns<T> columns(blockIdx.y, C, has_vector_rows(dtable, C) && has_vector_rows(dy, C));
    float sum[VECTOR<T>] = {};
    sum_over_uses(sum, ids, row, begin, end, [&](float(&v)[VECTOR<T>], int n) {
        columns.load(v, dy + static_cast<long long>(n) * C);
    });
    columns.store(dtable + static_cast<long long>(row) * C, sum, accumulate);
}

//@ embedding_bwd naive: grid elements/256; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    embedding_bwd_naive(T* dtable, int accumulate, const T* dy, const int* ids, const int2* uses, int rows, int N, int C) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= static_cast<long long>(rows) * C) return;
    int row = i / C;
    float sum = 0.0f;
    for (int n = N - uses[row].x; n < uses[row].y; n++) {
        if (ids[n] == row) sum += to_float(dy[static_cast<long long>(n) * C + i % C]);
    }
    store_gradient(dtable + i, sum, accumulate);
}
