// Convolution's products as matrix products on tensor cores, f16 and bf16, whose left factor is gathered from the image while
// it is loaded. Blocks of 4 warps make tiles of 128 x 64, a warp a quarter of 64 x 32, in steps of 32 along the sum; cp.async
// fills two buffers while a third is multiplied. Nothing but the operands is read; sums are in float.

#include "convolution.cuh"
#include "dtype.cuh"
#include "mma.cuh"

constexpr int ROWS = 128, COLUMNS = 64, DEPTH = 32, STAGES = 3;
constexpr int CHUNK = 8; // elements of 16 bytes
constexpr int PAD = 8;   // puts the 8 rows of an ldmatrix into different banks

// A factor's part of a step, `width` by DEPTH: depth lies side by side in memory, or, ACROSS, width does.
template <class T, int WIDTH, bool ACROSS> struct Factor {
    alignas(16) T values[ACROSS ? DEPTH : WIDTH][(ACROSS ? WIDTH : DEPTH) + PAD];

    // The 16 x 16 fragment at (row, k) of the left factor.
    __device__ void left(unsigned (&r)[4], int row, int k) const {
        int lane = threadIdx.x % 32;
        if constexpr (ACROSS) load_matrices_transposed(r, &values[k + lane / 16 * 8 + lane % 8][row + lane / 8 % 2 * 8]);
        else load_matrices(r, &values[row + lane % 16][k + lane / 16 * 8]);
    }
    // The two 16 x 8 fragments at (k, column) of the right one.
    __device__ void right(unsigned (&r)[4], int k, int column) const {
        int lane = threadIdx.x % 32;
        if constexpr (ACROSS) load_matrices_transposed(r, &values[k + lane % 16][column + lane / 16 * 8]);
        else load_matrices(r, &values[column + lane / 16 * 8 + lane % 8][k + lane / 8 % 2 * 8]);
    }
};

// Eight elements to shared memory: one copy if they are side by side in memory, else each from where `element` says (null:
// zero).
template <class T, class Element>
__device__ inline void copy_chunk(T* to, const T* from, bool inside, bool vector, const void* anywhere, Element element) {
    if (vector) return copy_async(to, inside ? from : anywhere, inside);
#pragma unroll 1 // rare, and long
    for (int e = 0; e < CHUNK; e++) {
        const T* at = element(e);
        to[e] = at ? *at : T{};
    }
}

// sums (64 x 32 a warp) = left right, over `steps` steps; load(step, left, right) fills buffers.
template <class T, bool LEFT_ACROSS, bool RIGHT_ACROSS, class Load>
__device__ inline void multiply(float (&sums)[4][4][4], int steps, Load load) {
    __shared__ Factor<T, ROWS, LEFT_ACROSS> left[STAGES];
    __shared__ Factor<T, COLUMNS, RIGHT_ACROSS> right[STAGES];
    int warp = threadIdx.x / 32, row = warp / 2 * 64, column = warp % 2 * 32;
#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        if (step < steps) load(step, left[step], right[step]);
        commit_copies();
    }
    for (int step = 0; step < steps; step++) {
        wait_copies<STAGES - 2>();
        __syncthreads(); // everybody's part of this step has arrived, and the step before is used up
        int next = step + STAGES - 1;
        if (next < steps) load(next, left[next % STAGES], right[next % STAGES]);
        commit_copies();
        const auto& a = left[step % STAGES];
        const auto& b = right[step % STAGES];
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            unsigned as[4][4], bs[2][4];
#pragma unroll
            for (int i = 0; i < 4; i++) a.left(as[i], row + i * 16, k);
#pragma unroll
            for (int j = 0; j < 2; j++) b.right(bs[j], k, column + j * 16);
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) mma<T>(sums[i][j], as[i], bs[j / 2][j % 2 * 2], bs[j / 2][j % 2 * 2 + 1]);
            }
        }
    }
}

// Calls store(row, column, sum) for this thread's sums; 4 threads have 8 neighbouring columns of a row.
template <class Store> __device__ inline void for_each(const float (&sums)[4][4][4], Store store) {
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int row = warp / 2 * 64 + i * 16 + e / 2 * 8 + lane / 4, column = warp % 2 * 32 + j * 8 + lane % 4 * 2;
                store(blockIdx.x * ROWS + row, blockIdx.y * COLUMNS + column + e % 2, sums[i][j][e]);
            }
        }
    }
}

