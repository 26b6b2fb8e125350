// s = x + m r, z = layer_norm(s) w + b, z_pos[n] = z[n] + positions[n mod Q] (N, C); w and b in float, m a dropout mask.
// A warp a row (naive: a thread a row). Saved: s, and mean and 1 / sqrt(var + eps) of each of its rows as stored.

#include "philox.cuh"
#include "rows.cuh"

constexpr int ROWS = 32; // of a block of column sums: 256 columns of a few thousand rows still fill a GPU

// The factors of a lane's elements of the row that begins at element `start`; p is 0 without a mask.
__device__ inline void keep_columns(float (&m)[VECTOR<T>], const Columns<T>& columns, const Philox& philox, float p,
                                    long long start) {
    if (p > 0.0f && columns.vectors) return keep_all(m, philox, start + columns.first, p);
#pragma unroll
    for (int j = 0; j < VECTOR<T>; j++) m[j] = p > 0.0f ? keep(philox, start + columns.column(j), p) : 1.0f;
}

//@ residual_norm_fwd warp: grid rows/8; block 256; registers 128
extern "C" __global__ void __launch_bounds__(256)
    residual_norm_fwd_warp(T* z, T* z_pos, T* s, float2* statistics, const T* x, const T* r, const float* w, const float* b,
                           const T* positions, Philox philox, float p, float eps, int N, int C, int Q) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= N) return;
    constexpr int V = VECTOR<T>;
    bool vectors = has_vector_rows(z, C) && has_vector_rows(z_pos, C) && has_vector_rows(s, C) && has_vector_rows(x, C) &&
                   has_vector_rows(r, C) && has_vector_rows(positions, C) && is_vector_aligned(w) && is_vector_aligned(b);
    long long start = static_cast<long long>(row) * C;
    z += start, s += start, x += start, r += start;

    float sum = 0.0f, v[V];
    for (int chunk = 0; chunk * 32 * V < C; chunk++) {
        Columns<T> columns(chunk, C, vectors);
        float kept[V], m[V];
        columns.load(v, x), columns.load(kept, r);
        keep_columns(m, columns, philox, p, start);
#pragma unroll
        for (int j = 0; j < V; j++) {
            v[j] = to_float(from_float<T>(v[j] + kept[j] * m[j])); // backward sees what is stored
            sum += v[j];
        }
        columns.store(s, v);
    }
    float mean = warp_sum(sum) / C;
    // Every lane reads again what it wrote.
    float squares = 0.0f;
    for (int chunk = 0; chunk * 32 * V < C; chunk++) {
        Columns<T> columns(chunk, C, vectors);
        columns.load(v, s);
#pragma unroll
        for (int j = 0; j < V; j++) {
            if (columns.column(j) < C) squares += (v[j] - mean) * (v[j] - mean);
        }
    }
    float rstd = 1.0f / sqrtf(warp_sum(squares) / C + eps);
    for (int chunk = 0; chunk * 32 * V < C; chunk++) {
        Columns<T> columns(chunk, C, vectors);
        float scale[V], shift[V];
        columns.load(v, s), columns.load_floats(scale, w), columns.load_floats(shift, b);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = (v[j] - mean) * rstd * scale[j] + shift[j];
        columns.store(z, v);
        if (z_pos) {
            columns.load(shift, positions + static_cast<long long>(row % Q) * C);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] += shift[j];
            columns.store(z_pos + start, v);
        }
    }
    if (threadIdx.x % 32 == 0) statistics[row] = {mean, rstd};
}

//@ residual_norm_fwd naive: grid rows/128; block 128; registers 64
extern "C" __global__ void __launch_bounds__(128)
    residual_norm_fwd_naive(T* z, T* z_pos, T* s, float2* statistics, const T* x, const T* r, const float* w,
                            const float* b, const T* positions, Philox philox, float p, float eps, int N, int C, int Q) {
    int row = blockIdx.x * 128 + threadIdx.x;
    if (row >= N) return;
    long long start = static_cast<long long>(row) * C;
    z += start, s += start, x += start, r += start;
    float mean = 0.0f, var = 0.0f;
    for (int i = 0; i < C; i++) {
        float m = p > 0.0f ? keep(philox, start + i, p) : 1.0f;
        s[i] = from_float<T>(to_float(x[i]) + to_float(r[i]) * m);
        mean += to_float(s[i]);
    }
    mean /= C;
    for (int i = 0; i < C; i++) var += (to_float(s[i]) - mean) * (to_float(s[i]) - mean);
    float rstd = 1.0f / sqrtf(var / C + eps);
    for (int i = 0; i < C; i++) {
        float value = (to_float(s[i]) - mean) * rstd * w[i] + b[i];
        z[i] = from_float<T>(value);
        if (z_pos) z_pos[start + i] = from_float<T>(value + to_float(positions[static_cast<long long>(row % Q) * C + i]));
    }
    statistics[row] = {mean, rstd};
}

// The gradient that reaches z by both outputs; either may have none.
__device__ inline float sum_at(const T* dz, const T* dz_pos, long long i) {
    return (dz ? to_float(dz[i]) : 0.0f) + (dz_pos ? to_float(dz_pos[i]) : 0.0f);
}

