// Products of small float matrices: in tiles of 32 x 32 by blocks of 256 threads, or an element a thread.
#pragma once

// (rows, columns), row-major, or the transpose of such a one of (columns, rows).
struct Matrix {
    const float* x;
    int rows, columns;
    bool is_transposed;

    // 0 outside.
    __device__ float operator()(int i, int j) const {
        if (i >= rows || j >= columns) return 0.0f;
        return is_transposed ? x[static_cast<long long>(j) * rows + i] : x[static_cast<long long>(i) * columns + j];
    }
};

constexpr int TILE = 32, TILE_WARPS = 8, ROWS_OF_THREAD = TILE / TILE_WARPS;

// The part of a 32 x 32 tile that starts at (row, column) which is a thread's: a column of it, every eighth row.
struct Tile {
    int row, column;
    float sum[ROWS_OF_THREAD] = {};

    __device__ Tile(int row, int column) : row(row), column(column) {}

    // sum += scale (a b). Every thread of the block calls it.
    __device__ void add_product(float scale, const Matrix& a, const Matrix& b) {
        __shared__ float a_tile[TILE][TILE + 1], b_tile[TILE][TILE + 1]; // padded: both orders of access meet all banks
        int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        float product[ROWS_OF_THREAD] = {};
        for (int k = 0; k < a.columns; k += TILE) {
            __syncthreads(); // the tiles of before are used up
#pragma unroll
            for (int m = 0; m < ROWS_OF_THREAD; m++) {
                // The lanes go along the memory's rows.
                int other = warp + m * TILE_WARPS;
                if (a.is_transposed) {
                    a_tile[lane][other] = a(row + lane, k + other);
                } else {
                    a_tile[other][lane] = a(row + other, k + lane);
                }
                if (b.is_transposed) {
                    b_tile[lane][other] = b(k + lane, column + other);
                } else {
                    b_tile[other][lane] = b(k + other, column + lane);
                }
            }
            __syncthreads();
#pragma unroll 8
            for (int kk = 0; kk < TILE; kk++) {
#pragma unroll
                for (int m = 0; m < ROWS_OF_THREAD; m++) {
                    product[m] += a_tile[warp + m * TILE_WARPS][kk] * b_tile[kk][lane];
                }
            }
        }
#pragma unroll
        for (int m = 0; m < ROWS_OF_THREAD; m++) sum[m] += scale * product[m];
    }

    // f(i, j, sum) of this thread's elements in a matrix (rows, columns).
    template <class F> __device__ void for_each(int rows, int columns, F f) const {
        int j = column + threadIdx.x % 32;
#pragma unroll
        for (int m = 0; m < ROWS_OF_THREAD; m++) {
            int i = row + threadIdx.x / 32 + m * TILE_WARPS;
            if (i < rows && j < columns) f(i, j, sum[m]);
        }
    }
};

// Element (i, j) of a b.
__device__ inline float product_element(const Matrix& a, const Matrix& b, int i, int j) {
    float sum = 0.0f;
    for (int k = 0; k < a.columns; k++) sum += a(i, k) * b(k, j);
    return sum;
}
