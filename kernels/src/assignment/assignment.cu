// The Hungarian matcher: the cost of every query and target of an image in a decoder layer, and the assignment of least
// total cost, (L, B) problems in one launch. A block a problem: its warps make the cost, the first one assigns.
// Rows are the fewer of targets and queries, columns the others; float costs, duals and path lengths in double.

#include "boxes.cuh"
#include "dtype.cuh"
#include "exp.cuh"

constexpr int WARPS = 16, SLOTS = 4, REGISTER_COLUMNS = 32 * SLOTS, SHARED_COSTS = 10240;

// Costs by row and column.
template <class C> struct Costs {
    const C* at;
    int row_stride, column_stride, rows, columns; // rows <= columns

    __device__ double operator()(int row, int column) const { return at[row * row_stride + column * column_stride]; }
};

// The dual variables and the columns of the rows, and the state of the columns where it is not in registers: dual, length
// of the shortest path, the row that it comes from, the assigned row (-1: free), place among those that remain (-1: none).
struct State {
    double *row_dual, *dual, *length;
    int *column_of_row, *previous, *row, *place;

    // A problem's part of doubles (P, 3, size) and ints (P, 4, size).
    __device__ State(double* doubles, int* ints, int problem, int size) {
        row_dual = doubles + static_cast<long long>(problem) * 3 * size, dual = row_dual + size, length = dual + size;
        column_of_row = ints + static_cast<long long>(problem) * 4 * size, previous = column_of_row + size;
        row = previous + size, place = row + size;
    }
};

// Unsigned integers in the order of doubles.
__device__ unsigned long long ordered(double x) {
    long long bits = __double_as_longlong(x);
    return bits < 0 ? ~bits : bits ^ (1ll << 63);
}

// The nearest column that a lane knows, and by SciPy's rule among equals: its list of the remaining columns is searched
// from the front, and a free column replaces an equal one. So the last free one is taken, else the first.
struct Nearest {
    unsigned long long distance = ~0ull;
    int rank = -1, column = -1, row = -1, place = -1;
    double length = 0.0;

    __device__ void offer(int other_column, double other_length, int other_row, int other_place, int columns) {
        unsigned long long other = ordered(other_length);
        int other_rank = other_row < 0 ? columns + other_place : columns - 1 - other_place;
        if (other > distance || (other == distance && other_rank < rank)) return;
        distance = other, rank = other_rank, column = other_column, row = other_row, place = other_place;
        length = other_length;
    }

    // The nearest of a warp's, to all its lanes.
    __device__ void of_warp() {
        unsigned high = __reduce_min_sync(ALL_LANES, static_cast<unsigned>(distance >> 32));
        bool is_nearest = distance >> 32 == high;
        unsigned low = __reduce_min_sync(ALL_LANES, is_nearest ? static_cast<unsigned>(distance) : ~0u);
        is_nearest = is_nearest && static_cast<unsigned>(distance) == low;
        int best = __reduce_max_sync(ALL_LANES, is_nearest ? rank : -1);
        int lane = __ffs(__ballot_sync(ALL_LANES, is_nearest && rank == best)) - 1;
        column = __shfl_sync(ALL_LANES, column, lane), row = __shfl_sync(ALL_LANES, row, lane);
        place = __shfl_sync(ALL_LANES, place, lane), length = __shfl_sync(ALL_LANES, length, lane);
    }
};

