//! The parser of PTX.

mod cases;
mod errors;
mod mutations;
mod samples;
mod tree;

/// What NVRTC 12.9 and 13.5 made of C++ for sm_80, sm_90 and sm_100.
const SAMPLES: [&str; 3] = [
    include_str!("../ptx/calls_12_9.ptx"),
    include_str!("../ptx/tensor_12_9.ptx"),
    include_str!("../ptx/calls_13.ptx"),
];

const HEADER: &str = ".version 8.8\n.target sm_80\n.address_size 64\n";

/// A module with a kernel of that body, which begins on line 5.
fn kernel(body: &str) -> String {
    format!("{HEADER}.entry k(.param .u64 k_param_0, .param .align 8 .b8 k_param_1[16]) {{\n{body}\n}}\n")
}
