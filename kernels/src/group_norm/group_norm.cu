// Group normalization of x (B, P, C), NHWC: y = act((x - mean) rstd w + b), mean and rstd of an image's P pixels and a group
// of C / G channels. Blocks take some pixels and up to 32 vectors of channels; what they sum is put together in a fixed
// order (naive: a block a group of an image). w and b are float. Saved: mean and rstd by image and group.

#include "columns.cuh"
#include "dtype.cuh"
#include "reduce.cuh"

// mean and sum of squares around it of `count` values.
struct Moments {
    float mean, squares, count;
};
// Those of two sets together (Chan, Golub and LeVeque, 1979).
__device__ inline Moments together(Moments a, Moments b) {
    float count = a.count + b.count;
    if (count == 0.0f) return a;
    float delta = b.mean - a.mean, share = b.count / count;
    return {a.mean + delta * share, a.squares + b.squares + delta * delta * a.count * share, count};
}

// A block's pixels: `rows` of one image; from the second pass on they come from the L1 cache.
struct Pixels {
    int begin, end;
    __device__ Pixels(int part, int rows, int P) : begin(part * rows), end(min(P, begin + rows)) {}
};

template <int V> __device__ inline void moments(float2* partial, const T* x, int rows, int P, int C) {
    Columns<V> columns(blockIdx.z, C);
    Pixels pixels(blockIdx.x, rows, P);
    x += static_cast<long long>(blockIdx.y) * P * C + columns.first;
    float mean[V] = {}, squares[V] = {}, value[V];
    if (columns.works()) {
        for (int p = pixels.begin + columns.row; p < pixels.end; p += columns.at_once) {
            load_elements(value, x + static_cast<long long>(p) * C);
#pragma unroll
            for (int v = 0; v < V; v++) mean[v] += value[v];
        }
    }
    columns.add(mean);
#pragma unroll
    for (int v = 0; v < V; v++) mean[v] /= pixels.end - pixels.begin;
    if (columns.works()) {
        for (int p = pixels.begin + columns.row; p < pixels.end; p += columns.at_once) {
            load_elements(value, x + static_cast<long long>(p) * C);
#pragma unroll
            for (int v = 0; v < V; v++) squares[v] += (value[v] - mean[v]) * (value[v] - mean[v]);
        }
    }
    columns.add(squares);
    if (columns.row > 0) return;
    partial += (static_cast<long long>(blockIdx.y) * gridDim.x + blockIdx.x) * C + columns.first;
#pragma unroll
    for (int v = 0; v < V; v++) partial[v] = {mean[v], squares[v]};
}

// partial (B, parts, C): mean and squares of each channel over `rows` pixels.
//@ group_norm_moments tiles: grid parts, images, columns/32; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    group_norm_moments_tiles(float2* partial, const T* x, int vectors, int rows, int P, int C) {
    if (vectors) moments<VECTOR<T>>(partial, x, rows, P, C);
    else moments<1>(partial, x, rows, P, C);
}

// statistics (B, G) from the parts: a warp a group of an image.
//@ group_norm_statistics warp: grid groups*images; block 32; registers 48
extern "C" __global__ void __launch_bounds__(32)
    group_norm_statistics_warp(float2* statistics, const float2* partial, float eps, int parts, int rows, int P, int C,
                               int G) {
    int image = blockIdx.x / G, group = blockIdx.x % G, width = C / G;
    partial += static_cast<long long>(image) * parts * C + group * width;
    Moments all = {};
    for (int i = threadIdx.x; i < parts * width; i += 32) {
        int part = i / width;
        float2 moments = partial[static_cast<long long>(part) * C + i % width];
        all = together(all, {moments.x, moments.y, static_cast<float>(min(rows, P - part * rows))});
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        Moments other = {__shfl_down_sync(ALL_LANES, all.mean, step), __shfl_down_sync(ALL_LANES, all.squares, step),
                         __shfl_down_sync(ALL_LANES, all.count, step)};
        all = together(all, other);
    }
    if (threadIdx.x == 0) statistics[blockIdx.x] = {all.mean, 1.0f / sqrtf(all.squares / all.count + eps)};
}

