// C (M, N) in f32 = A (M, K) B (K, N) in f16 or bf16 on tensor cores. K and N are multiples of 8 (rows start on 16
// bytes), M is anything. A block of 4 warps computes a 64 x 64 tile, a warp a 32 x 32 quarter of it; cp.async fills
// one buffer with the next 32 of K while the other is multiplied. What lies outside of a matrix is filled with zeros.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

constexpr int TILE = 64, DEPTH = 32, PAD = 8; // padded rows put the 8 rows of an ldmatrix into different banks

__device__ unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// 16 bytes, or zeros.
__device__ void copy_async(void* to, const void* from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(inside ? 16 : 0)
                 : "memory");
}

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

__device__ void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, __half) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ void mma(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, __nv_bfloat16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <typename T> __device__ void gemm(float* C, const T* A, const T* B, int M, int N, int K) {
    __shared__ alignas(16) T a[2][TILE][DEPTH + PAD];
    __shared__ alignas(16) T b[2][DEPTH][TILE + PAD];
    int row = blockIdx.y * TILE, column = blockIdx.x * TILE;

    auto load = [&](int buffer, int start) {
        for (int i = threadIdx.x; i < TILE * DEPTH / 8; i += blockDim.x) {
            int r = i / (DEPTH / 8), k = i % (DEPTH / 8) * 8;
            bool inside = row + r < M && start + k < K;
            copy_async(&a[buffer][r][k], inside ? &A[(row + r) * K + start + k] : A, inside);
        }
        for (int i = threadIdx.x; i < TILE * DEPTH / 8; i += blockDim.x) {
            int k = i / (TILE / 8), c = i % (TILE / 8) * 8;
            bool inside = start + k < K && column + c < N;
            copy_async(&b[buffer][k][c], inside ? &B[(start + k) * N + column + c] : B, inside);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };

    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
    float sum[2][4][4] = {}; // (16 rows, 8 columns, fragment)
    load(0, 0);
    for (int start = 0, buffer = 0; start < K; start += DEPTH, buffer ^= 1) {
        if (start + DEPTH < K) {
            load(buffer ^ 1, start + DEPTH);
            asm volatile("cp.async.wait_group 1;" ::: "memory");
        } else {
            asm volatile("cp.async.wait_group 0;" ::: "memory");
        }
        __syncthreads(); // everybody's part has arrived
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            unsigned as[2][4], bs[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                load_matrices(as[i], &a[buffer][warp_row + i * 16 + lane % 16][k + lane / 16 * 8]);
                load_matrices_transposed(bs[i], &b[buffer][k + lane % 16][warp_column + i * 16 + lane / 16 * 8]);
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) mma(sum[i][j], as[i], bs[j / 2][j % 2 * 2], bs[j / 2][j % 2 * 2 + 1], T());
            }
        }
        __syncthreads(); // everybody has read, the buffer may be filled again
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int r = row + warp_row + i * 16 + lane / 4 + e / 2 * 8;
                int c = column + warp_column + j * 8 + lane % 4 * 2 + e % 2;
                if (r < M && c < N) C[r * N + c] = sum[i][j][e];
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(128) gemm_f16(float* C, const __half* A, const __half* B, int M, int N,
                                                          int K) {
    gemm(C, A, B, M, N, K);
}
extern "C" __global__ void __launch_bounds__(128) gemm_bf16(float* C, const __nv_bfloat16* A, const __nv_bfloat16* B,
                                                           int M, int N, int K) {
    gemm(C, A, B, M, N, K);
}
