// The sizes of a convolution, by value: x (B, H, W, I), w (O, KH, KW, I), y (B, OH, OW, O), NHWC.
#pragma once

struct Sizes {
    int B, H, W, I, O, KH, KW, OH, OW, stride, padding, dilation;

    __device__ int outputs() const { return B * OH * OW; }
    __device__ int inputs() const { return B * H * W; }
    // Products that an output sums.
    __device__ int depth() const { return KH * KW * I; }

    // The pixel of x that a tap of an output pixel sees; -1 outside of the image.
    __device__ int input_of(int output, int kh, int kw) const {
        int row = output / OW % OH * stride + kh * dilation - padding;
        int column = output % OW * stride + kw * dilation - padding;
        bool inside = row >= 0 && row < H && column >= 0 && column < W;
        return inside ? (output / (OH * OW) * H + row) * W + column : -1;
    }

    // The output pixel that sees a pixel of x by a tap; -1 if none does.
    __device__ int output_of(int input, int kh, int kw) const {
        int row = input / W % H + padding - kh * dilation, column = input % W + padding - kw * dilation;
        bool seen = row >= 0 && column >= 0 && row % stride == 0 && column % stride == 0;
        row /= stride, column /= stride;
        return seen && row < OH && column < OW ? (input / (H * W) * OH + row) * OW + column : -1;
    }
};