// With shat = (s - mean) rstd and g = dz w: dx = rstd (g - mean(g) - shat mean(g shat)), dr = m dx. A warp a row.
//@ residual_norm_bwd_x warp: grid rows/8; block 256; registers 96
extern "C" __global__ void __launch_bounds__(256, 3)
    residual_norm_bwd_x_warp(T* dx, int accumulate_dx, T* dr, int accumulate_dr, const T* dz, const T* dz_pos, const T* s,
                             const float* w, const float2* statistics, Philox philox, float p, int N, int C) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= N) return;
    constexpr int V = VECTOR<T>;
    bool vectors = has_vector_rows(dx, C) && has_vector_rows(dr, C) && has_vector_rows(dz, C) &&
                   has_vector_rows(dz_pos, C) && has_vector_rows(s, C) && is_vector_aligned(w);
    long long start = static_cast<long long>(row) * C;
    float mean = statistics[row].x, rstd = statistics[row].y;
    float g[V], shat[V];
    auto load = [&](const Columns<T>& columns) {
        float other[V] = {};
        if (dz_pos) columns.load(other, dz_pos + start);
#pragma unroll
        for (int j = 0; j < V; j++) g[j] = 0.0f;
        if (dz) columns.load(g, dz + start);
        columns.load(shat, s + start);
#pragma unroll
        for (int j = 0; j < V; j++) g[j] += other[j], shat[j] = (shat[j] - mean) * rstd;
        columns.load_floats(other, w);
#pragma unroll
        for (int j = 0; j < V; j++) g[j] *= other[j];
    };
    float g_sum = 0.0f, gs_sum = 0.0f;
    for (int chunk = 0; chunk * 32 * V < C; chunk++) {
        load(Columns<T>(chunk, C, vectors));
#pragma unroll
        for (int j = 0; j < V; j++) g_sum += g[j], gs_sum += g[j] * shat[j];
    }
    float g_mean = warp_sum(g_sum) / C, gs_mean = warp_sum(gs_sum) / C;
    for (int chunk = 0; chunk * 32 * V < C; chunk++) {
        Columns<T> columns(chunk, C, vectors);
        load(columns);
#pragma unroll
        for (int j = 0; j < V; j++) g[j] = rstd * (g[j] - g_mean - shat[j] * gs_mean);
        if (dx) columns.store(dx + start, g, accumulate_dx);
        if (!dr) continue;
        float m[V];
        keep_columns(m, columns, philox, p, start);
#pragma unroll
        for (int j = 0; j < V; j++) g[j] *= m[j];
        columns.store(dr + start, g, accumulate_dr);
    }
}

//@ residual_norm_bwd_x naive: grid rows/128; block 128; registers 64
extern "C" __global__ void __launch_bounds__(128)
    residual_norm_bwd_x_naive(T* dx, int accumulate_dx, T* dr, int accumulate_dr, const T* dz, const T* dz_pos, const T* s,
                              const float* w, const float2* statistics, Philox philox, float p, int N, int C) {
    int row = blockIdx.x * 128 + threadIdx.x;
    if (row >= N) return;
    long long start = static_cast<long long>(row) * C;
    auto [mean, rstd] = statistics[row];
    float g_mean = 0.0f, gs_mean = 0.0f;
    for (int i = 0; i < C; i++) {
        float g = sum_at(dz, dz_pos, start + i) * w[i];
        g_mean += g;
        gs_mean += g * (to_float(s[start + i]) - mean) * rstd;
    }
    g_mean /= C, gs_mean /= C;
    for (int i = 0; i < C; i++) {
        float g = sum_at(dz, dz_pos, start + i) * w[i], shat = (to_float(s[start + i]) - mean) * rstd;
        float ds = rstd * (g - g_mean - shat * gs_mean), m = p > 0.0f ? keep(philox, start + i, p) : 1.0f;
        if (dx) store_gradient(dx + start + i, ds, accumulate_dx);
        if (dr) store_gradient(dr + start + i, ds * m, accumulate_dr);
    }
}

// Sums over 32 rows of (dz shat, dz): partial (ceil(N / 32), 2, C). A thread a column, so that rows are read whole.
//@ residual_norm_bwd_columns blocks: grid rows/32, columns/128; block 128; registers 48
extern "C" __global__ void __launch_bounds__(128)
    residual_norm_bwd_columns_blocks(float* partial, const T* dz, const T* dz_pos, const T* s, const float2* statistics,
                                     int N, int C) {
    int column = blockIdx.y * 128 + threadIdx.x;
    if (column >= C) return;
    float dw = 0.0f, db = 0.0f;
    for (int row = blockIdx.x * ROWS; row < min(N, static_cast<int>(blockIdx.x) * ROWS + ROWS); row++) {
        auto [mean, rstd] = statistics[row];
        long long i = static_cast<long long>(row) * C + column;
        float g = sum_at(dz, dz_pos, i);
        dw += g * (to_float(s[i]) - mean) * rstd;
        db += g;
    }
    partial[(blockIdx.x * 2) * C + column] = dw;
    partial[(blockIdx.x * 2 + 1) * C + column] = db;
}

// dw and db (C) from the partial sums, always in the same order.
//@ residual_norm_bwd_sum warps: grid columns/16; block 1024; registers 32
extern "C" __global__ void __launch_bounds__(1024)
    residual_norm_bwd_sum_warps(float* dw, int accumulate_dw, float* db, int accumulate_db, const float* partial, int parts,
                       int C) {
    sum_columns(partial, parts, 2 * C, [&](int column, float sum) {
        if (column < C && dw) store_gradient(dw + column, sum, accumulate_dw);
        if (column >= C && db) store_gradient(db + column - C, sum, accumulate_db);
    });
}

// dpositions (period) sums dz_pos (N) over the images of a batch, in order.
//@ residual_norm_bwd_positions elements: grid elements/128; block 128; registers 40
extern "C" __global__ void __launch_bounds__(128)
    residual_norm_bwd_positions_elements(T* dpositions, int accumulate, const T* dz_pos, int N, int period) {
    int j = blockIdx.x * 128 + threadIdx.x;
    if (j >= period) return;
    float sum = 0.0f;
    for (long long i = j; i < N; i += period) sum += to_float(dz_pos[i]);
    store_gradient(dpositions + j, sum, accumulate);
}
