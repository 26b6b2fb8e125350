// Contrastive alignment of queries (L, B, Q, C) and tokens (B, N, C) in every image of every decoder layer, a problem each.
// Products in tiles; of the logits (Q, N) a block takes first the rows, a warp a query, then the columns, a lane a token.
// Saved: the derivative by the logits of a problem's loss, in the logits' place.

#include "dtype.cuh"
#include "exp.cuh"
#include "matching.cuh"
#include "product.cuh"

constexpr int WARPS = 16;

struct Sizes {
    int L, B, Q, N, C;

    __device__ Matrix queries(const float* x, int problem) const {
        return {x + static_cast<long long>(problem) * Q * C, Q, C, false};
    }
    __device__ Matrix tokens(const float* x, int image) const {
        return {x + static_cast<long long>(image) * N * C, N, C, false};
    }
    __device__ Matrix logits(const float* x, int problem) const {
        return {x + static_cast<long long>(problem) * Q * N, Q, N, false};
    }
};

__device__ Matrix transposed(const Matrix& a) { return {a.x, a.columns, a.rows, !a.is_transposed}; }

// logits (L, B, Q, N) = queries tokens^T / temperature.
//@ contrastive_align_loss_logits tiles: grid queries/32, tokens/32, problems; block 256; registers 72
extern "C" __global__ void __launch_bounds__(256)
    contrastive_align_loss_logits_tiles(float* logits, const float* queries, const float* tokens, float temperature,
                                        int L, int B, int Q, int N, int C) {
    Sizes sizes = {L, B, Q, N, C};
    int problem = blockIdx.z;
    Tile tile(blockIdx.x * TILE, blockIdx.y * TILE);
    tile.add_product(1.0f, sizes.queries(queries, problem), transposed(sizes.tokens(tokens, problem % B)));
    logits += static_cast<long long>(problem) * Q * N;
    tile.for_each(Q, N, [&](int q, int n, float dot) { logits[q * N + n] = dot / temperature; });
}

//@ contrastive_align_loss_logits naive: grid queries/16, tokens/16, problems; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    contrastive_align_loss_logits_naive(float* logits, const float* queries, const float* tokens, float temperature,
                                        int L, int B, int Q, int N, int C) {
    Sizes sizes = {L, B, Q, N, C};
    int problem = blockIdx.z, q = blockIdx.x * 16 + threadIdx.x / 16, n = blockIdx.y * 16 + threadIdx.x % 16;
    if (q >= Q || n >= N) return;
    Matrix tokens_of_image = sizes.tokens(tokens, problem % B);
    float dot = product_element(sizes.queries(queries, problem), transposed(tokens_of_image), q, n);
    logits[static_cast<long long>(problem) * Q * N + q * N + n] = dot / temperature;
}

// What a row or a column of logits adds to the loss, normalizer / 2 - share (positives . logits), and what its derivative
// needs. Without a positive it adds nothing: all of its probabilities are 0.
struct Line {
    float normalizer = infinity(), share = 0.0f, loss = 0.0f;

    __device__ Line() {}
    __device__ Line(float logsumexp, float positives, float dot) {
        if (positives == 0.0f) return;
        normalizer = logsumexp, share = 0.5f / (positives + 1e-6f), loss = 0.5f * normalizer - share * dot;
    }
};

// From a lane of every warp to that lane of all warps.
template <class F> __device__ inline float over_warps(float x, F f) {
    __shared__ float values[WARPS][32];
    int lane = threadIdx.x % 32;
    __syncthreads(); // those of an earlier call are used up
    values[threadIdx.x / 32][lane] = x;
    __syncthreads();
    float y = values[0][lane];
    for (int warp = 1; warp < WARPS; warp++) y = f(y, values[warp][lane]);
    return y;
}
__device__ inline float sum_over_warps(float x) {
    return over_warps(x, [](float a, float b) { return a + b; });
}

