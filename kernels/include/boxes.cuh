// Box geometry: corners and generalized IoU with PyTorch's subgradients, as in boxes.rs.
#pragma once

// (x0, y0, x1, y1), or its gradient.
struct Box {
    float edge[4];
};

// From (cx, cy, w, h).
__device__ inline Box corners(const float* box) {
    float cx = box[0], cy = box[1], w = box[2], h = box[3];
    return {{cx - 0.5f * w, cy - 0.5f * h, cx + 0.5f * w, cy + 0.5f * h}};
}

// The gradient of (cx, cy, w, h) for one of the corners.
__device__ inline Box corners_backward(const Box& d) {
    auto [x0, y0, x1, y1] = d.edge;
    return {{x0 + x1, y0 + y1, 0.5f * (x1 - x0), 0.5f * (y1 - y0)}};
}

__device__ inline float area(const Box& a) { return (a.edge[2] - a.edge[0]) * (a.edge[3] - a.edge[1]); }

// Sides of the intersection and of the hull of two boxes, and the area of their union.
struct Overlap {
    float inner[2], hull[2], both;
};

__device__ inline Overlap overlap(const Box& a, const Box& b) {
    Overlap o;
#pragma unroll
    for (int axis = 0; axis < 2; axis++) {
        float a0 = a.edge[axis], a1 = a.edge[axis + 2], b0 = b.edge[axis], b1 = b.edge[axis + 2];
        o.inner[axis] = fmaxf(fminf(a1, b1) - fmaxf(a0, b0), 0.0f);
        o.hull[axis] = fmaxf(a1, b1) - fminf(a0, b0);
    }
    o.both = area(a) + area(b) - o.inner[0] * o.inner[1];
    return o;
}

// |a and b| / |a or b| - (|hull| - |a or b|) / |hull|. NaN for empty boxes.
__device__ inline float generalized_iou(const Box& a, const Box& b) {
    Overlap o = overlap(a, b);
    float hull = o.hull[0] * o.hull[1];
    return o.inner[0] * o.inner[1] / o.both - (hull - o.both) / hull;
}

// Its derivative by a. Where edges coincide each box gets half of it, and boxes that just touch count as overlapping.
__device__ inline Box generalized_iou_backward(const Box& a, const Box& b) {
    Overlap o = overlap(a, b);
    float inner_area = o.inner[0] * o.inner[1], hull_area = o.hull[0] * o.hull[1];
    Box d;
#pragma unroll
    for (int edge = 0; edge < 4; edge++) {
        int axis = edge % 2, other = 1 - axis;
        float sign = edge < 2 ? -1.0f : 1.0f;
        bool touches = fminf(a.edge[axis + 2], b.edge[axis + 2]) >= fmaxf(a.edge[axis], b.edge[axis]);
        // How much of the inner and of the outer edge is a's.
        float outwards = sign * (a.edge[edge] - b.edge[edge]);
        float outside = outwards < 0.0f ? 0.0f : outwards > 0.0f ? 1.0f : 0.5f;
        float d_inner = touches ? sign * (1.0f - outside) * o.inner[other] : 0.0f;
        float d_hull = sign * outside * o.hull[other];
        float d_both = sign * (a.edge[other + 2] - a.edge[other]) - d_inner;
        d.edge[edge] = d_inner / o.both - inner_area / (o.both * o.both) * d_both + d_both / hull_area -
                       o.both / (hull_area * hull_area) * d_hull;
    }
    return d;
}
