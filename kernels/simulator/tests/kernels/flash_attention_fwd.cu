// Attention on tensor cores, forward: O = softmax(scale Q K^T) V per head, without the matrix of scores.
// Q (B, H, M, D), K and V (B, H, N, D) and O in f16; of the N keys the first lengths[b] count. lse (B, H, M) is saved
// for backward. A block has 64 queries, 16 a warp, and walks over the keys by 64; cp.async brings V while the scores
// are computed. A query without keys gets zeros and -inf.

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

// The four lanes of a row of fragments.
__device__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffff, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffff, x, 2));
}
__device__ float quad_sum(float x) {
    x += __shfl_xor_sync(0xffffffff, x, 1);
    return x + __shfl_xor_sync(0xffffffff, x, 2);
}

// Rows start .. start + 64 of x (rows, D), zeros after the last.
template <int D> __device__ void copy_rows(__half (*to)[D + PAD], const __half* x, int start, int rows) {
    for (int i = threadIdx.x; i < TILE * D / 8; i += blockDim.x) {
        int row = i / (D / 8), column = i % (D / 8) * 8;
        bool inside = start + row < rows;
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(&to[row][column])),
                     "l"(inside ? &x[(start + row) * D + column] : x), "r"(inside ? 16 : 0)
                     : "memory");
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int D>
__device__ void attention_fwd(__half* O, float* lse, const __half* Q, const __half* K, const __half* V,
                              const int* lengths, float scale, int H, int M, int N) {
    __shared__ alignas(16) __half q[TILE][D + PAD], k[TILE][D + PAD], v[TILE][D + PAD];
    int head = blockIdx.y, length = lengths[head / H], start = blockIdx.x * TILE;
    int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    O += head * M * D, Q += head * M * D, K += head * N * D, V += head * N * D, lse += head * M;
    float scale_log2 = scale * CUDART_L2E_F;

    copy_rows<D>(q, Q, start, M);
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();
    unsigned q_fragment[D / 16][4];
#pragma unroll
    for (int i = 0; i < D / 16; i++) load_matrices(q_fragment[i], &q[warp_row + lane % 16][i * 16 + lane / 16 * 8]);

    float o[D / 8][4] = {}, row_max[2] = {-CUDART_INF_F, -CUDART_INF_F}, row_sum[2] = {};
    for (int key = 0; key < length; key += TILE) {
        __syncthreads(); // the last round's tiles are used up
        copy_rows<D>(k, K, key, length);
        copy_rows<D>(v, V, key, length);
        asm volatile("cp.async.wait_group 1;" ::: "memory");
        __syncthreads();

        float s[TILE / 8][4] = {};
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
#pragma unroll
            for (int j = 0; j < TILE / 16; j++) {
                unsigned b[4];
                load_matrices(b, &k[j * 16 + lane / 16 * 8 + lane % 8][i * 16 + lane / 8 % 2 * 8]);
                mma(s[2 * j], q_fragment[i], b[0], b[1]);
                mma(s[2 * j + 1], q_fragment[i], b[2], b[3]);
            }
        }

        // Online softmax: element e of a fragment is of row e / 2.
        float tile_max[2] = {row_max[0], row_max[1]};
#pragma unroll
        for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                bool inside = key + j * 8 + lane % 4 * 2 + e % 2 < length;
                s[j][e] = inside ? s[j][e] * scale_log2 : -CUDART_INF_F;
                tile_max[e / 2] = fmaxf(tile_max[e / 2], s[j][e]);
            }
        }
        float correction[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            tile_max[r] = quad_max(tile_max[r]);
            correction[r] = exp2f(row_max[r] - tile_max[r]);
            row_max[r] = tile_max[r];
            row_sum[r] *= correction[r];
        }
#pragma unroll
        for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[j][e] = exp2f(s[j][e] - row_max[e / 2]);
                row_sum[e / 2] += s[j][e];
            }
        }
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
#pragma unroll
            for (int e = 0; e < 4; e++) o[d][e] *= correction[e / 2];
        }

        asm volatile("cp.async.wait_group 0;" ::: "memory");
        __syncthreads();
#pragma unroll
        for (int j = 0; j < TILE / 16; j++) {
            unsigned p[4] = {pack(s[2 * j][0], s[2 * j][1]), pack(s[2 * j][2], s[2 * j][3]),
                             pack(s[2 * j + 1][0], s[2 * j + 1][1]), pack(s[2 * j + 1][2], s[2 * j + 1][3])};
#pragma unroll
            for (int d = 0; d < D / 16; d++) {
                unsigned b[4];
                load_matrices_transposed(b, &v[j * 16 + lane % 16][d * 16 + lane / 16 * 8]);
                mma(o[2 * d], p, b[0], b[1]);
                mma(o[2 * d + 1], p, b[2], b[3]);
            }
        }
    }

#pragma unroll
    for (int r = 0; r < 2; r++) row_sum[r] = quad_sum(row_sum[r]);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = start + warp_row + lane / 4 + r * 8;
        if (row >= M) continue;
        float inverse = row_sum[r] > 0.0f ? 1.0f / row_sum[r] : 0.0f;
        if (lane % 4 == 0) lse[row] = row_max[r] / CUDART_L2E_F + logf(row_sum[r]);
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            __half2 pair = __floats2half2_rn(o[d][2 * r] * inverse, o[d][2 * r + 1] * inverse);
            *reinterpret_cast<__half2*>(&O[row * D + d * 8 + lane % 4 * 2]) = pair;
        }
    }
}

#define ATTENTION_FWD(D)                                                                            \
    extern "C" __global__ void __launch_bounds__(128)                                               \
        attention_fwd_##D(__half* O, float* lse, const __half* Q, const __half* K, const __half* V, \
                          const int* lengths, float scale, int H, int M, int N) {                   \
        attention_fwd<D>(O, lse, Q, K, V, lengths, scale, H, M, N);                                 \
    }
ATTENTION_FWD(32)
ATTENTION_FWD(64)