// loss (L, B); coefficients (L, B, Q, N): logits before, their derivative after. Scratch: (normalizer, share) and target of
// every query. align_map (T, N), of which the first token_count columns are there.
//@ contrastive_align_loss_fwd block: grid problems; block 512; registers 72
extern "C" __global__ void __launch_bounds__(512)
    contrastive_align_loss_fwd_block(float* loss, float* coefficients, float2* of_query, int* target_of_query_,
                                     const float* align_map, const int* token_count, const int* matches,
                                     const int* image_of_target, int B, int Q, int N, int T) {
    int problem = blockIdx.x, layer = problem / B, image = problem % B, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float* x = coefficients + static_cast<long long>(problem) * Q * N;
    of_query += static_cast<long long>(problem) * Q, target_of_query_ += static_cast<long long>(problem) * Q;
    matches += static_cast<long long>(layer) * T;
    float sum = 0.0f;
    int there = *token_count;
    for (int q = warp; q < Q; q += WARPS) {
        int t = target_of_query(matches, image_of_target, image, q, T);
        Line line;
        if (t >= 0) {
            float positives = 0.0f, dot = 0.0f;
            for_each_of_lane(align_map + static_cast<long long>(t) * N, there, [&](int n, float positive) {
                positives += positive;
                dot += positive * x[q * N + n];
            });
            line = Line(warp_logsumexp(x + q * N, there), warp_sum(positives), warp_sum(dot));
        }
        if (lane == 0) of_query[q] = {line.normalizer, line.share}, target_of_query_[q] = t, sum += line.loss;
    }
    __syncthreads();
    for (int first = 0; first < N; first += 32) {
        // Each warp has some queries, so that a row's 32 logits are read together.
        int n = first + lane, end = n < N ? Q : 0;
        auto positive = [&](int q) {
            int t = target_of_query_[q];
            return t < 0 || n >= there ? 0.0f : align_map[static_cast<long long>(t) * N + n];
        };
        float max = -infinity(), exponentials = 0.0f, positives = 0.0f, dot = 0.0f;
        for (int q = warp; q < end; q += WARPS) max = fmaxf(max, x[q * N + n]);
        max = over_warps(max, [](float a, float b) { return fmaxf(a, b); });
        for (int q = warp; q < end; q += WARPS) {
            exponentials += expf(x[q * N + n] - max);
            positives += positive(q);
            dot += positive(q) * x[q * N + n];
        }
        exponentials = sum_over_warps(exponentials), positives = sum_over_warps(positives), dot = sum_over_warps(dot);
        Line line(max + logf(exponentials), positives, dot);
        if (warp == 0) sum += line.loss;
        for (int q = warp; q < end; q += WARPS) {
            float logit = x[q * N + n];
            auto [normalizer, share] = of_query[q];
            float d = 0.5f * (expf(logit - normalizer) + expf(logit - line.normalizer)) - (share + line.share) * positive(q);
            x[q * N + n] = n < there ? d : 0.0f;
        }
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) loss[problem] = sum;
}

// A thread a query, then a thread a token.
//@ contrastive_align_loss_fwd naive: grid problems; block 128; registers 56
extern "C" __global__ void __launch_bounds__(128)
    contrastive_align_loss_fwd_naive(float* loss, float* coefficients, float2* of_query, int* target_of_query_,
                                     const float* align_map, const int* token_count, const int* matches,
                                     const int* image_of_target, int B, int Q, int N, int T) {
    int problem = blockIdx.x, layer = problem / B, image = problem % B;
    float* x = coefficients + static_cast<long long>(problem) * Q * N;
    of_query += static_cast<long long>(problem) * Q, target_of_query_ += static_cast<long long>(problem) * Q;
    auto positive = [&](int q, int n) {
        int t = target_of_query_[q];
        return t < 0 ? 0.0f : align_map[static_cast<long long>(t) * N + n];
    };
    float sum = 0.0f;
    int there = *token_count;
    for (int q = threadIdx.x; q < Q; q += 128) {
        target_of_query_[q] = -1;
        for (int t = 0; t < T; t++) {
            if (matches[static_cast<long long>(layer) * T + t] == q && image_of_target[t] == image) target_of_query_[q] = t;
        }
        float max = -infinity(), exponentials = 0.0f, positives = 0.0f, dot = 0.0f;
        for (int n = 0; n < there; n++) max = fmaxf(max, x[q * N + n]);
        for (int n = 0; n < there; n++) {
            exponentials += expf(x[q * N + n] - max);
            positives += positive(q, n);
            dot += positive(q, n) * x[q * N + n];
        }
        Line line(max + logf(exponentials), positives, dot);
        of_query[q] = {line.normalizer, line.share};
        sum += line.loss;
    }
    __syncthreads();
    for (int n = threadIdx.x; n < there; n += 128) {
        float max = -infinity(), exponentials = 0.0f, positives = 0.0f, dot = 0.0f;
        for (int q = 0; q < Q; q++) max = fmaxf(max, x[q * N + n]);
        for (int q = 0; q < Q; q++) {
            exponentials += expf(x[q * N + n] - max);
            positives += positive(q, n);
            dot += positive(q, n) * x[q * N + n];
        }
        Line line(max + logf(exponentials), positives, dot);
        sum += line.loss;
        for (int q = 0; q < Q; q++) {
            float logit = x[q * N + n];
            auto [normalizer, share] = of_query[q];
            x[q * N + n] = 0.5f * (expf(logit - normalizer) + expf(logit - line.normalizer)) -
                           (share + line.share) * positive(q, n);
        }
    }
    for (int n = there + threadIdx.x; n < N; n += 128) {
        for (int q = 0; q < Q; q++) x[q * N + n] = 0.0f;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) loss[problem] = sum;
}

