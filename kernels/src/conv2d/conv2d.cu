// Convolution with a folded batch norm, NHWC: y = act(conv(x, scale w) + bias + residual), w, scale and bias in float.
// What surrounds cuDNN's products (folding, epilogue, the gradient before the activation, the bias's gradient), a thread an
// element or 16 bytes; and naive products, a thread an output. Saved: x, the folded w, the scale, y where ReLU is told from it.

#include "columns.cuh"
#include "convolution.cuh"
#include "dtype.cuh"
#include "reduce.cuh"

//@ conv2d_fwd cudnn: library
//@ conv2d_fwd cudnn_separate: library
//@ conv2d_bwd_x cudnn: library
//@ conv2d_bwd_w cudnn: library

// What the products read: w (O, D) times a scale a row, rounded once, and the bias, rounded. Either may be missing.
//@ conv2d_fold elements: grid elements/256; block 256; registers 32
extern "C" __global__ void __launch_bounds__(256)
    conv2d_fold_elements(T* folded, T* rounded, const float* w, const float* scale, const float* bias, int O, int D) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i < O * D) folded[i] = from_float<T>(scale ? scale[i / D] * w[i] : w[i]);
    if (rounded && i < O) rounded[i] = from_float<T>(bias[i]);
}

// y (N, C) = act(y + bias + residual), in place. 16 bytes a thread.
//@ conv2d_epilogue vectors: grid vectors/256; block 256; registers 48
extern "C" __global__ void __launch_bounds__(256)
    conv2d_epilogue_vectors(T* y, const float* bias, const T* residual, int relu, int N, int C) {
    constexpr int V = VECTOR<T>;
    long long i = (blockIdx.x * 256ll + threadIdx.x) * V, end = min(i + V, static_cast<long long>(N) * C);
    if (i >= end) return;
    if (C % V == 0 && is_vector_aligned(y) && is_vector_aligned(residual) && is_vector_aligned(bias)) {
        float v[V], added[V];
        load_vector(v, y + i);
        if (bias) {
            load_floats(added, bias + i % C);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] += added[j];
        }
        if (residual) {
            load_vector(added, residual + i);
#pragma unroll
            for (int j = 0; j < V; j++) v[j] += added[j];
        }
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = relu && v[j] < 0.0f ? 0.0f : v[j];
        store_vector(y + i, v);
    } else {
        for (; i < end; i++) {
            float sum = to_float(y[i]) + (bias ? bias[i % C] : 0.0f) + (residual ? to_float(residual[i]) : 0.0f);
            y[i] = from_float<T>(relu && sum < 0.0f ? 0.0f : sum);
        }
    }
}

//@ conv2d_fwd naive: grid elements/256; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    conv2d_fwd_naive(T* y, const T* x, const T* w, const float* bias, const T* residual, int relu, Sizes s) {
    long long i = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
    int output = i / s.O, o = i % s.O;
    if (output >= s.outputs()) return;
    Sizes::Place place = s.place_of_output(output);
    float sum = 0.0f;
    for (int kh = 0; kh < s.KH; kh++) {
        for (int kw = 0; kw < s.KW; kw++) {
            int input = s.input_at(place, kh, kw);
            if (input < 0) continue;
            const T* xs = x + static_cast<long long>(input) * s.I;
            const T* ws = w + ((o * s.KH + kh) * s.KW + kw) * s.I;
            for (int c = 0; c < s.I; c++) sum += to_float(xs[c]) * to_float(ws[c]);
        }
    }
    if (bias) sum += bias[o];
    if (residual) sum += to_float(residual[i]);
    y[i] = from_float<T>(relu && sum < 0.0f ? 0.0f : sum);
}

// dx from g, the gradient before the activation, and the folded w.
//@ conv2d_bwd_x naive: grid elements/256; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    conv2d_bwd_x_naive(T* dx, int accumulate, const T* g, const T* w, Sizes s) {
    long long i = static_cast<long long>(blockIdx.x) * 256 + threadIdx.x;
    int input = i / s.I, c = i % s.I;
    if (input >= s.inputs()) return;
    Sizes::Place place = s.place_of_input(input);
    float sum = 0.0f;
    for (int kh = 0; kh < s.KH; kh++) {
        for (int kw = 0; kw < s.KW; kw++) {
            int output = s.output_at(place, kh, kw);
            if (output < 0) continue;
            const T* gs = g + static_cast<long long>(output) * s.O;
            const T* ws = w + (kh * s.KW + kw) * s.I + c;
            for (int o = 0; o < s.O; o++) sum += to_float(gs[o]) * to_float(ws[o * s.depth()]);
        }
    }
    store_gradient(dx + i, sum, accumulate);
}

