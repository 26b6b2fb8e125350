// Attention on tensor cores, forward: y = (softmax(scale q k^T) m) v per segment and head, without the matrix of scores.
// A block has 64 queries, 16 a warp, and walks over the keys by 64; cp.async brings the next 64 meanwhile.
// Saved: logsumexp (Nq, heads). For few queries the keys are split among blocks, and a second kernel combines.

#include "attention_mma.cuh"

// The four lanes of a row of fragments.
__device__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 1));
    return fmaxf(x, __shfl_xor_sync(ALL_LANES, x, 2));
}
__device__ float quad_sum(float x) {
    x += __shfl_xor_sync(ALL_LANES, x, 1);
    return x + __shfl_xor_sync(ALL_LANES, x, 2);
}

// Of a lane's two rows r, lane / 4 + 8 r of its warp's 16.
struct Attended {
    float o[D / 8][4];       // sum of the weights' values, not divided by their sum
    float max[2], sum[2];    // the largest score, and the sum of 2^(scale_log2 (score - max))
};

// The queries query .. query + 64 of a segment attend to its keys key .. end. q, k, v begin with the segment's head.
__device__ void attend(Attended& to, const T* q, const T* k, const T* v, const Segment& s, const Mask& mask,
                       float scale_log2, int query, int key, int end, int C) {
    __shared__ alignas(16) Tile tiles[2][2]; // two stages of keys and values
    int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    copy_rows(tiles[1][0], q, query, s.queries, C);
    copy_rows(tiles[0][0], k, key, end, C);
    copy_rows(tiles[0][1], v, key, end, C);
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    unsigned q_fragment[D / 16][4];
    load_rows(q_fragment, tiles[1][0], warp_row, lane);

    to = {};
    to.max[0] = to.max[1] = -infinity();
    for (int stage = 0; key < end; key += TILE, stage ^= 1) {
        wait_copies<0>();
        __syncthreads(); // this stage is there, and the other is used up
        if (key + TILE < end) {
            copy_rows(tiles[stage ^ 1][0], k, key + TILE, end, C);
            copy_rows(tiles[stage ^ 1][1], v, key + TILE, end, C);
            commit_copies();
        }
        if (query + warp_row >= s.queries) continue; // only copies for the others

        float p[TILE / 8][4] = {}; // element e is of row e / 2
        add_transposed_product<TILE>(p, q_fragment, tiles[stage][0], 0, lane);
        if (key + TILE > end) {
#pragma unroll
            for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    if (key + j * 8 + lane % 4 * 2 + e % 2 >= end) p[j][e] = -infinity();
                }
            }
        }
        float shift[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float larger = to.max[r];
#pragma unroll
            for (int j = 0; j < TILE / 8; j++) larger = fmaxf(larger, fmaxf(p[j][2 * r], p[j][2 * r + 1]));
            larger = quad_max(larger);
            float correction = fast_exp2((to.max[r] - larger) * scale_log2);
            to.max[r] = larger;
            to.sum[r] *= correction;
            shift[r] = larger * scale_log2;
#pragma unroll
            for (int d = 0; d < D / 8; d++) to.o[d][2 * r] *= correction, to.o[d][2 * r + 1] *= correction;
        }
#pragma unroll
        for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                p[j][e] = fast_exp2(p[j][e] * scale_log2 - shift[e / 2]);
                to.sum[e / 2] += p[j][e];
            }
        }
        if (mask.p > 0.0f) {
            unsigned kept[2][2];
            keep_rows(kept, mask, query + warp_row, key, lane);
#pragma unroll
            for (int j = 0; j < TILE / 8; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    if (!(kept[e / 2][j / 4] >> (j % 4 * 8 + lane % 4 * 2 + e % 2) & 1)) p[j][e] = 0.0f;
                }
            }
        }
        unsigned p_operand[TILE / 16][4];
        pack_rows(p_operand, p);
        add_product<TILE>(to.o, p_operand, tiles[stage][1], 0, lane);
    }
#pragma unroll
    for (int r = 0; r < 2; r++) to.sum[r] = quad_sum(to.sum[r]);
}

