// Tiles of attention for tensor cores: 64 rows of one head, 16 of which a warp holds as fragments.
#pragma once

#include "attention.cuh"
#include "mma.cuh"
#include "reduce.cuh"

constexpr int D = HEAD_DIM, TILE = 64;
constexpr int SPLIT = 256; // keys of a block, where they are split

// A padding of 16 bytes a row: the eight rows that ldmatrix reads at once lie in different banks.
using Tile = T[TILE][D + 8];

// Rows first .. first + 64 of one head's channels of x, zeros from row `end` on. 128 threads, each with 16 bytes at a time.
__device__ inline void copy_rows(Tile& to, const T* x, int first, int end, int C) {
#pragma unroll
    for (int i = 0; i < TILE * D / 8 / 128; i++) {
        int row = (i * 128 + threadIdx.x) / (D / 8), column = threadIdx.x % (D / 8) * 8;
        bool inside = first + row < end;
        copy_async(&to[row][column], inside ? x + static_cast<long long>(first + row) * C + column : x, inside);
    }
}

// Rows row .. row + 16 as left operands.
__device__ inline void load_rows(unsigned (&to)[D / 16][4], const Tile& tile, int row, int lane) {
#pragma unroll
    for (int i = 0; i < D / 16; i++) load_matrices(to[i], &tile[row + lane % 16][i * 16 + lane / 16 * 8]);
}

// y (16, N) += x (16, D) rows^T, of the N rows of the tile from `first` on.
template <int N>
__device__ inline void add_transposed_product(float (&y)[N / 8][4], const unsigned (&x)[D / 16][4], const Tile& tile,
                                              int first, int lane) {
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
#pragma unroll
        for (int j = 0; j < N / 16; j++) {
            unsigned b[4];
            load_matrices(b, &tile[first + j * 16 + lane / 16 * 8 + lane % 8][i * 16 + lane / 8 % 2 * 8]);
            mma<T>(y[2 * j], x[i], b[0], b[1]);
            mma<T>(y[2 * j + 1], x[i], b[2], b[3]);
        }
    }
}

// y (16, D) += x (16, N) rows, of the N rows of the tile from `first` on.
template <int N>
__device__ inline void add_product(float (&y)[D / 8][4], const unsigned (&x)[N / 16][4], const Tile& tile, int first,
                                   int lane) {
#pragma unroll
    for (int j = 0; j < N / 16; j++) {
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
            unsigned b[4];
            load_matrices_transposed(b, &tile[first + j * 16 + lane % 16][d * 16 + lane / 16 * 8]);
            mma<T>(y[2 * d], x[j], b[0], b[1]);
            mma<T>(y[2 * d + 1], x[j], b[2], b[3]);
        }
    }
}

// A product's (16, 8 M) as the left operand of the next, rounded: the layouts agree.
template <int M> __device__ inline void pack_rows(unsigned (&to)[M / 2][4], const float (&from)[M][4]) {
#pragma unroll
    for (int j = 0; j < M; j++) {
        to[j / 2][j % 2 * 2] = pack<T>(from[j][0], from[j][1]);
        to[j / 2][j % 2 * 2 + 1] = pack<T>(from[j][2], from[j][3]);
    }
}

// Which of the warp's probabilities, 16 queries by 64 keys, are kept: bit c % 32 of kept[r][c / 32] for key + c and the
// lane's row r, query + lane / 4 + 8 r. Every lane draws half a row, so that no block of random words is made twice.
__device__ inline void keep_rows(unsigned (&kept)[2][2], const Mask& mask, int query, int key, int lane) {
    unsigned bits = mask.keep_bits(query + lane / 2, key + lane % 2 * 32);
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            kept[r][half] = __shfl_sync(ALL_LANES, bits, (lane / 4 + r * 8) * 2 + half);
        }
    }
}
