// y (N) = a (N) + b (period), repeated. 16 bytes a thread (naive: an element). Nothing is saved.

#include "dtype.cuh"
#include "reduce.cuh"

//@ add_fwd vectors: grid vectors/256; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256) add_fwd_vectors(T* y, const T* a, const T* b, int N, int period) {
    constexpr int V = VECTOR<T>;
    long long i = (blockIdx.x * 256ll + threadIdx.x) * V;
    if (i >= N) return;
    if (period % V == 0 && is_vector_aligned(y) && is_vector_aligned(a) && is_vector_aligned(b)) {
        float v[V], w[V];
        load_vector(v, a + i);
        load_vector(w, b + static_cast<int>(i) % period);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] += w[j];
        store_vector(y + i, v);
    } else {
        long long end = min(i + V, static_cast<long long>(N));
        for (; i < end; i++) y[i] = from_float<T>(to_float(a[i]) + to_float(b[static_cast<int>(i) % period]));
    }
}

//@ add_fwd naive: grid elements/256; block 256; registers 32
extern "C" __global__ void __launch_bounds__(256) add_fwd_naive(T* y, const T* a, const T* b, int N, int period) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i < N) y[i] = from_float<T>(to_float(a[i]) + to_float(b[static_cast<int>(i) % period]));
}

// da = dy, and db = dy when b is not repeated.
//@ add_bwd vectors: grid vectors/256; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    add_bwd_vectors(T* da, int accumulate_da, T* db, int accumulate_db, const T* dy, int N) {
    constexpr int V = VECTOR<T>;
    long long i = (blockIdx.x * 256ll + threadIdx.x) * V;
    if (i >= N) return;
    if (i + V <= N && is_vector_aligned(da) && is_vector_aligned(db) && is_vector_aligned(dy)) {
        float v[V];
        load_vector(v, dy + i);
        if (da) store_gradients(da + i, v, accumulate_da);
        if (db) store_gradients(db + i, v, accumulate_db);
    } else {
        long long end = min(i + V, static_cast<long long>(N));
        for (; i < end; i++) {
            if (da) store_gradient(da + i, to_float(dy[i]), accumulate_da);
            if (db) store_gradient(db + i, to_float(dy[i]), accumulate_db);
        }
    }
}

//@ add_bwd naive: grid elements/256; block 256; registers 32
extern "C" __global__ void __launch_bounds__(256)
    add_bwd_naive(T* da, int accumulate_da, T* db, int accumulate_db, const T* dy, int N) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= N) return;
    if (da) store_gradient(da + i, to_float(dy[i]), accumulate_da);
    if (db) store_gradient(db + i, to_float(dy[i]), accumulate_db);
}

// Sums over 64 repetitions: partial (ceil(R / 64), period) of dy (R, period). A thread a column, so that rows are read whole.
//@ add_bwd_columns blocks: grid rows/64, columns/128; block 128; registers 56
extern "C" __global__ void __launch_bounds__(128) add_bwd_columns_blocks(float* partial, const T* dy, int R, int period) {
    int column = blockIdx.y * 128 + threadIdx.x;
    if (column >= period) return;
    float sum = 0.0f;
    for (int row = blockIdx.x * 64; row < min(R, static_cast<int>(blockIdx.x) * 64 + 64); row++) {
        sum += to_float(dy[static_cast<long long>(row) * period + column]);
    }
    partial[static_cast<long long>(blockIdx.x) * period + column] = sum;
}

// db (period) from the partial sums, always in the same order.
//@ add_bwd_sum warps: grid columns/32; block 1024; registers 32
extern "C" __global__ void __launch_bounds__(1024)
    add_bwd_sum_warps(T* db, int accumulate, const float* partial, int parts, int period) {
    sum_columns(partial, parts, period, [&](int column, float sum) { store_gradient(db + column, sum, accumulate); });
}
