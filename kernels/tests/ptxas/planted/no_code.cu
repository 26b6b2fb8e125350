// No C++.

//@ planted no_code: grid 1; block 1; registers 16
extern "C" __global__ void planted_no_code(float* y) { *y = nothing; }
