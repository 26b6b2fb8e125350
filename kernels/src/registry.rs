//! The list of ops. Adding an op adds a line here; tests and benches go through this list.

use crate::case::{Case, Draw};
use crate::kernel_source::KernelSource;

/// An op's entry.
pub struct Entry {
    /// The folder's name.
    pub name: &'static str,
    /// Fixed cases: one row, odd widths, empty, larger than a block.
    pub cases: fn() -> Vec<Case>,
    /// A small random case for gradient checks and conformance; it keeps away from kinks.
    pub draw: fn(&mut Draw) -> Case,
    /// Its `.cu` files.
    pub kernels: &'static [KernelSource],
}

impl Entry {
    /// Role and variant of every implementation that is not taken by itself.
    pub fn other_variants(&self) -> Vec<(&'static str, &'static str)> {
        let declarations = self.kernels.iter().flat_map(|source| source.declarations());
        let mut roles = std::collections::HashSet::new();
        declarations.filter(|d| !roles.insert(d.role)).map(|d| (d.role, d.variant)).collect()
    }
}

/// Gives the names of all differentiable ops to a macro: the one place where they are listed.
#[macro_export]
macro_rules! for_each_op {
    ($macro:ident) => {
        $macro!(
            add,
            attention,
            box_loss,
            caption_contrastive_loss,
            cast,
            contrastive_align_loss,
            conv2d,
            dropout,
            embedding,
            gather_rows,
            group_norm,
            l2_normalize,
            layer_norm,
            linear,
            max_pool,
            mean_rows,
            position_learned,
            residual_norm,
            soft_token_loss,
            weighted_sum
        );
    };
}

macro_rules! entries {
    ($($op:ident),*) => {
        /// All differentiable ops.
        pub const OPS: &[Entry] = &[
            $(Entry {
                name: stringify!($op),
                cases: crate::$op::cases::cases,
                draw: crate::$op::cases::draw,
                kernels: crate::$op::KERNELS,
            }),*
        ];
    };
}

for_each_op!(entries);

/// Ops that read and write half types on the CPU by code of their own: `cast` is about nothing else, `conv2d` rounds the
/// product of weight and scale, both it and `linear` have products of bf16, and `dropout` and `max_pool` may have nothing to
/// compute. [`crate::rounding`] does it for all others.
pub const ROUND_THEMSELVES: &[&str] = &["cast", "conv2d", "dropout", "linear", "max_pool"];

/// Ops without a gradient, plain functions that no tape records: `assignment` chooses indices, which are piecewise
/// constant; `optimizer_step` changes parameters; `position_sine` depends on sizes alone.
pub const NOT_DIFFERENTIABLE: &[&str] = &["assignment", "optimizer_step", "position_sine"];

/// Every `.cu` file.
pub fn kernel_sources() -> Vec<KernelSource> {
    let others = [crate::assignment::KERNELS, crate::optimizer_step::KERNELS, crate::position_sine::KERNELS];
    OPS.iter().map(|op| op.kernels).chain(others).flatten().copied().collect()
}
