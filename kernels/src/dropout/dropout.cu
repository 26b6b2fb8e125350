// Inverted dropout: y[i] = x[i] m[i], with m[i] = 0 with probability p, else 1 / (1 - p); in backward y is dx and x is dy.
// 16 bytes a thread, four elements a random block (naive: an element a thread). Nothing is saved: masks are drawn again.

#include "dtype.cuh"
#include "philox.cuh"

//@ dropout vectors: grid vectors/256; block 256; registers 48
extern "C" __global__ void __launch_bounds__(256)
    dropout_vectors(T* y, int accumulate, const T* x, Philox philox, float p, int N) {
    constexpr int V = VECTOR<T>;
    long long first = (blockIdx.x * 256ll + threadIdx.x) * V;
    if (first >= N) return;
    float m[V];
    keep_all(m, philox, first, p);
    if (first + V <= N && is_vector_aligned(x) && is_vector_aligned(y)) {
        float v[V];
        load_vector(v, x + first);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] *= m[j];
        store_gradients(y + first, v, accumulate);
    } else {
#pragma unroll
        for (int j = 0; j < V; j++) {
            if (first + j < N) store_gradient(y + first + j, to_float(x[first + j]) * m[j], accumulate);
        }
    }
}

//@ dropout naive: grid elements/256; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    dropout_naive(T* y, int accumulate, const T* x, Philox philox, float p, int N) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i < N) store_gradient(y + i, to_float(x[i]) * keep(philox, i, p), accumulate);
}
