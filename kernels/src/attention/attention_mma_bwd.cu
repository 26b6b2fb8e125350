// Attention on tensor cores, backward, from the scores computed again: P = exp(scale q k^T - logsumexp), with the dropout
// mask m dP = (dy v^T) m, dS = P (dP - delta); dq = scale dS k, dk = scale dS^T q, dv = (P m)^T dy.
// A block has 64 queries (dq), or 64 keys (dk, dv), 16 a warp, and walks over the others by 64: every sum is in one
// thread, in order, so that equal inputs give equal bits. For dk and dv it computes S^T = k q^T: P^T and dS^T already are
// left operands.

#include "attention_mma.cuh"

// Rows that a warp's products take at a time: their scores and gradients fit the registers beside the sums.
constexpr int CHUNK = D == 32 ? 32 : 16;

// Two neighbours of a gradient's row.
__device__ void store_pair(T* to, float low, float high, int accumulate) {
    if (accumulate) {
        unsigned before = *reinterpret_cast<unsigned*>(to);
        low += to_float(T{static_cast<unsigned short>(before)});
        high += to_float(T{static_cast<unsigned short>(before >> 16)});
    }
    *reinterpret_cast<unsigned*>(to) = pack<T>(low, high);
}

// dq / scale of the queries query .. query + 64 of a segment, from its keys key .. end.
__device__ void sum_over_keys(float (&dq)[D / 8][4], const T* dy, const T* q, const T* k, const T* v,
                              const float* logsumexp, const float* delta, const Segment& s, const Mask& mask,
                              float scale_log2, int query, int key, int end, int heads, int C) {
    __shared__ alignas(16) Tile tiles[2][2]; // two stages of keys and values
    int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    copy_rows(tiles[1][0], q, query, s.queries, C);
    copy_rows(tiles[1][1], dy, query, s.queries, C);
    copy_rows(tiles[0][0], k, key, end, C);
    copy_rows(tiles[0][1], v, key, end, C);
    commit_copies();
    float row_logsum[2], row_delta[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = query + warp_row + lane / 4 + r * 8;
        bool inside = row < s.queries;
        row_logsum[r] = inside ? logsumexp[static_cast<long long>(row) * heads] * LOG2_E : infinity(); // no weight
        row_delta[r] = inside ? delta[static_cast<long long>(row) * heads] : 0.0f;
    }
    wait_copies<0>();
    __syncthreads();
    unsigned q_fragment[D / 16][4], dy_fragment[D / 16][4];
    load_rows(q_fragment, tiles[1][0], warp_row, lane);
    load_rows(dy_fragment, tiles[1][1], warp_row, lane);

    float keep_scale = 1.0f / (1.0f - mask.p);
    for (int stage = 0; key < end; key += TILE, stage ^= 1) {
        wait_copies<0>();
        __syncthreads(); // this stage is there, and the other is used up
        if (key + TILE < end) {
            copy_rows(tiles[stage ^ 1][0], k, key + TILE, end, C);
            copy_rows(tiles[stage ^ 1][1], v, key + TILE, end, C);
            commit_copies();
        }
        if (query + warp_row >= s.queries) continue; // only copies for the others
        unsigned kept[2][2] = {{~0u, ~0u}, {~0u, ~0u}};
        if (mask.p > 0.0f) keep_rows(kept, mask, query + warp_row, key, lane);
#pragma unroll 1 // unrolled, it would take twice the registers
        for (int first = 0; first < TILE; first += CHUNK) {
            float p[CHUNK / 8][4] = {}, ds[CHUNK / 8][4] = {};
            add_transposed_product<CHUNK>(p, q_fragment, tiles[stage][0], first, lane);
            add_transposed_product<CHUNK>(ds, dy_fragment, tiles[stage][1], first, lane);
#pragma unroll
            for (int j = 0; j < CHUNK / 8; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    int r = e / 2, column = first + j * 8 + lane % 4 * 2 + e % 2;
                    bool inside = key + column < end;
                    float weight = inside ? fast_exp2(p[j][e] * scale_log2 - row_logsum[r]) : 0.0f;
                    float dp = (first < 32 ? kept[r][0] : kept[r][1]) >> column % 32 & 1 ? ds[j][e] * keep_scale : 0.0f;
                    ds[j][e] = weight * (dp - row_delta[r]);
                }
            }
            unsigned ds_operand[CHUNK / 16][4];
            pack_rows(ds_operand, ds);
            add_product<CHUNK>(dq, ds_operand, tiles[stage][0], first, lane);
        }
    }
}

