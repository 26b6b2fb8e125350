// A declaration, and a kernel with another name.

//@ planted fill: grid 1; block 1; registers 16
extern "C" __global__ void planted_fill(float* y) { *y = 1.0f; }

//@ planted copy: grid 1; block 1; registers 16
