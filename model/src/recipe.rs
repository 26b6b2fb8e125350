//! Weights by a recipe that any program can follow bit for bit: a hash of each name seeds its values. Parity with
//! recorded runs of the published code needs no published weights this way; `tests/goldens/README.md` has the recipe.

use mdetr_autograd::{Parameter, Parameters};
use mdetr_kernels::{Device, Tensor};

use crate::init::fnv1a;

/// Fills every parameter and buffer.
pub fn fill(parameters: &mut Parameters) {
    for (_, p) in parameters.iter_mut() {
        let values = p.from_published(&values(p));
        p.value = Tensor::from_slice(&values, p.value.shape(), Device::Cpu);
    }
}

/// The values in the published order.
fn values(p: &Parameter) -> Vec<f32> {
    let shape = p.published_shape();
    let (offset, scale) = offset_and_scale(&p.name, &shape);
    let seed = fnv1a(&p.name);
    (0..p.value.len() as u64)
        .map(|i| {
            let u = (splitmix64(seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))) >> 40) as f64
                / (1u64 << 24) as f64;
            (offset + scale * (2.0 * u - 1.0)) as f32
        })
        .collect()
}

fn splitmix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The first rule that fits.
fn offset_and_scale(name: &str, shape: &[usize]) -> (f64, f64) {
    let last = name.rsplit('.').next().expect("split yields at least one part");
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| name.ends_with(s));
    let is_norm_weight = shape.len() == 1 && last == "weight";
    if last == "running_mean" {
        (0.0, 0.1)
    } else if last == "running_var" {
        (1.0, 0.25)
    } else if is_norm_weight && ends(&[".bn2.weight", ".bn3.weight"]) && name.contains(".body.layer") {
        (0.5, 0.1)
    } else if is_norm_weight && ends(&[".bn3.weight"]) && name.contains(".blocks.") {
        (0.72, 0.12)
    } else if is_norm_weight {
        (1.0, 0.2)
    } else if shape.len() == 1 || last.ends_with("bias") {
        (0.0, 0.1)
    } else if ends(&["query_embed.weight", "qa_embed.weight", "CLS.weight", "row_embed.weight", "col_embed.weight"]) {
        (0.0, 3.0)
    } else {
        let fan_in: usize = shape[1..].iter().product();
        (0.0, gain(name, shape) * (3.0 / fan_in as f64).sqrt())
    }
}

fn gain(name: &str, shape: &[usize]) -> f64 {
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| name.ends_with(s));
    if ends(&["input_proj.weight"]) {
        0.5
    } else if shape.len() == 4 {
        if name.contains(".blocks.") { 1.5 } else { 2.0f64.sqrt() }
    } else if ends(&["in_proj_weight"]) {
        1.5
    } else if ends(&[".self_attn.out_proj.weight", ".linear2.weight", ".output.dense.weight"]) {
        0.4
    } else if ends(&[".self.query.weight", ".self.key.weight"]) {
        1.5
    } else if ends(&[".cross_attn_image.out_proj.weight"]) {
        2.0
    } else if ends(&["class_embed.weight"]) {
        3.0
    } else if name.contains("bbox_embed.layers.") {
        2.0f64.sqrt()
    } else {
        1.0
    }
}
