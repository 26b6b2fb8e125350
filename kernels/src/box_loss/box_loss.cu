// L1 and 1 - GIoU of matched boxes and targets, summed by decoder layer: boxes (L, B, Q, 4), targets (T, 4), cxcywh.
// A block a layer, its threads over targets; backward a warp a query, which looks for its target.
// Saved: nothing but the inputs.

#include "boxes.cuh"
#include "dtype.cuh"
#include "matching.cuh"

//@ box_loss_fwd layer: grid layers; block 128; registers 48
extern "C" __global__ void __launch_bounds__(128)
    box_loss_fwd_layer(float* l1, float* giou, const float* boxes, const float* targets, const int* matches,
                       const int* image_of_target, const float* num_boxes, int B, int Q, int T) {
    int layer = blockIdx.x;
    boxes += static_cast<long long>(layer) * B * Q * 4, matches += static_cast<long long>(layer) * T;
    float distance = 0.0f, apart = 0.0f;
    for (int t = threadIdx.x; t < T; t += 128) {
        if (matches[t] < 0) continue;
        const float* box = boxes + (static_cast<long long>(image_of_target[t]) * Q + matches[t]) * 4;
        const float* target = targets + static_cast<long long>(t) * 4;
#pragma unroll
        for (int i = 0; i < 4; i++) distance += fabsf(box[i] - target[i]);
        apart += 1.0f - generalized_iou(corners(box), corners(target));
    }
    distance = block_sum(distance), apart = block_sum(apart);
    if (threadIdx.x == 0) l1[layer] = distance / *num_boxes, giou[layer] = apart / *num_boxes;
}

// dl1 or dgiou (L) may be null: zeros.
//@ box_loss_bwd warp: grid rows/8; block 256; registers 48
extern "C" __global__ void __launch_bounds__(256)
    box_loss_bwd_warp(float* dboxes, int accumulate, const float* dl1, const float* dgiou, const float* boxes,
                      const float* targets, const int* matches, const int* image_of_target, const float* num_boxes,
                      int rows, int B, int Q, int T) {
    int row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    int layer = row / Q / B, image = row / Q % B;
    int t = target_of_query(matches + static_cast<long long>(layer) * T, image_of_target, image, row % Q, T);
    if (lane > 0) return;
    const float* box = boxes + static_cast<long long>(row) * 4;
    Box d = {};
    if (t >= 0) {
        const float* target = targets + static_cast<long long>(t) * 4;
        float l1 = dl1 ? dl1[layer] : 0.0f, giou = dgiou ? dgiou[layer] : 0.0f;
        d = corners_backward(generalized_iou_backward(corners(box), corners(target)));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float sign = box[i] == target[i] ? 0.0f : copysignf(1.0f, box[i] - target[i]);
            d.edge[i] = (l1 * sign - giou * d.edge[i]) / *num_boxes;
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) store_gradient(dboxes + static_cast<long long>(row) * 4 + i, d.edge[i], accumulate);
}
