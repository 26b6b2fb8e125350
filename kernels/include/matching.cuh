// Which target a query stands for. matches (T) are a layer's, the query of each target or -1.
#pragma once

#include "reduce.cuh"

// -1: none. All lanes of a warp ask for the same query, and get the answer.
__device__ inline int target_of_query(const int* matches, const int* image_of_target, int image, int query,
                                      int targets) {
    int found = -1;
    for (int t = threadIdx.x % 32; t < targets; t += 32) {
        if (matches[t] == query && image_of_target[t] == image) found = t;
    }
    return __reduce_max_sync(ALL_LANES, found);
}
