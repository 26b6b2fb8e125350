// D (M, N) = act(op(A) op(B) + b), or D += op(A) op(B): A is stored (M, K), or (K, M) if TRANSPOSE_A; B (K, N), or (N, K) if
// TRANSPOSE_B; all row-major, b in float or null. A block a 64 x 64 tile on tensor cores (naive: a thread an element).
// Saved where Z is not null: what the activation is applied to.

#include "activation.cuh"
#include "mma.cuh"

//@ gemm cublaslt: library

constexpr int TILE = 64, DEPTH = 32, PAD = 8; // padded rows put the 8 rows of an ldmatrix into different banks

// A tile of a matrix's part in shared memory.
template <class E, int ROWS, int COLUMNS> struct Tile {
    alignas(16) E at[ROWS][COLUMNS + PAD];

    // Starts to copy what begins at (row, column) of a (rows, columns) matrix, zeros where that ends. 16 bytes at a time if
    // all rows start on 16 bytes, by element otherwise.
    __device__ void load(const E* from, int row, int column, int rows, int columns, bool vectors) {
        for (int i = threadIdx.x; i < ROWS * COLUMNS / 8; i += 128) {
            int r = i / (COLUMNS / 8), c = i % (COLUMNS / 8) * 8;
            const E* source = from + static_cast<long long>(row + r) * columns + column + c;
            if (vectors) {
                bool inside = row + r < rows && column + c < columns;
                copy_async(&at[r][c], inside ? source : from, inside);
            } else {
#pragma unroll
                for (int j = 0; j < 8; j++) at[r][c + j] = row + r < rows && column + c + j < columns ? source[j] : E{};
            }
        }
    }
};

template <class E> __device__ void gemm_tile(E* D, E* Z, int accumulate, const E* A, const E* B, const float* b,
                                             int activation, int M, int N, int K) {
    using TileA = Tile<E, TRANSPOSE_A ? DEPTH : TILE, TRANSPOSE_A ? TILE : DEPTH>;
    using TileB = Tile<E, TRANSPOSE_B ? TILE : DEPTH, TRANSPOSE_B ? DEPTH : TILE>;
    struct Factors {
        TileA a[2];
        TileB b[2];
    };
    union Shared {
        Factors factors;
        float sums[TILE][TILE + 4];
    };
    __shared__ Shared shared;
    // Blocks that run together share columns of B, the weights in forward.
    int row = blockIdx.x * TILE, column = blockIdx.y * TILE;
    bool vectors_a = (TRANSPOSE_A ? M : K) % 8 == 0 && is_vector_aligned(A);
    bool vectors_b = (TRANSPOSE_B ? K : N) % 8 == 0 && is_vector_aligned(B);

    // One buffer is filled with the next 32 of K while the other is multiplied.
    auto load = [&](int buffer, int k) {
        if (TRANSPOSE_A) {
            shared.factors.a[buffer].load(A, k, row, K, M, vectors_a);
        } else {
            shared.factors.a[buffer].load(A, row, k, M, K, vectors_a);
        }
        if (TRANSPOSE_B) {
            shared.factors.b[buffer].load(B, column, k, N, K, vectors_b);
        } else {
            shared.factors.b[buffer].load(B, k, column, K, N, vectors_b);
        }
        commit_copies();
    };

    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int warp_row = warp / 2 * 32, warp_column = warp % 2 * 32;
    // Of the four 8 x 8 matrices of a fragment two lie one below the other; a transposed load has the other two so.
    int low = lane % 16, high = lane / 16 * 8, crossed_low = lane / 16 * 8 + lane % 8, crossed_high = lane / 8 % 2 * 8;
    float sum[2][4][4] = {}; // (16 rows, 8 columns, fragment)
    if (K > 0) load(0, 0);
    for (int start = 0, buffer = 0; start < K; start += DEPTH, buffer ^= 1) {
        if (start + DEPTH < K) {
            load(buffer ^ 1, start + DEPTH);
            wait_copies<1>();
        } else {
            wait_copies<0>();
        }
        __syncthreads(); // everybody's part has arrived
        auto& a = shared.factors.a[buffer].at;
        auto& b = shared.factors.b[buffer].at;
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16) {
            unsigned as[2][4], bs[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                int m = warp_row + i * 16, n = warp_column + i * 16;
                if (TRANSPOSE_A) {
                    load_matrices_transposed(as[i], &a[k + crossed_low][m + crossed_high]);
                } else {
                    load_matrices(as[i], &a[m + low][k + high]);
                }
                if (TRANSPOSE_B) {
                    load_matrices(bs[i], &b[n + crossed_low][k + crossed_high]);
                } else {
                    load_matrices_transposed(bs[i], &b[k + low][n + high]);
                }
            }
#pragma unroll
            for (int i = 0; i < 2; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) mma<E>(sum[i][j], as[i], bs[j / 2][j % 2 * 2], bs[j / 2][j % 2 * 2 + 1]);
            }
        }
        __syncthreads(); // everybody has read, the buffer may be filled again
    }

    // Through shared memory, so that whole rows are stored.
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                shared.sums[warp_row + i * 16 + lane / 4 + e / 2 * 8][warp_column + j * 8 + lane % 4 * 2 + e % 2] =
                    sum[i][j][e];
            }
        }
    }
    __syncthreads();
    bool vectors = N % 8 == 0 && is_vector_aligned(D) && is_vector_aligned(Z);
    for (int i = threadIdx.x; i < TILE * TILE / 8; i += 128) {
        int r = i / (TILE / 8), c = i % (TILE / 8) * 8, width = min(8, N - column - c);
        if (row + r >= M || width <= 0) continue;
        float v[8], before[8] = {};
        long long at = static_cast<long long>(row + r) * N + column + c;
        if (accumulate && vectors) load_vector(before, D + at);
        if (accumulate && !vectors) {
#pragma unroll
            for (int j = 0; j < 8; j++) before[j] = j < width ? to_float(D[at + j]) : 0.0f;
        }
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = shared.sums[r][c + j] + (b && j < width ? b[column + c + j] : 0.0f);
        if (Z && vectors) store_vector(Z + at, v);
        if (Z && !vectors) {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                if (j < width) Z[at + j] = from_float<E>(v[j]);
            }
        }
