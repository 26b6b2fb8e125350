// Conversions between every pair of dtypes, as a C cast does them: to the nearest even towards a float, towards zero
// to an integer. convert_A_to_B computes y (n) of dtype B from x (n) of dtype A, a thread an element.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef signed char i8;
typedef unsigned char u8;
typedef long long i64;
typedef unsigned long long u64;

// The headers have no cast from one half format to the other: float holds both.
template <typename To, typename From> struct Cast {
    static __device__ To of(From x) { return static_cast<To>(x); }
};
template <> struct Cast<__half, __nv_bfloat16> {
    static __device__ __half of(__nv_bfloat16 x) { return __float2half(__bfloat162float(x)); }
};
template <> struct Cast<__nv_bfloat16, __half> {
    static __device__ __nv_bfloat16 of(__half x) { return __float2bfloat16(__half2float(x)); }
};
template <> struct Cast<double, __half> {
    static __device__ double of(__half x) { return __half2float(x); }
};
template <> struct Cast<double, __nv_bfloat16> {
    static __device__ double of(__nv_bfloat16 x) { return __bfloat162float(x); }
};

#define CONVERT(from, From, to, To)                                                    \
    extern "C" __global__ void convert_##from##_to_##to(To* y, const From* x, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                                 \
        if (i < n) y[i] = Cast<To, From>::of(x[i]);                                    \
    }

#define CONVERT_FROM(from, From)             \
    CONVERT(from, From, f32, float)          \
    CONVERT(from, From, f64, double)         \
    CONVERT(from, From, f16, __half)         \
    CONVERT(from, From, bf16, __nv_bfloat16) \
    CONVERT(from, From, i8, i8)              \
    CONVERT(from, From, u8, u8)              \
    CONVERT(from, From, i16, short)          \
    CONVERT(from, From, u16, unsigned short) \
    CONVERT(from, From, i32, int)            \
    CONVERT(from, From, u32, unsigned)       \
    CONVERT(from, From, i64, i64)            \
    CONVERT(from, From, u64, u64)

CONVERT_FROM(f32, float)
CONVERT_FROM(f64, double)
CONVERT_FROM(f16, __half)
CONVERT_FROM(bf16, __nv_bfloat16)
CONVERT_FROM(i8, i8)
CONVERT_FROM(u8, u8)
CONVERT_FROM(i16, short)
CONVERT_FROM(u16, unsigned short)
CONVERT_FROM(i32, int)
CONVERT_FROM(u32, unsigned)
CONVERT_FROM(i64, i64)
CONVERT_FROM(u64, u64)
