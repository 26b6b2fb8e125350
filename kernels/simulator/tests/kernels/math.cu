// Mathematical functions of the CUDA library, element by element: y (n) = function(x) or function(a, b).
// sinf and its like keep a table of the argument's reduction in local memory; division and square root are calls.

#define UNARY(function, type, T)                                            \
    extern "C" __global__ void function##_##type(T* y, const T* x, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                      \
        if (i < n) y[i] = function(x[i]);                                   \
    }
#define BINARY(function, type, T)                                                       \
    extern "C" __global__ void function##_##type(T* y, const T* a, const T* b, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                                  \
        if (i < n) y[i] = function(a[i], b[i]);                                         \
    }

UNARY(sinf, f32, float)
UNARY(cosf, f32, float)
UNARY(tanf, f32, float)
UNARY(asinf, f32, float)
UNARY(acosf, f32, float)
UNARY(atanf, f32, float)
UNARY(sinhf, f32, float)
UNARY(coshf, f32, float)
UNARY(tanhf, f32, float)
UNARY(expf, f32, float)
UNARY(exp2f, f32, float)
UNARY(expm1f, f32, float)
UNARY(logf, f32, float)
UNARY(log2f, f32, float)
UNARY(log10f, f32, float)
UNARY(log1pf, f32, float)
UNARY(sqrtf, f32, float)
UNARY(rsqrtf, f32, float)
UNARY(cbrtf, f32, float)
UNARY(erff, f32, float)
UNARY(erfcf, f32, float)
UNARY(lgammaf, f32, float)
UNARY(tgammaf, f32, float)
UNARY(floorf, f32, float)
UNARY(ceilf, f32, float)
UNARY(truncf, f32, float)
UNARY(rintf, f32, float)
UNARY(roundf, f32, float)
UNARY(fabsf, f32, float)
BINARY(powf, f32, float)
BINARY(fmodf, f32, float)
BINARY(atan2f, f32, float)
BINARY(hypotf, f32, float)
BINARY(fdimf, f32, float)
BINARY(copysignf, f32, float)

UNARY(sin, f64, double)
UNARY(cos, f64, double)
UNARY(tan, f64, double)
UNARY(asin, f64, double)
UNARY(acos, f64, double)
UNARY(atan, f64, double)
UNARY(sinh, f64, double)
UNARY(cosh, f64, double)
UNARY(tanh, f64, double)
UNARY(exp, f64, double)
UNARY(exp2, f64, double)
UNARY(expm1, f64, double)
UNARY(log, f64, double)
UNARY(log2, f64, double)
UNARY(log10, f64, double)
UNARY(log1p, f64, double)
UNARY(sqrt, f64, double)
UNARY(rsqrt, f64, double)
UNARY(cbrt, f64, double)
UNARY(erf, f64, double)
UNARY(erfc, f64, double)
UNARY(lgamma, f64, double)
UNARY(floor, f64, double)
UNARY(ceil, f64, double)
UNARY(trunc, f64, double)
UNARY(rint, f64, double)
UNARY(round, f64, double)
BINARY(pow, f64, double)
BINARY(fmod, f64, double)
BINARY(atan2, f64, double)
BINARY(hypot, f64, double)

// Intrinsics: the special function unit's approximations, and divisions rounded each way.
UNARY(__sinf, f32, float)
UNARY(__cosf, f32, float)
UNARY(__expf, f32, float)
UNARY(__logf, f32, float)
UNARY(__frcp_rn, f32, float)
UNARY(__frcp_rd, f32, float)
UNARY(__fsqrt_ru, f32, float)
UNARY(__saturatef, f32, float)
BINARY(__powf, f32, float)
BINARY(__fdividef, f32, float)
BINARY(__fdiv_rn, f32, float)
BINARY(__fdiv_rz, f32, float)
BINARY(__fadd_rd, f32, float)
BINARY(__fmul_ru, f32, float)
BINARY(__ddiv_rn, f64, double)

template <typename T> __device__ T divide(T a, T b) { return a / b; }
template <typename T> __device__ T remainder_of(T a, T b) { return a % b; }
BINARY(divide, f32, float)
BINARY(divide, f64, double)
BINARY(divide, i32, int)
BINARY(divide, u32, unsigned)
BINARY(divide, i64, long long)
BINARY(divide, u64, unsigned long long)
BINARY(remainder_of, i32, int)
BINARY(remainder_of, u32, unsigned)
BINARY(remainder_of, i64, long long)
BINARY(remainder_of, u64, unsigned long long)

// Bits.
UNARY(__popc, i32, int)
UNARY(__clz, i32, int)
UNARY(__ffs, i32, int)
UNARY(__brev, u32, unsigned)
UNARY(__brevll, u64, unsigned long long)
BINARY(__mulhi, i32, int)
BINARY(__umulhi, u32, unsigned)
BINARY(__umul64hi, u64, unsigned long long)
BINARY(__hadd, i32, int)

extern "C" __global__ void sincos_f32(float* sine, float* cosine, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sincosf(x[i], &sine[i], &cosine[i]);
}
extern "C" __global__ void frexp_f32(float* fraction, int* exponent, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) fraction[i] = frexpf(x[i], &exponent[i]);
}
extern "C" __global__ void ldexp_f32(float* y, const float* x, const int* exponent, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = ldexpf(x[i], exponent[i]);
}
