// Pipelines of cp.async. Each block walks over its part of x in tiles of one word a thread; STAGES tiles are on their
// way while the oldest is used. y[i] = 2 * x[i] + x[neighbour in the tile], so that each thread uses another's copy
// too.

#include <cuda_pipeline_primitives.h>

__device__ unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int GROUPS> __device__ void wait_but() { asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory"); }

// `bytes` of them are copied, the rest is zero.
__device__ void copy(float* to, const float* from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
}
__device__ void copy(float2* to, const float2* from, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
}
__device__ void copy(float4* to, const float4* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
}

__device__ float combine(float a, float b) { return 2.0f * a + b; }
__device__ float2 combine(float2 a, float2 b) { return {combine(a.x, b.x), combine(a.y, b.y)}; }
__device__ float4 combine(float4 a, float4 b) {
    return {combine(a.x, b.x), combine(a.y, b.y), combine(a.z, b.z), combine(a.w, b.w)};
}

// n counts floats; the last word may hang over the end of x, whose missing floats count as zeros. y is padded.
template <typename T, int STAGES> __device__ void pipeline(T* y, const float* x, int n) {
    constexpr int WIDTH = sizeof(T) / sizeof(float), THREADS = 64;
    __shared__ T tile[STAGES][THREADS];
    int words = (n + WIDTH - 1) / WIDTH, tiles = (words + THREADS - 1) / THREADS;

    auto load = [&](int t) {
        int word = t * THREADS + threadIdx.x, left = n - word * WIDTH;
        int bytes = left <= 0 ? 0 : left < WIDTH ? left * 4 : WIDTH * 4;
        copy(&tile[t / gridDim.x % STAGES][threadIdx.x], reinterpret_cast<const T*>(bytes > 0 ? &x[word * WIDTH] : x),
             bytes);
    };

    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (blockIdx.x + stage * gridDim.x < tiles) load(blockIdx.x + stage * gridDim.x);
        commit(); // an empty group too, so that groups count stages
    }
    for (int t = blockIdx.x; t < tiles; t += gridDim.x) {
        wait_but<STAGES - 2>();
        __syncthreads(); // all of this tile is there; and the tile before is used up, which the next copy overwrites
        int ahead = t + (STAGES - 1) * gridDim.x;
        if (ahead < tiles) load(ahead);
        commit();
        const T(&now)[THREADS] = tile[t / gridDim.x % STAGES];
        int word = t * THREADS + threadIdx.x;
        if (word < words) y[word] = combine(now[threadIdx.x], now[(threadIdx.x + 1) % THREADS]);
    }
}

extern "C" __global__ void pipeline_4(float* y, const float* x, int n) { pipeline<float, 2>(y, x, n); }
extern "C" __global__ void pipeline_8(float2* y, const float* x, int n) { pipeline<float2, 3>(y, x, n); }
extern "C" __global__ void pipeline_16(float4* y, const float* x, int n) { pipeline<float4, 4>(y, x, n); }

// The header's primitives; one tile, its first half is waited for before its second. n is a multiple of 4, a block's
// threads are as many as the tile has words.
extern "C" __global__ void pipeline_header(float4* y, const float4* x, int n) {
    __shared__ float4 tile[2][64];
    int first = threadIdx.x, second = 64 + threadIdx.x;
    if (first < n / 4) __pipeline_memcpy_async(&tile[0][threadIdx.x], &x[first], 16);
    __pipeline_commit();
    if (second < n / 4) __pipeline_memcpy_async(&tile[1][threadIdx.x], &x[second], 16, 4); // its last float is zero
    __pipeline_commit();
    __pipeline_wait_prior(1);
    if (first < n / 4) y[first] = tile[0][threadIdx.x];
    asm volatile("cp.async.wait_all;" ::: "memory");
    if (second < n / 4) y[second] = tile[1][threadIdx.x];
}
