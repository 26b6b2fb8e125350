// Attention of any head_dim, to follow: y = softmax(scale q k^T) v per segment and head, and its gradients.
// A warp a query (in backward for k and v: a key). Its lanes first are 32 keys (queries), then 32 channels.
// Saved: the logsumexp of every query and head (Nq, heads), from which backward computes the probabilities again.

#include "attention.cuh"
#include "dtype.cuh"
#include "reduce.cuh"

__device__ float dot(const T* a, const T* b, int D) {
    float sum = 0.0f;
    for (int d = 0; d < D; d++) sum += to_float(a[d]) * to_float(b[d]);
    return sum;
}

//@ attention_fwd naive: grid queries/8, heads, segments; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    attention_fwd_naive(T* y, float* logsumexp, const T* q, const T* k, const T* v, const Segment* segments,
                        Philox philox, float dropout, float scale, int heads, int C) {
    Segment s = segments[blockIdx.z];
    int query = blockIdx.x * 8 + threadIdx.x / 32, head = blockIdx.y, lane = threadIdx.x % 32, D = C / heads;
    if (query >= s.queries) return;
    long long row = s.query + query, first = static_cast<long long>(s.key) * C + head * D;
    q += row * C + head * D, y += row * C + head * D, k += first, v += first;
    Mask mask(philox, dropout, blockIdx.z, heads, head, s.keys);

    // Every lane sums over its keys, relative to the largest score so far.
    float max = -infinity(), sum = 0.0f;
    for (int key = lane; key < s.keys; key += 32) {
        float score = scale * dot(q, k + static_cast<long long>(key) * C, D), larger = fmaxf(max, score);
        sum = sum * expf(max - larger) + expf(score - larger);
        max = larger;
    }
    float row_max = warp_max(max);
    sum = warp_sum(max == -infinity() ? 0.0f : sum * expf(max - row_max));
    float logsum = s.keys > 0 ? row_max + logf(sum) : 0.0f;
    if (lane == 0) logsumexp[row * heads + head] = logsum;

    for (int channels = 0; channels < D; channels += 32) {
        float out = 0.0f;
        for (int keys = 0; keys < s.keys; keys += 32) {
            int key = keys + lane;
            float p = 0.0f;
            if (key < s.keys) {
                float score = scale * dot(q, k + static_cast<long long>(key) * C, D);
                p = expf(score - logsum) * mask.keep(query, key);
            }
            for (int i = 0; i < 32 && keys + i < s.keys; i++) {
                float weight = __shfl_sync(ALL_LANES, p, i);
                long long at = static_cast<long long>(keys + i) * C + channels + lane;
                if (channels + lane < D) out += weight * to_float(v[at]);
            }
        }
        if (channels + lane < D) y[channels + lane] = from_float<T>(out);
    }
}

// delta (Nq, heads): the sum of dy y over a head's channels. Eight lanes a sum.
//@ attention_bwd_delta lanes: grid sums/32; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    attention_bwd_delta_lanes(float* delta, const T* dy, const T* y, int sums, int D) {
    int i = blockIdx.x * 32 + threadIdx.x / 8, lane = threadIdx.x % 8;
    long long start = static_cast<long long>(i) * D;
    constexpr int V = VECTOR<T>;
    float sum = 0.0f;
    if (i < sums && D % V == 0 && is_vector_aligned(dy) && is_vector_aligned(y)) {
        for (int d = lane * V; d < D; d += 8 * V) {
            float a[V], b[V];
            load_vector(a, dy + start + d);
            load_vector(b, y + start + d);
#pragma unroll
            for (int j = 0; j < V; j++) sum += a[j] * b[j];
        }
    } else if (i < sums) {
        for (int d = lane; d < D; d += 8) sum += to_float(dy[start + d]) * to_float(y[start + d]);
    }
#pragma unroll
    for (int step = 4; step > 0; step /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, step);
    if (i < sums && lane == 0) delta[i] = sum;
}

