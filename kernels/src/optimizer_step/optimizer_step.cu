// One optimizer step over all parameters: squared norm of the gradients, what follows from it, the update itself.
// A block takes 4096 elements of one parameter, a thread four at a time; all parameters of the model are in one launch.
// Gradients are float, f16 or bf16, times the loss scale; everything is computed in float. Equal inputs give equal bits.

#include "dtype.cuh"
#include "reduce.cuh"

constexpr int CHUNK = 4096, THREADS = 256;

enum Type { FLOAT, F16, BF16 };

// A parameter; null where there is no such thing.
struct Update {
    float* value;
    void* copy; // of value, in the compute dtype
    float *m, *v, *ema; // no v in SGD
    const void* grad;
    int first_block, len;
    int grad_type, copy_type; // Type
    int group, padding;
};

// What all parameters share; the learning rates are those of the step.
struct Options {
    float beta1, beta2, eps, max_norm, ema_decay, weight_decay; // beta1: SGD's momentum; max_norm 0: no clipping
    int scales_loss, growth_interval, is_sgd;
};

// What lives on the device from step to step.
struct State {
    float loss_scale;
    int good_steps; // since the scale changed or a step was skipped
    float factor;   // of this step's gradients: unscaling and clipping
    int skips;      // whether this step is skipped
};

// What the host reads of a step, two steps later; all of it numbers in float.
struct Status {
    float grad_norm;        // before clipping
    float loss_scale;       // that this step had
    float first_non_finite; // the update whose gradient is not finite, or -1
};

// Whether elements i .. i + 4 lie before `end`, and can be read at once.
__device__ inline bool are_vector(const void* x, int type, int i, int end) {
    return i + 4 <= end && reinterpret_cast<unsigned long long>(x) % (type == FLOAT ? 16 : 8) == 0;
}

// Elements i .. i + 4 of x, zeros from `end` on. i is a multiple of 4.
__device__ inline void load(float (&to)[4], const void* x, int type, int i, int end) {
    bool vector = are_vector(x, type, i, end);
    if (type == FLOAT) {
        const float* from = static_cast<const float*>(x) + i;
        if (vector) return load_vector(to, from);
#pragma unroll
        for (int j = 0; j < 4; j++) to[j] = i + j < end ? from[j] : 0.0f;
    } else {
        const unsigned short* from = static_cast<const unsigned short*>(x) + i;
        alignas(8) unsigned short bits[4] = {};
        if (vector) *reinterpret_cast<uint2*>(bits) = *reinterpret_cast<const uint2*>(from);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (!vector && i + j < end) bits[j] = from[j];
            to[j] = type == F16 ? to_float(f16{bits[j]}) : to_float(bf16{bits[j]});
        }
    }
}

// The same elements of x, rounded to its type.
__device__ inline void store(void* x, int type, const float (&from)[4], int i, int end) {
    bool vector = are_vector(x, type, i, end);
    if (type == FLOAT) {
        float* to = static_cast<float*>(x) + i;
        if (vector) return store_vector(to, from);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (i + j < end) to[j] = from[j];
        }
    } else {
        unsigned short* to = static_cast<unsigned short*>(x) + i;
        alignas(8) unsigned short bits[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            bits[j] = type == F16 ? from_float<f16>(from[j]).bits : from_float<bf16>(from[j]).bits;
            if (!vector && i + j < end) to[j] = bits[j];
        }
        if (vector) *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(bits);
    }
}

// The last update whose first block is not behind `block`.
__device__ inline int update_of_block(const Update* updates, int count, int block) {
    int low = 0, high = count - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (updates[middle].first_block <= block) low = middle;
        else high = middle - 1;
    }
    return low;
}

//@ optimizer_norm blocks: grid blocks; block 256; registers 40
extern "C" __global__ void __launch_bounds__(THREADS)
    optimizer_norm_blocks(double* squares, const Update* updates, int count) {
    const Update& update = updates[update_of_block(updates, count, blockIdx.x)];
    float sum = 0.0f;
    if (update.grad) {
        int start = (blockIdx.x - update.first_block) * CHUNK, end = min(update.len, start + CHUNK);
        for (int i = start + threadIdx.x * 4; i < end; i += 4 * THREADS) {
            float g[4];
            load(g, update.grad, update.grad_type, i, end);
#pragma unroll
            for (int j = 0; j < 4; j++) sum += g[j] * g[j];
        }
    }
    // A thread's 16 squares are summed in float, threads and blocks in double.
    __shared__ double sums[THREADS];
    sums[threadIdx.x] = sum;
    for (int step = THREADS / 2; step > 0; step /= 2) {
        __syncthreads();
        if (threadIdx.x < step) sums[threadIdx.x] += sums[threadIdx.x + step];
    }
    if (threadIdx.x == 0) squares[blockIdx.x] = sums[0];
}