// Shortest augmenting paths (Crouse, 2016), a warp a problem: a search a row, from it to the nearest free column. Lane l has
// the columns l, l + 32, ... Any number of columns: their state is in memory.
template <class C> __device__ void assign_in_memory(const Costs<C>& cost, const State& state) {
    int lane = threadIdx.x % 32, columns = cost.columns;
    for (int c = lane; c < columns; c += 32) state.dual[c] = 0.0, state.row[c] = -1;
    for (int r = lane; r < cost.rows; r += 32) state.row_dual[r] = 0.0, state.column_of_row[r] = -1;
    for (int first = 0; first < cost.rows; first++) {
        for (int c = lane; c < columns; c += 32) {
            state.length[c] = infinity(), state.previous[c] = first, state.place[c] = columns - 1 - c;
        }
        __syncwarp();
        int row = first, sink = -1;
        double shortest = 0.0;
        for (int remaining = columns; sink < 0;) {
            // Relax the edges of `row`; find the nearest column that remains.
            double row_dual = state.row_dual[row];
            Nearest nearest;
            for (int c = lane; c < columns; c += 32) {
                if (state.place[c] < 0) continue;
                double through_row = shortest + cost(row, c) - row_dual - state.dual[c];
                if (through_row < state.length[c]) state.length[c] = through_row, state.previous[c] = row;
                nearest.offer(c, state.length[c], state.row[c], state.place[c], columns);
            }
            nearest.of_warp();
            // The list's last one moves to its place.
            remaining--;
            for (int c = lane; c < columns; c += 32) {
                if (state.place[c] == remaining) state.place[c] = nearest.place;
                if (c == nearest.column) state.place[c] = -1;
            }
            shortest = nearest.length, row = nearest.row;
            if (row < 0) sink = nearest.column;
        }
        // The duals of the columns that the search has reached, and of their rows.
        __syncwarp(); // shuffles order no memory: the search has read the rows' duals
        for (int c = lane; c < columns; c += 32) {
            if (state.place[c] >= 0) continue;
            double slack = shortest - state.length[c];
            state.dual[c] -= slack;
            if (state.row[c] >= 0) state.row_dual[state.row[c]] += slack;
        }
        __syncwarp();
        // Turn the path around, from the free column back to `first`.
        if (lane == 0) {
            state.row_dual[first] += shortest;
            for (int column = sink; column >= 0;) {
                row = state.previous[column];
                int next = row == first ? -1 : state.column_of_row[row];
                state.row[column] = row, state.column_of_row[row] = column;
                column = next;
            }
        }
        __syncwarp();
    }
}

// Registers have no addresses: a choice instead of an index.
template <class V> __device__ V of_slot(const V (&values)[SLOTS], int slot) {
    V value = values[0];
#pragma unroll
    for (int s = 1; s < SLOTS; s++) value = slot == s ? values[s] : value;
    return value;
}

// The same with the columns, at most 128, in registers.
template <class C> __device__ void assign_in_registers(const Costs<C>& cost, double* row_dual, int* column_of_row) {
    int lane = threadIdx.x % 32, columns = cost.columns;
    double dual[SLOTS] = {}, length[SLOTS];
    int row_of[SLOTS] = {-1, -1, -1, -1}, previous[SLOTS], place[SLOTS];
    for (int r = lane; r < cost.rows; r += 32) row_dual[r] = 0.0, column_of_row[r] = -1;
    __syncwarp();
    for (int first = 0; first < cost.rows; first++) {
#pragma unroll
        for (int s = 0; s < SLOTS; s++) {
            // Negative beyond the last column, as if it were reached already; its row is none, so nothing comes of it.
            length[s] = infinity(), previous[s] = first, place[s] = columns - 1 - (32 * s + lane);
        }
        int row = first, sink = -1;
        double shortest = 0.0, first_dual = row_dual[first];
        for (int remaining = columns; sink < 0;) {
            double dual_of_row = row_dual[row];
            Nearest nearest;
#pragma unroll
            for (int s = 0; s < SLOTS; s++) {
                if (place[s] < 0) continue;
                int c = 32 * s + lane;
                double through_row = shortest + cost(row, c) - dual_of_row - dual[s];
                if (through_row < length[s]) length[s] = through_row, previous[s] = row;
                nearest.offer(c, length[s], row_of[s], place[s], columns);
            }
            nearest.of_warp();
            remaining--;
#pragma unroll
            for (int s = 0; s < SLOTS; s++) {
                if (place[s] == remaining) place[s] = nearest.place;
                if (32 * s + lane == nearest.column) place[s] = -1;
            }
            shortest = nearest.length, row = nearest.row;
            if (row < 0) sink = nearest.column;
        }
        __syncwarp();
#pragma unroll
        for (int s = 0; s < SLOTS; s++) {
            if (place[s] >= 0 || 32 * s + lane >= columns) continue;
            double slack = shortest - length[s];
            dual[s] -= slack;
            if (row_of[s] >= 0) row_dual[row_of[s]] += slack;
        }
        if (lane == 0) row_dual[first] = first_dual + shortest;
        for (int column = sink; column >= 0;) {
            int slot = column / 32;
            row = __shfl_sync(ALL_LANES, of_slot(previous, slot), column % 32);
#pragma unroll
            for (int s = 0; s < SLOTS; s++) {
                if (32 * s + lane == column) row_of[s] = row;
            }
            int next = row == first ? -1 : column_of_row[row];
            __syncwarp(); // everybody has read it
            if (lane == 0) column_of_row[row] = column;
            column = next;
        }
        __syncwarp();
    }
}

