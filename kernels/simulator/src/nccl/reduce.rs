//! Elements, and the arithmetic of reductions.

use cudarc::nccl::sys::{ncclDataType_t, ncclRedOp_t};
use half::{bf16, f16};

use super::Error;

/// A type of elements.
#[derive(Clone, Copy, Debug)]
pub struct Datatype {
    /// As messages call it.
    pub name: &'static str,
    /// The size of an element.
    pub bytes: usize,
    fold: fn(Operator, &[&[u8]]) -> Vec<u8>,
}

/// What reduces two elements to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `ncclSum`; integers wrap.
    Sum,
    /// `ncclProd`; integers wrap.
    Prod,
    /// `ncclMax`: of a number and what is none, the number.
    Max,
    /// `ncclMin`: of a number and what is none, the number.
    Min,
    /// `ncclAvg`: integers are divided after summing, towards zero; others are multiplied by 1 / ranks before.
    Avg,
}

impl Operator {
    /// From C.
    ///
    /// # Errors
    /// If it is not one of the five.
    pub fn new(raw: u32) -> Result<Self, Error> {
        [
            (ncclRedOp_t::ncclSum, Self::Sum),
            (ncclRedOp_t::ncclProd, Self::Prod),
            (ncclRedOp_t::ncclMax, Self::Max),
            (ncclRedOp_t::ncclMin, Self::Min),
            (ncclRedOp_t::ncclAvg, Self::Avg),
        ]
        .into_iter()
        .find_map(|(known, operator)| (known as u32 == raw).then_some(operator))
        .ok_or_else(|| Error::argument(format!("operator {raw} is none of sum, prod, max, min and avg")))
    }
}

impl Datatype {
    /// From C.
    ///
    /// # Errors
    /// If it is not modelled.
    pub fn new(raw: u32) -> Result<Self, Error> {
        use ncclDataType_t as t;
        [
            (t::ncclInt8, Self::of::<i8>("int8")),
            (t::ncclUint8, Self::of::<u8>("uint8")),
            (t::ncclInt32, Self::of::<i32>("int32")),
            (t::ncclUint32, Self::of::<u32>("uint32")),
            (t::ncclInt64, Self::of::<i64>("int64")),
            (t::ncclUint64, Self::of::<u64>("uint64")),
            (t::ncclFloat16, Self::of::<f16>("float16")),
            (t::ncclBfloat16, Self::of::<bf16>("bfloat16")),
            (t::ncclFloat32, Self::of::<f32>("float32")),
            (t::ncclFloat64, Self::of::<f64>("float64")),
        ]
        .into_iter()
        .find_map(|(known, datatype)| (known as u32 == raw).then_some(datatype))
        .ok_or_else(|| Error::argument(format!("element type {raw} is not modelled: no 8-bit floating point")))
    }

    fn of<T: Element>(name: &'static str) -> Self {
        Self { name, bytes: size_of::<T>(), fold: fold::<T> }
    }

    /// Reduces equally long parts, one a rank, in the order of the ranks and rounding after every step, as devices do that
    /// hand their result on.
    pub fn reduce(self, operator: Operator, parts: &[&[u8]]) -> Vec<u8> {
        (self.fold)(operator, parts)
    }
}

fn fold<T: Element>(operator: Operator, parts: &[&[u8]]) -> Vec<u8> {
    let prepare = |value: T| if operator == Operator::Avg { value.before_sum(parts.len()) } else { value };
    let mut parts_of =
        parts.iter().map(|part| part.chunks_exact(size_of::<T>()).map(|bytes| prepare(T::read(bytes))));
    let mut total: Vec<T> = parts_of.next().into_iter().flatten().collect();
    for part in parts_of {
        for (total, value) in total.iter_mut().zip(part) {
            *total = match operator {
                Operator::Sum | Operator::Avg => total.add(value),
                Operator::Prod => total.multiply(value),
                Operator::Max => total.larger(value),
                Operator::Min => total.smaller(value),
            };
        }
    }
    let finish = |value: T| if operator == Operator::Avg { value.after_sum(parts.len()) } else { value };
    total.into_iter().flat_map(|value| finish(value).write()).collect()
}

trait Element: Copy {
    fn read(bytes: &[u8]) -> Self;
    fn write(self) -> impl IntoIterator<Item = u8>;
    fn add(self, other: Self) -> Self;
    fn multiply(self, other: Self) -> Self;
    fn larger(self, other: Self) -> Self;
    fn smaller(self, other: Self) -> Self;
    /// What of an average of `ranks` happens before its sum.
    fn before_sum(self, ranks: usize) -> Self;
    /// What of an average of `ranks` happens after its sum.
    fn after_sum(self, ranks: usize) -> Self;
}

