// The sizes of a convolution, by value: x (B, H, W, I), w (O, KH, KW, I), y (B, OH, OW, O), NHWC.
#pragma once

struct Sizes {
    int B, H, W, I, O, KH, KW, OH, OW, stride, padding, dilation;

    __device__ int outputs() const { return B * OH * OW; }
    __device__ int inputs() const { return B * H * W; }
    // Products that an output sums.
    __device__ int depth() const { return KH * KW * I; }

    // Where a pixel looks for its partners in the other image: that image's first pixel, and a place at no tap.
    struct Place {
        int start, row, column;
    };
    __device__ Place place_of_output(int output) const {
        int row = output / OW % OH, column = output % OW;
        return {output / (OH * OW) * H * W, row * stride - padding, column * stride - padding};
    }
    __device__ Place place_of_input(int input) const {
        return {input / (H * W) * OH * OW, input / W % H + padding, input % W + padding};
    }

    // The pixel of x that an output pixel sees by a tap; -1 outside of the image.
    __device__ int input_at(Place output, int kh, int kw) const {
        int row = output.row + kh * dilation, column = output.column + kw * dilation;
        bool inside = row >= 0 && row < H && column >= 0 && column < W;
        return inside ? output.start + row * W + column : -1;
    }

    // The output pixel that sees a pixel of x by a tap; -1 if none does.
    __device__ int output_at(Place input, int kh, int kw) const {
        int row = input.row - kh * dilation, column = input.column - kw * dilation;
        bool sees = row >= 0 && column >= 0 && row % stride == 0 && column % stride == 0;
        row /= stride, column /= stride;
        return sees && row < OH && column < OW ? input.start + row * OW + column : -1;
    }
};