template <int V>
__device__ inline void normalize(T* y, const float2* statistics, const T* x, const float* w, const float* b, int relu,
                                 int rows, int P, int C, int G) {
    Columns<V> columns(blockIdx.z, C);
    if (!columns.works()) return;
    Pixels pixels(blockIdx.x, rows, P);
    float mean[V], factor[V], bias[V], value[V];
#pragma unroll
    for (int v = 0; v < V; v++) {
        int c = columns.first + v;
        float2 group = statistics[blockIdx.y * G + c / (C / G)];
        mean[v] = group.x, factor[v] = group.y * w[c], bias[v] = b[c];
    }
    for (int p = pixels.begin + columns.row; p < pixels.end; p += columns.at_once) {
        long long i = (static_cast<long long>(blockIdx.y) * P + p) * C + columns.first;
        load_elements(value, x + i);
#pragma unroll
        for (int v = 0; v < V; v++) {
            value[v] = (value[v] - mean[v]) * factor[v] + bias[v];
            if (relu && value[v] < 0.0f) value[v] = 0.0f;
        }
        store_elements(y + i, value);
    }
}

//@ group_norm_fwd tiles: grid parts, images, columns/32; block 256; registers 80
extern "C" __global__ void __launch_bounds__(256)
    group_norm_fwd_tiles(T* y, const float2* statistics, const T* x, const float* w, const float* b, int relu, int vectors,
                         int rows, int P, int C, int G) {
    if (vectors) normalize<VECTOR<T>>(y, statistics, x, w, b, relu, rows, P, C, G);
    else normalize<1>(y, statistics, x, w, b, relu, rows, P, C, G);
}

//@ group_norm_fwd naive: grid groups*images; block 128; registers 48
extern "C" __global__ void __launch_bounds__(128)
    group_norm_fwd_naive(T* y, float2* statistics, const T* x, const float* w, const float* b, float eps, int relu, int P,
                         int C, int G) {
    int width = C / G, first = blockIdx.x % G * width, count = P * width;
    long long start = static_cast<long long>(blockIdx.x / G) * P * C + first;
    x += start, y += start;
    auto place = [&](int i) { return static_cast<long long>(i / width) * C + i % width; };
    float sum = 0.0f, squares = 0.0f;
    for (int i = threadIdx.x; i < count; i += 128) sum += to_float(x[place(i)]);
    float mean = block_sum(sum) / count;
    for (int i = threadIdx.x; i < count; i += 128) {
        float d = to_float(x[place(i)]) - mean;
        squares += d * d;
    }
    float rstd = 1.0f / sqrtf(block_sum(squares) / count + eps);
    for (int i = threadIdx.x; i < count; i += 128) {
        int c = first + i % width;
        float z = (to_float(x[place(i)]) - mean) * rstd * w[c] + b[c];
        y[place(i)] = from_float<T>(relu && z < 0.0f ? 0.0f : z);
    }
    if (threadIdx.x == 0) statistics[blockIdx.x] = {mean, rstd};
}

// dy where the activation lets it through.
__device__ inline float passed(float dy, float centred, float factor, float bias, int relu) {
    return relu && !(centred * factor + bias > 0.0f) ? 0.0f : dy;
}

