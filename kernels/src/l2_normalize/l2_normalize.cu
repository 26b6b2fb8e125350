// Rows of x (N, C) scaled to unit length: y = x / max(||x||, 1e-12).
// A warp a row (naive: a thread a row). Saved: y and the norm of each row.

#include "rows.cuh"

constexpr float EPS = 1e-12f;

//@ l2_normalize_fwd warp: grid rows/8; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256) l2_normalize_fwd_warp(T* y, float* norms, const T* x, int N, int C) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= N) return;
    bool vectors = has_vector_rows(y, C) && has_vector_rows(x, C);
    x += static_cast<long long>(row) * C, y += static_cast<long long>(row) * C;
    float squares = 0.0f, v[VECTOR<T>];
    for (int chunk = 0; chunk * 32 * VECTOR<T> < C; chunk++) {
        Columns<T>(chunk, C, vectors).load(v, x);
#pragma unroll
        for (int j = 0; j < VECTOR<T>; j++) squares += v[j] * v[j];
    }
    float norm = sqrtf(warp_sum(squares)), length = fmaxf(norm, EPS);
    for (int chunk = 0; chunk * 32 * VECTOR<T> < C; chunk++) {
        Columns<T> columns(chunk, C, vectors);
        columns.load(v, x);
#pragma unroll
        for (int j = 0; j < VECTOR<T>; j++) v[j] /= length;
        columns.store(y, v);
    }
    if (threadIdx.x % 32 == 0) norms[row] = norm;
}

//@ l2_normalize_fwd naive: grid rows/128; block 128; registers 40
extern "C" __global__ void __launch_bounds__(128) l2_normalize_fwd_naive(T* y, float* norms, const T* x, int N, int C) {
    int row = blockIdx.x * 128 + threadIdx.x;
    if (row >= N) return;
    x += static_cast<long long>(row) * C, y += static_cast<long long>(row) * C;
    float squares = 0.0f;
    for (int i = 0; i < C; i++) squares += to_float(x[i]) * to_float(x[i]);
    float norm = sqrtf(squares);
    for (int i = 0; i < C; i++) y[i] = from_float<T>(to_float(x[i]) / fmaxf(norm, EPS));
    norms[row] = norm;
}

// dx = (dy - y (y . dy)) / ||x||, and dy / eps for rows that are shorter than eps: their length is a constant.
//@ l2_normalize_bwd warp: grid rows/8; block 256; registers 56
extern "C" __global__ void __launch_bounds__(256)
    l2_normalize_bwd_warp(T* dx, int accumulate, const T* dy, const T* y, const float* norms, int N, int C) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= N) return;
    bool vectors = has_vector_rows(dx, C) && has_vector_rows(dy, C) && has_vector_rows(y, C);
    long long start = static_cast<long long>(row) * C;
    dx += start, dy += start, y += start;
    float sum = 0.0f, g[VECTOR<T>], v[VECTOR<T>];
    for (int chunk = 0; chunk * 32 * VECTOR<T> < C; chunk++) {
        Columns<T> columns(chunk, C, vectors);
        columns.load(g, dy), columns.load(v, y);
#pragma unroll
        for (int j = 0; j < VECTOR<T>; j++) sum += g[j] * v[j];
    }
    float norm = norms[row], length = fmaxf(norm, EPS);
    float along = warp_sum(sum);
    if (norm <= EPS) along = 0.0f;
    for (int chunk = 0; chunk * 32 * VECTOR<T> < C; chunk++) {
        Columns<T> columns(chunk, C, vectors);
        columns.load(g, dy), columns.load(v, y);
#pragma unroll
        for (int j = 0; j < VECTOR<T>; j++) g[j] = (g[j] - v[j] * along) / length;
        columns.store(dx, g, accumulate);
    }
}

//@ l2_normalize_bwd naive: grid rows/128; block 128; registers 40
extern "C" __global__ void __launch_bounds__(128)
    l2_normalize_bwd_naive(T* dx, int accumulate, const T* dy, const T* y, const float* norms, int N, int C) {
    int row = blockIdx.x * 128 + threadIdx.x;
    if (row >= N) return;
    long long start = static_cast<long long>(row) * C;
    dx += start, dy += start, y += start;
    float norm = norms[row], along = 0.0f;
    for (int i = 0; norm > EPS && i < C; i++) along += to_float(y[i]) * to_float(dy[i]);
    for (int i = 0; i < C; i++) {
        store_gradient(dx + i, (to_float(dy[i]) - to_float(y[i]) * along) / fmaxf(norm, EPS), accumulate);
    }
}
