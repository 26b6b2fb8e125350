// What the kernels of attention share. q, k, v and what is shaped like them are (tokens, C); head h owns channels
// h D..(h + 1) D, where D = C / heads.
#pragma once

#include "philox.cuh"

constexpr float LOG2_E = 1.44269504f;

// The queries of a sequence see its keys and nothing else.
struct alignas(16) Segment {
    int query, queries; // first row and number of rows of q
    int key, keys;      // of k and v
};

// The dropout mask of a segment's head.
struct Mask {
    Philox philox;
    long long first; // index of the first query's first key
    int keys;
    float p;

    __device__ Mask(const Philox& philox, float p, int segment, int heads, int head, int keys)
        : philox(counted_from_zero(philox)), first(static_cast<long long>(segment * heads + head) << 40), keys(keys), p(p) {}

    __device__ long long index(int query, int key) const { return first + static_cast<long long>(query) * keys + key; }
    __device__ float keep(int query, int key) const { return p > 0.0f ? ::keep(philox, index(query, key), p) : 1.0f; }
    // Bit i is set if the probability for key + i, of 32, is kept.
    __device__ unsigned keep_bits(int query, int key) const { return ::keep_bits(philox, index(query, key), p); }
};

__device__ inline float infinity() { return __int_as_float(0x7f800000); }

// 2^x in one instruction of the GPU, off by 2^-22 at most.
__device__ inline float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