// dw = scale times the sum over pixels of g x.
//@ conv2d_bwd_w naive: grid weights/256; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    conv2d_bwd_w_naive(float* dw, int accumulate, const T* x, const T* g, const float* scale, Sizes s) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= s.O * s.depth()) return;
    int o = i / s.depth(), kh = i / (s.KW * s.I) % s.KH, kw = i / s.I % s.KW, c = i % s.I;
    float sum = 0.0f;
    for (int output = 0; output < s.outputs(); output++) {
        int input = s.input_at(s.place_of_output(output), kh, kw);
        if (input < 0) continue;
        sum += to_float(g[static_cast<long long>(output) * s.O + o]) *
               to_float(x[static_cast<long long>(input) * s.I + c]);
    }
    store_gradient(dw + i, scale ? scale[o] * sum : sum, accumulate);
}

// dw (O, D) = scale dw', from the products' gradient of the folded w.
//@ conv2d_bwd_scale elements: grid elements/256; block 256; registers 32
extern "C" __global__ void __launch_bounds__(256)
    conv2d_bwd_scale_elements(float* dw, int accumulate, const T* folded, const float* scale, int O, int D) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= O * D) return;
    float value = to_float(folded[i]);
    store_gradient(dw + i, scale ? scale[i / D] * value : value, accumulate);
}

template <int V>
__device__ inline void gradient(T* g, T* dresidual, int accumulate, float* partial, const T* dy, const T* y, int rows,
                                int N, int C) {
    Columns<V> columns(blockIdx.y, C);
    float sum[V] = {};
    if (columns.works()) {
        int end = min(N, static_cast<int>(blockIdx.x + 1) * rows);
        for (int n = blockIdx.x * rows + columns.row; n < end; n += columns.at_once) {
            long long i = static_cast<long long>(n) * C + columns.first;
            float value[V];
            load_elements(value, dy + i);
            if (y) {
                float kept[V];
                load_elements(kept, y + i);
#pragma unroll
                for (int v = 0; v < V; v++) value[v] = kept[v] > 0.0f ? value[v] : 0.0f;
            }
#pragma unroll
            for (int v = 0; v < V; v++) sum[v] += value[v];
            if (g) store_elements(g + i, value);
            if (dresidual) store_gradients(dresidual + i, value, accumulate);
        }
    }
    if (!partial) return;
    columns.add(sum);
    if (columns.row == 0) {
#pragma unroll
        for (int v = 0; v < V; v++) partial[static_cast<long long>(blockIdx.x) * C + columns.first + v] = sum[v];
    }
}

// g = dy where y is positive (everywhere without y), which is the residual's gradient too, and its sums over `rows` rows:
// partial (ceil(N / rows), C). In one pass over dy and y (N, C); with `vectors` rows are whole vectors, and aligned.
//@ conv2d_bwd_g tiles: grid parts, columns/32; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    conv2d_bwd_g_tiles(T* g, T* dresidual, int accumulate, float* partial, const T* dy, const T* y, int vectors, int rows,
                       int N, int C) {
    if (vectors) gradient<VECTOR<T>>(g, dresidual, accumulate, partial, dy, y, rows, N, C);
    else gradient<1>(g, dresidual, accumulate, partial, dy, y, rows, N, C);
}

// The bias's gradient (C) from the partial sums, always in the same order.
//@ conv2d_bwd_bias warps: grid columns/32; block 1024; registers 32
extern "C" __global__ void __launch_bounds__(1024)
    conv2d_bwd_bias_warps(float* dbias, int accumulate, const float* partial, int parts, int C) {
    sum_columns(partial, parts, C, [&](int column, float sum) { store_gradient(dbias + column, sum, accumulate); });
}
