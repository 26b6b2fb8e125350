// One product on tensor cores, and the same name on scalars.

#include "mma.cuh"

//@ planted mma: grid 1; block 32; registers 32; tensor cores
extern "C" __global__ void __launch_bounds__(32) planted_mma(float4* d, const uint4* a, const uint2* b) {
    float sum[4] = {};
    uint4 left = a[threadIdx.x];
    uint2 right = b[threadIdx.x];
    mma<T>(sum, {left.x, left.y, left.z, left.w}, right.x, right.y);
    d[threadIdx.x] = {sum[0], sum[1], sum[2], sum[3]};
}

//@ planted product: grid 1; block 32; registers 32; tensor cores
extern "C" __global__ void __launch_bounds__(32) planted_product(float* d, const T* a, const T* b) {
    d[threadIdx.x] = to_float(a[threadIdx.x]) * to_float(b[threadIdx.x]);
}
