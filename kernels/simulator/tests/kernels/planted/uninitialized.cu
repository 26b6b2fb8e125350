// Reads of what nothing wrote. A marked line is the wrong one; fixed_X is bug_X mended.

// Adds to memory as the allocator left it.
extern "C" __global__ void bug_unwritten_global(float* y, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += x[i]; // BUG
}
extern "C" __global__ void fixed_unwritten_global(float* y, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}

// The first kernel leaves out every seventh row of the scratch that its second half reads.
extern "C" __global__ void bug_unwritten_row(float* y, float* scratch, int n) {
    int i = threadIdx.x;
    if (i % 7 != 6) scratch[i] = i;
    __syncthreads();
    if (i < n) y[i] = scratch[n - 1 - i]; // BUG
}
extern "C" __global__ void fixed_unwritten_row(float* y, float* scratch, int n) {
    int i = threadIdx.x;
    scratch[i] = i % 7 != 6 ? i : 0.0f;
    __syncthreads();
    if (i < n) y[i] = scratch[n - 1 - i];
}

// A tile that only the first n threads fill, and a sum over all of it.
extern "C" __global__ void bug_unwritten_shared(float* y, const float* x, int n) {
    __shared__ float tile[64];
    if (threadIdx.x < n) tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    if (threadIdx.x > 0) return;
    float sum = 0.0f;
    for (int i = 0; i < 64; i++) sum += tile[i]; // BUG
    *y = sum;
}
extern "C" __global__ void fixed_unwritten_shared(float* y, const float* x, int n) {
    __shared__ float tile[64];
    tile[threadIdx.x] = threadIdx.x < n ? x[threadIdx.x] : 0.0f;
    __syncthreads();
    if (threadIdx.x > 0) return;
    float sum = 0.0f;
    for (int i = 0; i < 64; i++) sum += tile[i];
    *y = sum;
}
