// Attention by plain arithmetic in tiles, for f32: y = (softmax(scale q k^T) m) v per segment and head, and its gradients.
// A block has 32 queries (in backward for k and v: keys) and walks over the others by 32; eight lanes share four rows of a
// product, and every sum is in one thread, in order: equal inputs give equal bits. Saved: logsumexp (Nq, heads).

#include "attention.cuh"
#include "dtype.cuh"
#include "reduce.cuh"

constexpr int D = HEAD_DIM, TILE = 32, THREADS = 64;
constexpr int R = 4; // a thread's rows, and its columns of scores

// A head's channels of 32 rows, in float. A padding of 16 bytes: eight rows' vectors lie in different banks.
using Tile = float[TILE][D + 4];
using Weights = float[TILE][TILE + 4];

// A thread has rows row .. row + 4, of scores (32, 32) the columns lane + 8 j, of channels those that `channel` tells.
struct Place {
    int row, lane;
    __device__ Place() : row(threadIdx.x / 8 * R), lane(threadIdx.x % 8) {}
    __device__ int channel(int i) const { return i / 4 * 32 + lane * 4 + i % 4; }
};

// Rows first .. first + 32 of one head's channels of x, zeros from row `end` on.
__device__ void load_rows(Tile& to, const T* x, int first, int end, int C) {
    constexpr int V = VECTOR<T>;
    for (int i = threadIdx.x; i < TILE * D / V; i += THREADS) {
        int row = i / (D / V), column = i % (D / V) * V;
        float values[V] = {};
        if (first + row < end) load_vector(values, x + static_cast<long long>(first + row) * C + column);
#pragma unroll
        for (int j = 0; j < V; j++) to[row][column + j] = values[j];
    }
}

// y (32, 32) = rows columns^T.
__device__ void multiply_transposed(float (&y)[R][4], const Tile& rows, const Tile& columns, Place at) {
#pragma unroll
    for (int i = 0; i < R; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) y[i][j] = 0.0f;
    }
#pragma unroll 2
    for (int d = 0; d < D; d += 4) {
        float4 a[R], b[4];
#pragma unroll
        for (int i = 0; i < R; i++) a[i] = *reinterpret_cast<const float4*>(&rows[at.row + i][d]);
#pragma unroll
        for (int j = 0; j < 4; j++) b[j] = *reinterpret_cast<const float4*>(&columns[at.lane + 8 * j][d]);
#pragma unroll
        for (int i = 0; i < R; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) y[i][j] += a[i].x * b[j].x + a[i].y * b[j].y + a[i].z * b[j].z + a[i].w * b[j].w;
        }
    }
}

// y (32, D) += x (32, 32) columns. x passes through shared memory, between the eight lanes of a row alone.
__device__ void add_product(float (&y)[R][D / 8], const float (&x)[R][4], Weights& weights, const Tile& columns,
                            Place at) {
    __syncwarp(); // what was there is used up
#pragma unroll
    for (int i = 0; i < R; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) weights[at.row + i][at.lane + 8 * j] = x[i][j];
    }
    __syncwarp();
#pragma unroll 2
    for (int c = 0; c < TILE; c += 4) {
        float4 a[R];
#pragma unroll
        for (int i = 0; i < R; i++) a[i] = *reinterpret_cast<const float4*>(&weights[at.row + i][c]);
#pragma unroll
        for (int j = 0; j < 4; j++) {
#pragma unroll
            for (int group = 0; group < D / 32; group++) {
                float4 b = *reinterpret_cast<const float4*>(&columns[c + j][group * 32 + at.lane * 4]);
#pragma unroll
                for (int i = 0; i < R; i++) {
                    float weight = j == 0 ? a[i].x : j == 1 ? a[i].y : j == 2 ? a[i].z : a[i].w;
                    y[i][group * 4] += weight * b.x, y[i][group * 4 + 1] += weight * b.y;
                    y[i][group * 4 + 2] += weight * b.z, y[i][group * 4 + 3] += weight * b.w;
                }
            }
        }
    }
}

