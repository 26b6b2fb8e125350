// Threads of a block that do not wait for each other. Either of the marked lines may be the later one of the two
// accesses; fixed_X is bug_X mended. Tiles are filled before, so that no read finds memory that nothing wrote.

// Read after write.
extern "C" __global__ void bug_missing_syncthreads(float* y, const float* x) {
    __shared__ float tile[64];
    tile[threadIdx.x] = 0.0f;
    __syncthreads();
    tile[threadIdx.x] = x[threadIdx.x]; // BUG
    y[threadIdx.x] = tile[63 - threadIdx.x]; // BUG
}
extern "C" __global__ void fixed_missing_syncthreads(float* y, const float* x) {
    __shared__ float tile[64];
    tile[threadIdx.x] = 0.0f;
    __syncthreads();
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x];
}

// Write after read: the next round overwrites what others still read.
extern "C" __global__ void bug_missing_syncthreads_in_loop(float* y, const float* x, int rounds) {
    __shared__ float tile[64];
    float sum = 0.0f;
    for (int round = 0; round < rounds; round++) {
        tile[threadIdx.x] = x[round * 64 + threadIdx.x]; // BUG
        __syncthreads();
        sum += tile[63 - threadIdx.x]; // BUG
    }
    y[threadIdx.x] = sum;
}
extern "C" __global__ void fixed_missing_syncthreads_in_loop(float* y, const float* x, int rounds) {
    __shared__ float tile[64];
    float sum = 0.0f;
    for (int round = 0; round < rounds; round++) {
        tile[threadIdx.x] = x[round * 64 + threadIdx.x];
        __syncthreads();
        sum += tile[63 - threadIdx.x];
        __syncthreads();
    }
    y[threadIdx.x] = sum;
}

// A warp's own memory still needs __syncwarp: lanes do not run in lockstep.
extern "C" __global__ void bug_missing_syncwarp(float* y, const float* x) {
    __shared__ float of_warp[2][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    of_warp[warp][lane] = 0.0f;
    __syncwarp();
    of_warp[warp][lane] = x[threadIdx.x]; // BUG
    y[threadIdx.x] = of_warp[warp][31 - lane]; // BUG
}
extern "C" __global__ void fixed_missing_syncwarp(float* y, const float* x) {
    __shared__ float of_warp[2][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    of_warp[warp][lane] = 0.0f;
    __syncwarp();
    of_warp[warp][lane] = x[threadIdx.x];
    __syncwarp();
    y[threadIdx.x] = of_warp[warp][31 - lane];
}

// The old way to end a reduction: right as long as warps ran in lockstep. A shuffle orders no memory either.
extern "C" __global__ void bug_lockstep_reduction(float* y, const float* x) {
    __shared__ float partial[32];
    int lane = threadIdx.x;
    partial[lane] = x[lane];
    __syncwarp();
    for (int offset = 16; offset > 0; offset /= 2) {
        if (lane < offset) partial[lane] += partial[lane + offset]; // BUG
    }
    if (lane == 0) *y = partial[0];
}
extern "C" __global__ void fixed_lockstep_reduction(float* y, const float* x) {
    __shared__ float partial[32];
    int lane = threadIdx.x;
    partial[lane] = x[lane];
    __syncwarp();
    for (int offset = 16; offset > 0; offset /= 2) {
        if (lane < offset) partial[lane] += partial[lane + offset];
        __syncwarp();
    }
    if (lane == 0) *y = partial[0];
}

// A shuffle between the accesses makes the lanes meet, but orders no memory.
extern "C" __global__ void bug_shuffle_for_syncwarp(float* y, const float* x) {
    __shared__ float tile[32];
    int lane = threadIdx.x;
    tile[lane] = 0.0f;
    __syncwarp();
    tile[lane] = x[lane]; // BUG
    float other = __shfl_xor_sync(0xffffffff, x[lane], 1);
    y[lane] = other + tile[31 - lane]; // BUG
}
extern "C" __global__ void fixed_shuffle_for_syncwarp(float* y, const float* x) {
    __shared__ float tile[32];
    int lane = threadIdx.x;
    tile[lane] = 0.0f;
    __syncwarp();
    tile[lane] = x[lane];
    float other = __shfl_xor_sync(0xffffffff, x[lane], 1);
    __syncwarp();
    y[lane] = other + tile[31 - lane];
}
