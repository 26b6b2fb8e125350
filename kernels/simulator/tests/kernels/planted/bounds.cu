// Accesses that are not where they should be. A marked line is the wrong one; fixed_X is bug_X mended.

// One thread too many.
extern "C" __global__ void bug_write_past(float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= n) y[i] = 2.0f * i; // BUG
}
extern "C" __global__ void fixed_write_past(float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = 2.0f * i;
}

// A row that is not there, so far away that on a GPU another tensor is.
extern "C" __global__ void bug_write_neighbour(float* y, long long row, int width, int n) {
    if (threadIdx.x < width) y[row * width + threadIdx.x] = 1.0f; // BUG
}
extern "C" __global__ void fixed_write_neighbour(float* y, long long row, int width, int n) {
    if (threadIdx.x < width && row * width + threadIdx.x < n) y[row * width + threadIdx.x] = 1.0f;
}

// The first element has no left neighbour.
extern "C" __global__ void bug_write_before(float* y, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i - 1] = x[i]; // BUG
}
extern "C" __global__ void fixed_write_before(float* y, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i > 0 && i < n) y[i - 1] = x[i];
}

// Nothing is wrong here: the host freed x before, or it did not.
extern "C" __global__ void bug_read_freed(float* y, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i]; // BUG
}
extern "C" __global__ void fixed_read_freed(float* y, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}

// Rows of `pitch` floats do not all start on 16 bytes.
extern "C" __global__ void bug_misaligned(float* y, const float* x, int pitch, int rows) {
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    float4 v = *reinterpret_cast<const float4*>(&x[row * pitch]); // BUG
    y[row] = v.x + v.y + v.z + v.w;
}
extern "C" __global__ void fixed_misaligned(float* y, const float* x, int pitch, int rows) {
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    const float* v = &x[row * pitch];
    y[row] = v[0] + v[1] + v[2] + v[3];
}

// The last thread's right neighbour is outside of the tile.
extern "C" __global__ void bug_shared_overflow(float* y, const float* x) {
    __shared__ float tile[64];
    tile[threadIdx.x + 1] = x[threadIdx.x]; // BUG
    if (threadIdx.x == 0) tile[0] = 0.0f;
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x];
}
extern "C" __global__ void fixed_shared_overflow(float* y, const float* x) {
    __shared__ float tile[65];
    tile[threadIdx.x + 1] = x[threadIdx.x];
    if (threadIdx.x == 0) tile[0] = 0.0f;
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x];
}

// The launch gave n floats of shared memory: its last thread has none.
extern "C" __global__ void bug_dynamic_shared_overflow(float* y, int n) {
    extern __shared__ float values[];
    values[threadIdx.x] = threadIdx.x; // BUG
    __syncthreads();
    if (threadIdx.x < n) y[threadIdx.x] = values[n - 1 - threadIdx.x];
}
extern "C" __global__ void fixed_dynamic_shared_overflow(float* y, int n) {
    extern __shared__ float values[];
    if (threadIdx.x < n) values[threadIdx.x] = threadIdx.x;
    __syncthreads();
    if (threadIdx.x < n) y[threadIdx.x] = values[n - 1 - threadIdx.x];
}

// A count of classes that has a place for eight of them, and data that has nine.
extern "C" __global__ void bug_local_overflow(int* y, const int* classes, int n) {
    int count[8] = {};
    for (int i = 0; i < n; i++) count[classes[threadIdx.x * n + i]] += 1; // BUG
    for (int i = 0; i < 8; i++) y[threadIdx.x * 8 + i] = count[i];
}
extern "C" __global__ void fixed_local_overflow(int* y, const int* classes, int n) {
    int count[8] = {};
    for (int i = 0; i < n; i++) {
        if (classes[threadIdx.x * n + i] < 8) count[classes[threadIdx.x * n + i]] += 1;
    }
    for (int i = 0; i < 8; i++) y[threadIdx.x * 8 + i] = count[i];
}