//@ attention_bwd_q tensor_cores: grid queries/64, heads, segments; block 128; registers 168; tensor cores
extern "C" __global__ void __launch_bounds__(128)
    attention_bwd_q_tensor_cores(T* dq, int accumulate, const T* dy, const T* q, const T* k, const T* v,
                                 const float* logsumexp, const float* delta, const Segment* segments, Philox philox,
                                 float dropout, float scale, int heads, int C) {
    Segment s = segments[blockIdx.z];
    int query = blockIdx.x * TILE, head = blockIdx.y, lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    if (query >= s.queries) return;
    long long start = static_cast<long long>(s.query) * C + head * D, key = static_cast<long long>(s.key) * C + head * D;
    long long statistics = static_cast<long long>(s.query) * heads + head;
    Mask mask(philox, dropout, blockIdx.z, heads, head, s.keys);
    float sum[D / 8][4] = {};
    sum_over_keys(sum, dy + start, q + start, k + key, v + key, logsumexp + statistics, delta + statistics, s, mask,
                  scale * LOG2_E, query, 0, s.keys, heads, C);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = query + warp_row + lane / 4 + r * 8;
        if (row >= s.queries) continue;
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            T* to = dq + start + static_cast<long long>(row) * C + d * 8 + lane % 4 * 2;
            store_pair(to, scale * sum[d][2 * r], scale * sum[d][2 * r + 1], accumulate);
        }
    }
}

// The same from 256 keys: partial (splits, Nq, C). Five blocks of 32 channels at once hold a batch's cross attention in one
// wave.
//@ attention_bwd_q_split tensor_cores: grid queries/64 * splits, heads, segments; block 128; registers 168; tensor cores
extern "C" __global__ void __launch_bounds__(128, D == 32 ? 5 : 4)
    attention_bwd_q_split_tensor_cores(float* partial, const T* dy, const T* q, const T* k, const T* v,
                                       const float* logsumexp, const float* delta, const Segment* segments,
                                       Philox philox, float dropout, float scale, int splits, int Nq, int heads, int C) {
    Segment s = segments[blockIdx.z];
    int query = blockIdx.x / splits * TILE, split = blockIdx.x % splits, first_key = split * SPLIT;
    int head = blockIdx.y, lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    if (query >= s.queries || first_key >= s.keys) return;
    long long start = static_cast<long long>(s.query) * C + head * D, key = static_cast<long long>(s.key) * C + head * D;
    long long statistics = static_cast<long long>(s.query) * heads + head;
    Mask mask(philox, dropout, blockIdx.z, heads, head, s.keys);
    float sum[D / 8][4] = {};
    sum_over_keys(sum, dy + start, q + start, k + key, v + key, logsumexp + statistics, delta + statistics, s, mask,
                  scale * LOG2_E, query, first_key, min(s.keys, first_key + SPLIT), heads, C);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = query + warp_row + lane / 4 + r * 8;
        if (row >= s.queries) continue;
        long long to = static_cast<long long>(split) * Nq + s.query + row;
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            float2 pair = {sum[d][2 * r], sum[d][2 * r + 1]};
            *reinterpret_cast<float2*>(partial + to * C + head * D + d * 8 + lane % 4 * 2) = pair;
        }
    }
}

// dq from the parts, in order. A thread a channel.
//@ attention_bwd_q_combine columns: grid queries, channels/128, segments; block 128; registers 40
extern "C" __global__ void __launch_bounds__(128)
    attention_bwd_q_combine_columns(T* dq, int accumulate, const float* partial, const Segment* segments, float scale,
                                    int Nq, int C) {
    Segment s = segments[blockIdx.z];
    int query = blockIdx.x, channel = blockIdx.y * 128 + threadIdx.x;
    if (query >= s.queries || channel >= C) return;
    float sum = 0.0f;
    for (int split = 0; split * SPLIT < s.keys; split++) {
        sum += partial[(static_cast<long long>(split) * Nq + s.query + query) * C + channel];
    }
    store_gradient(dq + static_cast<long long>(s.query + query) * C + channel, scale * sum, accumulate);
}

// What a tile of queries needs beside q and dy.
struct QueryTile {
    float logsum_log2[TILE], delta[TILE];
    unsigned kept[TILE][2]; // bit c % 32 of kept[i][c / 32] for the block's key c
};

