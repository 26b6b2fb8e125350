// Layer normalization of the rows of x (N, C): y = (x - mean) / sqrt(var + eps) * w + b, w and b in float.
// A warp a row (naive: a thread a row). Saved: mean and 1 / sqrt(var + eps) of each row.

#include "rows.cuh"

constexpr int ROWS = 32; // of a block of column sums: 256 columns of a few thousand rows still fill a GPU

//@ layer_norm_fwd warp: grid rows/8; block 256; registers 56
extern "C" __global__ void __launch_bounds__(256)
    layer_norm_fwd_warp(T* y, float2* statistics, const T* x, const float* w, const float* b, float eps, int N, int C) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= N) return;
    constexpr int V = VECTOR<T>;
    bool vectors = has_vector_rows(y, C) && has_vector_rows(x, C) && is_vector_aligned(w) && is_vector_aligned(b);
    x += static_cast<long long>(row) * C, y += static_cast<long long>(row) * C;

    // The row is read three times; after the first it comes from the L1 cache.
    float sum = 0.0f, squares = 0.0f, v[V];
    for (int chunk = 0; chunk * 32 * V < C; chunk++) {
        Columns<T>(chunk, C, vectors).load(v, x);
#pragma unroll
        for (int j = 0; j < V; j++) sum += v[j];
    }
    float mean = warp_sum(sum) / C;
    for (int chunk = 0; chunk * 32 * V < C; chunk++) {
        Columns<T> columns(chunk, C, vectors);
        columns.load(v, x);
#pragma unroll
        for (int j = 0; j < V; j++) {
            if (columns.column(j) < C) squares += (v[j] - mean) * (v[j] - mean);
        }
    }
    float rstd = 1.0f / sqrtf(warp_sum(squares) / C + eps);
    for (int chunk = 0; chunk * 32 * V < C; chunk++) {
        Columns<T> columns(chunk, C, vectors);
        float scale[V], shift[V];
        columns.load(v, x), columns.load_floats(scale, w), columns.load_floats(shift, b);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = (v[j] - mean) * rstd * scale[j] + shift[j];
        columns.store(y, v);
    }
    if (threadIdx.x % 32 == 0) statistics[row] = {mean, rstd};
}

//@ layer_norm_fwd naive: grid rows/128; block 128; registers 48
extern "C" __global__ void __launch_bounds__(128)
    layer_norm_fwd_naive(T* y, float2* statistics, const T* x, const float* w, const float* b, float eps, int N, int C) {
    int row = blockIdx.x * 128 + threadIdx.x;
    if (row >= N) return;
    x += static_cast<long long>(row) * C, y += static_cast<long long>(row) * C;
    float mean = 0.0f, var = 0.0f;
    for (int i = 0; i < C; i++) mean += to_float(x[i]);
    mean /= C;
    for (int i = 0; i < C; i++) var += (to_float(x[i]) - mean) * (to_float(x[i]) - mean);
    float rstd = 1.0f / sqrtf(var / C + eps);
    for (int i = 0; i < C; i++) y[i] = from_float<T>((to_float(x[i]) - mean) * rstd * w[i] + b[i]);
    statistics[row] = {mean, rstd};
}

// With xhat = (x - mean) rstd and g = dy w: dx = rstd (g - mean(g) - xhat mean(g xhat)). A warp a row; 4 blocks a
// multiprocessor, since for more the registers do not suffice.
//@ layer_norm_bwd_x warp: grid rows/8; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256, 4)
    layer_norm_bwd_x_warp(T* dx, int accumulate, const T* dy, const T* x, const float* w, const float2* statistics, int N,
                          int C) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= N) return;
    constexpr int V = VECTOR<T>;
    bool vectors = has_vector_rows(dx, C) && has_vector_rows(dy, C) && has_vector_rows(x, C) && is_vector_aligned(w);
    long long start = static_cast<long long>(row) * C;
    x += start, dy += start, dx += start;
    float mean = statistics[row].x, rstd = statistics[row].y;
    float g[V], xhat[V];
    auto load = [&](const Columns<T>& columns) {
        float scale[V];
        columns.load(g, dy), columns.load(xhat, x), columns.load_floats(scale, w);
#pragma unroll
        for (int j = 0; j < V; j++) g[j] *= scale[j], xhat[j] = (xhat[j] - mean) * rstd;
    };
    float g_sum = 0.0f, gx_sum = 0.0f;
    for (int chunk = 0; chunk * 32 * V < C; chunk++) {
        load(Columns<T>(chunk, C, vectors));
#pragma unroll
        for (int j = 0; j < V; j++) g_sum += g[j], gx_sum += g[j] * xhat[j];
    }
    float g_mean = warp_sum(g_sum) / C, gx_mean = warp_sum(gx_sum) / C;
    for (int chunk = 0; chunk * 32 * V < C; chunk++) {
        Columns<T> columns(chunk, C, vectors);
        load(columns);
#pragma unroll
        for (int j = 0; j < V; j++) g[j] = rstd * (g[j] - g_mean - xhat[j] * gx_mean);
        columns.store(dx, g, accumulate);
    }
}

// Sums over 32 rows of (dy xhat, dy): partial (ceil(N / 32), 2, C). A thread a column, so that rows are read whole.
//@ layer_norm_bwd_columns blocks: grid rows/32, columns/128; block 128; registers 40
extern "C" __global__ void __launch_bounds__(128)
    layer_norm_bwd_columns_blocks(float* partial, const T* dy, const T* x, const float2* statistics, int N, int C) {
    int column = blockIdx.y * 128 + threadIdx.x;
    if (column >= C) return;
    float dw = 0.0f, db = 0.0f;
    for (int row = blockIdx.x * ROWS; row < min(N, static_cast<int>(blockIdx.x) * ROWS + ROWS); row++) {
        auto [mean, rstd] = statistics[row];
        long long i = static_cast<long long>(row) * C + column;
        dw += to_float(dy[i]) * (to_float(x[i]) - mean) * rstd;
        db += to_float(dy[i]);
    }
    partial[(blockIdx.x * 2) * C + column] = dw;
    partial[(blockIdx.x * 2 + 1) * C + column] = db;
}

// dw and db (C) from the partial sums, always in the same order.
//@ layer_norm_bwd_sum warps: grid columns/16; block 1024; registers 32
extern "C" __global__ void __launch_bounds__(1024)
    layer_norm_bwd_sum_warps(float* dw, int accumulate_dw, float* db, int accumulate_db, const float* partial, int parts,
                       int C) {
    sum_columns(partial, parts, 2 * C, [&](int column, float sum) {
        if (column < C && dw) store_gradient(dw + column, sum, accumulate_dw);
        if (column >= C && db) store_gradient(db + column - C, sum, accumulate_db);
    });
}
