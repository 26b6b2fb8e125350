//! Vector code by the compiler, for the machine at hand.

/// Runs a loop that was compiled several times, for the widest vectors that the machine turns out to have (the build
/// itself assumes no more than its target's baseline). The closure must be marked `#[inline(always)]`, as must be what
/// it calls: code that is not inlined stays as narrow as the baseline. No multiply-add is fused that the source does not
/// fuse, so the width of the vectors changes no bit of an elementwise result.
#[inline(always)]
pub fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Elements of an elementwise loop that one task handles.
pub const BLOCK: usize = 16 * 1024;
