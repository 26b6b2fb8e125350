// C (M, N) = A (M, K) B (K, N) in f32 through shared memory; M, N and K need not be multiples of anything.

// A thread an element of C, a block a 16 x 16 tile of it. Rows are padded by one, so that a warp's column reads fall
// into different banks.
extern "C" __global__ void gemm_tiled(float* C, const float* A, const float* B, int M, int N, int K) {
    constexpr int TILE = 16;
    __shared__ float a[TILE][TILE + 1], b[TILE][TILE + 1];
    int x = threadIdx.x, y = threadIdx.y;
    int row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
    float sum = 0.0f;
    for (int start = 0; start < K; start += TILE) {
        a[y][x] = row < M && start + x < K ? A[row * K + start + x] : 0.0f;
        b[y][x] = start + y < K && column < N ? B[(start + y) * N + column] : 0.0f;
        __syncthreads();
        for (int k = 0; k < TILE; k++) sum += a[y][k] * b[k][x];
        __syncthreads(); // the tiles are read before the next round overwrites them
    }
    if (row < M && column < N) C[row * N + column] = sum;
}

// 4 x 4 elements a thread, 64 x 64 a block of 256 threads, in two buffers of dynamic shared memory: while one is used
// the next is filled, so that one barrier a round is enough.
extern "C" __global__ void __launch_bounds__(256) gemm_blocked(float* C, const float* A, const float* B, int M, int N,
                                                               int K) {
    constexpr int TILE = 64, DEPTH = 8;
    extern __shared__ float4 shared[];
    float (*a)[DEPTH][TILE] = reinterpret_cast<float (*)[DEPTH][TILE]>(shared); // (2, k, row): A is transposed
    float (*b)[DEPTH][TILE] = a + 2;                                            // (2, k, column)
    int row = blockIdx.y * TILE, column = blockIdx.x * TILE;

    auto load = [&](int buffer, int start) {
        for (int i = threadIdx.x; i < TILE * DEPTH; i += 256) {
            int r = row + i / DEPTH, k = start + i % DEPTH;
            a[buffer][i % DEPTH][i / DEPTH] = r < M && k < K ? A[r * K + k] : 0.0f;
        }
        for (int i = threadIdx.x; i < TILE * DEPTH; i += 256) {
            int k = start + i / TILE, c = column + i % TILE;
            b[buffer][i / TILE][i % TILE] = k < K && c < N ? B[k * N + c] : 0.0f;
        }
    };

    int r = threadIdx.x / 16 * 4, c = threadIdx.x % 16 * 4;
    float sum[4][4] = {};
    load(0, 0);
    for (int start = 0, buffer = 0; start < K; start += DEPTH, buffer ^= 1) {
        __syncthreads();
        if (start + DEPTH < K) load(buffer ^ 1, start + DEPTH);
        for (int k = 0; k < DEPTH; k++) {
            float4 x = *reinterpret_cast<float4*>(&a[buffer][k][r]), y = *reinterpret_cast<float4*>(&b[buffer][k][c]);
            float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] += xs[i] * ys[j];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (row + r + i < M && column + c + j < N) C[(row + r + i) * N + column + c + j] = sum[i][j];
        }
    }
}
