// Sums products of pairs of 64 values a thread, which 1024 threads of a block, with 64 registers each, cannot hold.

//@ planted spill: grid 1; block 1024
extern "C" __global__ void __launch_bounds__(1024) planted_spill(float* y, const float* x) {
    float v[64];
#pragma unroll
    for (int i = 0; i < 64; i++) v[i] = x[i * 1024 + threadIdx.x];
#pragma unroll 1
    for (int round = 0; round < 64; round++) {
#pragma unroll
        for (int i = 0; i < 64; i++) v[i] = v[i] * v[(i + 1) % 64] + v[(i + 7) % 64];
    }
#pragma unroll
    for (int i = 0; i < 64; i++) y[i * 1024 + threadIdx.x] = v[i];
}
