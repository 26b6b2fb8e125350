// A contrastive loss between phrases (P, C) and the grid cells of images, features (N, C); cells (B + 1) are the images'.
// Products in tiles; a block a phrase makes its loss and derivative, its warps over images.
// Saved: the derivative of the loss by the cosines, coefficients (P, N), in the logits' place.

#include "dtype.cuh"
#include "exp.cuh"
#include "product.cuh"

// logits (P, N) = scale phrases features^T.
//@ caption_contrastive_loss_logits tiles: grid phrases/32, cells/32; block 256; registers 72
extern "C" __global__ void __launch_bounds__(256)
    caption_contrastive_loss_logits_tiles(float* logits, const float* features, const float* phrases, float scale, int P,
                                          int N, int C) {
    Tile tile(blockIdx.x * TILE, blockIdx.y * TILE);
    tile.add_product(scale, {phrases, P, C, false}, {features, C, N, true});
    tile.for_each(P, N, [&](int p, int n, float logit) { logits[static_cast<long long>(p) * N + n] = logit; });
}

//@ caption_contrastive_loss_logits naive: grid phrases/16, cells/16; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    caption_contrastive_loss_logits_naive(float* logits, const float* features, const float* phrases, float scale, int P,
                                          int N, int C) {
    int p = blockIdx.x * 16 + threadIdx.x / 16, n = blockIdx.y * 16 + threadIdx.x % 16;
    if (p >= P || n >= N) return;
    float cosine = product_element({phrases, P, C, false}, {features, C, N, true}, p, n);
    logits[static_cast<long long>(p) * N + n] = scale * cosine;
}

// loss (P); coefficients (P, N): logits before, the derivative after. Scratch: scores (P, B), -infinity for images that are
// not compared. image_of_phrase (P), candidates (P, B).
//@ caption_contrastive_loss_fwd phrase: grid phrases; block 256; registers 56
extern "C" __global__ void __launch_bounds__(256)
    caption_contrastive_loss_fwd_phrase(float* loss, float* coefficients, float* scores, const int* image_of_phrase,
                                        const int* candidates, const int* cells, float scale, float divisor, int P, int N,
                                        int B) {
    int p = blockIdx.x, own = image_of_phrase[p], warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float* x = coefficients + static_cast<long long>(p) * N;
    scores += static_cast<long long>(p) * B, candidates += static_cast<long long>(p) * B;
    for (int b = warp; b < B; b += 8) {
        float normalizer = warp_logsumexp(x + cells[b], cells[b + 1] - cells[b]);
        if (lane == 0) scores[b] = b == own || candidates[b] != 0 ? normalizer / divisor : -infinity();
    }
    __syncthreads();
    float total = warp_logsumexp(scores, B);
    for (int b = warp; b < B; b += 8) {
        float score = scores[b];
        bool is_compared = b == own || candidates[b] != 0;
        float d_score = (expf(score - total) - (b == own)) / P * scale / divisor;
        for (int n = cells[b] + lane; n < cells[b + 1]; n += 32) {
            x[n] = is_compared ? d_score * expf(x[n] - divisor * score) : 0.0f;
        }
    }
    if (threadIdx.x == 0) loss[p] = (total - scores[own]) / P;
}

// loss () = the sum of the phrases'; 0 without any.
//@ caption_contrastive_loss_sum block: grid 1; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    caption_contrastive_loss_sum_block(float* loss, const float* of_phrase, int P) {
    float sum = 0.0f;
    for (int p = threadIdx.x; p < P; p += 256) sum += of_phrase[p];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *loss = sum;
}

// dfeatures (N, C) = dloss coefficients^T phrases.
//@ caption_contrastive_loss_bwd_features tiles: grid cells/32, channels/32; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    caption_contrastive_loss_bwd_features_tiles(float* dfeatures, int accumulate, const float* dloss,
                                                const float* phrases, const float* coefficients, int P, int N, int C) {
    Tile tile(blockIdx.x * TILE, blockIdx.y * TILE);
    tile.add_product(*dloss, {coefficients, N, P, true}, {phrases, P, C, false});
    tile.for_each(N, C, [&](int n, int c, float d) {
        store_gradient(dfeatures + static_cast<long long>(n) * C + c, d, accumulate);
    });
}

//@ caption_contrastive_loss_bwd_features naive: grid cells/16, channels/16; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    caption_contrastive_loss_bwd_features_naive(float* dfeatures, int accumulate, const float* dloss,
                                                const float* phrases, const float* coefficients, int P, int N, int C) {
    int n = blockIdx.x * 16 + threadIdx.x / 16, c = blockIdx.y * 16 + threadIdx.x % 16;
    if (n >= N || c >= C) return;
    float d = *dloss * product_element({coefficients, N, P, true}, {phrases, P, C, false}, n, c);
    store_gradient(dfeatures + static_cast<long long>(n) * C + c, d, accumulate);
}

// dphrases (P, C) = dloss coefficients features.
//@ caption_contrastive_loss_bwd_phrases tiles: grid phrases/32, channels/32; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    caption_contrastive_loss_bwd_phrases_tiles(float* dphrases, int accumulate, const float* dloss,
                                               const float* features, const float* coefficients, int P, int N, int C) {
    Tile tile(blockIdx.x * TILE, blockIdx.y * TILE);
    tile.add_product(*dloss, {coefficients, P, N, false}, {features, N, C, false});
    tile.for_each(P, C, [&](int p, int c, float d) {
        store_gradient(dphrases + static_cast<long long>(p) * C + c, d, accumulate);
    });
}

//@ caption_contrastive_loss_bwd_phrases naive: grid phrases/16, channels/16; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    caption_contrastive_loss_bwd_phrases_naive(float* dphrases, int accumulate, const float* dloss,
                                               const float* features, const float* coefficients, int P, int N, int C) {
    int p = blockIdx.x * 16 + threadIdx.x / 16, c = blockIdx.y * 16 + threadIdx.x % 16;
    if (p >= P || c >= C) return;
    float d = *dloss * product_element({coefficients, P, N, false}, {features, N, C, false}, p, c);
    store_gradient(dphrases + static_cast<long long>(p) * C + c, d, accumulate);
}