// The eight lanes of a row.
__device__ float row_max(float x) {
#pragma unroll
    for (int step = 4; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}
__device__ float row_sum(float x) {
#pragma unroll
    for (int step = 4; step > 0; step /= 2) x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

// Six blocks a multiprocessor: left alone, ptxas aims at more for sm_80, and spills.
//@ attention_fwd tiles: grid queries/32, heads, segments; block 64; registers 168
extern "C" __global__ void __launch_bounds__(64, 6)
    attention_fwd_tiles(T* y, float* logsumexp, const T* q, const T* k, const T* v, const Segment* segments,
                        Philox philox, float dropout, float scale, int heads, int C) {
    __shared__ alignas(16) Tile queries, keys, values;
    __shared__ alignas(16) Weights weights;
    Segment s = segments[blockIdx.z];
    Place at;
    int query = blockIdx.x * TILE, head = blockIdx.y;
    if (query >= s.queries) return;
    long long start = static_cast<long long>(s.query) * C + head * D, first = static_cast<long long>(s.key) * C + head * D;
    Mask mask(philox, dropout, blockIdx.z, heads, head, s.keys);
    load_rows(queries, q + start, query, s.queries, C);

    float o[R][D / 8] = {}, max[R], sum[R] = {};
#pragma unroll
    for (int i = 0; i < R; i++) max[i] = -infinity();
    for (int key = 0; key < s.keys; key += TILE) {
        __syncthreads(); // the tiles are used up
        load_rows(keys, k + first, key, s.keys, C);
        load_rows(values, v + first, key, s.keys, C);
        __syncthreads();
        float p[R][4];
        multiply_transposed(p, queries, keys, at);
#pragma unroll
        for (int i = 0; i < R; i++) {
            float larger = max[i];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                p[i][j] = key + at.lane + 8 * j < s.keys ? p[i][j] * scale : -infinity();
                larger = fmaxf(larger, p[i][j]);
            }
            larger = row_max(larger);
            float correction = expf(max[i] - larger);
            max[i] = larger;
            sum[i] *= correction;
#pragma unroll
            for (int d = 0; d < D / 8; d++) o[i][d] *= correction;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                p[i][j] = expf(p[i][j] - larger);
                sum[i] += p[i][j];
                p[i][j] *= mask.keep(query + at.row + i, key + at.lane + 8 * j);
            }
        }
        add_product(o, p, weights, values, at);
    }
#pragma unroll
    for (int i = 0; i < R; i++) {
        float total = row_sum(sum[i]);
        int row = query + at.row + i;
        if (row >= s.queries) continue;
        if (at.lane == 0) {
            float logsum = s.keys > 0 ? max[i] + logf(total) : 0.0f;
            logsumexp[static_cast<long long>(s.query + row) * heads + head] = logsum;
        }
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            float value = s.keys > 0 ? o[i][d] / total : 0.0f;
            y[start + static_cast<long long>(row) * C + at.channel(d)] = from_float<T>(value);
        }
    }
}

// With P the probabilities, m their dropout mask, dP = (dy v^T) m and dS = P (dP - delta): dq = scale dS k.
//@ attention_bwd_q tiles: grid queries/32, heads, segments; block 64; registers 192
extern "C" __global__ void __launch_bounds__(64)
    attention_bwd_q_tiles(T* dq, int accumulate, const T* dy, const T* q, const T* k, const T* v,
                          const float* logsumexp, const float* delta, const Segment* segments, Philox philox,
                          float dropout, float scale, int heads, int C) {
    __shared__ alignas(16) Tile queries, grads, keys, values;
    __shared__ alignas(16) Weights weights;
    Segment s = segments[blockIdx.z];
    Place at;
    int query = blockIdx.x * TILE, head = blockIdx.y;
    if (query >= s.queries) return;
    long long start = static_cast<long long>(s.query) * C + head * D, first = static_cast<long long>(s.key) * C + head * D;
    Mask mask(philox, dropout, blockIdx.z, heads, head, s.keys);
    load_rows(queries, q + start, query, s.queries, C);
    load_rows(grads, dy + start, query, s.queries, C);
    float row_logsum[R], row_delta[R];
#pragma unroll
    for (int i = 0; i < R; i++) {
        int row = query + at.row + i;
        long long from = static_cast<long long>(s.query + row) * heads + head;
        row_logsum[i] = row < s.queries ? logsumexp[from] : infinity(); // no weight after the last
        row_delta[i] = row < s.queries ? delta[from] : 0.0f;
    }

    float sum[R][D / 8] = {};
    for (int key = 0; key < s.keys; key += TILE) {
        __syncthreads(); // the tiles are used up
        load_rows(keys, k + first, key, s.keys, C);
        load_rows(values, v + first, key, s.keys, C);
        __syncthreads();
        float p[R][4], ds[R][4];
        multiply_transposed(p, queries, keys, at);
        multiply_transposed(ds, grads, values, at);
#pragma unroll
        for (int i = 0; i < R; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int column = key + at.lane + 8 * j;
                float weight = column < s.keys ? expf(p[i][j] * scale - row_logsum[i]) : 0.0f;
                ds[i][j] = weight * (ds[i][j] * mask.keep(query + at.row + i, column) - row_delta[i]);
            }
        }
        add_product(sum, ds, weights, keys, at);
    }