// A tap and a channel of `C`, that move along the sum.
struct Tap {
    int kh, kw, c;
    __device__ Tap(const Sizes& s, int k, int C) : kh(k / C / s.KW), kw(k / C % s.KW), c(k % C) {}
    __device__ void advance(const Sizes& s, int by, int C) {
        for (c += by; c >= C; c -= C) {
            if (++kw == s.KW) kw = 0, kh++;
        }
    }
};

// Rows are output pixels that gather x, columns are filters; or, BACKWARD, rows are pixels of x that gather g, columns are its
// channels. The sum runs over taps and, within them, channels.
template <class T, bool BACKWARD>
__device__ inline void gathered_product(float (&sums)[4][4][4], const T* from, const T* w, const Sizes& s) {
    int rows = BACKWARD ? s.inputs() : s.outputs(), columns = BACKWARD ? s.I : s.O, C = BACKWARD ? s.O : s.I;
    int depth = s.KH * s.KW * C;
    bool left_vectors = C % CHUNK == 0 && is_vector_aligned(from);
    bool right_vectors = s.I % CHUNK == 0 && is_vector_aligned(w);
    auto partner = [&](Sizes::Place place, int kh, int kw) {
        return BACKWARD ? s.output_at(place, kh, kw) : s.input_at(place, kh, kw);
    };

    // This thread's chunks of the left factor: one of the four along the sum, of four rows.
    constexpr int LEFT = 4;
    int left_k = threadIdx.x % 4 * CHUNK, left_row = threadIdx.x / 4;
    Sizes::Place places[LEFT];
#pragma unroll
    for (int i = 0; i < LEFT; i++) {
        int row = blockIdx.x * ROWS + left_row + i * 32;
        // Of a row beyond the last nothing is inside.
        if (row >= rows) places[i] = {0, -(1 << 29), 0};
        else places[i] = BACKWARD ? s.place_of_input(row) : s.place_of_output(row);
    }
    Tap tap(s, left_k, C);

    auto load = [&](int step, auto& left, auto& right) {
        int k = step * DEPTH + left_k;
#pragma unroll
        for (int i = 0; i < LEFT; i++) {
            int pixel = left_vectors && tap.kh < s.KH ? partner(places[i], tap.kh, tap.kw) : -1;
            const T* source = from + static_cast<long long>(pixel) * C + tap.c;
            copy_chunk(&left.values[left_row + i * 32][left_k], source, pixel >= 0, left_vectors, from, [&](int e) {
                if (k + e >= depth) return static_cast<const T*>(nullptr);
                Tap at(s, k + e, C);
                int pixel = partner(places[i], at.kh, at.kw);
                return pixel < 0 ? nullptr : from + static_cast<long long>(pixel) * C + at.c;
            });
        }
        tap.advance(s, DEPTH, C);
        if constexpr (BACKWARD) { // w (O, taps, I): columns side by side
            int column = blockIdx.y * COLUMNS + threadIdx.x % 8 * CHUNK;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int row = threadIdx.x / 8 + i * 16, k = step * DEPTH + row;
                const T* source = w + static_cast<long long>(k % C) * s.depth() + k / C * s.I + column;
                bool inside = k < depth && column < columns;
                copy_chunk(&right.values[row][threadIdx.x % 8 * CHUNK], source, inside, right_vectors, w, [&](int e) {
                    return k < depth && column + e < columns ? source + e : nullptr;
                });
            }
        } else { // w (O, depth): the sum side by side
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int row = left_row + i * 32, column = blockIdx.y * COLUMNS + row;
                const T* source = w + static_cast<long long>(column) * depth + k;
                bool inside = k < depth && column < columns;
                copy_chunk(&right.values[row][left_k], source, inside, right_vectors, w, [&](int e) {
                    return k + e < depth && column < columns ? source + e : nullptr;
                });
            }
        }
    };
    multiply<T, false, BACKWARD>(sums, (depth + DEPTH - 1) / DEPTH, load);
}

//@ conv2d_fwd implicit_gemm: grid outputs/128, filters/64; block 128; registers 160; tensor cores
extern "C" __global__ void __launch_bounds__(128)
    conv2d_fwd_implicit_gemm(T* y, const T* x, const T* w, const float* bias, const T* residual, int relu, Sizes s) {
    if constexpr (sizeof(T) == 2) {
        float sums[4][4][4] = {};
        gathered_product<T, false>(sums, x, w, s);
        for_each(sums, [&](int output, int o, float sum) {
            if (output >= s.outputs() || o >= s.O) return;
            long long i = static_cast<long long>(output) * s.O + o;
            if (bias) sum += bias[o];
            if (residual) sum += to_float(residual[i]);
            y[i] = from_float<T>(relu && sum < 0.0f ? 0.0f : sum);
        });
    }
}

