// Sine encodings y (cells, C) of the cells of feature maps, row-major, one map after the other: C/2 channels of the row, then
// C/2 of the column; zeros behind the last map. A thread a pair (sine, cosine). maps (B, 3): first cell, h, w.

// Sine and cosine of cell `at` of `size`, channels 2 pair and 2 pair + 1 of `channels`: rounded to float at every step that the
// published code rounds at.
__device__ inline float2 encode(int at, int size, int pair, int channels) {
    float p = (at + 1) / (size + 1e-6f) * 6.28318530717958647692f;
    float exponent = static_cast<float>(2 * pair) / channels;
    float divisor = exp2(13.28771237954945 * exponent); // 10000^exponent
    // sinpi reduces its argument exactly, where sin would keep a table for large ones in local memory.
    double half_turns = p / divisor * 0.31830988618379067154;
    return {static_cast<float>(sinpi(half_turns)), static_cast<float>(cospi(half_turns))};
}

//@ position_sine pairs: grid pairs/256; block 256; registers 48
extern "C" __global__ void __launch_bounds__(256)
    position_sine_pairs(float2* y, const int* maps, int B, int pairs, int C) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= pairs) return;
    int cell = i / (C / 2), pair = i % (C / 2), map = 0;
    while (map + 1 < B && maps[3 * (map + 1)] <= cell) map++;
    int h = 0, w = 0;
    if (map < B) h = maps[3 * map + 1], w = maps[3 * map + 2], cell -= maps[3 * map];
    if (cell >= h * w) {
        y[i] = {0.0f, 0.0f};
        return;
    }
    bool is_row = pair < C / 4;
    y[i] = is_row ? encode(cell / w, h, pair, C / 2) : encode(cell % w, w, pair - C / 4, C / 2);
}
