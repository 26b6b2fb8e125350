// Atomic operations in every width, on global and on shared memory, with and without use of the old value.
// x (n) are operands, element i goes to cell i % cells of y; old (n) takes the values that the operations found.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef unsigned short u16;
typedef long long i64;
typedef unsigned long long u64;

template <typename T, T (*OP)(T*, T)> __device__ void on_global(T* y, const T* x, int cells, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) OP(&y[i % cells], x[i]);
}

template <typename T, T (*OP)(T*, T)> __device__ void on_global_old(T* y, T* old, const T* x, int cells, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        old[i] = OP(&y[i % cells], x[i]);
    }
}

// One block; at most 32 cells.
template <typename T, T (*OP)(T*, T)> __device__ void on_shared(T* y, const T* x, int cells, int n) {
    __shared__ T cell[32];
    for (int i = threadIdx.x; i < cells; i += blockDim.x) cell[i] = y[i];
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) OP(&cell[i % cells], x[i]);
    __syncthreads();
    for (int i = threadIdx.x; i < cells; i += blockDim.x) y[i] = cell[i];
}

template <typename T, T (*OP)(T*, T)> __device__ void on_shared_old(T* y, T* old, const T* x, int cells, int n) {
    __shared__ T cell[32];
    for (int i = threadIdx.x; i < cells; i += blockDim.x) cell[i] = y[i];
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) old[i] = OP(&cell[i % cells], x[i]);
    __syncthreads();
    for (int i = threadIdx.x; i < cells; i += blockDim.x) y[i] = cell[i];
}

#define ATOMIC(operation, type, T, expression)                                                               \
    __device__ T operation##_##type(T* at, T x) { return expression; }                                       \
    extern "C" __global__ void operation##_##type##_global(T* y, const T* x, int cells, int n) {             \
        on_global<T, operation##_##type>(y, x, cells, n);                                                    \
    }                                                                                                        \
    extern "C" __global__ void operation##_##type##_global_old(T* y, T* old, const T* x, int cells, int n) { \
        on_global_old<T, operation##_##type>(y, old, x, cells, n);                                           \
    }                                                                                                        \
    extern "C" __global__ void operation##_##type##_shared(T* y, const T* x, int cells, int n) {             \
        on_shared<T, operation##_##type>(y, x, cells, n);                                                    \
    }                                                                                                        \
    extern "C" __global__ void operation##_##type##_shared_old(T* y, T* old, const T* x, int cells, int n) { \
        on_shared_old<T, operation##_##type>(y, old, x, cells, n);                                           \
    }

ATOMIC(add, i32, int, atomicAdd(at, x))
ATOMIC(add, u32, unsigned, atomicAdd(at, x))
ATOMIC(add, u64, u64, atomicAdd(at, x))
ATOMIC(add, f32, float, atomicAdd(at, x))
ATOMIC(add, f64, double, atomicAdd(at, x))
ATOMIC(add, f16, __half, atomicAdd(at, x))
ATOMIC(add, f16x2, __half2, atomicAdd(at, x))
ATOMIC(add, bf16, __nv_bfloat16, atomicAdd(at, x))
ATOMIC(add, bf16x2, __nv_bfloat162, atomicAdd(at, x))
ATOMIC(sub, i32, int, atomicSub(at, x))
ATOMIC(sub, u32, unsigned, atomicSub(at, x))

ATOMIC(min, i32, int, atomicMin(at, x))
ATOMIC(min, u32, unsigned, atomicMin(at, x))
ATOMIC(min, i64, i64, atomicMin(at, x))
ATOMIC(min, u64, u64, atomicMin(at, x))
ATOMIC(max, i32, int, atomicMax(at, x))
ATOMIC(max, u32, unsigned, atomicMax(at, x))
ATOMIC(max, i64, i64, atomicMax(at, x))
ATOMIC(max, u64, u64, atomicMax(at, x))

ATOMIC(and, u32, unsigned, atomicAnd(at, x))
ATOMIC(and, u64, u64, atomicAnd(at, x))
ATOMIC(or, u32, unsigned, atomicOr(at, x))
ATOMIC(or, u64, u64, atomicOr(at, x))
ATOMIC(xor, u32, unsigned, atomicXor(at, x))
ATOMIC(xor, u64, u64, atomicXor(at, x))

ATOMIC(exch, u32, unsigned, atomicExch(at, x))
ATOMIC(exch, u64, u64, atomicExch(at, x))
ATOMIC(exch, f32, float, atomicExch(at, x))

// x is where they wrap.
ATOMIC(inc, u32, unsigned, atomicInc(at, x))
ATOMIC(dec, u32, unsigned, atomicDec(at, x))

// Sums by compare-and-swap: try again as long as somebody else was faster.
template <typename T> __device__ T add_by_cas(T* at, T x) {
    T seen = *static_cast<volatile T*>(at), expected;
    do {
        expected = seen;
        seen = atomicCAS(at, expected, static_cast<T>(expected + x));
    } while (seen != expected);
    return seen;
}
ATOMIC(cas, u16, u16, add_by_cas(at, x))
ATOMIC(cas, u32, unsigned, add_by_cas(at, x))
ATOMIC(cas, u64, u64, add_by_cas(at, x))

// The greatest float by a compare-and-swap of its bits, the usual way where there is no instruction.
__device__ float atomic_max(float* at, float x) {
    int* bits = reinterpret_cast<int*>(at);
    int seen = *reinterpret_cast<volatile int*>(at), expected;
    do {
        expected = seen;
        if (__int_as_float(expected) >= x) break;
        seen = atomicCAS(bits, expected, __float_as_int(x));
    } while (seen != expected);
    return __int_as_float(expected);
}
ATOMIC(max, f32, float, atomic_max(at, x))

// Scopes and orders other than the default, and `red`, which the compiler leaves to the assembler to find. y (6)
// becomes n five times, and n - 1.
extern "C" __global__ void scopes(unsigned* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    atomicAdd_block(&y[0], 1);
    atomicAdd(&y[1], 1);
    atomicAdd_system(&y[2], 1);
    unsigned old;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(&y[3]), "r"(1) : "memory");
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(&y[4]), "r"(1) : "memory");
    asm volatile("red.relaxed.gpu.global.max.u32 [%0], %1;" ::"l"(&y[5]), "r"(old) : "memory");
}
