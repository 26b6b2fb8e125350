// Attention on tensor cores, backward: dQ, dK and dV from dO, with the scores computed again from lse.
//   P = exp(scale Q K^T - lse), dV = P^T dO, dS = P (dO V^T - delta), dK = scale dS^T Q, dQ = scale dS K
// where delta is the sum of dO O over a row. A block has 64 keys, 16 a warp, and walks over the queries by 64. It
// computes S^T = K Q^T, so that P^T and dS^T already are the left operands for dV and dK; only dS for dQ passes
// through shared memory. dQ (f32, zero before) is summed by atomics, as all blocks of a head add to it.

#include <cuda_fp16.h>
#include <math_constants.h>

constexpr int TILE = 64, PAD = 8;

__device__ unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

__device__ void load_matrices(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ void load_matrices_transposed(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
__device__ void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ unsigned pack(float low, float high) {
    __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<unsigned*>(&pair);
}

template <int D> using Tile = __half[TILE][D + PAD];

// Rows start .. start + 64 of x (rows, D), zeros after the last.
template <int D> __device__ void load_rows(Tile<D>& to, const __half* x, int start, int rows) {
    for (int i = threadIdx.x; i < TILE * D / 8; i += blockDim.x) {
        int row = i / (D / 8), column = i % (D / 8) * 8;
        uint4 zeros = {};
        *reinterpret_cast<uint4*>(&to[row][column]) =
            start + row < rows ? *reinterpret_cast<const uint4*>(&x[(start + row) * D + column]) : zeros;
    }
}

// y (16 keys, 64 queries) = x (the warp's 16 rows, D) tile^T
template <int D>
__device__ void times_transposed(float (&y)[TILE / 8][4], const unsigned (&x)[D / 16][4], const Tile<D>& tile,
                                 int lane) {
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
#pragma unroll
        for (int j = 0; j < TILE / 16; j++) {
            unsigned b[4];
            load_matrices(b, &tile[j * 16 + lane / 16 * 8 + lane % 8][i * 16 + lane / 8 % 2 * 8]);
            mma(y[2 * j], x[i], b[0], b[1]);
            mma(y[2 * j + 1], x[i], b[2], b[3]);
        }
    }
}

// y (16 rows, D) += x (16 rows, 64) tile, of which x is four left operands
template <int D>
__device__ void add_product(float (&y)[D / 8][4], const unsigned (&x)[TILE / 16][4], const Tile<D>& tile, int lane) {
#pragma unroll
    for (int j = 0; j < TILE / 16; j++) {
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            unsigned b[4];
            load_matrices_transposed(b, &tile[j * 16 + lane % 16][d * 16 + lane / 16 * 8]);
            mma(y[2 * d], x[j], b[0], b[1]);
            mma(y[2 * d + 1], x[j], b[2], b[3]);
        }
    }
}

template <int D>
__device__ void attention_bwd(float* dQ, __half* dK, __half* dV, const __half* dO, const __half* Q, const __half* K,
                              const __half* V, const float* lse, const float* delta, const int* lengths, float scale,
                              int H, int M, int N) {
    __shared__ alignas(16) Tile<D> q, d_o, k, v;
    __shared__ alignas(16) __half ds[TILE][TILE + PAD]; // (key, query)
    __shared__ float row_lse[TILE], row_delta[TILE];
    int head = blockIdx.y, length = lengths[head / H], start = blockIdx.x * TILE;
    int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    dQ += head * M * D, dO += head * M * D, Q += head * M * D, lse += head * M, delta += head * M;
    dK += head * N * D, dV += head * N * D, K += head * N * D, V += head * N * D;

    load_rows<D>(k, K, start, length);
    load_rows<D>(v, V, start, length);
    __syncthreads();
    unsigned k_fragment[D / 16][4], v_fragment[D / 16][4];
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
        load_matrices(k_fragment[i], &k[warp_row + lane % 16][i * 16 + lane / 16 * 8]);
        load_matrices(v_fragment[i], &v[warp_row + lane % 16][i * 16 + lane / 16 * 8]);
    }

    float dk[D / 8][4] = {}, dv[D / 8][4] = {};
    for (int query = 0; query < M && start < length; query += TILE) {
        load_rows<D>(q, Q, query, M);
        load_rows<D>(d_o, dO, query, M);
        for (int i = threadIdx.x; i < TILE; i += blockDim.x) {
            row_lse[i] = query + i < M ? lse[query + i] : CUDART_INF_F; // no weight after the last
            row_delta[i] = query + i < M ? delta[query + i] : 0.0f;
        }
        __syncthreads();

        float s[TILE / 8][4] = {}, dp[TILE / 8][4] = {};
        times_transposed<D>(s, k_fragment, q, lane);
        times_transposed<D>(dp, v_fragment, d_o, lane);
        unsigned p_operand[TILE / 16][4], ds_operand[TILE / 16][4];
#pragma unroll
        for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int column = j * 8 + lane % 4 * 2 + e % 2;
                bool inside = start + warp_row + lane / 4 + e / 2 * 8 < length;
                s[j][e] = inside ? __expf(s[j][e] * scale - row_lse[column]) : 0.0f;
                dp[j][e] = s[j][e] * (dp[j][e] - row_delta[column]);
            }
