// Warps that diverge: votes, shuffles, matches and reductions under partial masks. One warp a block unless said.

constexpr unsigned ALL = 0xffffffff;

// The rows of y (6, 32): all, any, ballot, unanimity of x < limit, activemask of a whole warp, and the lane mask
// below.
extern "C" __global__ void votes(unsigned* y, const int* x, int limit) {
    int lane = threadIdx.x;
    bool below = x[lane] < limit;
    y[lane] = __all_sync(ALL, below);
    y[32 + lane] = __any_sync(ALL, below);
    y[64 + lane] = __ballot_sync(ALL, below);
    int equal;
    __match_all_sync(ALL, x[lane], &equal);
    y[96 + lane] = equal;
    __syncwarp();
    y[128 + lane] = __activemask();
    unsigned before;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(before));
    y[160 + lane] = before;
}

// Every kind of shuffle, with segments of `width` lanes. y (5, 32).
extern "C" __global__ void shuffles(int* y, const int* x, int by) {
    int lane = threadIdx.x, value = x[lane];
    y[lane] = __shfl_sync(ALL, value, by);
    y[32 + lane] = __shfl_up_sync(ALL, value, by);
    y[64 + lane] = __shfl_down_sync(ALL, value, by, 16);
    y[96 + lane] = __shfl_xor_sync(ALL, value, by, 8);
    y[128 + lane] = __shfl_sync(ALL, value, lane + by, 4);
}

// 64 bits, which are two shuffles.
extern "C" __global__ void shuffle_f64(double* y, const double* x, int by) {
    y[threadIdx.x] = __shfl_xor_sync(ALL, x[threadIdx.x], by);
}

// Each side of the branch is a group of its own.
extern "C" __global__ void two_sides(int* sum, unsigned* ballot, const int* x, unsigned mask) {
    int lane = threadIdx.x;
    if (mask >> lane & 1) {
        sum[lane] = __reduce_add_sync(mask, x[lane]);
        ballot[lane] = __ballot_sync(mask, x[lane] > 0);
    } else {
        sum[lane] = __reduce_max_sync(~mask, x[lane]);
        ballot[lane] = __ballot_sync(~mask, x[lane] < 0);
    }
    __syncwarp();
    sum[lane] += __shfl_sync(ALL, sum[lane], 31 - lane);
}

// y (8, 32): the reductions in hardware.
extern "C" __global__ void reductions(int* y, const int* x) {
    int lane = threadIdx.x;
    y[lane] = __reduce_add_sync(ALL, x[lane]);
    y[32 + lane] = __reduce_min_sync(ALL, x[lane]);
    y[64 + lane] = __reduce_max_sync(ALL, x[lane]);
    y[96 + lane] = __reduce_min_sync(ALL, static_cast<unsigned>(x[lane]));
    y[128 + lane] = __reduce_max_sync(ALL, static_cast<unsigned>(x[lane]));
    y[160 + lane] = __reduce_and_sync(ALL, static_cast<unsigned>(x[lane]));
    y[192 + lane] = __reduce_or_sync(ALL, static_cast<unsigned>(x[lane]));
    y[224 + lane] = __reduce_xor_sync(ALL, static_cast<unsigned>(x[lane]));
}

// Lanes with the same key find each other; their leader adds for all of them.
extern "C" __global__ void histogram_by_match(unsigned* counts, unsigned* peers, const int* keys, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    unsigned active = n - i / 32 * 32 >= 32 ? ALL : (1u << n % 32) - 1;
    unsigned group = __match_any_sync(active, keys[i]);
    peers[i] = group;
    if (__ffs(group) - 1 == threadIdx.x % 32) atomicAdd(&counts[keys[i]], __popc(group));
}
extern "C" __global__ void match_u64(unsigned* peers, const unsigned long long* keys) {
    peers[threadIdx.x] = __match_any_sync(ALL, keys[threadIdx.x]);
}

// Collatz: each lane loops its own number of times. In each round the lanes that still loop, as the ballot of the
// last round named them, count themselves.
extern "C" __global__ void divergent_loop(int* steps, int* company, const unsigned* x) {
    int lane = threadIdx.x, count = 0, met = 0;
    unsigned value = x[lane], looping = __ballot_sync(ALL, value != 1);
    while (value != 1) {
        value = value % 2 ? 3 * value + 1 : value / 2;
        count++;
        met += __popc(looping);
        looping = __ballot_sync(looping, value != 1);
    }
    __syncwarp();
    steps[lane] = count;
    company[lane] = met;
}

// Nested branches and loops with an early return, several warps. y[i] counts divisors of i that are below `limit`.
extern "C" __global__ void early_return(int* y, int limit, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int count = 0;
    for (int d = 1; d <= i; d++) {
        if (d >= limit) {
            y[i] = count;
            return;
        }
        if (i % d) continue;
        count++;
    }
    y[i] = -count;
}

// A warp hands a variable amount of work to its lanes: prefix of counts by shuffles, then a search for the owner.
// out (sum of counts) gets the item's owner; total (1) the sum. counts are at most 8.
extern "C" __global__ void expand(int* out, int* total, const int* counts) {
    int lane = threadIdx.x, end = counts[lane];
    for (int offset = 1; offset < 32; offset *= 2) {
        int before = __shfl_up_sync(ALL, end, offset);
        end += lane >= offset ? before : 0;
    }
    int sum = __shfl_sync(ALL, end, 31);
    for (int start = 0; start < sum; start += 32) {
        int item = start + lane, owner = 0;
        for (int step = 16; step > 0; step /= 2) {
            int middle = __shfl_sync(ALL, end, owner + step - 1); // everybody takes part, also those without an item
            if (middle <= item) owner += step;
        }
        if (item < sum) out[item] = owner;
    }
    if (lane == 0) *total = sum;
}
