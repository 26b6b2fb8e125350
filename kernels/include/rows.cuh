// Rows of matrices by warps, and the gradients of rows that are used several times or not at all.
#pragma once

#include "dtype.cuh"
#include "reduce.cuh"

// What one lane of a warp reads and writes of a chunk of 32 VECTOR<T> columns: neighbours, 16 bytes at once, where every row
// is aligned (`vectors`), and every 32nd column elsewhere.
template <class T> struct Columns {
    static constexpr int V = VECTOR<T>;
    int first, C;
    bool vectors;

    __device__ Columns(int chunk, int C, bool vectors) : C(C), vectors(vectors) {
        first = chunk * 32 * V + threadIdx.x % 32 * (vectors ? V : 1);
    }

    // The column of element j, C or more for none.
    __device__ int column(int j) const { return first + (vectors ? j : 32 * j); }

    // Zeros beyond the row's end.
    __device__ void load(float (&v)[V], const T* row) const {
        if (vectors && first < C) return load_vector(v, row + first);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = column(j) < C ? to_float(row[column(j)]) : 0.0f;
    }

    // Of a row of floats, aligned as well where `vectors` says so.
    __device__ void load_floats(float (&v)[V], const float* row) const {
        if (vectors && first < C) return ::load_floats(v, row + first);
#pragma unroll
        for (int j = 0; j < V; j++) v[j] = column(j) < C ? row[column(j)] : 0.0f;
    }

    // As a gradient: written, or added to.
    __device__ void store(T* row, const float (&v)[V], int accumulate = 0) const {
        if (vectors && first < C) return store_gradients(row + first, v, accumulate);
#pragma unroll
        for (int j = 0; j < V; j++) {
            if (column(j) < C) store_gradient(row + column(j), v[j], accumulate);
        }
    }
};

// Whether rows of C elements, the first of them at p, can be read 16 bytes at once.
template <class T> __device__ inline bool has_vector_rows(const T* p, int C) {
    return C % VECTOR<T> == 0 && is_vector_aligned(p);
}

// Use m of M of a row: raises (M - first use, last use + 1), which began as zeros. Maxima do not depend on the order.
__device__ inline void mark_use(int2* uses, int row, int m, int M) {
    atomicMax(&uses[row].x, M - m);
    atomicMax(&uses[row].y, m + 1);
}

// The sum, in their order, of what `term(v, m)` loads for every m in [first, end) with index[m] = row. By a whole warp.
template <int V, class Term>
__device__ inline void sum_over_uses(float (&sum)[V], const int* index, int row, int first, int end, Term term) {
    for (int start = first; start < end; start += 32) {
        int own = start + threadIdx.x % 32;
        unsigned found = __ballot_sync(ALL_LANES, own < end && index[own] == row);
        while (found) {
            float v[4][V] = {}; // four loads are under way at once
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (found) term(v[i], start + __ffs(found) - 1);
                found &= found - 1;
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < V; j++) sum[j] += v[i][j];
            }
        }
    }
}
