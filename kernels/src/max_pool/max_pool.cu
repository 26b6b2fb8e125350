// Max pooling, NHWC: y (B, OH, OW, C) = the largest of each window of x (B, H, W, C), a channel at a time.
// A thread takes 16 bytes of neighbouring channels of a pixel (naive: one element); backward looks from a pixel of x at the
// windows that may have chosen it, so nothing is added atomically. Saved: the places, pixel numbers within an image.

#include "dtype.cuh"

struct Sizes {
    int B, H, W, C, OH, OW, window, stride, padding;
};

// What a window (a row, or a column of it) covers of `size` pixels.
struct Range {
    int begin, end;
};
__device__ inline Range covered(const Sizes& s, int at, int size) {
    int start = at * s.stride - s.padding;
    return {max(start, 0), min(start + s.window, size)};
}
// The windows, of `outputs`, that cover a row (or a column) of x.
__device__ inline Range covering(const Sizes& s, int at, int outputs) {
    int first = at + s.padding + 1 - s.window;
    return {first <= 0 ? 0 : (first + s.stride - 1) / s.stride, min((at + s.padding) / s.stride + 1, outputs)};
}

// V neighbouring places, in vectors of four.
template <int V> __device__ inline void copy_places(int* to, const int* from) {
    if constexpr (V == 1) *to = *from;
    else {
#pragma unroll
        for (int v = 0; v < V; v += 4) *reinterpret_cast<int4*>(to + v) = *reinterpret_cast<const int4*>(from + v);
    }
}

// The first place of the maximum wins, and of NaNs the last.
template <int V>
__device__ inline void forward(T* y, int* places, const T* x, const Sizes& s, long long thread) {
    int chunks = s.C / V, c = thread % chunks * V;
    long long output = thread / chunks;
    if (output >= static_cast<long long>(s.B) * s.OH * s.OW) return;
    Range rows = covered(s, output / s.OW % s.OH, s.H), columns = covered(s, output % s.OW, s.W);
    x += output / (s.OH * s.OW) * s.H * s.W * s.C + c;
    float best[V], value[V];
    alignas(16) int place[V];
    bool first = true;
    for (int row = rows.begin; row < rows.end; row++) {
        for (int column = columns.begin; column < columns.end; column++, first = false) {
            int pixel = row * s.W + column;
            load_elements(value, x + static_cast<long long>(pixel) * s.C);
#pragma unroll
            for (int v = 0; v < V; v++) {
                if (!first && !(value[v] > best[v] || value[v] != value[v])) continue;
                best[v] = value[v], place[v] = pixel;
            }
        }
    }
    store_elements(y + output * s.C + c, best);
    copy_places<V>(places + output * s.C + c, place);
}

template <int V>
__device__ inline void backward(T* dx, int accumulate, const T* dy, const int* places, const Sizes& s, long long thread) {
    int chunks = s.C / V, c = thread % chunks * V;
    long long input = thread / chunks;
    if (input >= static_cast<long long>(s.B) * s.H * s.W) return;
    int pixel = input % (s.H * s.W);
    long long image = input / (s.H * s.W) * s.OH * s.OW;
    Range rows = covering(s, pixel / s.W, s.OH), columns = covering(s, pixel % s.W, s.OW);
    float sum[V] = {}, value[V];
    alignas(16) int place[V];
    for (int row = rows.begin; row < rows.end; row++) {
        for (int column = columns.begin; column < columns.end; column++) {
            long long i = (image + row * s.OW + column) * s.C + c;
            load_elements(value, dy + i);
            copy_places<V>(place, places + i);
#pragma unroll
            for (int v = 0; v < V; v++) sum[v] += place[v] == pixel ? value[v] : 0.0f;
        }
    }
    store_gradients(dx + input * s.C + c, sum, accumulate);
}

//@ max_pool_fwd vectors: grid vectors/256; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256) max_pool_fwd_vectors(T* y, int* places, const T* x, Sizes s) {
    long long thread = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
    forward<VECTOR<T>>(y, places, x, s, thread);
}
//@ max_pool_fwd naive: grid elements/256; block 256; registers 56
extern "C" __global__ void __launch_bounds__(256) max_pool_fwd_naive(T* y, int* places, const T* x, Sizes s) {
    forward<1>(y, places, x, s, static_cast<long long>(blockIdx.x) * 256 + threadIdx.x);
}

//@ max_pool_bwd vectors: grid vectors/256; block 256; registers 80
extern "C" __global__ void __launch_bounds__(256)
    max_pool_bwd_vectors(T* dx, int accumulate, const T* dy, const int* places, Sizes s) {
    long long thread = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
    backward<VECTOR<T>>(dx, accumulate, dy, places, s, thread);
}
//@ max_pool_bwd naive: grid elements/256; block 256; registers 56
extern "C" __global__ void __launch_bounds__(256)
    max_pool_bwd_naive(T* dx, int accumulate, const T* dy, const int* places, Sizes s) {
    backward<1>(dx, accumulate, dy, places, s, static_cast<long long>(blockIdx.x) * 256 + threadIdx.x);
}