// loss (L) = the sum of its images' over num_boxes, a warp a layer.
//@ contrastive_align_loss_sum layer: grid layers; block 32; registers 48
extern "C" __global__ void __launch_bounds__(32)
    contrastive_align_loss_sum_layer(float* loss, const float* of_image, const float* num_boxes, int B) {
    float sum = 0.0f;
    for (int image = threadIdx.x; image < B; image += 32) sum += of_image[static_cast<long long>(blockIdx.x) * B + image];
    sum = warp_sum(sum);
    if (threadIdx.x == 0) loss[blockIdx.x] = sum / *num_boxes;
}

// dqueries = dloss / (temperature num_boxes) coefficients tokens.
//@ contrastive_align_loss_bwd_queries tiles: grid queries/32, channels/32, problems; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    contrastive_align_loss_bwd_queries_tiles(float* dqueries, int accumulate, const float* dloss, const float* tokens,
                                             const float* coefficients, const float* num_boxes, float temperature, int L,
                                             int B, int Q, int N, int C) {
    Sizes sizes = {L, B, Q, N, C};
    int problem = blockIdx.z;
    Tile tile(blockIdx.x * TILE, blockIdx.y * TILE);
    tile.add_product(dloss[problem / B] / (temperature * *num_boxes), sizes.logits(coefficients, problem),
                     sizes.tokens(tokens, problem % B));
    dqueries += static_cast<long long>(problem) * Q * C;
    tile.for_each(Q, C, [&](int q, int c, float d) { store_gradient(dqueries + q * C + c, d, accumulate); });
}

//@ contrastive_align_loss_bwd_queries naive: grid queries/16, channels/16, problems; block 256; registers 48
extern "C" __global__ void __launch_bounds__(256)
    contrastive_align_loss_bwd_queries_naive(float* dqueries, int accumulate, const float* dloss, const float* tokens,
                                             const float* coefficients, const float* num_boxes, float temperature, int L,
                                             int B, int Q, int N, int C) {
    Sizes sizes = {L, B, Q, N, C};
    int problem = blockIdx.z, q = blockIdx.x * 16 + threadIdx.x / 16, c = blockIdx.y * 16 + threadIdx.x % 16;
    if (q >= Q || c >= C) return;
    float scale = dloss[problem / B] / (temperature * *num_boxes);
    float d = scale * product_element(sizes.logits(coefficients, problem), sizes.tokens(tokens, problem % B), q, c);
    store_gradient(dqueries + static_cast<long long>(problem) * Q * C + q * C + c, d, accumulate);
}

// dtokens = the sum over layers, in order, of dloss / (temperature num_boxes) coefficients^T queries.
//@ contrastive_align_loss_bwd_tokens tiles: grid tokens/32, channels/32, images; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    contrastive_align_loss_bwd_tokens_tiles(float* dtokens, int accumulate, const float* dloss, const float* queries,
                                            const float* coefficients, const float* num_boxes, float temperature, int L,
                                            int B, int Q, int N, int C) {
    Sizes sizes = {L, B, Q, N, C};
    Tile tile(blockIdx.x * TILE, blockIdx.y * TILE);
    for (int layer = 0; layer < L; layer++) {
        int problem = layer * B + blockIdx.z;
        tile.add_product(dloss[layer] / (temperature * *num_boxes), transposed(sizes.logits(coefficients, problem)),
                         sizes.queries(queries, problem));
    }
    dtokens += static_cast<long long>(blockIdx.z) * N * C;
    tile.for_each(N, C, [&](int n, int c, float d) { store_gradient(dtokens + n * C + c, d, accumulate); });
}

//@ contrastive_align_loss_bwd_tokens naive: grid tokens/16, channels/16, images; block 256; registers 48
extern "C" __global__ void __launch_bounds__(256)
    contrastive_align_loss_bwd_tokens_naive(float* dtokens, int accumulate, const float* dloss, const float* queries,
                                            const float* coefficients, const float* num_boxes, float temperature, int L,
                                            int B, int Q, int N, int C) {
    Sizes sizes = {L, B, Q, N, C};
    int image = blockIdx.z, n = blockIdx.x * 16 + threadIdx.x / 16, c = blockIdx.y * 16 + threadIdx.x % 16;
    if (n >= N || c >= C) return;
    float d = 0.0f;
    for (int layer = 0; layer < L; layer++) {
        Matrix coefficients_of_token = transposed(sizes.logits(coefficients, layer * B + image));
        d += dloss[layer] / (temperature * *num_boxes) *
             product_element(coefficients_of_token, sizes.queries(queries, layer * B + image), n, c);
    }
    store_gradient(dtokens + static_cast<long long>(image) * N * C + n * C + c, d, accumulate);
}
