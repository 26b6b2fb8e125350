// cp.async whose arrival nobody waits for, or too late. A marked line is the wrong one; fixed_X is bug_X mended.

__device__ void copy(float* to, const float* from) {
    unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(from) : "memory");
}
__device__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ void wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// A thread reads its own copy.
extern "C" __global__ void bug_no_wait(float* y, const float* x) {
    __shared__ float tile[64];
    copy(&tile[threadIdx.x], &x[threadIdx.x]);
    commit();
    y[threadIdx.x] = tile[threadIdx.x]; // BUG
}
extern "C" __global__ void fixed_no_wait(float* y, const float* x) {
    __shared__ float tile[64];
    copy(&tile[threadIdx.x], &x[threadIdx.x]);
    commit();
    wait_all();
    y[threadIdx.x] = tile[threadIdx.x];
}

// A thread reads another's copy: the barrier waits for threads, not for copies.
extern "C" __global__ void bug_barrier_without_wait(float* y, const float* x) {
    __shared__ float tile[64];
    copy(&tile[threadIdx.x], &x[threadIdx.x]);
    commit();
    __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x]; // BUG
}
extern "C" __global__ void fixed_barrier_without_wait(float* y, const float* x) {
    __shared__ float tile[64];
    copy(&tile[threadIdx.x], &x[threadIdx.x]);
    commit();
    wait_all();
    __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x];
}

// Each thread waits for its own copies only, and after the barrier it is too late for the others'.
extern "C" __global__ void bug_wait_after_barrier(float* y, const float* x) {
    __shared__ float tile[64];
    copy(&tile[threadIdx.x], &x[threadIdx.x]);
    commit();
    __syncthreads();
    asm volatile("cp.async.wait_all;" ::: "memory"); // BUG
    y[threadIdx.x] = tile[63 - threadIdx.x]; // BUG
}
extern "C" __global__ void fixed_wait_after_barrier(float* y, const float* x) {
    __shared__ float tile[64];
    copy(&tile[threadIdx.x], &x[threadIdx.x]);
    commit();
    wait_all();
    __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x];
}

// Two groups, of which the second is used while only the first has arrived.
extern "C" __global__ void bug_wait_for_fewer(float* y, const float* x) {
    __shared__ float first[32], second[32];
    copy(&first[threadIdx.x], &x[threadIdx.x]);
    commit();
    copy(&second[threadIdx.x], &x[32 + threadIdx.x]);
    commit();
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    y[threadIdx.x] = first[threadIdx.x];
    y[32 + threadIdx.x] = second[threadIdx.x]; // BUG
}
extern "C" __global__ void fixed_wait_for_fewer(float* y, const float* x) {
    __shared__ float first[32], second[32];
    copy(&first[threadIdx.x], &x[threadIdx.x]);
    commit();
    copy(&second[threadIdx.x], &x[32 + threadIdx.x]);
    commit();
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    y[threadIdx.x] = first[threadIdx.x];
    asm volatile("cp.async.wait_group 0;" ::: "memory");
    y[32 + threadIdx.x] = second[threadIdx.x];
}
