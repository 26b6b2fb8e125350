// A kernel that nothing declares.

extern "C" __global__ void planted_undeclared(float* y) { *y = 1.0f; }
