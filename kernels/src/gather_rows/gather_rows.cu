// y[m] = rows[index[m]] (M, C), where rows are up to four sources one below the other, and -1 gives a row of zeros.
// A warp a chunk of a row (naive: a thread an element). Saved: index; backward finds where each row was used.

#include "rows.cuh"

// The sources hold rows [first, end0), [end0, end1), [end1, end2), [end2, end3); rows of other launches' sources are left to
// them, and zeros to the first.
struct Source {
    const T* rows; // of row 0, were it in this source; null for zeros
    bool is_ours;
};

__device__ inline Source find_source(const T* s0, const T* s1, const T* s2, const T* s3, int end0, int end1, int end2,
                                     int end3, int first, int row, int C) {
    const T* source = s0;
    int start = first;
    if (row >= end0) source = s1, start = end0;
    if (row >= end1) source = s2, start = end1;
    if (row >= end2) source = s3, start = end2;
    if (row < 0) return {nullptr, first == 0};
    return {source - static_cast<long long>(start) * C, row >= first && row < end3};
}

//@ gather_rows_fwd warp: grid rows/8, chunks; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    gather_rows_fwd_warp(T* y, const int* index, const T* s0, const T* s1, const T* s2, const T* s3, int end0, int end1,
                         int end2, int end3, int first, int M, int C) {
    int m = blockIdx.x * 8 + threadIdx.x / 32;
    if (m >= M) return;
    int row = index[m];
    auto [rows, is_ours] = find_source(s0, s1, s2, s3, end0, end1, end2, end3, first, row, C);
    if (!is_ours) return;
    Columns<T> columns(blockIdx.y, C, has_vector_rows(y, C) && has_vector_rows(rows, C));
    float v[VECTOR<T>] = {};
    if (rows) columns.load(v, rows + static_cast<long long>(row) * C);
    columns.store(y + static_cast<long long>(m) * C, v);
}

//@ gather_rows_fwd naive: grid elements/256; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    gather_rows_fwd_naive(T* y, const int* index, const T* s0, const T* s1, const T* s2, const T* s3, int end0, int end1,
                          int end2, int end3, int first, int M, int C) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= static_cast<long long>(M) * C) return;
    int row = index[i / C];
    auto [rows, is_ours] = find_source(s0, s1, s2, s3, end0, end1, end2, end3, first, row, C);
    if (is_ours) y[i] = rows ? rows[static_cast<long long>(row) * C + i % C] : from_float<T>(0.0f);
}

// Where each row is used first and last: most are used once or never, and only between the two is there anything to look for.
//@ gather_rows_bwd_uses marks: grid rows/256; block 256; registers 24
extern "C" __global__ void __launch_bounds__(256) gather_rows_bwd_uses_marks(int2* uses, const int* index, int M) {
    int m = blockIdx.x * 256 + threadIdx.x;
    if (m < M && index[m] >= 0) mark_use(uses, index[m], m, M);
}

// dsource (N, C): the sum of dy over the uses of a row, in their order. `uses` are those of the source's rows, `first` is the
// number of its first row.
//@ gather_rows_bwd warp: grid rows/8, chunks; block 256; registers 80
extern "C" __global__ void __launch_bounds__(256)
    gather_rows_bwd_warp(T* dsource, int accumulate, const T* dy, const int* index, const int2* uses, int first, int N,
                         int M, int C) {
    int row = blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= N) return;
    int begin = M - uses[row].x, end = uses[row].y;
    if (end == 0 && accumulate) return;
    Columns<T> columns(blockIdx.y, C, has_vector_rows(dsource, C) && has_vector_rows(dy, C));
    float sum[VECTOR<T>] = {};
    sum_over_uses(sum, index, first + row, begin, end, [&](float(&v)[VECTOR<T>], int m) {
        columns.load(v, dy + static_cast<long long>(m) * C);
    });
    columns.store(dsource + static_cast<long long>(row) * C, sum, accumulate);
}

//@ gather_rows_bwd naive: grid elements/256; block 256; registers 40
extern "C" __global__ void __launch_bounds__(256)
    gather_rows_bwd_naive(T* dsource, int accumulate, const T* dy, const int* index, const int2* uses, int first, int N,
                          int M, int C) {
    long long i = blockIdx.x * 256ll + threadIdx.x;
    if (i >= static_cast<long long>(N) * C) return;
    int row = i / C;
    float sum = 0.0f;
    for (int m = M - uses[row].x; m < uses[row].y; m++) {
        if (index[m] == first + row) sum += to_float(dy[static_cast<long long>(m) * C + i % C]);
    }
    store_gradient(dsource + i, sum, accumulate);
}