// What the rows got, as matches of the targets (or whatever the longer side is): -1 where none.
__device__ void write_matches(int* matches, const int* column_of_row, int rows, int columns, bool are_rows) {
    int lane = threadIdx.x % 32;
    for (int i = lane; i < (are_rows ? rows : columns); i += 32) matches[i] = are_rows ? column_of_row[i] : -1;
    __syncwarp();
    for (int r = lane; r < rows && !are_rows; r += 32) matches[column_of_row[r]] = r;
}

struct Weights {
    float classes, bbox, giou;
};

// cost[t * Q + q] of the N targets of an image. positive_map (N, K), targets (N, 4), logits (Q, K), boxes (Q, 4), and the
// logits' normalizers (Q). A warp a target and 128 queries: of a positive map's row few columns are not 0.
__device__ void make_costs(float* cost, const float* normalizer, const float* logits, const float* boxes,
                           const float* positive_map, const float* targets, Weights weights, int N, int Q, int K) {
    int lane = threadIdx.x % 32, chunks = (Q + REGISTER_COLUMNS - 1) / REGISTER_COLUMNS;
    for (int task = threadIdx.x / 32; task < N * chunks; task += WARPS) {
        int t = task / chunks, first = task % chunks * REGISTER_COLUMNS + lane;
        float probability[SLOTS] = {};
        for (int k = 0; k < K; k += 32) {
            float weight = k + lane < K ? positive_map[static_cast<long long>(t) * K + k + lane] : 0.0f;
            for (unsigned positive = __ballot_sync(ALL_LANES, weight != 0.0f); positive; positive &= positive - 1) {
                int i = __ffs(positive) - 1;
                float weight_of_column = __shfl_sync(ALL_LANES, weight, i);
#pragma unroll
                for (int s = 0; s < SLOTS; s++) {
                    int q = first + 32 * s;
                    if (q < Q) probability[s] += weight_of_column * expf(logits[q * K + k + i] - normalizer[q]);
                }
            }
        }
        Box target = corners(targets + t * 4);
#pragma unroll
        for (int s = 0; s < SLOTS; s++) {
            int q = first + 32 * s;
            if (q >= Q) continue;
            const float* box = boxes + q * 4;
            float distance = 0.0f;
#pragma unroll
            for (int i = 0; i < 4; i++) distance += fabsf(box[i] - targets[t * 4 + i]);
            float total = weights.bbox * distance - weights.classes * probability[s] -
                          weights.giou * generalized_iou(corners(box), target);
            cost[t * Q + q] = isfinite(total) ? total : 0.0f;
        }
    }
}

// matches (L, T); scratch: doubles (L B, 3, size), ints (L B, 4, size) with size = max(Q, T), normalizer (L, B, Q), costs
// (L, T, Q). Logits (L, B, Q, K), boxes (L, B, Q, 4), positive_map (T, K), targets (T, 4), image_of_target (T) ascending; what
// pads the targets is of image B, and matches none.
template <bool MAY_USE_REGISTERS>
__device__ void assign(int* matches, double* doubles, int* ints, float* normalizer, float* costs, const float* logits,
                       const float* boxes, const float* positive_map, const float* targets, const int* image_of_target,
                       Weights weights, int B, int Q, int K, int T) {
    __shared__ float shared_costs[SHARED_COSTS];
    __shared__ double row_dual[REGISTER_COLUMNS];
    __shared__ int column_of_row[REGISTER_COLUMNS];
    int problem = blockIdx.x, layer = problem / B, image = problem % B, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int begin = 0, N = 0; // the image's targets
    for (int t = lane; t < T; t += 32) begin += image_of_target[t] < image, N += image_of_target[t] == image;
    for (int t = threadIdx.x; t < T && image == 0; t += 32 * WARPS) {
        if (image_of_target[t] >= B) matches[static_cast<long long>(layer) * T + t] = -1;
    }
    begin = __reduce_add_sync(ALL_LANES, begin), N = __reduce_add_sync(ALL_LANES, N);
    if (N == 0) return; // the whole block
    logits += static_cast<long long>(problem) * Q * K, boxes += static_cast<long long>(problem) * Q * 4;
    normalizer += static_cast<long long>(problem) * Q, matches += static_cast<long long>(layer) * T + begin;
    float* cost = shared_costs;
    if (static_cast<long long>(N) * Q > SHARED_COSTS) cost = costs + (static_cast<long long>(layer) * T + begin) * Q;

    for (int q = warp; q < Q; q += WARPS) {
        float total = warp_logsumexp(logits + q * K, K);
        if (lane == 0) normalizer[q] = total;
    }
    __syncthreads();
    make_costs(cost, normalizer, logits, boxes, positive_map + static_cast<long long>(begin) * K,
               targets + static_cast<long long>(begin) * 4, weights, N, Q, K);
    __syncthreads();
    if (warp > 0) return;
    bool are_rows = N < Q;
    Costs<float> view = are_rows ? Costs<float>{cost, Q, 1, N, Q} : Costs<float>{cost, 1, Q, Q, N};
    if (MAY_USE_REGISTERS && view.columns <= REGISTER_COLUMNS) {
        assign_in_registers(view, row_dual, column_of_row);
        write_matches(matches, column_of_row, view.rows, view.columns, are_rows);
    } else {
        State state(doubles, ints, problem, max(Q, T));
        assign_in_memory(view, state);
        write_matches(matches, state.column_of_row, view.rows, view.columns, are_rows);
    }
}

