// Threads that are not where others expect them. A marked line is the wrong one; fixed_X is bug_X mended.

// Part of a warp comes to the barrier.
extern "C" __global__ void bug_barrier_in_branch(float* y, const float* x, int n) {
    __shared__ float tile[64];
    if (threadIdx.x < n) {
        tile[threadIdx.x] = x[threadIdx.x];
        __syncthreads(); // BUG
        y[threadIdx.x] = tile[n - 1 - threadIdx.x];
    }
}
extern "C" __global__ void fixed_barrier_in_branch(float* y, const float* x, int n) {
    __shared__ float tile[64];
    if (threadIdx.x < n) tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x < n) y[threadIdx.x] = tile[n - 1 - threadIdx.x];
}

// Threads loop a different number of times, with a barrier in each round.
extern "C" __global__ void bug_barrier_in_loop(float* y, const float* x, int n) {
    __shared__ float tile[64];
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        tile[threadIdx.x] = x[i];
        __syncthreads(); // BUG
        y[i] = tile[threadIdx.x / 2];
        __syncthreads(); // BUG
    }
}
extern "C" __global__ void fixed_barrier_in_loop(float* y, const float* x, int n) {
    __shared__ float tile[64];
    for (int start = 0; start < n; start += blockDim.x) {
        int i = start + threadIdx.x;
        if (i < n) tile[threadIdx.x] = x[i];
        __syncthreads();
        if (i < n) y[i] = tile[threadIdx.x / 2];
        __syncthreads();
    }
}

// Whole warps come to different barriers, which wait for each other's threads.
extern "C" __global__ void bug_two_barriers(float* y, const float* x) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    if (threadIdx.x < 32) {
        asm volatile("bar.sync 1, 64;" ::: "memory"); // BUG
    } else {
        asm volatile("bar.sync 2, 64;" ::: "memory"); // BUG
    }
    y[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void fixed_two_barriers(float* y, const float* x) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];
    asm volatile("bar.sync 1, 64;" ::: "memory");
    y[threadIdx.x] = tile[63 - threadIdx.x];
}

// The mask names lanes that have returned.
extern "C" __global__ void bug_shuffle_from_exited(float* y, const float* x, int n) {
    int lane = threadIdx.x;
    if (lane >= n) return;
    float sum = x[lane];
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffff, sum, offset); // BUG
    y[lane] = sum;
}
extern "C" __global__ void fixed_shuffle_from_exited(float* y, const float* x, int n) {
    int lane = threadIdx.x;
    float sum = lane < n ? x[lane] : 0.0f;
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffff, sum, offset);
    if (lane < n) y[lane] = sum;
}

// The value comes from a lane that the mask does not name.
extern "C" __global__ void bug_shuffle_outside_mask(float* y, const float* x) {
    int lane = threadIdx.x;
    if (lane < 16) y[lane] = __shfl_down_sync(0x0000ffff, x[lane], 1); // BUG
}
extern "C" __global__ void fixed_shuffle_outside_mask(float* y, const float* x) {
    int lane = threadIdx.x;
    if (lane < 16) y[lane] = __shfl_down_sync(0x0000ffff, x[lane], 1, 16);
}

// A lane takes part in a vote whose mask does not name it.
extern "C" __global__ void bug_voter_outside_mask(unsigned* y, const float* x) {
    int lane = threadIdx.x;
    if (lane < 20) y[lane] = __ballot_sync(0x0000ffff, x[lane] > 0.0f); // BUG
}
extern "C" __global__ void fixed_voter_outside_mask(unsigned* y, const float* x) {
    int lane = threadIdx.x;
    if (lane < 20) y[lane] = __ballot_sync(0x000fffff, x[lane] > 0.0f);
}

// Waits for a thread that is not there.
extern "C" __global__ void bug_endless_loop(unsigned* flag, int producer) {
    if (threadIdx.x == producer + 1) atomicExch(flag, 1);
    if (threadIdx.x == 0) {
        while (atomicAdd(flag, 0) == 0) {} // BUG
    }
}
extern "C" __global__ void fixed_endless_loop(unsigned* flag, int producer) {
    if (threadIdx.x == producer) atomicExch(flag, 1);
    if (threadIdx.x == 0) {
        while (atomicAdd(flag, 0) == 0) {}
    }
}

// One element is negative.
extern "C" __global__ void bug_assert(float* y, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    assert(x[i] >= 0.0f); // BUG
    y[i] = sqrtf(x[i]);
}
extern "C" __global__ void fixed_assert(float* y, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    y[i] = sqrtf(fmaxf(x[i], 0.0f));
}
