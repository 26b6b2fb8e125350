// Philox-4x32-10 (Salmon et al., SC 2011), the numbers of philox.rs.
#pragma once

// A stream of random numbers. Its number is `stream` behind the one at `base` (the step record's), if there is one.
struct Philox {
    unsigned long long seed, stream;
    const unsigned long long* base;
};

// The same stream without a base, for kernels that draw in a loop: memory is read once.
__device__ inline Philox counted_from_zero(const Philox& philox) {
    return {philox.seed, philox.stream + (philox.base ? *philox.base : 0), nullptr};
}

__device__ inline uint4 philox_block(const Philox& philox, unsigned long long index) {
    unsigned long long stream = counted_from_zero(philox).stream;
    uint4 c = {static_cast<unsigned>(index), static_cast<unsigned>(index >> 32), static_cast<unsigned>(stream),
               static_cast<unsigned>(stream >> 32)};
    unsigned k0 = static_cast<unsigned>(philox.seed), k1 = static_cast<unsigned>(philox.seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned low0 = c.x * 0xD2511F53u, high0 = __umulhi(c.x, 0xD2511F53u);
        unsigned low1 = c.z * 0xCD9E8D57u, high1 = __umulhi(c.z, 0xCD9E8D57u);
        c = {high1 ^ c.y ^ k0, low1, high0 ^ c.w ^ k1, low0};
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return c;
}

// The factor of an element under inverted dropout, from its random word: 0 with probability p, else 1 / (1 - p).
__device__ inline float keep_factor(unsigned word, float p) {
    return static_cast<float>(word >> 8) / 16777216.0f < p ? 0.0f : 1.0f / (1.0f - p);
}

// The factor of element `index`; four elements share a block.
__device__ inline float keep(const Philox& philox, unsigned long long index, float p) {
    uint4 block = philox_block(philox, index / 4);
    // No array: with an index that only the thread knows it would lie in local memory.
    unsigned low = index & 1 ? block.y : block.x, high = index & 1 ? block.w : block.z;
    return keep_factor(index & 2 ? high : low, p);
}

// Bit i is set if element first + i, of 32, is kept: eight or nine blocks for 32 elements. Elements before 0 are nobody's.
__device__ inline unsigned keep_bits(const Philox& philox, long long first, float p) {
    unsigned threshold = static_cast<unsigned>(ceilf(p * 16777216.0f)) << 8; // what keep_factor compares with
    auto kept = [&](int block) {
        uint4 words = philox_block(philox, static_cast<unsigned long long>((first >> 2) + block));
        return (words.x >= threshold) | (words.y >= threshold) << 1 | (words.z >= threshold) << 2 |
               (words.w >= threshold) << 3;
    };
    unsigned bits = 0;
#pragma unroll 2
    for (int block = 0; block < 8; block++) bits |= static_cast<unsigned>(kept(block)) << 4 * block;
    int shift = static_cast<int>(first & 3);
    return shift == 0 ? bits : bits >> shift | static_cast<unsigned>(kept(8)) << (32 - shift);
}

// The factors of V elements from `first` on, both multiples of 4.
template <int V>
__device__ inline void keep_all(float (&factors)[V], const Philox& philox, unsigned long long first, float p) {
#pragma unroll
    for (int i = 0; i < V; i += 4) {
        uint4 block = philox_block(philox, (first + i) / 4);
        factors[i] = keep_factor(block.x, p), factors[i + 1] = keep_factor(block.y, p);
        factors[i + 2] = keep_factor(block.z, p), factors[i + 3] = keep_factor(block.w, p);
    }
}
