// Philox-4x32-10 (Salmon et al., SC 2011), the numbers of philox.rs.
#pragma once

// A stream of random numbers. Its number is `stream` behind the one at `base` (the step record's), if there is one.
struct Philox {
    unsigned long long seed, stream;
    const unsigned long long* base;
};

__device__ inline uint4 philox_block(const Philox& philox, unsigned long long index) {
    unsigned long long stream = philox.stream + (philox.base ? *philox.base : 0);
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
    unsigned word = block.x; // indexing an array would put it into memory
    if (index % 4 == 1) word = block.y;
    if (index % 4 == 2) word = block.z;
    if (index % 4 == 3) word = block.w;
    return keep_factor(word, p);
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