#pragma unroll
    for (int i = 0; i < R; i++) {
        int row = query + at.row + i;
        if (row >= s.queries) continue;
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            T* to = dq + start + static_cast<long long>(row) * C + at.channel(d);
            store_gradient(to, scale * sum[i][d], accumulate);
        }
    }
}

// dk = scale dS^T q and dv = (P m)^T dy, summed over all segments that see the keys; zeros where none does.
//@ attention_bwd_kv tiles: grid keys/32, heads; block 64; registers 200
extern "C" __global__ void __launch_bounds__(64, 4)
    attention_bwd_kv_tiles(T* dk, int accumulate_dk, T* dv, int accumulate_dv, const T* dy, const T* q, const T* k,
                           const T* v, const float* logsumexp, const float* delta, const Segment* segments,
                           Philox philox, float dropout, float scale, int S, int Nk, int heads, int C) {
    __shared__ alignas(16) Tile queries, grads, keys, values;
    __shared__ alignas(16) Weights weights;
    Place at;
    int first_row = blockIdx.x * TILE, head = blockIdx.y;
    load_rows(keys, k + head * D, first_row, Nk, C);
    load_rows(values, v + head * D, first_row, Nk, C);

    float dk_sum[R][D / 8] = {}, dv_sum[R][D / 8] = {};
    for (int segment = 0; segment < S; segment++) {
        Segment s = segments[segment];
        int first_key = first_row - s.key; // of the block, counted from the segment's first; may be negative
        if (first_key + TILE <= 0 || first_key >= s.keys) continue;
        Mask mask(philox, dropout, segment, heads, head, s.keys);
        long long start = static_cast<long long>(s.query) * C + head * D;
        for (int query = 0; query < s.queries; query += TILE) {
            __syncthreads(); // the tiles are used up
            load_rows(queries, q + start, query, s.queries, C);
            load_rows(grads, dy + start, query, s.queries, C);
            __syncthreads();
            float p[R][4], ds[R][4]; // (key, query)
            multiply_transposed(p, keys, queries, at);
            multiply_transposed(ds, values, grads, at);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int row = query + at.lane + 8 * j;
                long long from = static_cast<long long>(s.query + row) * heads + head;
                float logsum = row < s.queries ? logsumexp[from] : 0.0f, row_delta = row < s.queries ? delta[from] : 0.0f;
#pragma unroll
                for (int i = 0; i < R; i++) {
                    int key = first_key + at.row + i;
                    bool inside = key >= 0 && key < s.keys && row < s.queries;
                    float weight = inside ? expf(p[i][j] * scale - logsum) : 0.0f;
                    float keep = inside ? mask.keep(row, key) : 0.0f;
                    ds[i][j] = weight * (ds[i][j] * keep - row_delta);
                    p[i][j] = weight * keep;
                }
            }
            add_product(dv_sum, p, weights, grads, at);
            add_product(dk_sum, ds, weights, queries, at);
        }
    }
#pragma unroll
    for (int i = 0; i < R; i++) {
        int row = first_row + at.row + i;
        if (row >= Nk) continue;
        long long start = static_cast<long long>(row) * C + head * D;
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            if (dk) store_gradient(dk + start + at.channel(d), scale * dk_sum[i][d], accumulate_dk);
            if (dv) store_gradient(dv + start + at.channel(d), dv_sum[i][d], accumulate_dv);
        }
    }
}
