// Threads, of one block or of several, that meet in global memory. Either of the marked lines may be the later one of
// the two accesses; fixed_X is bug_X mended.

// Every block writes the same element.
extern "C" __global__ void bug_two_blocks_write(float* y, const float* x) {
    if (threadIdx.x == 0) y[0] = x[blockIdx.x]; // BUG
}
extern "C" __global__ void fixed_two_blocks_write(float* y, const float* x) {
    if (threadIdx.x == 0) y[blockIdx.x] = x[blockIdx.x];
}

// A block reads what its neighbour overwrites: a stencil in place.
extern "C" __global__ void bug_stencil_in_place(float* y, float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float right = i + 1 < n ? x[i + 1] : 0.0f; // BUG
    __syncthreads();
    if (i < n) x[i] = right; // BUG
}
extern "C" __global__ void fixed_stencil_in_place(float* y, float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float right = i + 1 < n ? x[i + 1] : 0.0f;
    __syncthreads();
    if (i < n) y[i] = right;
}

// Counts get lost.
extern "C" __global__ void bug_non_atomic_add(int* counts, const int* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) counts[x[i]] += 1; // BUG
}
extern "C" __global__ void fixed_non_atomic_add(int* counts, const int* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) atomicAdd(&counts[x[i]], 1);
}

// The first thread clears what others, in other blocks, already add to.
extern "C" __global__ void bug_atomic_and_not(int* sum, const int* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i == 0) *sum = 0; // BUG
    if (i < n) atomicAdd(sum, x[i]); // BUG
}
extern "C" __global__ void fixed_atomic_and_not(int* sum, const int* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i == 0) atomicAdd(sum, 0);
    if (i < n) atomicAdd(sum, x[i]);
}

// The last block may draw its ticket before the others' sums are visible.
extern "C" __global__ void bug_missing_threadfence(float* y, float* of_block, unsigned* counter, const float* x) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        of_block[blockIdx.x] = x[blockIdx.x];
        last = atomicAdd(counter, 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) y[threadIdx.x] = of_block[gridDim.x - 1 - threadIdx.x]; // BUG
}
extern "C" __global__ void fixed_missing_threadfence(float* y, float* of_block, unsigned* counter, const float* x) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        of_block[blockIdx.x] = x[blockIdx.x];
        __threadfence();
        last = atomicAdd(counter, 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) y[threadIdx.x] = of_block[gridDim.x - 1 - threadIdx.x];
}