#pragma unroll
        for (int j = 0; j < 8; j++) v[j] = activate(activation, v[j]) + before[j];
        if (vectors) {
            store_vector(D + at, v);
        } else {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                if (j < width) D[at + j] = from_float<E>(v[j]);
            }
        }
    }
}

// The half types only: float needs a kernel of its own.
template <> __device__ void gemm_tile<float>(float*, float*, int, const float*, const float*, const float*, int, int, int,
                                             int) {
    __trap();
}

// 4 warps, a 32 x 32 quarter of the tile each. A sum is one block's: a small D with long sums (dW) leaves a GPU idle.
//@ gemm mma: grid rows/64, columns/64; block 128; registers 80; tensor cores
extern "C" __global__ void __launch_bounds__(128) gemm_mma(T* D, T* Z, int accumulate, const T* A, const T* B,
                                                           const float* b, int activation, int M, int N, int K) {
    gemm_tile(D, Z, accumulate, A, B, b, activation, M, N, K);
}

//@ gemm naive: grid rows/8, columns/32; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256) gemm_naive(T* D, T* Z, int accumulate, const T* A, const T* B,
                                                             const float* b, int activation, int M, int N, int K) {
    int row = blockIdx.x * 8 + threadIdx.x / 32, column = blockIdx.y * 32 + threadIdx.x % 32;
    if (row >= M || column >= N) return;
    float sum = 0.0f;
    for (int k = 0; k < K; k++) {
        long long at_a = TRANSPOSE_A ? static_cast<long long>(k) * M + row : static_cast<long long>(row) * K + k;
        long long at_b = TRANSPOSE_B ? static_cast<long long>(column) * K + k : static_cast<long long>(k) * N + column;
        sum += to_float(A[at_a]) * to_float(B[at_b]);
    }
    long long i = static_cast<long long>(row) * N + column;
    if (b) sum += b[column];
    if (Z) Z[i] = from_float<T>(sum);
    store_gradient(D + i, activate(activation, sum), accumulate);
}