macro_rules! elements {
    ($($ty:ty, $add:expr, $multiply:expr, $before_sum:expr, $after_sum:expr;)*) => {$(
        impl Element for $ty {
            fn read(bytes: &[u8]) -> Self {
                Self::from_ne_bytes(std::array::from_fn(|i| bytes[i]))
            }

            fn write(self) -> impl IntoIterator<Item = u8> {
                self.to_ne_bytes()
            }

            fn add(self, other: Self) -> Self {
                $add(self, other)
            }

            fn multiply(self, other: Self) -> Self {
                $multiply(self, other)
            }

            fn larger(self, other: Self) -> Self {
                self.max(other)
            }

            fn smaller(self, other: Self) -> Self {
                self.min(other)
            }

            fn before_sum(self, ranks: usize) -> Self {
                $before_sum(self, ranks)
            }

            fn after_sum(self, ranks: usize) -> Self {
                $after_sum(self, ranks)
            }
        }
    )*};
}

macro_rules! integers {
    ($($ty:ty)*) => {
        elements! {$($ty, <$ty>::wrapping_add, <$ty>::wrapping_mul, |x, _| x, |x, ranks| (x as i128 / ranks as i128) as $ty;)*}
    };
}

macro_rules! floats {
    ($($ty:ty, $from:expr;)*) => {
        elements! {$($ty, |x, y| x + y, |x, y| x * y, |x: $ty, ranks| x * $from(1.0 / ranks as f64), |x, _| x;)*}
    };
}

integers! { i8 u8 i32 u32 i64 u64 }
floats! {
    f16, f16::from_f64;
    bf16, bf16::from_f64;
    f32, |x: f64| x as f32;
    f64, f64::from;
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{Datatype, Operator};

    /// Reduces a row a rank and compares with what is expected.
    fn check<T: Copy + std::fmt::Debug + PartialEq>(
        raw: u32,
        operator: Operator,
        rows: &[&[T]],
        expected: &[T],
        write: impl Fn(T) -> Vec<u8>,
    ) {
        let bytes = |row: &[T]| row.iter().flat_map(|&x| write(x)).collect::<Vec<u8>>();
        let parts: Vec<Vec<u8>> = rows.iter().map(|row| bytes(row)).collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let result = Datatype::new(raw).unwrap().reduce(operator, &parts);
        assert_eq!(result, bytes(expected), "{operator:?} of {rows:?}, expected {expected:?}");
    }

    macro_rules! check {
        ($($raw:literal $ty:ty: $operator:ident $rows:expr => $expected:expr;)*) => {
            $(check::<$ty>($raw, Operator::$operator, &$rows, &$expected, |x| x.to_ne_bytes().to_vec());)*
        };
    }

    #[test]
    fn reductions_are_by_rank_and_round_as_their_type_does() {
        let (h, b) = (f16::from_f32, bf16::from_f32);
        check! {
            0 i8: Sum [&[100, -1], &[100, 3]] => [-56, 2];
            0 i8: Avg [&[-5, 100], &[0, 26]] => [-2, 63];
            1 u8: Sum [&[200], &[100]] => [44];
            1 u8: Max [&[200, 1], &[100, 2]] => [200, 2];
            2 i32: Prod [&[i32::MAX, -3], &[2, 4], &[1, 5]] => [-2, -60];
            2 i32: Min [&[-1], &[1], &[0]] => [-1];
            3 u32: Min [&[u32::MAX], &[1], &[3]] => [1];
            3 u32: Avg [&[u32::MAX], &[1]] => [0];
            4 i64: Avg [&[-7], &[0]] => [-3];
            5 u64: Avg [&[u64::MAX]] => [u64::MAX];
            6 f16: Sum [&[h(2048.0)], &[h(1.0)], &[h(1.0)]] => [h(2048.0)];
            6 f16: Sum [&[h(1.0)], &[h(1.0)], &[h(2048.0)]] => [h(2050.0)];
            6 f16: Prod [&[h(300.0)], &[h(300.0)]] => [f16::INFINITY];
            7 f32: Sum [&[1e8, 0.5], &[-1e8, 0.25], &[1.0, 0.125]] => [1.0, 0.875];
            7 f32: Max [&[f32::NAN, 1.0], &[3.0, f32::NAN]] => [3.0, 1.0];
            7 f32: Avg [&[1.0], &[1.0], &[1.0]] => [1.0f32 / 3.0 + 1.0 / 3.0 + 1.0 / 3.0];
            8 f64: Avg [&[3.0], &[5.0]] => [4.0];
            8 f64: Min [&[-0.5], &[0.25]] => [-0.5];
            9 bf16: Sum [&[b(256.0)], &[b(1.0)]] => [b(256.0)];
            9 bf16: Avg [&[b(3.0)], &[b(6.0)]] => [b(4.5)];
        }
    }

    #[test]
    fn unknown_types_and_operators_are_refused() {
        for raw in [10, 11, 12, u32::MAX] {
            assert!(Datatype::new(raw).unwrap_err().message.contains(&raw.to_string()));
        }
        assert!(Operator::new(5).is_err() && Operator::new(4).is_ok());
    }
}