// With P the probabilities, m their dropout mask, dP = (dy v^T) m and dS = P (dP - delta): dq = scale dS k.
//@ attention_bwd_q naive: grid queries/8, heads, segments; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    attention_bwd_q_naive(T* dq, int accumulate, const T* dy, const T* q, const T* k, const T* v,
                          const float* logsumexp, const float* delta, const Segment* segments, Philox philox,
                          float dropout, float scale, int heads, int C) {
    Segment s = segments[blockIdx.z];
    int query = blockIdx.x * 8 + threadIdx.x / 32, head = blockIdx.y, lane = threadIdx.x % 32, D = C / heads;
    if (query >= s.queries) return;
    long long row = s.query + query, start = row * C + head * D, first = static_cast<long long>(s.key) * C + head * D;
    dq += start, dy += start, q += start, k += first, v += first;
    Mask mask(philox, dropout, blockIdx.z, heads, head, s.keys);

    for (int channels = 0; channels < D; channels += 32) {
        float out = 0.0f;
        for (int keys = 0; keys < s.keys; keys += 32) {
            int key = keys + lane;
            float ds = 0.0f;
            if (key < s.keys) {
                long long at = static_cast<long long>(key) * C;
                float p = expf(scale * dot(q, k + at, D) - logsumexp[row * heads + head]);
                ds = p * (dot(dy, v + at, D) * mask.keep(query, key) - delta[row * heads + head]);
            }
            for (int i = 0; i < 32 && keys + i < s.keys; i++) {
                float weight = __shfl_sync(ALL_LANES, ds, i);
                long long at = static_cast<long long>(keys + i) * C + channels + lane;
                if (channels + lane < D) out += weight * to_float(k[at]);
            }
        }
        if (channels + lane < D) store_gradient(dq + channels + lane, scale * out, accumulate);
    }
}

// dk = scale dS^T q and dv = (P m)^T dy, summed over all segments that see the key; zeros where none does.
//@ attention_bwd_kv naive: grid keys/8, heads; block 256; registers 72
extern "C" __global__ void __launch_bounds__(256)
    attention_bwd_kv_naive(T* dk, int accumulate_dk, T* dv, int accumulate_dv, const T* dy, const T* q, const T* k,
                           const T* v, const float* logsumexp, const float* delta, const Segment* segments,
                           Philox philox, float dropout, float scale, int S, int Nk, int heads, int C) {
    int row = blockIdx.x * 8 + threadIdx.x / 32, head = blockIdx.y, lane = threadIdx.x % 32, D = C / heads;
    if (row >= Nk) return;
    long long start = static_cast<long long>(row) * C + head * D;
    k += start, v += start;

    for (int channels = 0; channels < D; channels += 32) {
        float k_sum = 0.0f, v_sum = 0.0f;
        for (int segment = 0; segment < S; segment++) {
            Segment s = segments[segment];
            int key = row - s.key;
            if (key < 0 || key >= s.keys) continue;
            Mask mask(philox, dropout, segment, heads, head, s.keys);
            long long first = static_cast<long long>(s.query) * C + head * D;
            for (int queries = 0; queries < s.queries; queries += 32) {
                int query = queries + lane;
                float p = 0.0f, ds = 0.0f;
                if (query < s.queries) {
                    long long at = first + static_cast<long long>(query) * C;
                    long long i = static_cast<long long>(s.query + query) * heads + head;
                    float keep = mask.keep(query, key);
                    p = expf(scale * dot(q + at, k, D) - logsumexp[i]);
                    ds = p * (dot(dy + at, v, D) * keep - delta[i]);
                    p *= keep;
                }
                for (int i = 0; i < 32 && queries + i < s.queries; i++) {
                    float k_weight = __shfl_sync(ALL_LANES, ds, i), v_weight = __shfl_sync(ALL_LANES, p, i);
                    long long at = first + static_cast<long long>(queries + i) * C + channels + lane;
                    if (channels + lane < D) {
                        k_sum += k_weight * to_float(q[at]);
                        v_sum += v_weight * to_float(dy[at]);
                    }
                }
            }
        }
        int d = channels + lane;
        if (d < D && dk) store_gradient(dk + start + d, scale * k_sum, accumulate_dk);
        if (d < D && dv) store_gradient(dv + start + d, v_sum, accumulate_dv);
    }
}
