// Around the products of a linear map y (N, O) = act(z), z = x W^T + b: the bias in the product's type, the activation,
// and backward dz = dy act'(z) with the column sums of dz, which are db, in the same pass. A thread handles 16 bytes.
// Saved: what act' needs, z itself for GELU, y for the others.

#include "activation.cuh"
#include "dtype.cuh"
#include "reduce.cuh"

constexpr int ROWS = 32; // of a block of column sums: 256 columns of a few thousand rows still fill a GPU

// The bias as the library's epilogue takes it: of D's type.
//@ linear_bias round: grid columns/256; block 256; registers 16
extern "C" __global__ void __launch_bounds__(256) linear_bias_round(T* rounded, const float* b, int O) {
    int column = blockIdx.x * 256 + threadIdx.x;
    if (column < O) rounded[column] = from_float<T>(b[column]);
}

// y = act(z), also in place.
//@ linear_act vectors: grid elements/2048; block 256; registers 48
extern "C" __global__ void __launch_bounds__(256) linear_act_vectors(T* y, const T* z, int activation, long long n) {
    constexpr int V = VECTOR<T>;
    bool vectors = is_vector_aligned(y) && is_vector_aligned(z);
    long long end = min(n, (blockIdx.x + 1ll) * 2048);
    specialize(activation, [&](auto known) {
        for (long long i = blockIdx.x * 2048ll + threadIdx.x * V; i < end; i += 256 * V) {
            if (vectors && i + V <= n) {
                float v[V];
                load_vector(v, z + i);
#pragma unroll
                for (int j = 0; j < V; j++) v[j] = activate(known.activation, v[j]);
                store_vector(y + i, v);
            } else {
                for (long long j = i; j < min(n, i + V); j++) {
                    y[j] = from_float<T>(activate(known.activation, to_float(z[j])));
                }
            }
        }
    });
}

//@ linear_act naive: grid elements/256; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256) linear_act_naive(T* y, const T* z, int activation, long long n) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i < n) y[i] = from_float<T>(activate(activation, to_float(z[i])));
}

// dy act'(z) of 16 bytes.
template <int A> __device__ inline void through_activation(float (&g)[VECTOR<T>], const T* dy, const T* z) {
    load_vector(g, dy);
    if (A == NONE) return;
    float v[VECTOR<T>];
    load_vector(v, z);
#pragma unroll
    for (int j = 0; j < VECTOR<T>; j++) g[j] *= activation_derivative(A, v[j]);
}

// dz (N, O) and its sums over 32 rows, partial (ceil(N / 32), O); either may be null. Without an activation dz is dy, and
// only the sums are wanted. A lane takes 8 columns, a warp every eighth row; the warps' sums meet in shared memory.
//@ linear_bwd_z vectors: grid rows/32, columns/256; block 256; registers 56
extern "C" __global__ void __launch_bounds__(256)
    linear_bwd_z_vectors(T* dz, float* partial, const T* dy, const T* z, int activation, int N, int O) {
    constexpr int V = VECTOR<T>;
    __shared__ float sums[8][256];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = blockIdx.y * 256;
    bool vectors = O % V == 0 && is_vector_aligned(dz) && is_vector_aligned(dy) && is_vector_aligned(z);
    int end = min(N, static_cast<int>(blockIdx.x) * ROWS + ROWS);
    specialize(activation, [&](auto known) {
        for (int offset = lane * V; offset < 256; offset += 32 * V) {
            int column = first + offset;
            float sum[V] = {};
            for (int row = blockIdx.x * ROWS + warp; row < end; row += 8) {
                long long i = static_cast<long long>(row) * O + column;
                float g[V] = {};
                if (vectors && column < O) {
                    through_activation<known.activation>(g, dy + i, z + i);
                    if (dz) store_vector(dz + i, g);
                } else {
#pragma unroll
                    for (int j = 0; j < V; j++) {
                        if (column + j >= O) continue;
                        g[j] = to_float(dy[i + j]);
                        if (z) g[j] *= activation_derivative(known.activation, to_float(z[i + j]));
                        if (dz) dz[i + j] = from_float<T>(g[j]);
                    }
                }
#pragma unroll
                for (int j = 0; j < V; j++) sum[j] += g[j];
            }
#pragma unroll
            for (int j = 0; j < V; j++) sums[warp][offset + j] = sum[j];
        }
    });
    __syncthreads();
    int column = first + threadIdx.x;
    if (!partial || column >= O) return;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) sum += sums[i][threadIdx.x];
    partial[static_cast<long long>(blockIdx.x) * O + column] = sum;
}

// A thread a column.
//@ linear_bwd_z naive: grid rows/32, columns/128; block 128; registers 32
extern "C" __global__ void __launch_bounds__(128)
    linear_bwd_z_naive(T* dz, float* partial, const T* dy, const T* z, int activation, int N, int O) {
    int column = blockIdx.y * 128 + threadIdx.x;
    if (column >= O) return;
    float sum = 0.0f;
#pragma unroll 1
    for (int row = blockIdx.x * ROWS; row < min(N, static_cast<int>(blockIdx.x) * ROWS + ROWS); row++) {
        long long i = static_cast<long long>(row) * O + column;
        float g = to_float(dy[i]);
        if (z) g *= activation_derivative(activation, to_float(z[i]));
        if (dz) dz[i] = from_float<T>(g);
        sum += g;
    }
    if (partial) partial[static_cast<long long>(blockIdx.x) * O + column] = sum;
}

// db (O) from the partial sums, always in the same order.
//@ linear_bwd_b warps: grid columns/32; block 1024; registers 32
extern "C" __global__ void __launch_bounds__(1024)
    linear_bwd_b_warps(float* db, int accumulate, const float* partial, int parts, int O) {
    sum_columns(partial, parts, O, [&](int column, float sum) { store_gradient(db + column, sum, accumulate); });
}

//@ linear_bwd_b naive: grid columns/128; block 128; registers 32
extern "C" __global__ void __launch_bounds__(128)
    linear_bwd_b_naive(float* db, int accumulate, const float* partial, int parts, int O) {
    int column = blockIdx.x * 128 + threadIdx.x;
    if (column >= O) return;
    float sum = 0.0f;
    for (int part = 0; part < parts; part++) sum += partial[static_cast<long long>(part) * O + column];
    store_gradient(db + column, sum, accumulate);
}