//@ attention_bwd_kv tensor_cores: grid keys/64, heads; block 128; registers 168; tensor cores
extern "C" __global__ void __launch_bounds__(128, 3)
    attention_bwd_kv_tensor_cores(T* dk, int accumulate_dk, T* dv, int accumulate_dv, const T* dy, const T* q,
                                  const T* k, const T* v, const float* logsumexp, const float* delta,
                                  const Segment* segments, Philox philox, float dropout, float scale, int S, int Nk,
                                  int heads, int C) {
    __shared__ alignas(16) Tile tiles[2][2]; // two stages of queries and gradients
    __shared__ alignas(16) QueryTile statistics[2];
    int first_row = blockIdx.x * TILE, head = blockIdx.y, lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16;
    float scale_log2 = scale * LOG2_E, keep_scale = 1.0f / (1.0f - dropout);
    dy += head * D, q += head * D, k += head * D, v += head * D;

    copy_rows(tiles[0][0], k, first_row, Nk, C);
    copy_rows(tiles[0][1], v, first_row, Nk, C);
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    unsigned k_fragment[D / 16][4], v_fragment[D / 16][4];
    load_rows(k_fragment, tiles[0][0], warp_row, lane);
    load_rows(v_fragment, tiles[0][1], warp_row, lane);

    float dk_sum[D / 8][4] = {}, dv_sum[D / 8][4] = {};
    for (int segment = 0; segment < S; segment++) {
        Segment s = segments[segment];
        int first_key = first_row - s.key; // of the block, counted from the segment's first; may be negative
        if (first_key + TILE <= 0 || first_key >= s.keys) continue;
        bool in_warp = first_key + warp_row + 16 > 0 && first_key + warp_row < s.keys, inside[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int key = first_key + warp_row + lane / 4 + r * 8;
            inside[r] = key >= 0 && key < s.keys;
        }
        Mask mask(philox, dropout, segment, heads, head, s.keys);
        auto load_queries = [&](int stage, int query) {
            copy_rows(tiles[stage][0], q + static_cast<long long>(s.query) * C, query, s.queries, C);
            copy_rows(tiles[stage][1], dy + static_cast<long long>(s.query) * C, query, s.queries, C);
            commit_copies();
            int i = threadIdx.x / 2, half = threadIdx.x % 2; // two threads a query
            if (dropout > 0.0f) statistics[stage].kept[i][half] = mask.keep_bits(query + i, first_key + half * 32);
            long long at = static_cast<long long>(s.query + query + i) * heads + head;
            bool is_query = query + i < s.queries;
            if (half == 0) statistics[stage].logsum_log2[i] = is_query ? logsumexp[at] * LOG2_E : infinity();
            else statistics[stage].delta[i] = is_query ? delta[at] : 0.0f;
        };
        __syncthreads(); // what came before is used up
        load_queries(0, 0);
        for (int query = 0, stage = 0; query < s.queries; query += TILE, stage ^= 1) {
            wait_copies<0>();
            __syncthreads(); // this stage is there, and the other is used up
            if (query + TILE < s.queries) load_queries(stage ^ 1, query + TILE);
            if (!in_warp) continue; // only loads for the others
            const QueryTile& rows = statistics[stage];
#pragma unroll 1 // unrolled, it would take twice the registers
            for (int first = 0; first < TILE; first += CHUNK) {
                if (query + first >= s.queries) break;
                float p[CHUNK / 8][4] = {}, ds[CHUNK / 8][4] = {}; // (key, query)
                add_transposed_product<CHUNK>(p, k_fragment, tiles[stage][0], first, lane);
                add_transposed_product<CHUNK>(ds, v_fragment, tiles[stage][1], first, lane);
#pragma unroll
                for (int j = 0; j < CHUNK / 8; j++) {
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        int i = first + j * 8 + lane % 4 * 2 + e % 2, r = e / 2;
                        float weight = fast_exp2(p[j][e] * scale_log2 - rows.logsum_log2[i]);
                        if (!inside[r]) weight = 0.0f;
                        bool keep = true;
                        if (dropout > 0.0f) keep = rows.kept[i][warp_row / 32] >> (warp_row % 32 + lane / 4 + r * 8) & 1;
                        ds[j][e] = weight * ((keep ? ds[j][e] * keep_scale : 0.0f) - rows.delta[i]);
                        p[j][e] = keep ? weight : 0.0f;
                    }
                }
                unsigned operand[CHUNK / 16][4];
                pack_rows(operand, p);
                add_product<CHUNK>(dv_sum, operand, tiles[stage][1], first, lane);
                pack_rows(operand, ds);
                add_product<CHUNK>(dk_sum, operand, tiles[stage][0], first, lane);
            }
        }
    }

#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = first_row + warp_row + lane / 4 + r * 8;
        if (row >= Nk) continue;
        long long start = static_cast<long long>(row) * C + head * D + lane % 4 * 2;
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
            float* k_pair = &dk_sum[d][2 * r];
            float* v_pair = &dv_sum[d][2 * r];
            if (dk) store_pair(dk + start + d * 8, scale * k_pair[0], scale * k_pair[1], accumulate_dk);
            if (dv) store_pair(dv + start + d * 8, keep_scale * v_pair[0], keep_scale * v_pair[1], accumulate_dv);
        }
    }
}