//@ conv2d_bwd_x implicit_gemm: grid inputs/128, channels/64; block 128; registers 160; tensor cores
extern "C" __global__ void __launch_bounds__(128)
    conv2d_bwd_x_implicit_gemm(T* dx, int accumulate, const T* g, const T* w, Sizes s) {
    if constexpr (sizeof(T) == 2) {
        float sums[4][4][4] = {};
        gathered_product<T, true>(sums, g, w, s);
        for_each(sums, [&](int input, int c, float sum) {
            if (input >= s.inputs() || c >= s.I) return;
            store_gradient(dx + static_cast<long long>(input) * s.I + c, sum, accumulate);
        });
    }
}

// Rows are filters, columns are taps and, within them, channels; the sum runs over `pixels` outputs: partial (parts, O, D).
template <class T>
__device__ inline void weight_product(float (&sums)[4][4][4], const T* x, const T* g, int pixels, const Sizes& s) {
    bool left_vectors = s.O % CHUNK == 0 && is_vector_aligned(g);
    bool right_vectors = s.I % CHUNK == 0 && is_vector_aligned(x);
    int begin = blockIdx.z * pixels, end = min(begin + pixels, s.outputs());
    int filter = blockIdx.x * ROWS + threadIdx.x % 16 * CHUNK, column = blockIdx.y * COLUMNS + threadIdx.x % 8 * CHUNK;
    Tap tap(s, column, s.I); // kh is KH or more where the column is beyond the last

    auto load = [&](int step, auto& left, auto& right) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int k = threadIdx.x / 16 + i * 8, output = begin + step * DEPTH + k;
            const T* source = g + static_cast<long long>(output) * s.O + filter;
            bool inside = output < end && filter < s.O;
            copy_chunk(&left.values[k][threadIdx.x % 16 * CHUNK], source, inside, left_vectors, g, [&](int e) {
                return output < end && filter + e < s.O ? source + e : nullptr;
            });
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int k = threadIdx.x / 8 + i * 16, output = begin + step * DEPTH + k;
            Sizes::Place place = s.place_of_output(output);
            int pixel = output < end && tap.kh < s.KH ? s.input_at(place, tap.kh, tap.kw) : -1;
            const T* source = x + static_cast<long long>(pixel) * s.I + tap.c;
            copy_chunk(&right.values[k][threadIdx.x % 8 * CHUNK], source, pixel >= 0, right_vectors, x, [&](int e) {
                if (output >= end || column + e >= s.depth()) return static_cast<const T*>(nullptr);
                Tap at(s, column + e, s.I);
                int pixel = s.input_at(place, at.kh, at.kw);
                return pixel < 0 ? nullptr : x + static_cast<long long>(pixel) * s.I + at.c;
            });
        }
    };
    multiply<T, true, true>(sums, (end - begin + DEPTH - 1) / DEPTH, load);
}

//@ conv2d_bwd_w implicit_gemm: grid filters/128, depth/64, parts; block 128; registers 160; tensor cores
extern "C" __global__ void __launch_bounds__(128)
    conv2d_bwd_w_implicit_gemm(float* partial, const T* x, const T* g, int pixels, Sizes s) {
    if constexpr (sizeof(T) == 2) {
        float sums[4][4][4] = {};
        weight_product<T>(sums, x, g, pixels, s);
        for_each(sums, [&](int o, int tap, float sum) {
            if (o >= s.O || tap >= s.depth()) return;
            partial[(static_cast<long long>(blockIdx.z) * s.O + o) * s.depth() + tap] = sum;
        });
    }
}

// dw (O, D) = scale times the sum of the parts, in order.
//@ conv2d_bwd_w_sum elements: grid weights/256; block 256; registers 72
extern "C" __global__ void __launch_bounds__(256)
    conv2d_bwd_w_sum_elements(float* dw, int accumulate, const float* partial, const float* scale, int parts, int O, int D) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= O * D) return;
    float sum = 0.0f;
    for (int part = 0; part < parts; part++) sum += partial[static_cast<long long>(part) * O * D + i];
    store_gradient(dw + i, scale ? scale[i / D] * sum : sum, accumulate);
}
