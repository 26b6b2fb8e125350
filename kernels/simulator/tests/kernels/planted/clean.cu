// Right, if unusual: nothing may be reported on any of these, whatever the schedule.

constexpr unsigned ALL = 0xffffffff;

// Memory that belongs to a warp is ordered by __syncwarp alone: a transposition of 32 x 4 per warp.
extern "C" __global__ void warp_private(float* y, const float* x) {
    __shared__ float of_warp[4][128];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int round = 0; round < 3; round++) {
        const float* from = x + (round * 4 + warp) * 128;
        for (int i = 0; i < 4; i++) of_warp[warp][i * 32 + lane] = from[i * 32 + lane];
        __syncwarp();
        for (int i = 0; i < 4; i++) y[(round * 4 + warp) * 128 + i * 32 + lane] = of_warp[warp][lane * 4 + i];
        __syncwarp();
    }
}

// Half of a warp synchronizes by itself, each half with its own mask.
extern "C" __global__ void half_warps(int* y, const int* x) {
    __shared__ int tile[32];
    int lane = threadIdx.x;
    unsigned half = lane < 16 ? 0x0000ffff : 0xffff0000;
    tile[lane] = x[lane];
    __syncwarp(half);
    int sum = tile[lane ^ 15] + tile[lane ^ 1];
    __syncwarp(half);
    if (lane < 16) {
        tile[lane] = sum;
        __syncwarp(0x0000ffff);
        y[lane] = tile[15 - lane];
    } else {
        tile[lane] = -sum;
        __syncwarp(0xffff0000);
        y[lane] = tile[47 - lane];
    }
}

// Named barriers: warps 0 and 1 produce, warps 2 and 3 consume, through two buffers. A producer waits at `empty` and
// arrives at `full`, a consumer the other way around. Barriers 1 + buffer say full, 3 + buffer empty.
extern "C" __global__ void producer_consumer(float* y, const float* x, int tiles) {
    __shared__ float buffers[2][64];
    int i = threadIdx.x % 64;
    if (threadIdx.x < 64) {
        for (int tile = 0; tile < tiles; tile++) {
            int buffer = tile % 2;
            if (tile >= 2) asm volatile("bar.sync %0, 128;" ::"r"(3 + buffer) : "memory");
            buffers[buffer][i] = 2.0f * x[tile * 64 + i];
            asm volatile("bar.arrive %0, 128;" ::"r"(1 + buffer) : "memory");
        }
    } else {
        for (int tile = 0; tile < tiles; tile++) {
            int buffer = tile % 2;
            asm volatile("bar.sync %0, 128;" ::"r"(1 + buffer) : "memory");
            y[tile * 64 + i] = buffers[buffer][63 - i];
            if (tile + 2 < tiles) asm volatile("bar.arrive %0, 128;" ::"r"(3 + buffer) : "memory");
        }
    }
}

// Two groups of warps synchronize apart from each other, then all together; barriers that count and vote.
extern "C" __global__ void groups_of_warps(int* y, const int* x) {
    __shared__ int tile[128];
    int group = threadIdx.x / 64, i = threadIdx.x % 64;
    for (int round = 0; round <= group; round++) { // a different number of times
        tile[threadIdx.x] = x[threadIdx.x] + round;
        asm volatile("barrier.sync %0, 64;" ::"r"(1 + group) : "memory");
        y[threadIdx.x] = tile[group * 64 + 63 - i];
        asm volatile("barrier.sync %0, 64;" ::"r"(1 + group) : "memory");
    }
    int positive = __syncthreads_count(x[threadIdx.x] > 0);
    int all = __syncthreads_and(x[threadIdx.x] > 0), any = __syncthreads_or(x[threadIdx.x] > 0);
    y[threadIdx.x] += tile[127 - threadIdx.x] + 1000 * positive + 1000000 * (2 * all + any);
}

// The last block to finish reads what the others wrote: the programming guide's form, with a volatile result.
extern "C" __global__ void last_block(float* y, volatile float* of_block, unsigned* counter, const float* x) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        of_block[blockIdx.x] = 2.0f * x[blockIdx.x];
        __threadfence();
        last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x > 0) return;
    float sum = 0.0f;
    for (int block = 0; block < gridDim.x; block++) sum += of_block[block];
    *y = sum;
}

// A loop over two buffers needs one barrier a round.
extern "C" __global__ void double_buffer(float* y, const float* x, int rounds) {
    __shared__ float tile[2][64];
    float sum = 0.0f;
    tile[0][threadIdx.x] = x[threadIdx.x];
    for (int round = 0; round < rounds; round++) {
        __syncthreads();
        if (round + 1 < rounds) tile[(round + 1) % 2][threadIdx.x] = x[(round + 1) * 64 + threadIdx.x];
        sum += tile[round % 2][63 - threadIdx.x];
    }
    y[threadIdx.x] = sum;
}

// Some threads return early; those that stay found each other by a ballot before. The last block's last warp is
// ragged.
extern "C" __global__ void early_exit(int* y, int* sum, const int* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned staying = __ballot_sync(ALL, i < n);
    if (i >= n) return;
    int of_warp = __reduce_add_sync(staying, x[i]);
    y[i] = __shfl_sync(staying, of_warp, __ffs(staying) - 1) - x[i];
    if (threadIdx.x % 32 == 0) atomicAdd(sum, of_warp);
}

// A lock a block takes with one thread; and one that each thread takes, which needs every lane to make progress.
extern "C" __global__ void lock_by_block(int* sum, int* order, unsigned* lock) {
    if (threadIdx.x > 0) return;
    while (atomicCAS(lock, 0, 1) != 0) {}
    __threadfence();
    order[*sum] = blockIdx.x;
    *sum += 1;
    __threadfence();
    atomicExch(lock, 0);
}
extern "C" __global__ void lock_by_thread(int* sum, unsigned* lock) {
    while (atomicCAS(lock, 0, 1) != 0) {}
    __threadfence();
    *sum += threadIdx.x;
    __threadfence();
    atomicExch(lock, 0);
}

// All writes are atomic, and the grid strides over the data.
extern "C" __global__ void histogram(unsigned* counts, const int* x, int n) {
    __shared__ unsigned of_block[16];
    if (threadIdx.x < 16) of_block[threadIdx.x] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        atomicAdd(&of_block[x[i] % 16], 1);
    }
    __syncthreads();
    if (threadIdx.x < 16) atomicAdd(&counts[threadIdx.x], of_block[threadIdx.x]);
}

// A block waits for the block before it, which hands its sum on: a chain by release and acquire. The ticket orders
// blocks by when they start, so that nobody waits for one that cannot run yet.
extern "C" __global__ void chained_scan(int* y, int* handed_on, unsigned* ready, unsigned* ticket, const int* x) {
    __shared__ int block, before;
    if (threadIdx.x == 0) {
        block = atomicAdd(ticket, 1);
        before = 0;
        if (block > 0) {
            unsigned seen = 0;
            while (seen == 0) {
                asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(&ready[block - 1]) : "memory");
            }
            before = handed_on[block - 1];
        }
        int sum = before;
        for (int i = 0; i < blockDim.x; i++) sum += x[block * blockDim.x + i];
        handed_on[block] = sum;
        asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(&ready[block]), "r"(1) : "memory");
    }
    __syncthreads();
    int sum = before;
    for (int i = 0; i <= threadIdx.x; i++) sum += x[block * blockDim.x + i];
    y[block * blockDim.x + threadIdx.x] = sum;
}
