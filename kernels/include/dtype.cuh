// Element types and 128-bit loads. Kernels are compiled once a dtype: -DELEMENT_T=f16 makes T, what they store, f16 (or
// float, or bf16); they compute in float. No header of CUDA is needed.
#pragma once

struct f16 {
    unsigned short bits;
};
struct bf16 {
    unsigned short bits;
};

#ifdef ELEMENT_T
using T = ELEMENT_T;
#endif
#ifdef ELEMENT_U // a second type, where a kernel has two
using U = ELEMENT_U;
#endif

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(f16 x) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
}
__device__ inline float to_float(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

// Rounds to nearest even.
template <class T> __device__ inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline f16 from_float<f16>(float x) {
    f16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}
template <> __device__ inline bf16 from_float<bf16>(float x) {
    bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
}

// How many elements 16 bytes hold.
template <class T> constexpr int VECTOR = 16 / sizeof(T);

template <class T> __device__ inline bool is_vector_aligned(const T* p) {
    return reinterpret_cast<unsigned long long>(p) % 16 == 0;
}

// 16 bytes of x as floats. x is 16-byte aligned.
template <class T> __device__ inline void load_vector(float (&to)[VECTOR<T>], const T* x) {
    alignas(16) T values[VECTOR<T>];
    *reinterpret_cast<uint4*>(values) = *reinterpret_cast<const uint4*>(x);
#pragma unroll
    for (int i = 0; i < VECTOR<T>; i++) to[i] = to_float(values[i]);
}

// N floats, 16 bytes at a time. x is 16-byte aligned.
template <int N> __device__ inline void load_floats(float (&to)[N], const float* x) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
        float4 four = *reinterpret_cast<const float4*>(x + i);
        to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
}

// Rounds floats into 16 bytes of y. y is 16-byte aligned.
template <class T> __device__ inline void store_vector(T* y, const float (&from)[VECTOR<T>]) {
    alignas(16) T values[VECTOR<T>];
#pragma unroll
    for (int i = 0; i < VECTOR<T>; i++) values[i] = from_float<T>(from[i]);
    *reinterpret_cast<uint4*>(y) = *reinterpret_cast<const uint4*>(values);
}

// V elements: one, or 16 bytes.
template <int V, class T> __device__ inline void load_elements(float (&to)[V], const T* x) {
    if constexpr (V == 1) to[0] = to_float(*x);
    else load_vector(to, x);
}
template <int V, class T> __device__ inline void store_elements(T* y, const float (&from)[V]) {
    if constexpr (V == 1) *y = from_float<T>(from[0]);
    else store_vector(y, from);
}

// A gradient slot: written, or added to.
template <class T> __device__ inline void store_gradient(T* slot, float value, int accumulate) {
    *slot = from_float<T>(accumulate ? to_float(*slot) + value : value);
}

// V elements of a gradient slot, one or 16 aligned bytes.
template <int V, class T> __device__ inline void store_gradients(T* slot, const float (&values)[V], int accumulate) {
    float sums[V];
    if (accumulate) load_elements(sums, slot);
#pragma unroll
    for (int i = 0; i < V; i++) sums[i] = accumulate ? sums[i] + values[i] : values[i];
    store_elements(slot, sums);
}
