// The tensor-core instructions one by one: D (16, 8) = A (16, K) B (K, 8) + C (16, 8) by one warp, whose lanes gather
// the fragments from row-major matrices element by element, as the PTX manual draws them. Further down: ldmatrix.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

template <typename T> __device__ unsigned pack(T low, T high) {
    static_assert(sizeof(T) == 2);
    return *reinterpret_cast<unsigned short*>(&low) | *reinterpret_cast<unsigned short*>(&high) << 16;
}

// Two neighbours of one row of A; two neighbours of one column of B.
template <typename T> __device__ unsigned pair_of_a(const T* A, int K, int row, int k) {
    return pack(A[row * K + k], A[row * K + k + 1]);
}
template <typename T> __device__ unsigned pair_of_b(const T* B, int k, int column) {
    return pack(B[k * 8 + column], B[(k + 1) * 8 + column]);
}

__device__ void mma_k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const __half*) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ void mma_k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const __nv_bfloat16*) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ void mma_k16(unsigned (&d)[2], const unsigned (&a)[4], const unsigned (&b)[2], const __half*) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
                 : "+r"(d[0]), "+r"(d[1])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ void mma_k8(float (&d)[4], const unsigned (&a)[2], unsigned b, const __half*) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}
__device__ void mma_k8(float (&d)[4], const unsigned (&a)[2], unsigned b, const __nv_bfloat16*) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}
__device__ void mma_k8(unsigned (&d)[2], const unsigned (&a)[2], unsigned b, const __half*) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3}, {%4}, {%0, %1};"
                 : "+r"(d[0]), "+r"(d[1])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}

// Accumulators: columns 2 * (lane % 4) and the next of rows lane / 4 and lane / 4 + 8.
__device__ void read_accumulators(float (&d)[4], const float* C, int row, int column) {
    for (int i = 0; i < 4; i++) d[i] = C[(row + i / 2 * 8) * 8 + column + i % 2];
}
__device__ void write_accumulators(float* D, const float (&d)[4], int row, int column) {
    for (int i = 0; i < 4; i++) D[(row + i / 2 * 8) * 8 + column + i % 2] = d[i];
}
__device__ void read_accumulators(unsigned (&d)[2], const __half* C, int row, int column) {
    for (int i = 0; i < 2; i++) d[i] = pair_of_a(C, 8, row + i * 8, column);
}
__device__ void write_accumulators(__half* D, const unsigned (&d)[2], int row, int column) {
    for (int i = 0; i < 2; i++) *reinterpret_cast<unsigned*>(&D[(row + i * 8) * 8 + column]) = d[i];
}

template <typename Fragment, typename Out, typename T>
__device__ void matmul_k16(Out* D, const T* A, const T* B, const Out* C, int K) {
    int row = threadIdx.x / 4, pair = threadIdx.x % 4 * 2;
    Fragment d;
    read_accumulators(d, C, row, pair);
    for (int k = pair; k < K; k += 16) {
        unsigned a[4] = {pair_of_a(A, K, row, k), pair_of_a(A, K, row + 8, k), pair_of_a(A, K, row, k + 8),
                         pair_of_a(A, K, row + 8, k + 8)};
        unsigned b[2] = {pair_of_b(B, k, row), pair_of_b(B, k + 8, row)};
        mma_k16(d, a, b, A);
    }
    write_accumulators(D, d, row, pair);
}

template <typename Fragment, typename Out, typename T>
__device__ void matmul_k8(Out* D, const T* A, const T* B, const Out* C, int K) {
    int row = threadIdx.x / 4, pair = threadIdx.x % 4 * 2;
    Fragment d;
    read_accumulators(d, C, row, pair);
    for (int k = pair; k < K; k += 8) {
        unsigned a[2] = {pair_of_a(A, K, row, k), pair_of_a(A, K, row + 8, k)};
        mma_k8(d, a, pair_of_b(B, k, row), A);
    }
    write_accumulators(D, d, row, pair);
}

#define MATMUL(name, depth, Fragment, Out, T)                                                              \
    extern "C" __global__ void mma_##name##_##depth(Out* D, const T* A, const T* B, const Out* C, int K) { \
        matmul_##depth<Fragment>(D, A, B, C, K);                                                           \
    }
using Floats = float[4];
using Halves = unsigned[2];
MATMUL(f16_f32, k16, Floats, float, __half)
MATMUL(f16_f16, k16, Halves, __half, __half)
MATMUL(bf16_f32, k16, Floats, float, __nv_bfloat16)
MATMUL(f16_f32, k8, Floats, float, __half)
MATMUL(f16_f16, k8, Halves, __half, __half)
MATMUL(bf16_f32, k8, Floats, float, __nv_bfloat16)

// f32 operands, of which the tensor core keeps 10 bits of the fraction: rounded here, or else cut.
__device__ unsigned tf32(float x) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}
extern "C" __global__ void mma_tf32_k8(float* D, const float* A, const float* B, const float* C, int K) {
    int row = threadIdx.x / 4, t = threadIdx.x % 4;
    float d[4];
    read_accumulators(d, C, row, 2 * t);
    for (int k = t; k < K; k += 8) {
        unsigned a0 = tf32(A[row * K + k]), a1 = tf32(A[(row + 8) * K + k]);
        unsigned a2 = tf32(A[row * K + k + 4]), a3 = tf32(A[(row + 8) * K + k + 4]);
        unsigned b0 = tf32(B[k * 8 + row]), b1 = tf32(B[(k + 4) * 8 + row]);
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                     "{%0, %1, %2, %3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
    }
    write_accumulators(D, d, row, 2 * t);
}

// x (8 * MATRICES, 8) of 16-bit elements goes through shared memory; y (32, MATRICES) are the registers of each lane.
// Lane l names row l; the lanes beyond the last row name any valid row, which is ignored.
#define LDMATRIX(name, MATRICES, suffix, outputs, ...)                                                          \
    extern "C" __global__ void ldmatrix_##name(unsigned* y, const unsigned* x) {                                \
        __shared__ alignas(16) unsigned tile[8 * MATRICES][4];                                                  \
        for (int i = threadIdx.x; i < 32 * MATRICES; i += 32) tile[i / 4][i % 4] = x[i];                        \
        __syncwarp();                                                                                           \
        unsigned r[MATRICES];                                                                                   \
        asm volatile("ldmatrix.sync.aligned.m8n8." suffix ".shared.b16 {" outputs "}, [%" #MATRICES "];"        \
                     : __VA_ARGS__                                                                              \
                     : "r"((unsigned)__cvta_generic_to_shared(tile[threadIdx.x % (8 * MATRICES)])) : "memory"); \
        for (int i = 0; i < MATRICES; i++) y[threadIdx.x * MATRICES + i] = r[i];                                \
    }
LDMATRIX(x1, 1, "x1", "%0", "=r"(r[0]))
LDMATRIX(x2, 2, "x2", "%0, %1", "=r"(r[0]), "=r"(r[1]))
LDMATRIX(x4, 4, "x4", "%0, %1, %2, %3", "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]))
LDMATRIX(x1_trans, 1, "x1.trans", "%0", "=r"(r[0]))
LDMATRIX(x2_trans, 2, "x2.trans", "%0, %1", "=r"(r[0]), "=r"(r[1]))
LDMATRIX(x4_trans, 4, "x4.trans", "%0, %1, %2, %3", "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]))
