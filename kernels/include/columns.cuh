// Sums down the columns of some rows of a matrix, by a block of 256 threads.
#pragma once

#include "dtype.cuh"

// Threads side by side take V neighbouring columns each, up to 32 V; those left take the next rows. V is 1, or VECTOR<T>
// where C is a multiple of it and rows are aligned.
template <int V> struct Columns {
    int width, row, first, at_once;

    __device__ Columns(int tile, int C) {
        int threads = min(C / V - tile * 32, 32);
        width = threads * V;
        row = threadIdx.x / threads;
        first = (tile * 32 + threadIdx.x % threads) * V;
        at_once = 256 / threads;
    }

    // Whether the thread has rows: the first is `row`, the next `at_once` further.
    __device__ bool works() const { return row < at_once; }

    // Adds the sums of all threads that have the same columns, in order; all of the block call it, and all get the sums.
    __device__ void add(float (&sum)[V]) const {
        __shared__ float sums[256 * V];
        __syncthreads(); // the sums of an earlier call are used up
#pragma unroll
        for (int v = 0; v < V; v++) sums[threadIdx.x * V + v] = sum[v];
        __syncthreads();
        if (threadIdx.x < width) {
            float total = 0.0f;
            for (int r = 0; r < at_once; r++) total += sums[r * width + threadIdx.x];
            sums[threadIdx.x] = total;
        }
        __syncthreads();
#pragma unroll
        for (int v = 0; v < V; v++) sum[v] = sums[first % (32 * V) + v];
    }
};
