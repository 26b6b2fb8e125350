// Soft-token cross entropy and cardinality error of decoder layers: logits (L, B, Q, K), positive_map (T, K).
// A warp a query (naive: a thread), then a block a layer sums its queries in a fixed order.
// Saved: of each query its target (-1: no object) and its logits' logsumexp.

#include "dtype.cuh"
#include "exp.cuh"
#include "matching.cuh"

// row_loss, is_object, normalizer, target_of_row: one a query, (L, B, Q).
//@ soft_token_loss_fwd warp: grid rows/8; block 256; registers 48
extern "C" __global__ void __launch_bounds__(256)
    soft_token_loss_fwd_warp(float* row_loss, int* is_object, float* normalizer, int* target_of_row,
                             const float* logits, const float* positive_map, const int* matches,
                             const int* image_of_target, float eos_coef, int rows, int B, int Q, int K, int T) {
    int row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const float* x = logits + static_cast<long long>(row) * K;
    int layer = row / Q / B, image = row / Q % B;
    int t = target_of_query(matches + static_cast<long long>(layer) * T, image_of_target, image, row % Q, T);
    float total = warp_logsumexp(x, K), no_object = x[K - 1];
    bool object = false; // of equal logits the first is the argmax
    for_each_of_lane(x, K, [&](int i, float v) { object |= i < K - 1 && v >= no_object; });
    object = __any_sync(ALL_LANES, object);
    float loss = eos_coef * (total - no_object);
    if (t >= 0) {
        const float* target = positive_map + static_cast<long long>(t) * K;
        float sum = 0.0f;
        for_each_of_lane(x, K, [&](int i, float v) { sum += target[i] * (total - v); });
        loss = warp_sum(sum);
    }
    if (lane == 0) row_loss[row] = loss, is_object[row] = object, normalizer[row] = total, target_of_row[row] = t;
}

//@ soft_token_loss_fwd naive: grid rows/128; block 128; registers 48
extern "C" __global__ void __launch_bounds__(128)
    soft_token_loss_fwd_naive(float* row_loss, int* is_object, float* normalizer, int* target_of_row,
                              const float* logits, const float* positive_map, const int* matches,
                              const int* image_of_target, float eos_coef, int rows, int B, int Q, int K, int T) {
    int row = blockIdx.x * 128 + threadIdx.x;
    if (row >= rows) return;
    const float* x = logits + static_cast<long long>(row) * K;
    int layer = row / Q / B, image = row / Q % B, query = row % Q, t = -1;
    for (int i = 0; i < T; i++) {
        if (matches[static_cast<long long>(layer) * T + i] == query && image_of_target[i] == image) t = i;
    }
    float max = -infinity(), sum = 0.0f, loss = 0.0f;
    for (int i = 0; i < K; i++) max = fmaxf(max, x[i]);
    for (int i = 0; i < K; i++) sum += expf(x[i] - max);
    float total = max + logf(sum);
    bool object = false;
    for (int i = 0; i < K - 1; i++) object |= x[i] >= x[K - 1];
    if (t < 0) {
        loss = eos_coef * (total - x[K - 1]);
    } else {
        for (int i = 0; i < K; i++) loss += positive_map[static_cast<long long>(t) * K + i] * (total - x[i]);
    }
    row_loss[row] = loss, is_object[row] = object, normalizer[row] = total, target_of_row[row] = t;
}

// loss (L): the rows' sum over num_boxes; cardinality (L): the mean over images of |objects - targets|, a warp an image.
//@ soft_token_loss_sum layer: grid layers; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    soft_token_loss_sum_layer(float* loss, float* cardinality, const float* row_loss, const int* is_object,
                              const int* image_of_target, const float* num_boxes, int B, int Q, int T) {
    long long start = static_cast<long long>(blockIdx.x) * B * Q;
    row_loss += start, is_object += start;
    float sum = 0.0f, error = 0.0f;
    for (int i = threadIdx.x; i < B * Q; i += 256) sum += row_loss[i];
    int lane = threadIdx.x % 32;
    for (int image = threadIdx.x / 32; image < B; image += 8) {
        int excess = 0;
        for (int q = lane; q < Q; q += 32) excess += is_object[image * Q + q];
        for (int t = lane; t < T; t += 32) excess -= image_of_target[t] == image;
        excess = __reduce_add_sync(ALL_LANES, excess);
        if (lane == 0) error += abs(excess);
    }
    sum = block_sum(sum), error = block_sum(error);
    if (threadIdx.x == 0) loss[blockIdx.x] = sum / *num_boxes, cardinality[blockIdx.x] = error / max(B, 1);
}

// dlogits = dloss / num_boxes weight (softmax sum(target) - target); dloss (L) may be null: zeros.
//@ soft_token_loss_bwd warp: grid rows/8; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    soft_token_loss_bwd_warp(float* dlogits, int accumulate, const float* dloss, const float* logits,
                             const float* positive_map, const int* target_of_row, const float* normalizer,
                             const float* num_boxes, float eos_coef, int rows, int rows_of_layer, int K) {
    int row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const float* x = logits + static_cast<long long>(row) * K;
    float* dx = dlogits + static_cast<long long>(row) * K;
    float scale = dloss ? dloss[row / rows_of_layer] / *num_boxes : 0.0f, total = normalizer[row];
    int t = target_of_row[row];
    if (t < 0) {
        scale *= eos_coef;
        for (int i = lane; i < K; i += 32) {
            store_gradient(dx + i, scale * (expf(x[i] - total) - (i == K - 1)), accumulate);
        }
    } else {
        const float* target = positive_map + static_cast<long long>(t) * K;
        float weight = 0.0f;
        for_each_of_lane(target, K, [&](int, float v) { weight += v; });
        weight = warp_sum(weight);
        for (int i = lane; i < K; i += 32) {
            store_gradient(dx + i, scale * (weight * expf(x[i] - total) - target[i]), accumulate);
        }
    }
}

//@ soft_token_loss_bwd naive: grid rows/128; block 128; registers 40
extern "C" __global__ void __launch_bounds__(128)
    soft_token_loss_bwd_naive(float* dlogits, int accumulate, const float* dloss, const float* logits,
                              const float* positive_map, const int* target_of_row, const float* normalizer,
                              const float* num_boxes, float eos_coef, int rows, int rows_of_layer, int K) {
    int row = blockIdx.x * 128 + threadIdx.x;
    if (row >= rows) return;
    const float* x = logits + static_cast<long long>(row) * K;
    float* dx = dlogits + static_cast<long long>(row) * K;
    float scale = dloss ? dloss[row / rows_of_layer] / *num_boxes : 0.0f;
    int t = target_of_row[row];
    const float* target = positive_map + static_cast<long long>(t) * K; // read only where there is one
    float weight = t < 0 ? 1.0f : 0.0f;
    for (int i = 0; i < K && t >= 0; i++) weight += target[i];
    for (int i = 0; i < K; i++) {
        float wanted = t < 0 ? i == K - 1 : target[i];
        float d = scale * (t < 0 ? eos_coef : 1.0f) * (weight * expf(x[i] - normalizer[row]) - wanted);
        store_gradient(dx + i, d, accumulate);
    }
}