//@ assignment registers: grid problems; block 512; registers 128
extern "C" __global__ void __launch_bounds__(512, 1)
    assignment_registers(int* matches, double* doubles, int* ints, float* normalizer, float* costs, const float* logits,
                         const float* boxes, const float* positive_map, const float* targets,
                         const int* image_of_target, float classes, float bbox, float giou, int B, int Q, int K, int T) {
    assign<true>(matches, doubles, ints, normalizer, costs, logits, boxes, positive_map, targets, image_of_target,
                 {classes, bbox, giou}, B, Q, K, T);
}

//@ assignment naive: grid problems; block 512; registers 128
extern "C" __global__ void __launch_bounds__(512, 1)
    assignment_naive(int* matches, double* doubles, int* ints, float* normalizer, float* costs, const float* logits,
                     const float* boxes, const float* positive_map, const float* targets, const int* image_of_target,
                     float classes, float bbox, float giou, int B, int Q, int K, int T) {
    assign<false>(matches, doubles, ints, normalizer, costs, logits, boxes, positive_map, targets, image_of_target,
                  {classes, bbox, giou}, B, Q, K, T);
}

// Of given costs (P, N, M), finite: the column of every row, -1 for none, (P, N). Scratch as above, size = max(N, M).
//@ linear_sum_assignment registers: grid problems; block 32; registers 104
extern "C" __global__ void __launch_bounds__(32, 1)
    linear_sum_assignment_registers(int* column_of_row, double* doubles, int* ints, const double* cost, int N, int M) {
    cost += static_cast<long long>(blockIdx.x) * N * M, column_of_row += static_cast<long long>(blockIdx.x) * N;
    bool are_rows = N <= M;
    Costs<double> view = are_rows ? Costs<double>{cost, M, 1, N, M} : Costs<double>{cost, 1, M, M, N};
    State state(doubles, ints, blockIdx.x, max(N, M));
    if (view.columns <= REGISTER_COLUMNS) {
        assign_in_registers(view, state.row_dual, state.column_of_row);
    } else {
        assign_in_memory(view, state);
    }
    write_matches(column_of_row, state.column_of_row, view.rows, view.columns, are_rows);
}

//@ linear_sum_assignment naive: grid problems; block 32; registers 104
extern "C" __global__ void __launch_bounds__(32, 1)
    linear_sum_assignment_naive(int* column_of_row, double* doubles, int* ints, const double* cost, int N, int M) {
    cost += static_cast<long long>(blockIdx.x) * N * M, column_of_row += static_cast<long long>(blockIdx.x) * N;
    bool are_rows = N <= M;
    Costs<double> view = are_rows ? Costs<double>{cost, M, 1, N, M} : Costs<double>{cost, 1, M, M, N};
    State state(doubles, ints, blockIdx.x, max(N, M));
    assign_in_memory(view, state);
    write_matches(column_of_row, state.column_of_row, view.rows, view.columns, are_rows);
}
