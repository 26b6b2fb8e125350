// Minimum-cost assignment, a warp a problem: every target (row) gets its own query (column).
// cost (problems, T, Q) in f32, T <= Q <= 128. matches (problems, T) i32 are the columns; total (problems) is their
// cost.
// The shortest augmenting path algorithm with duals in f64. Lane l has the columns l, l + 32, l + 64 and l + 96
// in registers: their duals v, path lengths, predecessors and rows. The duals u of the rows and their columns are in
// shared memory that belongs to the warp.

#include <math_constants.h>

constexpr int SLOTS = 4, MAX_ROWS = 128, WARPS = 2;
constexpr unsigned ALL = 0xffffffff;

// Unsigned integers in the order of the doubles.
__device__ unsigned long long ordered(double x) {
    long long bits = __double_as_longlong(x);
    return bits < 0 ? ~bits : bits ^ (1ll << 63);
}

// Registers have no addresses: a choice instead of an index.
template <typename T> __device__ T at(const T (&of_slot)[SLOTS], int slot) {
    T value = of_slot[0];
#pragma unroll
    for (int s = 1; s < SLOTS; s++) value = slot == s ? of_slot[s] : value;
    return value;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS) assignment(int* matches, double* total, const float* cost,
                                                                   int problems, int T, int Q) {
    __shared__ double u_of_warp[WARPS][MAX_ROWS];
    __shared__ int column_of_warp[WARPS][MAX_ROWS];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, problem = blockIdx.x * WARPS + warp;
    if (problem >= problems) return; // a whole warp
    double* u = u_of_warp[warp];
    int* column_of_row = column_of_warp[warp];
    cost += (long long)problem * T * Q;

    double v[SLOTS] = {}, length[SLOTS];
    int row_of[SLOTS] = {-1, -1, -1, -1}, previous[SLOTS];
    for (int row = lane; row < T; row += 32) u[row] = 0.0;
    __syncwarp();

    for (int first = 0; first < T; first++) {
        unsigned done = 0; // a bit a slot
        for (int s = 0; s < SLOTS; s++) length[s] = CUDART_INF;
        double shortest = 0.0;
        int row = first, sink = -1;
        while (sink < 0) {
            // Relax the edges of `row`, then find the nearest column that is not done; among equals a free one.
            double row_dual = u[row];
            unsigned long long best = ~0ull;
            int best_column = -1;
            bool best_free = false;
#pragma unroll
            for (int s = 0; s < SLOTS; s++) {
                int column = s * 32 + lane;
                if (column >= Q || done >> s & 1) continue;
                double through_row = shortest + cost[row * Q + column] - row_dual - v[s];
                if (through_row < length[s]) {
                    length[s] = through_row;
                    previous[s] = row;
                }
                bool is_free = row_of[s] < 0;
                if (ordered(length[s]) < best || (ordered(length[s]) == best && is_free && !best_free)) {
                    best = ordered(length[s]);
                    best_column = column;
                    best_free = is_free;
                }
            }
            unsigned high = __reduce_min_sync(ALL, static_cast<unsigned>(best >> 32));
            bool candidate = best >> 32 == high && best_column >= 0;
            unsigned low = __reduce_min_sync(ALL, candidate ? static_cast<unsigned>(best) : ~0u);
            candidate = candidate && static_cast<unsigned>(best) == low;
            unsigned free_lanes = __ballot_sync(ALL, candidate && best_free);
            unsigned lanes = free_lanes ? free_lanes : __ballot_sync(ALL, candidate);
            int winner = __ffs(lanes) - 1;
            int column = __shfl_sync(ALL, best_column, winner), slot = column / 32;
            shortest = __shfl_sync(ALL, at(length, slot), winner);
            row = __shfl_sync(ALL, at(row_of, slot), winner);
            if (lane == winner) done |= 1u << slot;
            if (row < 0) sink = column;
        }

        // The duals of the rows and columns that the search reached.
        __syncwarp(); // shuffles order no memory: the search has read u
#pragma unroll
        for (int s = 0; s < SLOTS; s++) {
            if (!(done >> s & 1)) continue;
            v[s] -= shortest - length[s];
            if (row_of[s] >= 0) u[row_of[s]] += shortest - length[s];
        }
        if (lane == 0) u[first] += shortest;
        __syncwarp();

        // Turn the path around, from the sink back to `first`.
        for (int column = sink; column >= 0;) {
            int slot = column / 32;
            row = __shfl_sync(ALL, at(previous, slot), column % 32);
            if (lane == column % 32) {
#pragma unroll
                for (int s = 0; s < SLOTS; s++) row_of[s] = slot == s ? row : row_of[s];
            }
            int next = row == first ? -1 : column_of_row[row];
            __syncwarp(); // everybody has read it
            if (lane == 0) column_of_row[row] = column;
            column = next;
        }
        __syncwarp();
    }

    double sum = 0.0;
    for (int row = lane; row < T; row += 32) {
        matches[problem * T + row] = column_of_row[row];
        sum += cost[row * Q + column_of_row[row]];
    }
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(ALL, sum, offset);
    if (lane == 0) total[problem] = sum;
}