// Norm, clipping, loss scale, whether to skip, bias corrections (count, 2): one block, everything in a fixed order.
//@ optimizer_finish block: grid 1; block 256; registers 80
extern "C" __global__ void __launch_bounds__(THREADS)
    optimizer_finish_block(State* state, Status* status, int* steps, float2* corrections, const double* squares,
                       const Update* updates, Options options, int count, int blocks) {
    __shared__ double sums[THREADS];
    __shared__ int first[THREADS];
    double sum = 0.0;
    int bad = blocks;
    for (int i = threadIdx.x; i < blocks; i += THREADS) {
        if (!isfinite(squares[i])) bad = min(bad, i);
        sum += squares[i];
    }
    sums[threadIdx.x] = sum, first[threadIdx.x] = bad;
    for (int step = THREADS / 2; step > 0; step /= 2) {
        __syncthreads();
        if (threadIdx.x < step) {
            sums[threadIdx.x] += sums[threadIdx.x + step];
            first[threadIdx.x] = min(first[threadIdx.x], first[threadIdx.x + step]);
        }
    }
    __syncthreads();
    bool skips = first[0] < blocks || !isfinite(sums[0]);
    for (int i = threadIdx.x; i < count; i += THREADS) {
        if (!updates[i].grad || skips) continue;
        int t = steps[i] + 1;
        steps[i] = t;
        corrections[i] = {static_cast<float>(1.0 - pow(static_cast<double>(options.beta1), t)),
                          static_cast<float>(1.0 - pow(static_cast<double>(options.beta2), t))};
    }
    if (threadIdx.x > 0) return;
    float scale = state->loss_scale, norm = static_cast<float>(sqrt(sums[0])) / scale;
    float clip = options.max_norm > 0.0f ? fminf(1.0f, options.max_norm / (norm + 1e-6f)) : 1.0f;
    state->skips = skips;
    state->factor = clip / scale;
    if (options.scales_loss) {
        state->good_steps = skips ? 0 : state->good_steps + 1;
        if (skips) state->loss_scale = scale * 0.5f;
        if (state->good_steps == options.growth_interval) state->loss_scale = scale * 2.0f, state->good_steps = 0;
    }
    int at = first[0] < blocks ? update_of_block(updates, count, first[0]) : -1;
    *status = {norm, scale, static_cast<float>(at)};
}

//@ optimizer_update blocks: grid blocks; block 256; registers 64
extern "C" __global__ void __launch_bounds__(THREADS)
    optimizer_update_blocks(const Update* updates, const State* state, const float2* corrections, const float* rates,
                        Options options, int count) {
    if (state->skips) return;
    int at = update_of_block(updates, count, blockIdx.x);
    const Update update = updates[at];
    int start = (blockIdx.x - update.first_block) * CHUNK, end = min(update.len, start + CHUNK);
    float lr = rates[update.group], factor = state->factor;
    float2 correction = update.grad ? corrections[at] : float2{1.0f, 1.0f};
    for (int i = start + threadIdx.x * 4; i < end; i += 4 * THREADS) {
        float value[4], m[4], v[4], ema[4], g[4];
        load(value, update.value, FLOAT, i, end);
        if (update.ema) load(ema, update.ema, FLOAT, i, end);
        if (update.grad) {
            load(m, update.m, FLOAT, i, end);
            if (!options.is_sgd) load(v, update.v, FLOAT, i, end);
            load(g, update.grad, update.grad_type, i, end); // the last, since it is converted when it is there
#pragma unroll
            for (int j = 0; j < 4; j++) {
                g[j] *= factor;
                if (options.is_sgd) {
                    m[j] = options.beta1 * m[j] + (g[j] + options.weight_decay * value[j]);
                    value[j] -= lr * m[j];
                    continue;
                }
                m[j] = options.beta1 * m[j] + (1.0f - options.beta1) * g[j];
                v[j] = options.beta2 * v[j] + (1.0f - options.beta2) * g[j] * g[j];
                value[j] = value[j] * (1.0f - lr * options.weight_decay) -
                           lr * (m[j] / correction.x) / (sqrtf(v[j] / correction.y) + options.eps);
            }
            store(update.m, FLOAT, m, i, end);
            if (!options.is_sgd) store(update.v, FLOAT, v, i, end);
            store(update.value, FLOAT, value, i, end);
            if (update.copy) store(update.copy, update.copy_type, value, i, end);
        }
        if (update.ema) {
#pragma unroll
            for (int j = 0; j < 4; j++) ema[j] = options.ema_decay * ema[j] + (1.0f - options.ema_decay) * value[j];
            store(update.ema, FLOAT, ema, i, end);
        }
    }
}