//@ attention_fwd tensor_cores: grid queries/64, heads, segments; block 128; registers 168; tensor cores
extern "C" __global__ void __launch_bounds__(128)
    attention_fwd_tensor_cores(T* y, float* logsumexp, const T* q, const T* k, const T* v, const Segment* segments,
                               Philox philox, float dropout, float scale, int heads, int C) {
    Segment s = segments[blockIdx.z];
    int query = blockIdx.x * TILE, head = blockIdx.y, lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    if (query >= s.queries) return;
    long long start = static_cast<long long>(s.query) * C + head * D, key = static_cast<long long>(s.key) * C + head * D;
    Mask mask(philox, dropout, blockIdx.z, heads, head, s.keys);
    Attended attended;
    attend(attended, q + start, k + key, v + key, s, mask, scale * LOG2_E, query, 0, s.keys, C);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = query + warp_row + lane / 4 + r * 8;
        if (row >= s.queries) continue;
        float factor = s.keys > 0 ? 1.0f / ((1.0f - dropout) * attended.sum[r]) : 0.0f;
        if (lane % 4 == 0) {
            float logsum = s.keys > 0 ? attended.max[r] * scale + logf(attended.sum[r]) : 0.0f;
            logsumexp[static_cast<long long>(s.query + row) * heads + head] = logsum;
        }
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            unsigned pair = pack<T>(attended.o[d][2 * r] * factor, attended.o[d][2 * r + 1] * factor);
            *reinterpret_cast<unsigned*>(y + start + static_cast<long long>(row) * C + d * 8 + lane % 4 * 2) = pair;
        }
    }
}

// The same for 256 keys: partial (splits, Nq, C), statistics (splits, Nq, heads) with the largest score and the sum.
//@ attention_fwd_split tensor_cores: grid queries/64 * splits, heads, segments; block 128; registers 168; tensor cores
extern "C" __global__ void __launch_bounds__(128)
    attention_fwd_split_tensor_cores(float* partial, float2* statistics, const T* q, const T* k, const T* v,
                                     const Segment* segments, Philox philox, float dropout, float scale, int splits,
                                     int Nq, int heads, int C) {
    Segment s = segments[blockIdx.z];
    int query = blockIdx.x / splits * TILE, split = blockIdx.x % splits, first_key = split * SPLIT;
    int head = blockIdx.y, lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    if (query >= s.queries || first_key >= s.keys) return;
    long long start = static_cast<long long>(s.query) * C + head * D, key = static_cast<long long>(s.key) * C + head * D;
    Mask mask(philox, dropout, blockIdx.z, heads, head, s.keys);
    Attended attended;
    attend(attended, q + start, k + key, v + key, s, mask, scale * LOG2_E, query, first_key,
           min(s.keys, first_key + SPLIT), C);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = query + warp_row + lane / 4 + r * 8;
        if (row >= s.queries) continue;
        long long to = static_cast<long long>(split) * Nq + s.query + row;
        if (lane % 4 == 0) statistics[to * heads + head] = {attended.max[r], attended.sum[r]};
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            float2 pair = {attended.o[d][2 * r], attended.o[d][2 * r + 1]};
            *reinterpret_cast<float2*>(partial + to * C + head * D + d * 8 + lane % 4 * 2) = pair;
        }
    }
}

// y and logsumexp from the parts, in order. A warp a query.
//@ attention_fwd_combine warp: grid queries/8, heads, segments; block 256; registers 48
extern "C" __global__ void __launch_bounds__(256)
    attention_fwd_combine_warp(T* y, float* logsumexp, const float* partial, const float2* statistics,
                               const Segment* segments, float dropout, float scale, int Nq, int heads, int C) {
    Segment s = segments[blockIdx.z];
    int query = blockIdx.x * 8 + threadIdx.x / 32, head = blockIdx.y, lane = threadIdx.x % 32;
    if (query >= s.queries) return;
    int row = s.query + query, splits = (s.keys + SPLIT - 1) / SPLIT;
    float max = -infinity(), sum = 0.0f, o[D / 32] = {};
    for (int split = 0; split < splits; split++) {
        max = fmaxf(max, statistics[(static_cast<long long>(split) * Nq + row) * heads + head].x);
    }
    for (int split = 0; split < splits; split++) {
        long long from = static_cast<long long>(split) * Nq + row;
        auto [part_max, part_sum] = statistics[from * heads + head];
        float factor = expf((part_max - max) * scale);
        sum += factor * part_sum;
#pragma unroll
        for (int i = 0; i < D / 32; i++) o[i] += factor * partial[from * C + head * D + i * 32 + lane];
    }
    float factor = splits > 0 ? 1.0f / ((1.0f - dropout) * sum) : 0.0f;
    if (lane == 0) {
        float logsum = splits > 0 ? max * scale + logf(sum) : 0.0f;
        logsumexp[static_cast<long long>(row) * heads + head] = logsum;
    }
#pragma unroll
    for (int i = 0; i < D / 32; i++) {
        y[static_cast<long long>(row) * C + head * D + i * 32 + lane] = from_float<T>(o[i] * factor);
    }
}