#pragma unroll
            for (int r = 0; r < 2; r++) {
                p_operand[j / 2][j % 2 * 2 + r] = pack(s[j][2 * r], s[j][2 * r + 1]);
                ds_operand[j / 2][j % 2 * 2 + r] = pack(dp[j][2 * r], dp[j][2 * r + 1]);
                *reinterpret_cast<unsigned*>(&ds[warp_row + lane / 4 + r * 8][j * 8 + lane % 4 * 2]) =
                    ds_operand[j / 2][j % 2 * 2 + r];
            }
        }
        add_product<D>(dv, p_operand, d_o, lane);
        add_product<D>(dk, ds_operand, q, lane);
        __syncthreads(); // dS is whole

        unsigned ds_transposed[TILE / 16][4]; // 16 queries a warp
#pragma unroll
        for (int j = 0; j < TILE / 16; j++) {
            load_matrices_transposed(ds_transposed[j],
                                     &ds[j * 16 + lane / 16 * 8 + lane % 8][warp_row + lane / 8 % 2 * 8]);
        }
        float dq[D / 8][4] = {};
        add_product<D>(dq, ds_transposed, k, lane);
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int row = query + warp_row + lane / 4 + e / 2 * 8;
                if (row < M) atomicAdd(&dQ[row * D + d * 8 + lane % 4 * 2 + e % 2], scale * dq[d][e]);
            }
        }
        __syncthreads(); // the tiles may be overwritten
    }

#pragma unroll
    for (int d = 0; d < D / 8; d++) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int key = start + warp_row + lane / 4 + r * 8, at = key * D + d * 8 + lane % 4 * 2;
            if (key >= N) continue;
            *reinterpret_cast<__half2*>(&dK[at]) = __floats2half2_rn(scale * dk[d][2 * r], scale * dk[d][2 * r + 1]);
            *reinterpret_cast<__half2*>(&dV[at]) = __floats2half2_rn(dv[d][2 * r], dv[d][2 * r + 1]);
        }
    }
}

// delta (rows) = sum of dO O over the D columns, a warp a row.
extern "C" __global__ void attention_delta(float* delta, const __half* dO, const __half* O, int rows, int D) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    float sum = 0.0f;
    for (int d = lane; d < D; d += 32) sum += __half2float(dO[row * D + d]) * __half2float(O[row * D + d]);
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffff, sum, mask);
    if (lane == 0) delta[row] = sum;
}

#define ATTENTION_BWD(D)                                                                                          \
    extern "C" __global__ void __launch_bounds__(128)                                                             \
        attention_bwd_##D(float* dQ, __half* dK, __half* dV, const __half* dO, const __half* Q, const __half* K,  \
                          const __half* V, const float* lse, const float* delta, const int* lengths, float scale, \
                          int H, int M, int N) {                                                                  \
        attention_bwd<D>(dQ, dK, dV, dO, Q, K, V, lse, delta, lengths, scale, H, M, N);                           \
    }
ATTENTION_BWD(32)
ATTENTION_BWD(64)
