// Activations by number, in the order of activation.rs. A launch has one, so that its choice never diverges.
#pragma once

enum Activation { NONE, RELU, GELU, SIGMOID, TANH };

__device__ inline float normal_cdf(float x) { return 0.5f + 0.5f * erff(x * 0.70710678f); }

__device__ inline float activate(int activation, float x) {
    switch (activation) {
        case RELU: return x < 0.0f ? 0.0f : x; // NaN stays
        case GELU: return x * normal_cdf(x);
        case SIGMOID: return 1.0f / (1.0f + expf(-x));
        case TANH: return tanhf(x);
        default: return x;
    }
}

// The derivative, told from z: x itself for GELU, the activation's value for all others.
__device__ inline float activation_derivative(int activation, float z) {
    switch (activation) {
        case RELU: return z > 0.0f ? 1.0f : 0.0f;
        case GELU: return normal_cdf(z) + z * 0.39894228f * expf(-0.5f * z * z);
        case SIGMOID: return z * (1.0f - z);
        case TANH: return 1.0f - z * z;
        default: return 1.0f;
    }
}

// An activation that the compiler knows: `specialize(activation, [&](auto known) { ... known.activation ... })` chooses once
// instead of at each element.
template <int A> struct Known {
    static constexpr int activation = A;
};
template <class Body> __device__ inline void specialize(int activation, Body body) {
    switch (activation) {
        case RELU: return body(Known<RELU>());
        case GELU: return body(Known<GELU>());
        case SIGMOID: return body(Known<SIGMOID>());
        case TANH: return body(Known<TANH>());
        default: return body(Known<NONE>());
    }
}
