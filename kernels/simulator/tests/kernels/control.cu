// Control flow, address spaces and launches: what a kernel may do apart from arithmetic.

// Many ways, of which each may fall into the next.
extern "C" __global__ void switch_statement(int* y, const int* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int a = x[i], b = i;
    switch (a) {
    case 0: b = b * 3 + 1; break;
    case 1: b = b / 3; break;
    case 2: b = ~b; break;
    case 3: b = b << 3 ^ b; break;
    case 4: b = b * b - 7; // falls through
    case 5: b = b % 5; break;
    case 6: b = -b; break;
    case 7: b = b > 100 ? 1 : 2; break;
    default: b = 1000;
    }
    y[i] = b;
}

// A jump table, which neither compiler makes of a switch: x modulo 4 chooses what is added.
extern "C" __global__ void jump_table(int* y, const int* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int a = x[i];
    asm("{\n"
        ".reg .u32 way;\n"
        "and.b32 way, %0, 3;\n"
        "ways: .branchtargets zero, one, two, two;\n"
        "brx.idx way, ways;\n"
        "zero: add.s32 %0, %0, 100;\n"
        "bra done;\n"
        "one: add.s32 %0, %0, 200;\n"
        "two: add.s32 %0, %0, 1000;\n"
        "done:\n"
        "}"
        : "+r"(a));
    y[i] = a;
}

__noinline__ __device__ int clamp_to(int x, int low, int high) { return x < low ? low : x > high ? high : x; }
__noinline__ __device__ float4 scale_and_shift(float4 x, float scale, float4 shift) {
    return {x.x * scale + shift.x, x.y * scale + shift.y, x.z * scale + shift.z, x.w * scale + shift.w};
}
__noinline__ __device__ void swap_if_greater(int* a, int* b) {
    if (*a <= *b) return;
    int t = *a;
    *a = *b;
    *b = t;
}
extern "C" __global__ void calls(int* y, float4* z, const int* x, const float4* v, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    y[i] = clamp_to(x[i], -10, 10);
    z[i] = scale_and_shift(v[i], 2.0f, v[(i + 1) % n]);
    if (i % 2 == 0 && i + 1 < n) {
        int a = x[i], b = x[i + 1]; // addresses of locals go to the function
        swap_if_greater(&a, &b);
        y[i] = a;
        z[i].w = b;
    }
}

__device__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
__device__ int ackermann(int m, int n) {
    return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}
extern "C" __global__ void recursion(int* y) {
    int i = threadIdx.x;
    y[i] = i % 2 ? fibonacci(i / 2) : ackermann(2, i / 2); // depths differ from lane to lane
}

// Tables in constant memory: initialized, read by a uniform and by a divergent index; and variables of the module.
__constant__ float weights[8] = {0.5f, -1.0f, 2.0f, 0.25f, 3.0f, -0.125f, 1.5f, 4.0f};
__constant__ struct {
    short offset;
    double factor;
    unsigned char table[5];
} settings = {-3, 1.25, {1, 2, 4, 8, 16}};
__device__ int launches = 10;
__device__ double scratch[64];
extern "C" __global__ void constants(double* y, int* launch, const int* x, int n) {
    int i = threadIdx.x;
    if (i >= n) return;
    double sum = 0.0;
    for (int w = 0; w < 8; w++) sum += weights[w];
    scratch[i] = sum * weights[x[i] & 7] + settings.factor * settings.table[x[i] % 5u] + settings.offset;
    y[i] = scratch[i];
    if (i == 0) *launch = launches++;
}

// A local array that is indexed by data, so that it lives in local memory: an insertion sort of rows of 16.
extern "C" __global__ void local_sort(int* y, const int* x, int rows) {
    int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    int sorted[16];
    for (int i = 0; i < 16; i++) {
        int j = i;
        for (; j > 0 && sorted[j - 1] > x[row * 16 + i]; j--) sorted[j] = sorted[j - 1];
        sorted[j] = x[row * 16 + i];
    }
    for (int i = 0; i < 16; i++) y[row * 16 + i] = sorted[i];
}

// The block's threads reverse a row in dynamic shared memory, part of which is doubles and part bytes.
extern "C" __global__ void dynamic_shared(double* y, unsigned char* bytes, const double* x, int n) {
    extern __shared__ double values[];
    unsigned char* low = reinterpret_cast<unsigned char*>(values + n);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        values[i] = x[blockIdx.x * n + i];
        low[i] = static_cast<unsigned char>(i);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        y[blockIdx.x * n + i] = values[n - 1 - i];
        bytes[blockIdx.x * n + i] = low[n - 1 - i];
    }
}

// 3-dimensional grids and blocks: every thread writes its coordinates' number.
extern "C" __global__ void dimensions(int* y, int3* extent) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, width = gridDim.x * blockDim.x;
    int row = blockIdx.y * blockDim.y + threadIdx.y, height = gridDim.y * blockDim.y;
    int z = blockIdx.z * blockDim.z + threadIdx.z;
    y[(z * height + row) * width + x] = x + 1000 * row + 1000000 * z;
    if (x + row + z == 0) *extent = {width, height, (int)(gridDim.z * blockDim.z)};
}

// Loads of every width and kind.
extern "C" __global__ void loads(float2* a, float4* b, int4* c, double2* d, short4* e, uchar4* f, const float* x,
                                 int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    a[i] = reinterpret_cast<const float2*>(x)[i];
    b[i] = __ldg(reinterpret_cast<const float4*>(x) + i);
    c[i] = __ldcg(reinterpret_cast<const int4*>(x) + i);
    d[i] = __ldcs(reinterpret_cast<const double2*>(x) + i);
    e[i] = reinterpret_cast<const short4*>(x)[i];
    __stcs(f + i, reinterpret_cast<const uchar4*>(x)[i]);
}

// The clocks do not run backwards; a struct as an argument; asserts that hold.
struct Affine {
    float scale;
    double shift[2];
    char which;
};
extern "C" __global__ void clocks(double* y, long long* passed, Affine affine, int n) {
    long long start = clock64();
    int i = threadIdx.x;
    assert(i < n && "more threads than elements");
    y[i] = affine.scale * i + affine.shift[affine.which];
    long long end = clock64();
    assert(end >= start);
    passed[i] = end - start;
}
