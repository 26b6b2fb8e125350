// An array of a thread that is indexed by what it reads: it lies in local memory.

//@ planted local_array: grid 1; block 32
extern "C" __global__ void __launch_bounds__(32) planted_local_array(float* y, const float* x, const int* order) {
    float v[16];
#pragma unroll
    for (int i = 0; i < 16; i++) v[i] = x[i * 32 + threadIdx.x];
    for (int i = 0; i < 16; i++) y[i * 32 + threadIdx.x] = v[order[i] % 16];
}