template <int V>
__device__ inline void gradient_sums(float* partial, const T* dy, const T* x, const float2* statistics, const float* w,
                                     const float* b, int relu, int rows, int P, int C, int G) {
    Columns<V> columns(blockIdx.z, C);
    Pixels pixels(blockIdx.x, rows, P);
    float mean[V], rstd[V], factor[V], bias[V], h_sum[V] = {}, hx_sum[V] = {};
#pragma unroll
    for (int v = 0; v < V; v++) {
        int c = columns.first + v;
        float2 group = statistics[blockIdx.y * G + c / (C / G)];
        mean[v] = group.x, rstd[v] = group.y, factor[v] = group.y * w[c], bias[v] = b[c];
    }
    if (columns.works()) {
        for (int p = pixels.begin + columns.row; p < pixels.end; p += columns.at_once) {
            long long i = (static_cast<long long>(blockIdx.y) * P + p) * C + columns.first;
            float value[V], grad[V];
            load_elements(value, x + i);
            load_elements(grad, dy + i);
#pragma unroll
            for (int v = 0; v < V; v++) {
                float centred = value[v] - mean[v], h = passed(grad[v], centred, factor[v], bias[v], relu);
                h_sum[v] += h;
                hx_sum[v] += h * centred * rstd[v];
            }
        }
    }
    columns.add(h_sum);
    columns.add(hx_sum);
    if (columns.row > 0) return;
    partial += (static_cast<long long>(blockIdx.y) * gridDim.x + blockIdx.x) * 2 * C + columns.first;
#pragma unroll
    for (int v = 0; v < V; v++) partial[v] = h_sum[v], partial[C + v] = hx_sum[v];
}

// With xhat = (x - mean) rstd and h = dy act'(xhat w + b): sums of (h, h xhat) over `rows` pixels, partial (B, parts, 2, C).
//@ group_norm_bwd_columns tiles: grid parts, images, columns/32; block 256; registers 128
extern "C" __global__ void __launch_bounds__(256)
    group_norm_bwd_columns_tiles(float* partial, const T* dy, const T* x, const float2* statistics, const float* w,
                                 const float* b, int relu, int vectors, int rows, int P, int C, int G) {
    if (vectors) gradient_sums<VECTOR<T>>(partial, dy, x, statistics, w, b, relu, rows, P, C, G);
    else gradient_sums<1>(partial, dy, x, statistics, w, b, relu, rows, P, C, G);
}

// Sums over an image's pixels: sums (B, 2, C) by channel, and means (B, G) of (h w, h xhat w) by group. A block a group of an
// image, a warp a channel.
//@ group_norm_bwd_totals warps: grid groups*images; block 256; registers 64
extern "C" __global__ void __launch_bounds__(256)
    group_norm_bwd_totals_warps(float* sums, float2* means, const float* partial, const float* w, int parts, int P, int C,
                                int G) {
    int image = blockIdx.x / G, width = C / G, lane = threadIdx.x % 32;
    partial += static_cast<long long>(image) * parts * 2 * C;
    float g = 0.0f, gx = 0.0f;
    for (int j = threadIdx.x / 32; j < width; j += 8) {
        int c = blockIdx.x % G * width + j;
        float h_sum = 0.0f, hx_sum = 0.0f;
        for (int part = lane; part < parts; part += 32) {
            h_sum += partial[static_cast<long long>(part) * 2 * C + c];
            hx_sum += partial[(static_cast<long long>(part) * 2 + 1) * C + c];
        }
        h_sum = warp_sum(h_sum), hx_sum = warp_sum(hx_sum);
        if (lane == 0) {
            sums[image * 2 * C + c] = h_sum;
            sums[(image * 2 + 1) * C + c] = hx_sum;
            g += h_sum * w[c];
            gx += hx_sum * w[c];
        }
    }
    float count = static_cast<float>(P) * width;
    g = block_sum(g) / count, gx = block_sum(gx) / count;
    if (threadIdx.x == 0) means[blockIdx.x] = {g, gx};
}

