// Another float type: y (T) = x (U), rounded to nearest even; in backward y is the gradient of x's input, and may be added to.
// Eight elements a thread (naive: one). Nothing is saved.

#include "dtype.cuh"

//@ cast eights: grid elements/2048; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256) cast_eights(T* y, int accumulate, const U* x, int N) {
    long long first = (blockIdx.x * 256ll + threadIdx.x) * 8;
    if (first >= N) return;
    if (first + 8 <= N && is_vector_aligned(x) && is_vector_aligned(y)) {
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; i += VECTOR<U>) {
            load_vector(reinterpret_cast<float(&)[VECTOR<U>]>(v[i]), x + first + i);
        }
#pragma unroll
        for (int i = 0; i < 8; i += VECTOR<T>) {
            store_gradients(y + first + i, reinterpret_cast<float(&)[VECTOR<T>]>(v[i]), accumulate);
        }
    } else {
        for (long long i = first; i < min(first + 8, static_cast<long long>(N)); i++) {
            store_gradient(y + i, to_float(x[i]), accumulate);
        }
    }
}

//@ cast naive: grid elements/256; block 256; registers 24
extern "C" __global__ void __launch_bounds__(256) cast_naive(T* y, int accumulate, const U* x, int N) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i < N) store_gradient(y + i, to_float(x[i]), accumulate);
}
