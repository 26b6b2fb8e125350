// The half and bf16 headers: conversions with every rounding, arithmetic that fuses, saturates or passes NaN on, and
// functions. Kernels are named T_function; a thread an element.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define MAP(name, Out, In, expression)                             \
    extern "C" __global__ void name(Out* y, const In* in, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x;             \
        if (i >= n) return;                                        \
        In x = in[i];                                              \
        y[i] = expression;                                         \
    }
#define MAP2(name, Out, In, expression)                                          \
    extern "C" __global__ void name(Out* y, const In* as, const In* bs, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                           \
        if (i >= n) return;                                                      \
        In a = as[i], b = bs[i];                                                 \
        y[i] = expression;                                                       \
    }
#define MAP3(name, Out, In, expression)                                                        \
    extern "C" __global__ void name(Out* y, const In* as, const In* bs, const In* cs, int n) { \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                                         \
        if (i >= n) return;                                                                    \
        In a = as[i], b = bs[i], c = cs[i];                                                    \
        y[i] = expression;                                                                     \
    }

// From and to f32, from f64, to and from integers.
#define CONVERSIONS(half, T, name)                            \
    MAP(half##_from_f32_rn, T, float, __float2##name##_rn(x)) \
    MAP(half##_from_f32_rz, T, float, __float2##name##_rz(x)) \
    MAP(half##_from_f32_rd, T, float, __float2##name##_rd(x)) \
    MAP(half##_from_f32_ru, T, float, __float2##name##_ru(x)) \
    MAP(half##_from_f64, T, double, __double2##name(x))       \
    MAP(half##_from_i32_rn, T, int, __int2##name##_rn(x))     \
    MAP(half##_from_i32_rz, T, int, __int2##name##_rz(x))     \
    MAP(half##_from_i32_rd, T, int, __int2##name##_rd(x))     \
    MAP(half##_from_i32_ru, T, int, __int2##name##_ru(x))     \
    MAP(half##_to_f32, float, T, __##name##2float(x))         \
    MAP(half##_to_i32_rn, int, T, __##name##2int_rn(x))       \
    MAP(half##_to_i32_rz, int, T, __##name##2int_rz(x))       \
    MAP(half##_to_i32_rd, int, T, __##name##2int_rd(x))       \
    MAP(half##_to_i32_ru, int, T, __##name##2int_ru(x))       \
    MAP(half##_to_u32_rz, unsigned, T, __##name##2uint_rz(x)) \
    MAP(half##_to_i64_rz, long long, T, __##name##2ll_rz(x))
CONVERSIONS(f16, __half, half)
CONVERSIONS(bf16, __nv_bfloat16, bfloat16)

#define ARITHMETIC(half, T, T2)                            \
    MAP2(half##_add_sat, T, T, __hadd_sat(a, b))           \
    MAP2(half##_sub, T, T, __hsub(a, b))                   \
    MAP2(half##_mul_sat, T, T, __hmul_sat(a, b))           \
    MAP2(half##_div, T, T, __hdiv(a, b))                   \
    MAP3(half##_fma, T, T, __hfma(a, b, c))                \
    MAP3(half##_fma_sat, T, T, __hfma_sat(a, b, c))        \
    MAP3(half##_fma_relu, T, T, __hfma_relu(a, b, c))      \
    MAP2(half##_min_nan, T, T, __hmin_nan(a, b))           \
    MAP2(half##_max_nan, T, T, __hmax_nan(a, b))           \
    MAP(half##_neg, T, T, __hneg(x))                       \
    MAP(half##_abs, T, T, __habs(x))                       \
    MAP3(half##x2_fma, T2, T2, __hfma2(a, b, c))           \
    MAP3(half##x2_fma_relu, T2, T2, __hfma2_relu(a, b, c)) \
    MAP2(half##x2_sub, T2, T2, __hsub2(a, b))              \
    MAP2(half##x2_less, T2, T2, __hlt2(a, b))              \
    MAP(half##x2_swap, T2, T2, __lowhigh2highlow(x))
ARITHMETIC(f16, __half, __half2)
ARITHMETIC(bf16, __nv_bfloat16, __nv_bfloat162)

#define FUNCTIONS(half, T)             \
    MAP(half##_exp, T, T, hexp(x))     \
    MAP(half##_exp2, T, T, hexp2(x))   \
    MAP(half##_exp10, T, T, hexp10(x)) \
    MAP(half##_log, T, T, hlog(x))     \
    MAP(half##_log2, T, T, hlog2(x))   \
    MAP(half##_rcp, T, T, hrcp(x))     \
    MAP(half##_sqrt, T, T, hsqrt(x))   \
    MAP(half##_rsqrt, T, T, hrsqrt(x)) \
    MAP(half##_sin, T, T, hsin(x))     \
    MAP(half##_cos, T, T, hcos(x))     \
    MAP(half##_floor, T, T, hfloor(x)) \
    MAP(half##_ceil, T, T, hceil(x))   \
    MAP(half##_trunc, T, T, htrunc(x)) \
    MAP(half##_rint, T, T, hrint(x))
FUNCTIONS(f16, __half)
FUNCTIONS(bf16, __nv_bfloat16)

// Pairs at once, from and to two floats.
MAP(f16x2_exp, __half2, __half2, h2exp(x))
MAP(bf16x2_exp, __nv_bfloat162, __nv_bfloat162, h2exp(x))
MAP(f16x2_from_f32, __half2, float2, __float22half2_rn(x))
MAP(bf16x2_from_f32, __nv_bfloat162, float2, __float22bfloat162_rn(x))
MAP(f16x2_to_f32, float2, __half2, __half22float2(x))
MAP(bf16x2_to_f32, float2, __nv_bfloat162, __bfloat1622float2(x))
