//! Vector code by the compiler, for the machine at hand, or for less than it has: `MDETR_SIMD` names the [`Level`].

use std::sync::LazyLock;

use anyhow::{Result, bail};
use pulp::{Arch, WithSimd};

/// What a program may assume of the processor; each level holds those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the target has: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// AVX2 and fused multiply-adds, with all else of x86-64-v3.
    Avx2,
    /// AVX-512 as in x86-64-v4.
    Avx512,
    /// The products of bfloat16 pairs of AVX512-BF16 too.
    Avx512Bf16,
}

impl Level {
    /// Those that the target knows.
    const ALL: &[Level] = if cfg!(target_arch = "x86_64") {
        &[Level::Baseline, Level::Avx2, Level::Avx512, Level::Avx512Bf16]
    } else {
        &[Level::Baseline]
    };

    /// As `MDETR_SIMD` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Baseline if cfg!(target_arch = "x86_64") => "sse2",
            Level::Baseline if cfg!(target_arch = "aarch64") => "neon",
            Level::Baseline => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Avx512Bf16 => "avx512bf16",
        }
    }

    /// The highest that this machine has.
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use pulp::x86::{V3, V4};
            if V4::is_available() {
                let has_products = std::arch::is_x86_feature_detected!("avx512bf16");
                return if has_products { Level::Avx512Bf16 } else { Level::Avx512 };
            }
            if V3::is_available() {
                return Level::Avx2;
            }
        }
        Level::Baseline
    }

    /// The level called `name` (none or an empty one: the best) on a machine that has `best`.
    fn choose(name: Option<&str>, best: Self) -> Result<Self> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(best) };
        let Some(level) = Self::ALL.iter().find(|level| level.name() == name) else {
            let names: Vec<&str> = Self::ALL.iter().map(|level| level.name()).collect();
            bail!("MDETR_SIMD is {name:?}, expected {}, or nothing for the best of them", names.join(", "));
        };
        if *level > best {
            bail!("MDETR_SIMD asks for {name}, but this machine has no more than {}", best.name());
        }
        Ok(*level)
    }
}

static LEVEL: LazyLock<Result<Level>> = LazyLock::new(|| {
    let name = std::env::var_os("MDETR_SIMD").map(|name| name.to_string_lossy().into_owned());
    Level::choose(name.as_deref(), Level::best())
});

/// The level that all code of this process uses: `MDETR_SIMD`'s, as it was when first asked for, or the machine's best.
///
/// # Errors
/// If the variable names no level, or one that the machine lacks.
pub fn checked_level() -> Result<Level> {
    match &*LEVEL {
        Ok(level) => Ok(*level),
        Err(e) => bail!("{e}"),
    }
}

/// [`checked_level`], for code behind that check: it panics where that gives an error.
pub fn level() -> Level {
    checked_level().unwrap_or_else(|e| panic!("{e}"))
}

/// Runs an operation in its version for the [`level`].
#[inline(always)]
pub fn dispatch<W: WithSimd>(operation: W) -> W::Output {
    arch().dispatch(operation)
}

fn arch() -> Arch {
    #[cfg(target_arch = "x86_64")]
    match level() {
        Level::Baseline => return Arch::Scalar,
        Level::Avx2 => return pulp::x86::V3::try_new().map_or(Arch::Scalar, Arch::V3),
        Level::Avx512 | Level::Avx512Bf16 => {}
    }
    Arch::new()
}

/// Runs a loop that was compiled several times, for the vectors of every [`level`] (the build itself assumes no more than
/// its target's baseline). The closure must be marked `#[inline(always)]`, as must be what it calls: code that is not
/// inlined stays as narrow as the baseline. No multiply-add is fused that the source does not fuse, so the width of the
/// vectors changes no bit of an elementwise result.
#[inline(always)]
pub fn vectorized<R>(f: impl FnOnce() -> R) -> R {
    dispatch(f)
}

/// Asks for the cache line of an element that will be read or written soon; of an index behind the end, for nothing that is
/// needed.
#[inline(always)]
pub fn prefetch<T>(x: &[T], index: usize) {
    let address = x.as_ptr().wrapping_add(index);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that reads nothing: any address may be given, and SSE is every x86-64's.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Elements (f32) of the widest vector.
pub const LANES: usize = 16;

/// Elements of an elementwise loop that one task handles.
pub const BLOCK: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_levels() {
        for (i, &best) in Level::ALL.iter().enumerate() {
            for level in Level::ALL {
                let chosen = Level::choose(Some(level.name()), best);
                match *level <= best {
                    true => assert_eq!(chosen.unwrap(), *level),
                    false => assert_eq!(
                        chosen.unwrap_err().to_string(),
                        format!(
                            "MDETR_SIMD asks for {}, but this machine has no more than {}",
                            level.name(),
                            best.name()
                        )
                    ),
                }
            }
            assert_eq!(Level::choose(None, best).unwrap(), Level::ALL[i]);
            assert_eq!(Level::choose(Some(""), best).unwrap(), best);
            let error = Level::choose(Some("avx1024"), best).unwrap_err().to_string();
            assert!(error.starts_with("MDETR_SIMD is \"avx1024\", expected "), "{error}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn operations_run_at_the_level() {
        struct Lanes;
        impl WithSimd for Lanes {
            type Output = usize;
            fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
                S::F32_LANES
            }
        }
        let lanes = match level() {
            Level::Baseline => 1,
            Level::Avx2 => 8,
            Level::Avx512 | Level::Avx512Bf16 => 16,
        };
        assert_eq!(dispatch(Lanes), lanes);
    }
}
