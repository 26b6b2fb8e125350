// More values at a time than the 16 declared registers hold.

//@ planted registers: grid 1; block 32; registers 16
extern "C" __global__ void __launch_bounds__(32) planted_registers(float* y, const float* x) {
    float v[32];
#pragma unroll
    for (int i = 0; i < 32; i++) v[i] = x[i * 32 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 32; i++) y[i * 32 + threadIdx.x] = v[i];
}
