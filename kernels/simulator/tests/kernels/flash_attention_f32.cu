// Attention in f32 with plain arithmetic, forward and backward: a version to follow.
// Q, O (B, H, M, D), K, V (B, H, N, D); of the N keys the first lengths[b] count; lse (B, H, M) is saved for
// backward.
// Forward: a thread a query, which it keeps in registers with its output; keys pass by through shared memory.
// Backward: a thread a key, which keeps dK and dV; queries pass by. dQ (zero before) is summed by atomics.

#include <math_constants.h>

constexpr int THREADS = 64, TILE = 16;

// Rows start .. start + count of x (rows, D), zeros after the last.
template <int D> __device__ void load_rows(float (*to)[D], const float* x, int start, int count, int rows) {
    for (int i = threadIdx.x; i < count * D; i += THREADS) {
        to[i / D][i % D] = start + i / D < rows ? x[start * D + i] : 0.0f;
    }
}

template <int D> __device__ float dot(const float (&a)[D], const float* b) {
    float sum = 0.0f;
#pragma unroll
    for (int d = 0; d < D; d++) sum += a[d] * b[d];
    return sum;
}

template <int D>
__device__ void attention_fwd(float* O, float* lse, const float* Q, const float* K, const float* V, const int* lengths,
                              float scale, int H, int M, int N) {
    __shared__ float k[TILE][D], v[TILE][D];
    int head = blockIdx.y, length = lengths[head / H], row = blockIdx.x * THREADS + threadIdx.x;
    Q += (head * M + row) * D, O += (head * M + row) * D, K += head * N * D, V += head * N * D;

    float q[D], o[D] = {}, max = -CUDART_INF_F, sum = 0.0f;
#pragma unroll
    for (int d = 0; d < D; d++) q[d] = row < M ? Q[d] : 0.0f;
    for (int start = 0; start < length; start += TILE) {
        load_rows(k, K, start, TILE, length);
        load_rows(v, V, start, TILE, length);
        __syncthreads();
        for (int j = 0; j < TILE && start + j < length; j++) {
            float score = scale * dot(q, k[j]), new_max = fmaxf(max, score);
            float correction = expf(max - new_max), p = expf(score - new_max);
            max = new_max;
            sum = sum * correction + p;
#pragma unroll
            for (int d = 0; d < D; d++) o[d] = o[d] * correction + p * v[j][d];
        }
        __syncthreads();
    }
    if (row >= M) return;
    lse[head * M + row] = max + logf(sum);
#pragma unroll
    for (int d = 0; d < D; d++) O[d] = sum > 0.0f ? o[d] / sum : 0.0f;
}

template <int D>
__device__ void attention_bwd(float* dQ, float* dK, float* dV, const float* dO, const float* O, const float* Q,
                              const float* K, const float* V, const float* lse, const int* lengths, float scale, int H,
                              int M, int N) {
    __shared__ float q[TILE][D], d_o[TILE][D], keys[THREADS][D], ds[TILE][THREADS];
    __shared__ float row_lse[TILE], row_delta[TILE];
    int head = blockIdx.y, length = lengths[head / H], first = blockIdx.x * THREADS, key = first + threadIdx.x;
    dQ += head * M * D, dO += head * M * D, O += head * M * D, Q += head * M * D, lse += head * M;
    dK += (head * N + key) * D, dV += (head * N + key) * D, V += (head * N + key) * D;

    load_rows(keys, K + head * N * D, first, THREADS, length);
    __syncthreads();
    float k[D], v[D], dk[D] = {}, dv[D] = {};
#pragma unroll
    for (int d = 0; d < D; d++) {
        k[d] = keys[threadIdx.x][d];
        v[d] = key < length ? V[d] : 0.0f;
    }
    for (int start = 0; start < M && first < length; start += TILE) {
        load_rows(q, Q, start, TILE, M);
        load_rows(d_o, dO, start, TILE, M);
        __syncthreads();
        if (threadIdx.x < TILE) {
            int i = threadIdx.x;
            row_lse[i] = start + i < M ? lse[start + i] : CUDART_INF_F; // no weight after the last
            row_delta[i] = 0.0f;
            for (int d = 0; d < D && start + i < M; d++) row_delta[i] += d_o[i][d] * O[(start + i) * D + d];
        }
        __syncthreads();
        for (int i = 0; i < TILE; i++) {
            float p = key < length ? expf(scale * dot(k, q[i]) - row_lse[i]) : 0.0f;
            ds[i][threadIdx.x] = p * (dot(v, d_o[i]) - row_delta[i]);
#pragma unroll
            for (int d = 0; d < D; d++) {
                dv[d] += p * d_o[i][d];
                dk[d] += ds[i][threadIdx.x] * q[i][d];
            }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < TILE * D; i += THREADS) {
            if (start + i / D >= M) break;
            float sum = 0.0f;
            for (int j = 0; j < THREADS; j++) sum += ds[i / D][j] * keys[j][i % D];
            atomicAdd(&dQ[start * D + i], scale * sum);
        }
        __syncthreads(); // the tiles may be overwritten
    }
    if (key >= N) return;
#pragma unroll
    for (int d = 0; d < D; d++) {
        dK[d] = scale * dk[d];
        dV[d] = dv[d];
    }
}

#define ATTENTION(D)                                                                                               \
    extern "C" __global__ void attention_fwd_##D(float* O, float* lse, const float* Q, const float* K,             \
                                                 const float* V, const int* lengths, float scale, int H, int M,    \
                                                 int N) {                                                          \
        attention_fwd<D>(O, lse, Q, K, V, lengths, scale, H, M, N);                                                \
    }                                                                                                              \
    extern "C" __global__ void attention_bwd_##D(float* dQ, float* dK, float* dV, const float* dO, const float* O, \
                                                 const float* Q, const float* K, const float* V, const float* lse, \
                                                 const int* lengths, float scale, int H, int M, int N) {           \
        attention_bwd<D>(dQ, dK, dV, dO, O, Q, K, V, lse, lengths, scale, H, M, N);                                \
    }
ATTENTION(32)
ATTENTION(64)