template <int V>
__device__ inline void data_gradient(T* dx, int accumulate, const T* dy, const T* x, const float2* statistics,
                                     const float2* means, const float* w, const float* b, int relu, int rows, int P, int C,
                                     int G) {
    Columns<V> columns(blockIdx.z, C);
    if (!columns.works()) return;
    Pixels pixels(blockIdx.x, rows, P);
    float mean[V], rstd[V], weight[V], bias[V], g_mean[V], gx_mean[V];
#pragma unroll
    for (int v = 0; v < V; v++) {
        int c = columns.first + v, at = blockIdx.y * G + c / (C / G);
        float2 group = statistics[at], gradient = means[at];
        mean[v] = group.x, rstd[v] = group.y, weight[v] = w[c], bias[v] = b[c];
        g_mean[v] = gradient.x, gx_mean[v] = gradient.y;
    }
    for (int p = pixels.begin + columns.row; p < pixels.end; p += columns.at_once) {
        long long i = (static_cast<long long>(blockIdx.y) * P + p) * C + columns.first;
        float value[V], grad[V];
        load_elements(value, x + i);
        load_elements(grad, dy + i);
#pragma unroll
        for (int v = 0; v < V; v++) {
            float centred = value[v] - mean[v];
            float h = passed(grad[v], centred, rstd[v] * weight[v], bias[v], relu);
            grad[v] = rstd[v] * (h * weight[v] - g_mean[v] - centred * rstd[v] * gx_mean[v]);
        }
        store_gradients(dx + i, grad, accumulate);
    }
}

// With g = h w: dx = rstd (g - mean(g) - xhat mean(g xhat)).
//@ group_norm_bwd_x tiles: grid parts, images, columns/32; block 256; registers 128
extern "C" __global__ void __launch_bounds__(256)
    group_norm_bwd_x_tiles(T* dx, int accumulate, const T* dy, const T* x, const float2* statistics, const float2* means,
                           const float* w, const float* b, int relu, int vectors, int rows, int P, int C, int G) {
    if (vectors) data_gradient<VECTOR<T>>(dx, accumulate, dy, x, statistics, means, w, b, relu, rows, P, C, G);
    else data_gradient<1>(dx, accumulate, dy, x, statistics, means, w, b, relu, rows, P, C, G);
}

//@ group_norm_bwd_x naive: grid groups*images; block 128; registers 64
extern "C" __global__ void __launch_bounds__(128)
    group_norm_bwd_x_naive(T* dx, int accumulate, const T* dy, const T* x, const float2* statistics, const float2* means,
                           const float* w, const float* b, int relu, int vectors, int rows, int P, int C, int G) {
    int width = C / G, first = blockIdx.x % G * width;
    auto [mean, rstd] = statistics[blockIdx.x];
    auto [g_mean, gx_mean] = means[blockIdx.x];
    for (int i = threadIdx.x; i < P * width; i += 128) {
        int c = first + i % width;
        long long at = (static_cast<long long>(blockIdx.x / G) * P + i / width) * C + c;
        float xhat = (to_float(x[at]) - mean) * rstd;
        float g = relu && !(xhat * w[c] + b[c] > 0.0f) ? 0.0f : to_float(dy[at]) * w[c];
        store_gradient(dx + at, rstd * (g - g_mean - xhat * gx_mean), accumulate);
    }
}

// dw = sum of h xhat, db = sum of h, from the images' sums, in order.
//@ group_norm_bwd_w images: grid channels/128; block 128; registers 40
extern "C" __global__ void __launch_bounds__(128)
    group_norm_bwd_w_images(float* dw, int accumulate_dw, float* db, int accumulate_db, const float* sums, int B, int C) {
    int c = blockIdx.x * 128 + threadIdx.x;
    if (c >= C) return;
    float w_sum = 0.0f, b_sum = 0.0f;
    for (int image = 0; image < B; image++) {
        b_sum += sums[image * 2 * C + c];
        w_sum += sums[(image * 2 + 1) * C + c];
    }
    if (dw) store_gradient(dw + c, w_sum, accumulate_dw);
    if (db) store_gradient(db + c, b_sum, accumulate_db);
}
