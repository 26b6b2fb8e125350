// Elementwise arithmetic in every dtype.
// A thread an element; the results of the six operations are the rows of y (6, n):
// a + b, a * b, a * b + c, min(a, b), max(a, b) and a < b ? a : c.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef signed char i8;
typedef unsigned char u8;
typedef long long i64;
typedef unsigned long long u64;

// Narrow integers are computed in int and wrap when they are stored, as in C.
template <typename T> __device__ T multiply_add(T a, T b, T c) { return a * b + c; }
template <> __device__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
template <> __device__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }
template <> __device__ __half multiply_add(__half a, __half b, __half c) { return __hfma(a, b, c); }
template <> __device__ __nv_bfloat16 multiply_add(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
    return __hfma(a, b, c);
}

template <typename T> __device__ T minimum(T a, T b) { return min(a, b); }
template <> __device__ __half minimum(__half a, __half b) { return __hmin(a, b); }
template <> __device__ __nv_bfloat16 minimum(__nv_bfloat16 a, __nv_bfloat16 b) { return __hmin(a, b); }

template <typename T> __device__ T maximum(T a, T b) { return max(a, b); }
template <> __device__ __half maximum(__half a, __half b) { return __hmax(a, b); }
template <> __device__ __nv_bfloat16 maximum(__nv_bfloat16 a, __nv_bfloat16 b) { return __hmax(a, b); }

template <typename T>
__device__ void elementwise(T* __restrict__ y, const T* __restrict__ a, const T* __restrict__ b,
                            const T* __restrict__ c, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    y[i] = a[i] + b[i];
    y[n + i] = a[i] * b[i];
    y[2 * n + i] = multiply_add(a[i], b[i], c[i]);
    y[3 * n + i] = minimum(a[i], b[i]);
    y[4 * n + i] = maximum(a[i], b[i]);
    y[5 * n + i] = a[i] < b[i] ? a[i] : c[i];
}

#define ELEMENTWISE(name, T)                                                                         \
    extern "C" __global__ void elementwise_##name(T* y, const T* a, const T* b, const T* c, int n) { \
        elementwise(y, a, b, c, n);                                                                  \
    }

ELEMENTWISE(f32, float)
ELEMENTWISE(f64, double)
ELEMENTWISE(f16, __half)
ELEMENTWISE(bf16, __nv_bfloat16)
ELEMENTWISE(i8, i8)
ELEMENTWISE(u8, u8)
ELEMENTWISE(i16, short)
ELEMENTWISE(u16, unsigned short)
ELEMENTWISE(i32, int)
ELEMENTWISE(u32, unsigned)
ELEMENTWISE(i64, i64)
ELEMENTWISE(u64, u64)

// Two elements a thread, packed; n counts pairs.
template <typename T2>
__device__ void elementwise2(T2* __restrict__ y, const T2* __restrict__ a, const T2* __restrict__ b,
                             const T2* __restrict__ c, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    y[i] = __hadd2(a[i], b[i]);
    y[n + i] = __hmul2(a[i], b[i]);
    y[2 * n + i] = __hfma2(a[i], b[i], c[i]);
    y[3 * n + i] = __hmin2(a[i], b[i]);
    y[4 * n + i] = __hmax2(a[i], b[i]);
    T2 less = __hlt2(a[i], b[i]); // 1.0 or 0.0 in each half
    y[5 * n + i].x = __low2float(less) != 0.0f ? a[i].x : c[i].x;
    y[5 * n + i].y = __high2float(less) != 0.0f ? a[i].y : c[i].y;
}

#define ELEMENTWISE2(name, T2)                                                                           \
    extern "C" __global__ void elementwise_##name(T2* y, const T2* a, const T2* b, const T2* c, int n) { \
        elementwise2(y, a, b, c, n);                                                                     \
    }

ELEMENTWISE2(half2, __half2)
ELEMENTWISE2(bf162, __nv_bfloat162)
