// y[cell (r, c)] = [col_embed[c], row_embed[r]] (cells, 2 half) for the cells of feature maps, row-major, one map after the other, and zeros behind them.
// A thread an element of y, or of a gradient. maps (B, 3): first cell, h, w.

#include "dtype.cuh"

//@ position_learned_fwd elements: grid elements/256; block 256; registers 32
extern "C" __global__ void __launch_bounds__(256)
    position_learned_fwd_elements(T* y, const T* row_embed, const T* col_embed, const int* maps, int B, int cells,
                                  int half) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= 2ll * cells * half) return;
    int cell = i / (2 * half), j = i % (2 * half), map = 0;
    while (map + 1 < B && maps[3 * (map + 1)] <= cell) map++;
    int h = 0, w = 0;
    if (map < B) h = maps[3 * map + 1], w = maps[3 * map + 2], cell -= maps[3 * map];
    if (cell >= h * w) {
        y[i] = from_float<T>(0.0f);
        return;
    }
    y[i] = j < half ? col_embed[cell % w * half + j] : row_embed[cell / w * half + j - half];
}

// drow (rows, half) sums dy over the cells of a row of every map, dcol (columns, half) over those of a column, in order.
//@ position_learned_bwd elements: grid places, channels/128; block 128; registers 40
extern "C" __global__ void __launch_bounds__(128)
    position_learned_bwd_elements(T* drow, int accumulate_drow, T* dcol, int accumulate_dcol, const T* dy, const int* maps,
                                  int B, int rows, int columns, int half) {
    int place = blockIdx.x, j = blockIdx.y * 128 + threadIdx.x;
    bool is_row = j >= half;
    T* grad = is_row ? drow : dcol;
    if (j >= 2 * half || !grad || place >= (is_row ? rows : columns)) return;
    float sum = 0.0f;
    for (int map = 0; map < B; map++) {
        int first = maps[3 * map], h = maps[3 * map + 1], w = maps[3 * map + 2];
        if (place >= (is_row ? h : w)) continue;
        int step = is_row ? 1 : w, count = is_row ? w : h;
        first += is_row ? place * w : place;
        for (int k = 0; k < count; k++) sum += to_float(dy[(first + k * step) * 2ll * half + j]);
    }
    store_gradient(grad + static_cast<long long>(place) * half + j % half, sum, is_row ? accumulate_drow : accumulate_dcol);
}
